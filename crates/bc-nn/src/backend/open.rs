//! How a backend is chosen: by its name.

use std::sync::Arc;

use anyhow::{Result, ensure};

#[cfg(feature = "device")]
use super::cuda;
use super::gpus::Gpu;
use super::{Backend, Operators, Precision, cpu};

/// Returns whether a device of this name is a GPU, and not the processor.
pub fn names_gpu(device: &str) -> bool {
    !matches!(device, "cpu" | "auto")
}

/// Whether what failed is a device that has no memory for what was asked of it.
#[cfg(feature = "device")]
fn says_out_of_memory(cause: &(dyn std::error::Error + 'static)) -> bool {
    matches!(cause.downcast_ref::<bc_cuda::Error>(), Some(bc_cuda::Error::OutOfMemory { .. }))
}

#[cfg(not(feature = "device"))]
fn says_out_of_memory(_cause: &(dyn std::error::Error + 'static)) -> bool {
    false
}

impl Backend {
    /// The processor.
    pub fn cpu() -> Self {
        Self(Arc::new(cpu::Cpu))
    }

    /// By its name: "cpu", "auto" (the processor) or "cuda:0", "cuda:1", ...; "cuda" is the first of these.
    ///
    /// # Errors
    /// A build without CUDA; no driver or library, no such GPU, or one that is too old: with what to do.
    pub fn open(device: &str, precision: Precision) -> Result<Self> {
        if names_gpu(device) {
            return Ok(Gpu::open(device, precision)?.alone());
        }
        ensure!(
            precision == Precision::F32,
            "precision = \"{}\" is for a GPU; the processor computes in \"f32\"",
            precision.name()
        );
        Ok(Self::cpu())
    }

    /// Whether an error is of a device that has no memory for what was asked of it.
    pub fn is_out_of_memory(error: &anyhow::Error) -> bool {
        error.chain().any(says_out_of_memory)
    }

    /// Returns whether this is the CPU backend, whose memory can be read without a copy.
    pub fn is_cpu(&self) -> bool {
        self.flat(Vec::new()).is_ok_and(|flat| self.host(&flat).is_some())
    }

    /// Operators of one's own: tests wrap one backend in another.
    pub fn of(operators: impl Operators + 'static) -> Self {
        Self(Arc::new(operators))
    }

    /// A device of bc-cuda, real or emulated; with what reaches the devices of other processes, if anything does.
    #[cfg(feature = "device")]
    pub fn on_device(gpu: bc_cuda::Gpu, link: Option<Box<dyn bc_cuda::Peers + Send + Sync>>) -> Self {
        Self(Arc::new(cuda::Cuda::new(gpu, link)))
    }
}

#[cfg(all(test, feature = "device"))]
mod tests {
    use super::*;

    #[test]
    fn out_of_memory_is_found_in_an_error_chain() {
        let memory =
            bc_cuda::Error::OutOfMemory { asked: 3 << 30, free: 1 << 30, total: 8 << 30, held: 7 << 30 };
        let error = anyhow::Error::new(memory).context("step 7");
        assert!(Backend::is_out_of_memory(&error));
        assert!(!Backend::is_out_of_memory(&anyhow::Error::new(bc_cuda::Error::Shape("odd".to_owned()))));
    }
}
