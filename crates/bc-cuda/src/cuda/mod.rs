//! The CUDA device, by cudarc. Its libraries are loaded when a device is opened and not before.
//!
//! In: the name of a device. Out: a [`Device`](crate::device::Device). There is one file for each library: `driver` (memory,
//! streams, launches), `nvrtc` (compiling kernels), `cudnn` (convolutions; `algorithms` chooses their algorithms), `cublas`
//! (products of matrices), `nccl` (exchange between the devices of several processes). `libraries` reports missing libraries,
//! and `staging` uploads batches on a stream of their own.

mod algorithms;
mod allocation;
mod cublas;
mod cudnn;
mod descriptors;
mod driver;
mod libraries;
mod nccl;
mod nvrtc;
mod staging;

use std::sync::Arc;

use crate::error::{Error, Result};

pub use driver::{CudaDevice, count};
pub use nccl::{Communicator, ID, Id, new_id, require_nccl};
pub use nvrtc::compile;

/// Returns the number of the device that is called `cuda:0`, `cuda:1`, ...; `cuda` is device 0.
///
/// # Errors
/// The name has another form.
pub fn ordinal(name: &str) -> Result<usize> {
    if name == "cuda" {
        return Ok(0);
    }
    name.strip_prefix("cuda:")
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| Error::Name(name.to_owned()))
}

/// Opens a device by its name.
///
/// # Errors
/// The driver or a library is missing, or the device does not exist or is too old; the message says what to do.
pub fn open(name: &str) -> Result<Arc<CudaDevice>> {
    CudaDevice::new(ordinal(name)?)
}

/// Returns whether the driver is installed (there may still be no device).
pub fn is_driver_present() -> bool {
    libraries::DRIVER.is_present()
}

/// Returns a function that converts a library's error in `call` to ours.
fn call<E: std::fmt::Display>(call: &'static str) -> impl FnOnce(E) -> Error {
    move |error| Error::Call { call, message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named() {
        assert_eq!(ordinal("cuda").unwrap(), 0);
        assert_eq!(ordinal("cuda:3").unwrap(), 3);
        for name in ["gpu", "cuda:", "cuda:-1", "cuda:1.5", "cuda:+1", "cpu"] {
            let error = ordinal(name).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("cuda:0"), "{error}");
        }
    }

    #[test]
    fn a_machine_without_a_driver_says_what_to_install() {
        if is_driver_present() {
            bc_testing::skip!("a CUDA driver is there");
        }
        let Err(error) = open("cuda:0") else { panic!("a device without a driver") };
        let error = error.to_string();
        for part in ["libcuda.so.1", "LD_LIBRARY_PATH", "NVIDIA driver", "device = \"cpu\""] {
            assert!(error.contains(part), "{part} in {error}");
        }
    }
}
