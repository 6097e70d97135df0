//! Exchanges values between the devices of several processes by NCCL. The exchange is queued like other work, so the host does not
//! wait for it.

use std::ffi::{c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::Arc;

use cudarc::nccl::result;
use cudarc::nccl::sys::{self, ncclDataType_t, ncclRedOp_t, ncclResult_t};

use super::driver::CudaDevice;
use super::libraries;
use crate::device::Address;
use crate::error::{Error, Result, ensure};
use crate::gpu::Gpu;
use crate::ops::Peers;
use crate::tensor::Buffer;

/// Number of bytes of an [`Id`].
pub const ID: usize = 128;

/// The id by which the processes of a group find each other; see [`new_id`].
pub type Id = [u8; ID];

/// Number of values that are summed in order at a time: each device holds those of all processes (16 MiB of each).
const BUCKET: usize = 1 << 22;

/// The connection of this process to the others that train the same network, each with its own device.
pub struct Communicator {
    communicator: sys::ncclComm_t,
    device: Arc<CudaDevice>,
    ranks: usize,
    in_order: bool,
}

// SAFETY: NCCL allows calls from any thread, one at a time for a communicator; methods that queue are called by the one
// thread that queues (see `Gpu`).
unsafe impl Send for Communicator {}
// SAFETY: as above.
unsafe impl Sync for Communicator {}

fn checked(
    status: std::result::Result<result::NcclStatus, result::NcclError>,
    call: &'static str,
) -> Result<()> {
    status.map(|_| ()).map_err(|result::NcclError(status): result::NcclError| failed(status, call))
}

fn failed(status: ncclResult_t, call: &'static str) -> Error {
    Error::Call { call, message: format!("{status:?} (NCCL_DEBUG=INFO says more)") }
}

/// Checks that NCCL can be loaded.
///
/// # Errors
/// NCCL cannot be loaded; the message says what to install.
pub fn require_nccl() -> Result<()> {
    libraries::NCCL.require()
}

/// Creates an id for a group of processes. One process creates it and sends it to the others.
///
/// # Errors
/// NCCL is missing or fails.
pub fn new_id() -> Result<Id> {
    require_nccl()?;
    let id = result::get_uniqueid().map_err(|result::NcclError(status)| failed(status, "ncclGetUniqueId"))?;
    Ok(id.internal.map(c_char::cast_unsigned))
}

impl Communicator {
    /// Joins the group as `rank` of `ranks`; waits for all of them. With `in_order` sums are added in the order of the ranks;
    /// otherwise in an order that NCCL chooses, which moves fewer bytes.
    ///
    /// # Errors
    /// NCCL is missing; processes do not find each other, or two of them have the same device.
    pub fn new(device: &Arc<CudaDevice>, id: Id, [rank, ranks]: [usize; 2], in_order: bool) -> Result<Self> {
        ensure(rank < ranks, || format!("rank {rank} of {ranks}"))?;
        require_nccl()?;
        device.bind()?;
        let id = sys::ncclUniqueId { internal: id.map(u8::cast_signed) };
        let mut communicator = MaybeUninit::uninit();
        // SAFETY: the call writes a communicator if it succeeds; the device's context is bound.
        let communicator = unsafe {
            let done = result::comm_init_rank(communicator.as_mut_ptr(), ranks as c_int, id, rank as c_int);
            checked(done, "ncclCommInitRank")?;
            communicator.assume_init()
        };
        Ok(Self { communicator, device: Arc::clone(device), ranks, in_order })
    }

    fn stream(&self) -> sys::cudaStream_t {
        self.device.stream.cu_stream().cast()
    }

    /// Gathers `count` values at `own` from every process, one process after the other.
    ///
    /// # Safety
    /// There are `count` values at `own`.
    unsafe fn gather_at(&self, gpu: &Gpu, own: Address, count: usize) -> Result<Buffer<f32>> {
        self.device.bind()?;
        let all = gpu.buffer(count * self.ranks)?;
        // SAFETY: the caller's; `all` has room for the values of every process, which have as many each; the stream lives
        // as long as the device.
        let done = unsafe {
            result::all_gather(
                own as *const c_void,
                all.address() as *mut c_void,
                count,
                ncclDataType_t::ncclFloat32,
                self.communicator,
                self.stream(),
            )
        };
        checked(done, "ncclAllGather")?;
        Ok(all)
    }

    /// Replaces values by their sums over all processes, added in an order that NCCL chooses.
    fn reduce(&self, values: &mut Buffer<f32>) -> Result<()> {
        self.device.bind()?;
        let address = values.address();
        // SAFETY: the buffer has as many values, and NCCL allows its result in the place of its input.
        let done = unsafe {
            result::all_reduce(
                address as *const c_void,
                address as *mut c_void,
                values.len(),
                ncclDataType_t::ncclFloat32,
                ncclRedOp_t::ncclSum,
                self.communicator,
                self.stream(),
            )
        };
        checked(done, "ncclAllReduce")
    }
}

impl Peers for Communicator {
    fn gather(&self, gpu: &Gpu, own: &Buffer<f32>) -> Result<Buffer<f32>> {
        // SAFETY: the buffer has as many values.
        unsafe { self.gather_at(gpu, own.address(), own.len()) }
    }

    fn sum(&self, gpu: &Gpu, values: &mut Buffer<f32>) -> Result<()> {
        if !self.in_order {
            return self.reduce(values);
        }
        for first in (0..values.len()).step_by(BUCKET) {
            let places = first..values.len().min(first + BUCKET);
            // SAFETY: the places are inside the buffer.
            let all = unsafe { self.gather_at(gpu, values.at(first), places.len())? };
            gpu.sum_in_order(&all, values, places)?;
        }
        Ok(())
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        // Aborted and not destroyed: after an error here, what is queued may wait for processes that do not come.
        // SAFETY: it was made by `new` and is freed here alone.
        let _ = unsafe { result::comm_abort(self.communicator) };
    }
}
