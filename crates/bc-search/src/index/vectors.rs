//! The vectors of a segment: raw rows that are mapped into memory.
//!
//! A header of 64 bytes (magic, storage, dimensions, rows, bytes per row), the rows, and for 8-bit numbers one scale
//! per row. All numbers are little-endian. A row is padded with zeros to a multiple of 64 numbers, which change
//! neither products nor lengths, so that the inner loops have no remainder.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bc_formats::atomic::AtomicFile;
use bytemuck::Zeroable;
use half::f16;
use serde::{Deserialize, Serialize};

use super::bytes::Bytes;
use super::mapped_file;

#[cfg(target_endian = "big")]
compile_error!("the files of an index are little-endian and read without conversion");

const MAGIC: [u8; 8] = *b"BCVECT1\0";
/// Bytes before the first row.
pub(crate) const HEADER: usize = 64;
/// The length of a padded row is a multiple of this many numbers.
pub const LANES: usize = 64;

/// Storage of the vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// 16-bit floats.
    F16,
    /// 8-bit integers with one scale per row: half of the bytes, scores accurate to about 0.005.
    Int8,
}

impl Storage {
    /// Number of bytes of a value.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::Int8 => 1,
        }
    }

    /// Number of values of a stored row for vectors of `dim` values, including padding.
    #[must_use]
    pub fn padded(dim: usize) -> usize {
        dim.next_multiple_of(LANES)
    }

    fn code(self) -> u32 {
        match self {
            Self::F16 => 1,
            Self::Int8 => 2,
        }
    }
}

impl std::fmt::Display for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F16 => "f16",
            Self::Int8 => "int8",
        })
    }
}

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Header {
    magic: [u8; 8],
    storage: u32,
    dim: u32,
    rows: u64,
    stride: u64,
    unused: [u64; 4],
}

/// A row in stored form.
pub(crate) struct StoredRow {
    /// The numbers of the row, padded.
    pub bytes: Vec<u8>,
    /// Scale of the row's 8-bit values; 1 for floats.
    pub scale: f32,
}

/// Scales a vector to length 1 and encodes it.
///
/// # Errors
/// A vector that is zero or not finite: it has no direction.
pub(crate) fn encode(storage: Storage, vector: &[f32]) -> Result<StoredRow> {
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    ensure!(
        length.is_finite() && length > 0.0,
        "its embedding is zero or holds a value that is not a finite number"
    );
    let mut unit: Vec<f32> = vector.iter().map(|value| (f64::from(*value) / length) as f32).collect();
    unit.resize(Storage::padded(vector.len()), 0.0);
    Ok(match storage {
        Storage::F16 => {
            let bytes = unit.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
            StoredRow { bytes, scale: 1.0 }
        }
        Storage::Int8 => {
            let largest = unit.iter().fold(0f32, |largest, value| largest.max(value.abs()));
            let scale = largest / 127.0;
            let bytes = unit.iter().map(|value| (value / scale).round() as i8 as u8).collect();
            StoredRow { bytes, scale }
        }
    })
}

/// The vectors of a segment.
#[derive(Debug)]
pub struct VectorFile {
    bytes: Bytes,
    /// Storage of the vectors.
    pub storage: Storage,
    /// Dimension of a vector.
    pub dim: usize,
    /// Number of vectors.
    pub rows: usize,
    /// Bytes of a row.
    pub stride: usize,
}

impl VectorFile {
    /// Maps a file.
    ///
    /// # Errors
    /// A file that cannot be read, or whose header or length is wrong.
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_bytes(Bytes::Mapped(mapped_file::open(path)?))
            .with_context(|| format!("{} is damaged", path.display()))
    }

    pub(crate) fn from_bytes(bytes: Bytes) -> Result<Self> {
        let header: Header = bytes.header(MAGIC)?;
        let storage = match header.storage {
            1 => Storage::F16,
            2 => Storage::Int8,
            other => anyhow::bail!("its storage is {other}, which this program does not know"),
        };
        let (dim, rows) = (header.dim as usize, usize::try_from(header.rows)?);
        let stride = Storage::padded(dim) * storage.bytes();
        ensure!(header.stride == stride as u64 && dim > 0, "its rows have {} bytes", header.stride);
        let scales = if storage == Storage::Int8 { 4 } else { 0 };
        let expected = rows.checked_mul(stride + scales).and_then(|size| size.checked_add(HEADER));
        ensure!(
            expected == Some(bytes.len()),
            "it has {} bytes and should have {}",
            bytes.len(),
            expected.unwrap_or(usize::MAX)
        );
        Ok(Self { bytes, storage, dim, rows, stride })
    }

    /// The bytes of rows `first` to `end`.
    #[must_use]
    pub fn row_bytes(&self, first: usize, end: usize) -> &[u8] {
        &self.bytes[HEADER + first * self.stride..HEADER + end * self.stride]
    }

    /// Scales of the 8-bit rows `first` to `end`; empty for floats.
    #[must_use]
    pub fn scales(&self, first: usize, end: usize) -> &[f32] {
        if self.storage == Storage::F16 {
            return &[];
        }
        let all: &[f32] = bytemuck::cast_slice(&self.bytes[HEADER + self.rows * self.stride..]);
        &all[first..end]
    }

    /// A vector, of length 1 up to rounding.
    #[must_use]
    pub fn vector(&self, row: usize) -> Vec<f32> {
        let bytes = self.row_bytes(row, row + 1);
        let scale = self.scales(row, row + usize::from(self.storage == Storage::Int8)).first().copied();
        let numbers: Vec<f32> = match self.storage {
            Storage::F16 => {
                bytemuck::cast_slice::<u8, f16>(bytes).iter().map(|value| value.to_f32()).collect()
            }
            Storage::Int8 => {
                let scale = scale.unwrap_or(1.0);
                bytemuck::cast_slice::<u8, i8>(bytes).iter().map(|value| f32::from(*value) * scale).collect()
            }
        };
        numbers[..self.dim].to_vec()
    }

    /// Content hash of the file without its header.
    #[must_use]
    pub fn content_hash(&self) -> String {
        blake3::hash(&self.bytes[HEADER..]).to_hex()[..32].to_owned()
    }

    /// The row in stored form.
    pub(crate) fn stored(&self, row: usize) -> StoredRow {
        let int8 = usize::from(self.storage == Storage::Int8);
        let scale = self.scales(row, row + int8).first().copied().unwrap_or(1.0);
        StoredRow { bytes: self.row_bytes(row, row + 1).to_vec(), scale }
    }
}

/// Writes rows one after another; only the scales are kept in memory.
pub(crate) struct VectorWriter {
    writer: BufWriter<File>,
    atomic: AtomicFile,
    hasher: blake3::Hasher,
    storage: Storage,
    dim: usize,
    scales: Vec<f32>,
    rows: u64,
}

impl VectorWriter {
    pub fn create(path: &Path, storage: Storage, dim: usize) -> Result<Self> {
        let atomic = AtomicFile::create(path)?;
        let mut writer = BufWriter::with_capacity(1 << 20, atomic.reopen()?);
        writer.write_all(&[0; HEADER])?;
        Ok(Self { writer, atomic, hasher: blake3::Hasher::new(), storage, dim, scales: Vec::new(), rows: 0 })
    }

    pub fn push(&mut self, row: &StoredRow) -> Result<()> {
        self.hasher.update(&row.bytes);
        self.writer.write_all(&row.bytes).context("cannot write vectors (is the disk full?)")?;
        if self.storage == Storage::Int8 {
            self.scales.push(row.scale);
        }
        self.rows += 1;
        Ok(())
    }

    /// Finishes the file; returns the hash of the file without its header.
    pub fn commit(mut self) -> Result<String> {
        let message = "cannot write vectors (is the disk full?)";
        let scales = bytemuck::cast_slice(&self.scales);
        self.hasher.update(scales);
        self.writer.write_all(scales).context(message)?;
        let stride = (Storage::padded(self.dim) * self.storage.bytes()) as u64;
        let header = Header {
            magic: MAGIC,
            storage: self.storage.code(),
            dim: u32::try_from(self.dim).context("a vector is too long")?,
            rows: self.rows,
            stride,
            ..Header::zeroed()
        };
        self.writer.seek(SeekFrom::Start(0)).context(message)?;
        self.writer.write_all(bytemuck::bytes_of(&header)).context(message)?;
        self.writer.flush().context(message)?;
        self.atomic.commit()?;
        Ok(self.hasher.finalize().to_hex()[..32].to_owned())
    }
}

/// Makes a [`VectorFile`] in memory from rows.
pub(crate) fn in_memory(
    storage: Storage,
    dim: usize,
    rows: impl Iterator<Item = Result<StoredRow>>,
) -> Result<VectorFile> {
    let mut bytes = vec![0; HEADER];
    let mut scales: Vec<f32> = Vec::new();
    let mut count = 0;
    for row in rows {
        let row = row?;
        bytes.extend_from_slice(&row.bytes);
        if storage == Storage::Int8 {
            scales.push(row.scale);
        }
        count += 1;
    }
    bytes.extend_from_slice(bytemuck::cast_slice(&scales));
    let header = Header {
        magic: MAGIC,
        storage: storage.code(),
        dim: u32::try_from(dim).context("a vector is too long")?,
        rows: count,
        stride: (Storage::padded(dim) * storage.bytes()) as u64,
        ..Header::zeroed()
    };
    bytes[..HEADER].copy_from_slice(bytemuck::bytes_of(&header));
    VectorFile::from_bytes(Bytes::owned(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, storage: Storage, vectors: &[Vec<f32>]) {
        let mut writer = VectorWriter::create(path, storage, vectors[0].len()).unwrap();
        for vector in vectors {
            writer.push(&encode(storage, vector).unwrap()).unwrap();
        }
        writer.commit().unwrap();
    }

    #[test]
    fn vectors_are_read_back_with_length_one_from_both_storages() {
        let folder = tempfile::tempdir().unwrap();
        let vectors: Vec<Vec<f32>> =
            (0..5).map(|row| (0..70).map(|i| ((row * 70 + i) as f32).sin() * 3.0).collect()).collect();
        for (storage, tolerance) in [(Storage::F16, 2e-4), (Storage::Int8, 2e-3)] {
            let path = folder.path().join("v");
            write(&path, storage, &vectors);
            let file = VectorFile::open(&path).unwrap();
            assert_eq!((file.rows, file.dim, file.stride), (5, 70, 128 * storage.bytes()));
            for (row, vector) in vectors.iter().enumerate() {
                let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
                for (a, b) in file.vector(row).iter().zip(vector) {
                    assert!((a - b / length).abs() < tolerance, "{a} and {}", b / length);
                }
            }
            let memory =
                in_memory(storage, 70, vectors.iter().map(|vector| encode(storage, vector))).unwrap();
            assert_eq!(memory.vector(4), file.vector(4));
        }
    }

    #[test]
    fn zero_vectors_and_truncated_files_are_refused() {
        assert!(encode(Storage::F16, &[0.0, 0.0]).is_err());
        assert!(encode(Storage::Int8, &[f32::NAN, 1.0]).is_err());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v");
        write(&path, Storage::Int8, &[vec![1.0; 64], vec![-1.0; 64]]);
        let whole = std::fs::read(&path).unwrap();
        for wrong in [&whole[..whole.len() - 1], &whole[..20], &[0; 100]] {
            std::fs::write(&path, wrong).unwrap();
            let error = format!("{:#}", VectorFile::open(&path).unwrap_err());
            assert!(error.contains("is damaged"), "{error}");
        }
    }
}
