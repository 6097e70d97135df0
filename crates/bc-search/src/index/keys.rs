//! The keys of a segment: the fields of every recording that a search needs without reading its row, in a mapped file of
//! fixed-size entries.
//!
//! A header of 64 bytes; one [`Key`] per recording; the numbers of the recordings in order of their works; one [`VectorSource`]
//! per vector. Paths and works are hashes (the first 8 bytes of BLAKE3); a work of 0 has no name.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bc_formats::atomic;
use bytemuck::Zeroable;

use super::bytes::Bytes;
use super::mapped_file;
use super::rows::Row;

const MAGIC: [u8; 8] = *b"BCKEYS1\0";

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Header {
    magic: [u8; 8],
    unused: u64,
    recordings: u64,
    vectors: u64,
    reserved: [u64; 4],
}

/// The fields of a recording that a search needs without reading its row.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Key {
    /// Content hash of the recording's file; zeros if unknown.
    pub content: [u8; 16],
    /// Hash of the recording's path.
    pub path: u64,
    /// Hash of the recording's work; 0 for none.
    pub work: u64,
    /// Bytes of the recording's file when it was added; 0 if unknown.
    pub bytes: u64,
    /// Modification time of the recording's file, in nanoseconds since 1970; 0 if unknown.
    pub modified_ns: i64,
}

impl Key {
    /// The key of a row.
    #[must_use]
    pub fn from_row(row: &Row) -> Self {
        let mut key = Self::zeroed();
        for (byte, pair) in key.content.iter_mut().zip(row.content_hash.as_bytes().chunks_exact(2)) {
            let text = std::str::from_utf8(pair).unwrap_or_default();
            *byte = u8::from_str_radix(text, 16).unwrap_or_default();
        }
        key.path = short_hash(&row.path);
        key.work = work_hash(&row.work);
        key.bytes = row.bytes;
        key.modified_ns = row.modified_ns;
        key
    }

    /// Whether the recording's content hash is known and is `content`.
    #[must_use]
    pub fn has_content(&self, content: &[u8; 16]) -> bool {
        self.content == *content && *content != [0; 16]
    }
}

/// The first 8 bytes of the BLAKE3 hash of a text.
#[must_use]
pub fn short_hash(text: &str) -> u64 {
    let hash = blake3::hash(text.as_bytes());
    bytemuck::pod_read_unaligned(&hash.as_bytes()[..8])
}

/// The hash of a work's name; 0 for none.
#[must_use]
pub fn work_hash(name: &str) -> u64 {
    if name.is_empty() { 0 } else { short_hash(name).max(1) }
}

/// The recording that a vector was made from.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct VectorSource {
    /// Number of the recording in the segment.
    pub recording: u32,
    /// Start of the part that the vector is of, in seconds; 0 for a whole recording.
    pub start_s: f32,
}

/// The keys of a segment.
#[derive(Debug)]
pub struct KeyFile {
    bytes: Bytes,
    recordings: usize,
    vectors: usize,
}

const HEADER: usize = size_of::<Header>();

/// The ends of the keys, of the order by work, and of the sources, in bytes; `None` on overflow.
fn section_ends(recordings: usize, vectors: usize) -> Option<[usize; 3]> {
    let keys = HEADER.checked_add(recordings.checked_mul(size_of::<Key>())?)?;
    let order = keys.checked_add(recordings.checked_mul(4)?.checked_next_multiple_of(8)?)?;
    let sources = order.checked_add(vectors.checked_mul(size_of::<VectorSource>())?)?;
    Some([keys, order, sources])
}

impl KeyFile {
    /// Maps a file.
    ///
    /// # Errors
    /// A file that cannot be read, or whose header or length is wrong.
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_bytes(Bytes::Mapped(mapped_file::open(path)?))
            .with_context(|| format!("{} is damaged", path.display()))
    }

    fn from_bytes(bytes: Bytes) -> Result<Self> {
        let header: Header = bytes.header(MAGIC)?;
        let (recordings, vectors) = (usize::try_from(header.recordings)?, usize::try_from(header.vectors)?);
        let expected = section_ends(recordings, vectors).map(|ends| ends[2]);
        ensure!(
            expected == Some(bytes.len()),
            "it has {} bytes, which does not match its header",
            bytes.len()
        );
        let file = Self { bytes, recordings, vectors };
        ensure!(
            file.sources().iter().all(|source| (source.recording as usize) < recordings),
            "a vector refers to a recording that does not exist"
        );
        ensure!(
            file.by_work().iter().all(|number| (*number as usize) < recordings),
            "the order by work has a recording that does not exist"
        );
        Ok(file)
    }

    /// The keys, one per recording.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        bytemuck::cast_slice(&self.bytes[HEADER..HEADER + self.recordings * size_of::<Key>()])
    }

    /// The sources of the vectors, one per vector; those of a recording are contiguous, and recordings are in order.
    #[must_use]
    pub fn sources(&self) -> &[VectorSource] {
        let end = self.bytes.len();
        bytemuck::cast_slice(&self.bytes[end - self.vectors * size_of::<VectorSource>()..])
    }

    /// The recordings of a work, by its hash.
    #[must_use]
    pub fn of_work(&self, work: u64) -> &[u32] {
        let (order, keys) = (self.by_work(), self.keys());
        let first = order.partition_point(|number| keys[*number as usize].work < work);
        let end = order.partition_point(|number| keys[*number as usize].work <= work);
        &order[first..end]
    }

    /// The recordings in the order of their works' hashes.
    fn by_work(&self) -> &[u32] {
        let start = HEADER + self.recordings * size_of::<Key>();
        bytemuck::cast_slice(&self.bytes[start..start + 4 * self.recordings])
    }

    /// The range of the vectors of a recording: first and end.
    #[must_use]
    pub fn vectors_of(&self, recording: u32) -> (usize, usize) {
        let sources = self.sources();
        let first = sources.partition_point(|source| source.recording < recording);
        let end = sources.partition_point(|source| source.recording <= recording);
        (first, end)
    }

    fn encode(keys: &[Key], sources: &[VectorSource]) -> Vec<u8> {
        let mut order: Vec<u32> = (0..keys.len() as u32).collect();
        order.sort_by_key(|number| (keys[*number as usize].work, *number));
        if order.len() % 2 == 1 {
            order.push(0);
        }
        let header = Header {
            magic: MAGIC,
            recordings: keys.len() as u64,
            vectors: sources.len() as u64,
            ..Header::zeroed()
        };
        let mut bytes = bytemuck::bytes_of(&header).to_vec();
        bytes.extend_from_slice(bytemuck::cast_slice(keys));
        bytes.extend_from_slice(bytemuck::cast_slice(&order));
        bytes.extend_from_slice(bytemuck::cast_slice(sources));
        bytes
    }

    pub(crate) fn in_memory(keys: &[Key], sources: &[VectorSource]) -> Result<Self> {
        Self::from_bytes(Bytes::owned(&Self::encode(keys, sources)))
    }

    /// Writes the file; returns its hash.
    pub(crate) fn write(path: &Path, keys: &[Key], sources: &[VectorSource]) -> Result<String> {
        let bytes = Self::encode(keys, sources);
        atomic::write_with(path, |writer| Ok(writer.write_all(&bytes)?))?;
        Ok(blake3::hash(&bytes).to_hex()[..32].to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(path: &str, work: &str, content: &str) -> Row {
        Row { path: path.into(), work: work.into(), content_hash: content.into(), ..Row::default() }
    }

    #[test]
    fn keys_are_looked_up_by_work_content_and_recording() {
        let rows = [
            row("a", "one", "00ff00000000000000000000000000aa"),
            row("b", "", ""),
            row("c", "two", "01"),
            row("d", "one", ""),
            row("e", "", ""),
        ];
        let keys: Vec<Key> = rows.iter().map(Key::from_row).collect();
        let sources: Vec<VectorSource> = [0, 0, 0, 1, 2, 3, 3, 4]
            .map(|recording| VectorSource { recording, start_s: 0.5 * recording as f32 })
            .to_vec();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        KeyFile::write(&path, &keys, &sources).unwrap();
        for file in [KeyFile::open(&path).unwrap(), KeyFile::in_memory(&keys, &sources).unwrap()] {
            assert_eq!((file.keys(), file.sources()), (&keys[..], &sources[..]));
            assert_eq!(file.of_work(work_hash("one")), [0, 3]);
            assert_eq!(file.of_work(work_hash("two")), [2]);
            assert!(file.of_work(work_hash("three")).is_empty());
            assert_eq!((file.vectors_of(0), file.vectors_of(3)), ((0, 3), (5, 7)));
        }
        assert_eq!((keys[0].content[1], keys[0].content[15]), (255, 170));
        assert!(keys[0].has_content(&keys[0].content) && !keys[1].has_content(&keys[1].content));
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 8]).unwrap();
        assert!(format!("{:#}", KeyFile::open(&path).unwrap_err()).contains("is damaged"));
    }
}
