//! A memory pool: a dropped block is kept and reused for the next request of its size.
//!
//! All work runs in order on one queue, so a block may be reused while kernels that were queued earlier still use it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::device::{Address, Device};
use crate::error::{Error, Result};

/// Sizes of small blocks are multiples of this number of bytes.
const SMALL: usize = 512;

/// Returns the size of the block for a request of `bytes`: for large blocks at most an eighth more, so that requests of slightly
/// different sizes share blocks.
pub(crate) fn block_size(bytes: usize) -> usize {
    let step = (bytes.max(1).next_power_of_two() / 16).max(SMALL);
    bytes.max(1).div_ceil(step) * step
}

/// The free blocks by size, and the usage of memory.
#[derive(Default)]
struct Free {
    blocks: BTreeMap<usize, Vec<Address>>,
    /// Number of bytes allocated from the device.
    held: usize,
    /// Number of bytes in use.
    used: usize,
    /// Maximum number of bytes that were in use at a time.
    peak: usize,
}

/// A process's usage of a device's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Number of bytes allocated from the device.
    pub held: usize,
    /// Number of bytes in use.
    pub used: usize,
    /// Maximum number of bytes that were in use at a time.
    pub peak: usize,
}

pub(crate) struct Pool {
    device: Arc<dyn Device>,
    free: Mutex<Free>,
}

impl Pool {
    pub fn new(device: Arc<dyn Device>) -> Arc<Self> {
        Arc::new(Self { device, free: Mutex::default() })
    }

    fn locked(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Allocates memory, from a free block if there is one that fits.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Result<Memory> {
        let size = block_size(bytes);
        let mut free = self.locked();
        // A block that is up to a quarter larger is better than a new one.
        let found = free.blocks.range(size..=size + size / 4).find(|(_, list)| !list.is_empty());
        let found = found.map(|(size, _)| *size);
        let (address, size) = match found.and_then(|size| Some((free.blocks.get_mut(&size)?.pop()?, size))) {
            Some(block) => block,
            None => (self.allocate(&mut free, size)?, size),
        };
        free.used += size;
        free.peak = free.peak.max(free.used);
        Ok(Memory(Arc::new(Block { address, size, pool: Arc::clone(self) })))
    }

    fn allocate(&self, free: &mut Free, size: usize) -> Result<Address> {
        let address = match self.device.allocate(size) {
            Err(Error::OutOfMemory { .. }) => {
                self.release(free);
                self.device.allocate(size).map_err(|error| match error {
                    Error::OutOfMemory { asked, free: left, total, .. } => {
                        Error::OutOfMemory { asked, free: left, total, held: free.held }
                    }
                    other => other,
                })?
            }
            other => other?,
        };
        free.held += size;
        Ok(address)
    }

    fn release(&self, free: &mut Free) {
        for (size, list) in std::mem::take(&mut free.blocks) {
            for address in list {
                // SAFETY: blocks in the list came from `allocate`, and their last user has dropped them.
                unsafe { self.device.free(address) };
                free.held -= size;
            }
        }
    }

    pub fn usage(&self) -> Usage {
        let free = self.locked();
        Usage { held: free.held, used: free.used, peak: free.peak }
    }

    /// Frees unused blocks.
    pub fn trim(&self) {
        self.release(&mut self.locked());
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.trim();
    }
}

struct Block {
    address: Address,
    size: usize,
    pool: Arc<Pool>,
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut free = self.pool.locked();
        free.used -= self.size;
        free.blocks.entry(self.size).or_default().push(self.address);
    }
}

/// Memory of a device; clones share it.
#[derive(Clone)]
pub struct Memory(Arc<Block>);

impl Memory {
    pub(crate) fn address(&self) -> Address {
        self.0.address
    }

    /// Returns whether there are no other clones.
    pub(crate) fn is_unique(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes at {:#x}", self.0.size, self.0.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_little_larger_and_shared_by_near_lengths() {
        for bytes in [0, 1, 511, 512, 513, 100_000, 1 << 20, (1 << 20) + 1, 123_456_789, 3 << 30] {
            let size = block_size(bytes);
            assert!(
                size >= bytes && size.is_multiple_of(SMALL) && size <= bytes + bytes / 8 + SMALL,
                "{bytes} {size}"
            );
        }
        assert_eq!(block_size(100_000_000), block_size(100_001_000));
    }
}
