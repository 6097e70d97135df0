//! The GPUs of this machine, by CUDA. A build without CUDA has `no_gpus.rs` in its place.

use std::sync::Arc;

use anyhow::{Context, Result};
use bc_cuda::cuda::{self, Communicator, CudaDevice};

use super::{Backend, Precision};

/// A GPU that is open, and not yet connected with those of other processes.
pub struct Gpu {
    device: Arc<CudaDevice>,
    precision: bc_cuda::Precision,
}

impl Gpu {
    /// "cuda:0", "cuda:1", ...; "cuda" is the first.
    ///
    /// # Errors
    /// No driver or library, no such GPU, or one that is too old: with what to do.
    pub fn open(name: &str, precision: Precision) -> Result<Self> {
        let device = cuda::open(name).with_context(|| format!("device = \"{name}\""))?;
        Ok(Self { device, precision: precision.name().parse()? })
    }

    /// Its UUID, which no other GPU has.
    ///
    /// # Errors
    /// The driver's.
    pub fn uuid(&self) -> Result<String> {
        Ok(self.device.uuid()?)
    }

    /// For this process alone, or for several whose GPUs exchange values by way of the host.
    pub fn alone(self) -> Backend {
        Backend::on_device(bc_cuda::Gpu::new(self.device, self.precision), None)
    }

    /// As process `rank` of `ranks`, whose GPUs exchange values by themselves; waits for all. `id` is the [`new_id`] of
    /// one of them. With `in_order` sums are added in the order of the ranks.
    ///
    /// # Errors
    /// Processes that do not find each other.
    pub fn connected(self, id: &[u8], [rank, ranks]: [usize; 2], in_order: bool) -> Result<Backend> {
        let id = id.try_into().context("an id of another length than NCCL's")?;
        let link = Communicator::new(&self.device, id, [rank, ranks], in_order)?;
        Ok(Backend::on_device(bc_cuda::Gpu::new(self.device, self.precision), Some(Box::new(link))))
    }
}

/// Returns how many GPUs this process sees.
///
/// # Errors
/// No driver.
pub fn count() -> Result<usize> {
    Ok(cuda::count()?)
}

/// Whether the GPUs of several processes can be connected here.
///
/// # Errors
/// They cannot: no NCCL, with what to install.
pub fn require_connection() -> Result<()> {
    Ok(cuda::require_nccl()?)
}

/// By what processes whose GPUs are to be connected find each other; one of them makes it.
///
/// # Errors
/// As [`require_connection`].
pub fn new_id() -> Result<Vec<u8>> {
    Ok(cuda::new_id()?.to_vec())
}
