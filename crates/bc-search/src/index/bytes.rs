//! The bytes of a file of the index: mapped, or in memory.

use anyhow::{Result, ensure};
use memmap2::Mmap;

/// Bytes whose address is a multiple of 8.
#[derive(Debug)]
pub(crate) enum Bytes {
    /// The bytes of a mapped file.
    Mapped(Mmap),
    /// Bytes in memory: 64-bit words, for the alignment, and the number of bytes.
    Owned(Vec<u64>, usize),
}

impl Bytes {
    pub fn owned(bytes: &[u8]) -> Self {
        let mut words = vec![0u64; bytes.len().div_ceil(8)];
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Self::Owned(words, bytes.len())
    }

    /// Reads the header at the beginning, whose first bytes must be `magic`.
    pub fn header<H: bytemuck::Pod>(&self, magic: [u8; 8]) -> Result<H> {
        let size = size_of::<H>();
        ensure!(self.len() >= size, "it has {} bytes, fewer than a header", self.len());
        ensure!(self[..8] == magic, "it does not begin with the magic bytes of such a file");
        Ok(bytemuck::pod_read_unaligned(&self[..size]))
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(words, length) => &bytemuck::cast_slice(words)[..*length],
        }
    }
}
