//! Memory from the driver.

use cudarc::driver::sys::CUresult;
use cudarc::driver::{DriverError, result};

use super::call;
use crate::device::Address;
use crate::error::{Error, Result};

/// Allocates memory of the device whose context is bound; if there is not enough, the error says how much is free.
pub(super) fn allocate(bytes: usize) -> Result<Address> {
    // SAFETY: the context is bound by the caller; the memory is read only where it was written.
    match unsafe { result::malloc_sync(bytes) } {
        Ok(address) => Ok(address),
        Err(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
            let (free, total) = result::mem_get_info().map_err(call("cuMemGetInfo"))?;
            Err(Error::OutOfMemory { asked: bytes, free, total, held: total.saturating_sub(free) })
        }
        Err(error) => Err(call("cuMemAlloc")(error)),
    }
}
