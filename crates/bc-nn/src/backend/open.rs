//! Chooses a backend by its name.

use std::sync::Arc;

use anyhow::{Result, ensure};

#[cfg(feature = "device")]
use super::cuda;
use super::gpus::Gpu;
use super::{Backend, Operators, Precision, cpu};

/// Returns whether the name of a device is that of a GPU.
pub fn names_gpu(device: &str) -> bool {
    !matches!(device, "cpu" | "auto")
}

/// Returns whether an error says that a device has not enough memory for a request.
#[cfg(feature = "device")]
fn is_out_of_memory_error(cause: &(dyn std::error::Error + 'static)) -> bool {
    matches!(cause.downcast_ref::<bc_cuda::Error>(), Some(bc_cuda::Error::OutOfMemory { .. }))
}

#[cfg(not(feature = "device"))]
fn is_out_of_memory_error(_cause: &(dyn std::error::Error + 'static)) -> bool {
    false
}

impl Backend {
    /// Returns the CPU backend.
    pub fn cpu() -> Self {
        Self(Arc::new(cpu::Cpu))
    }

    /// Opens a backend by its name: "cpu", "auto" (the CPU) or "cuda:0", "cuda:1", ...; "cuda" is the first of these.
    ///
    /// # Errors
    /// A build without CUDA; no driver or library, no such GPU, or one that is too old. The error names the remedy.
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

    /// Returns whether an error, or one of its causes, says that a device has not enough memory for a request.
    pub fn is_out_of_memory(error: &anyhow::Error) -> bool {
        error.chain().any(is_out_of_memory_error)
    }

    /// Returns whether this is the CPU backend, whose memory can be read without a copy.
    pub fn is_cpu(&self) -> bool {
        self.flat(Vec::new()).is_ok_and(|flat| self.host(&flat).is_some())
    }

    /// Wraps an implementation of the operators; tests wrap one backend in another.
    pub fn of(operators: impl Operators + 'static) -> Self {
        Self(Arc::new(operators))
    }

    /// Wraps a device of bc-cuda, real or emulated; `link` connects it with the devices of other processes.
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
