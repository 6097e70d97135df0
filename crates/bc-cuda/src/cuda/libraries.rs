//! Checks that the shared libraries exist before cudarc loads them, because cudarc aborts the program if one is missing.

use crate::error::{Error, Result};

/// A shared library of CUDA.
pub(super) struct Library {
    name: &'static str,
    purpose: &'static str,
    remedy: &'static str,
    present: unsafe fn() -> bool,
}

const WHEELS: &str = "scripts/cuda-toolkit.sh DEST --run gets it; then LD_LIBRARY_PATH=DEST/lib. (PyTorch's wheels have it too: \
     the folders nvidia/*/lib of its environment)";

pub(super) const DRIVER: Library = Library {
    name: "libcuda.so.1",
    purpose: "the NVIDIA driver",
    remedy: "Install an NVIDIA driver of 580 or newer (it has the library); in a container, start it with access to the GPU \
             (docker run --gpus all). Or use device = \"cpu\"",
    present: cudarc::driver::sys::is_culib_present,
};

pub(super) const NVRTC: Library = Library {
    name: "libnvrtc.so.13",
    purpose: "compiles the kernels, once for each kind of device",
    remedy: WHEELS,
    present: cudarc::nvrtc::sys::is_culib_present,
};

pub(super) const CUBLAS: Library = Library {
    name: "libcublas.so.13",
    purpose: "products of matrices",
    remedy: WHEELS,
    present: cudarc::cublas::sys::is_culib_present,
};

pub(super) const CUDNN: Library = Library {
    name: "libcudnn.so.9",
    purpose: "convolutions",
    remedy: WHEELS,
    present: cudarc::cudnn::sys::is_culib_present,
};

pub(super) const NCCL: Library = Library {
    name: "libnccl.so",
    purpose: "exchange between devices",
    remedy: "scripts/cuda-toolkit.sh DEST --run gets it; then LD_LIBRARY_PATH=DEST/lib. Where there is a libnccl.so.2 alone, \
             make a link libnccl.so to it in a folder of LD_LIBRARY_PATH",
    present: cudarc::nccl::sys::is_culib_present,
};

impl Library {
    pub fn is_present(&self) -> bool {
        // SAFETY: it opens the library if there is one, which runs its initialisation and no function of it; the libraries
        // are those that this crate is about to use.
        unsafe { (self.present)() }
    }

    /// Returns an error with the remedy if the library is missing.
    pub fn require(&self) -> Result<()> {
        if self.is_present() {
            return Ok(());
        }
        let Self { name, purpose, remedy, .. } = *self;
        let path = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
        Err(Error::Library { library: name, purpose, path, remedy })
    }
}
