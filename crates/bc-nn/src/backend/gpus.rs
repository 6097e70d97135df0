//! The GPUs of this machine, through CUDA. A build without CUDA compiles `no_gpus.rs` instead.

use std::sync::Arc;

use anyhow::{Context, Result};
use bc_cuda::cuda::{self, Communicator, CudaDevice};

use super::{Backend, Precision};

/// An open GPU that is not connected with those of other processes yet.
pub struct Gpu {
    device: Arc<CudaDevice>,
    precision: bc_cuda::Precision,
}

impl Gpu {
    /// Opens the GPU with the name "cuda:0", "cuda:1", ...; "cuda" is the first.
    ///
    /// # Errors
    /// No driver or library, no such GPU, or one that is too old; the error names the remedy.
    pub fn open(name: &str, precision: Precision) -> Result<Self> {
        let device = cuda::open(name).with_context(|| format!("device = \"{name}\""))?;
        Ok(Self { device, precision: precision.name().parse()? })
    }

    /// Returns the UUID of the GPU, which no other GPU has.
    ///
    /// # Errors
    /// Errors of the driver.
    pub fn uuid(&self) -> Result<String> {
        Ok(self.device.uuid()?)
    }

    /// Returns a backend for this process alone, or for several processes whose GPUs exchange values through the host's memory.
    pub fn alone(self) -> Backend {
        Backend::on_device(bc_cuda::Gpu::new(self.device, self.precision), None)
    }

    /// Returns a backend for process `rank` of `ranks`, whose GPUs exchange values directly; waits for all of them. `id` is
    /// the [`new_id`] that one of them made. With `in_order`, sums are added in the order of the ranks.
    ///
    /// # Errors
    /// The processes do not find each other.
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

/// Checks that the GPUs of several processes can be connected on this machine.
///
/// # Errors
/// NCCL is missing; the error says what to install.
pub fn require_connection() -> Result<()> {
    Ok(cuda::require_nccl()?)
}

/// Creates the id by which the processes whose GPUs are connected find each other. One of them creates it.
///
/// # Errors
/// The errors of [`require_connection`].
pub fn new_id() -> Result<Vec<u8>> {
    Ok(cuda::new_id()?.to_vec())
}
