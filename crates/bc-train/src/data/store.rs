//! All stored features in one block of 16-bit floats: in memory, or in a file mapped
//! into it where they would not fit.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use half::f16;

use super::{TrackView, mapped_file};

/// One track of a store.
#[derive(Debug, Clone, PartialEq)]
pub struct Track {
    /// Id in the index.
    pub version_id: String,
    /// Clique in the index.
    pub clique_id: String,
    /// Stored columns.
    pub frames: usize,
}

/// Tracks with their magnitudes.
pub struct Store {
    bins: usize,
    tracks: Vec<Track>,
    /// Where each track begins in `block`, in values.
    offsets: Vec<usize>,
    block: Block,
}

/// Stores the values of one track (bins x frames, row-major), given its position among the tracks.
pub type PutTrack<'a> = dyn FnMut(usize, &[f16]) -> Result<()> + 'a;

/// The magnitudes of all tracks.
enum Block {
    Memory(Vec<f16>),
    Mapped(memmap2::Mmap),
}

impl Store {
    /// Builds a store of `tracks`, whose magnitudes `fill` supplies: it calls its argument with the position and the
    /// values of each track. With `file`, the block is that file, mapped into memory; a complete file of an earlier start
    /// is used again.
    pub fn build(
        bins: usize,
        tracks: Vec<Track>,
        file: Option<&Path>,
        fill: impl FnOnce(&mut PutTrack<'_>) -> Result<()>,
    ) -> Result<Self> {
        let mut offsets = Vec::with_capacity(tracks.len());
        let mut total = 0;
        for track in &tracks {
            offsets.push(total);
            total += bins * track.frames;
        }
        let block = match file {
            None => {
                let mut values = vec![f16::ZERO; total];
                fill_block(&tracks, &offsets, bins, &mut values, fill)?;
                Block::Memory(values)
            }
            Some(path) => {
                let bytes = (2 * total) as u64;
                if std::fs::metadata(path).map_or(true, |metadata| metadata.len() != bytes) {
                    write_block(path, bytes, |values| fill_block(&tracks, &offsets, bins, values, fill))?;
                }
                Block::Mapped(mapped_file::open(path)?)
            }
        };
        Ok(Self { bins, tracks, offsets, block })
    }

    /// Returns the number of bins.
    pub fn bins(&self) -> usize {
        self.bins
    }

    /// Returns all tracks.
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// Returns the size of the block in bytes.
    pub fn bytes(&self) -> usize {
        2 * self.values().len()
    }

    /// Returns the features of one track.
    pub fn view(&self, track: usize) -> TrackView<'_> {
        let frames = self.tracks[track].frames;
        let from = self.offsets[track];
        TrackView { bins: self.bins, frames, values: &self.values()[from..from + self.bins * frames] }
    }

    fn values(&self) -> &[f16] {
        match &self.block {
            Block::Memory(values) => values,
            Block::Mapped(map) => bytemuck::cast_slice(map),
        }
    }
}

/// Copies the values of each track that `fill` supplies to its offset in `block`.
fn fill_block(
    tracks: &[Track],
    offsets: &[usize],
    bins: usize,
    block: &mut [f16],
    fill: impl FnOnce(&mut PutTrack<'_>) -> Result<()>,
) -> Result<()> {
    fill(&mut |track, values| {
        let size = bins * tracks[track].frames;
        ensure!(
            values.len() == size,
            "version {}: {} values instead of {size}",
            tracks[track].version_id,
            values.len()
        );
        block[offsets[track]..offsets[track] + size].copy_from_slice(values);
        Ok(())
    })
}

/// Writes a file of `bytes` bytes, whose content `fill` writes through a memory map.
fn write_block(path: &Path, bytes: u64, fill: impl FnOnce(&mut [f16]) -> Result<()>) -> Result<()> {
    let mut file = bc_formats::atomic::AtomicFile::create(path)?;
    let failed = || format!("cannot write {} (is the disk full?)", path.display());
    if bytes > 0 {
        file.file().set_len(bytes).with_context(failed)?;
        let mut map = mapped_file::unfinished(file.file()).with_context(failed)?;
        fill(bytemuck::cast_slice_mut(&mut map))?;
        map.flush().with_context(failed)?;
    }
    file.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(file: Option<&Path>) -> Store {
        let track = |id: &str, frames| Track { version_id: id.into(), clique_id: "c".into(), frames };
        Store::build(2, vec![track("a", 2), track("b", 1)], file, |put| {
            put(1, &[5.0, 6.0].map(f16::from_f32))?;
            put(0, &[1.0, 2.0, 3.0, 4.0].map(f16::from_f32))
        })
        .unwrap()
    }

    #[test]
    fn stores_in_memory_and_in_a_file_hold_the_same_values() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("features.f16");
        for store in [build(None), build(Some(&path)), build(Some(&path))] {
            assert_eq!(store.view(0).values, [1.0, 2.0, 3.0, 4.0].map(f16::from_f32));
            assert_eq!(store.view(1).values, [5.0, 6.0].map(f16::from_f32));
            assert_eq!(store.bytes(), 12);
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 12);
    }
}
