//! Exchange between devices by NCCL, in the order of the queue.

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

/// Bytes of the id that connects processes.
pub const ID: usize = 128;

/// This process among those that train one network, each with its own device.
pub struct Communicator {
    communicator: sys::ncclComm_t,
    device: Arc<CudaDevice>,
    ranks: usize,
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

impl Communicator {
    /// An id for one group of processes: made by one of them and passed to the others (by MPI, or a file).
    ///
    /// # Errors
    /// No NCCL.
    pub fn id() -> Result<[u8; ID]> {
        libraries::NCCL.require()?;
        let id =
            result::get_uniqueid().map_err(|result::NcclError(status)| failed(status, "ncclGetUniqueId"))?;
        Ok(id.internal.map(c_char::cast_unsigned))
    }

    /// Joins the group as `rank` of `ranks`; waits for all.
    ///
    /// # Errors
    /// No NCCL; processes that do not find each other.
    pub fn new(device: &Arc<CudaDevice>, id: [u8; ID], rank: usize, ranks: usize) -> Result<Self> {
        ensure(rank < ranks, || format!("rank {rank} of {ranks}"))?;
        libraries::NCCL.require()?;
        device.context.bind_to_thread().map_err(super::call("cuCtxSetCurrent"))?;
        let id = sys::ncclUniqueId { internal: id.map(u8::cast_signed) };
        let mut communicator = MaybeUninit::uninit();
        // SAFETY: the call writes a communicator if it succeeds; the device's context is bound.
        let communicator = unsafe {
            let done = result::comm_init_rank(communicator.as_mut_ptr(), ranks as c_int, id, rank as c_int);
            checked(done, "ncclCommInitRank")?;
            communicator.assume_init()
        };
        Ok(Self { communicator, device: Arc::clone(device), ranks })
    }

    /// Replaces `count` values from `at` on by their sum over all processes: of gradients, part by part or all at once.
    ///
    /// # Errors
    /// More values than there are; a process that has ended.
    pub fn all_reduce(&self, values: &mut Buffer<f32>, at: usize, count: usize) -> Result<()> {
        ensure(at + count <= values.len(), || format!("{count} values at {at} of {}", values.len()))?;
        let address = values.at(at);
        // SAFETY: the buffer has as many values, and NCCL allows its result in the place of its input.
        unsafe { self.sum_at(address, count) }
    }

    /// Replaces a buffer by that of process `root`: weights at the start.
    ///
    /// # Errors
    /// A process that has ended.
    pub fn broadcast(&self, values: &mut Buffer<f32>, root: usize) -> Result<()> {
        ensure(root < self.ranks, || format!("process {root} of {}", self.ranks))?;
        let address = values.address();
        // SAFETY: the buffer has as many values, and NCCL allows both places to be one.
        let done = unsafe {
            result::broadcast(
                address as *const c_void,
                address as *mut c_void,
                values.len(),
                ncclDataType_t::ncclFloat32,
                root as c_int,
                self.communicator,
                self.device.stream.cu_stream().cast(),
            )
        };
        checked(done, "ncclBroadcast")
    }

    /// # Safety
    /// There are `count` values.
    unsafe fn sum_at(&self, address: Address, count: usize) -> Result<()> {
        // SAFETY: the caller's; the stream lives as long as the device.
        let done = unsafe {
            result::all_reduce(
                address as *const c_void,
                address as *mut c_void,
                count,
                ncclDataType_t::ncclFloat32,
                ncclRedOp_t::ncclSum,
                self.communicator,
                self.device.stream.cu_stream().cast(),
            )
        };
        checked(done, "ncclAllReduce")
    }
}

impl Peers for Communicator {
    fn ranks(&self) -> usize {
        self.ranks
    }

    fn gather(&self, gpu: &Gpu, own: &Buffer<f32>) -> Result<Buffer<f32>> {
        let all = gpu.buffer(own.len() * self.ranks)?;
        // SAFETY: `all` has room for the values of every process, which have as many each.
        let done = unsafe {
            result::all_gather(
                own.address() as *const c_void,
                all.address() as *mut c_void,
                own.len(),
                ncclDataType_t::ncclFloat32,
                self.communicator,
                self.device.stream.cu_stream().cast(),
            )
        };
        checked(done, "ncclAllGather")?;
        Ok(all)
    }

    fn sum(&self, _: &Gpu, values: &mut Buffer<f32>) -> Result<()> {
        self.all_reduce(values, 0, values.len())
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        let _ = self.device.stream.synchronize();
        // SAFETY: it was made by `new` and is destroyed here alone.
        let _ = unsafe { result::comm_destroy(self.communicator) };
    }
}
