//! A CUDA device by cudarc, whose libraries are loaded when the device is opened and not before.
//!
//! In: the name of a device. Out: a [`Device`](crate::device::Device). One file for each library: `driver` (memory,
//! streams, launches), `nvrtc` (kernels), `cudnn` (convolutions; `algorithms` chooses among those that it has), `cublas`
//! (products), `nccl` (exchange between the devices of several processes); `libraries` says what is missing, `staging` is how batches travel beside the queue.

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

/// Returns the number of `cuda:0`, `cuda:1`, ...; `cuda` is the first.
///
/// # Errors
/// Another name.
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
/// A missing driver or library, a device that is not there or too old: with what to do.
pub fn open(name: &str) -> Result<Arc<CudaDevice>> {
    CudaDevice::new(ordinal(name)?)
}

/// Returns whether a driver is there (a device may still be missing).
pub fn is_driver_present() -> bool {
    libraries::DRIVER.is_present()
}

/// Returns an error with the message of a library.
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
