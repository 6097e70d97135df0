//! Uploads values to the device: batches on a separate stream, small tables through page-locked memory.

use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaEvent, CudaStream, PinnedHostSlice, result};

use super::{allocation, call};
use crate::device::{Address, Staging};
use crate::error::{Result, ensure};

/// Number of slots of a [`Ring`]; more writes are rarely in flight.
const SLOTS: usize = 16;
/// Size of a slot of a [`Ring`] in bytes.
const SLOT_BYTES: usize = 1 << 16;

/// Page-locked memory, with an event after which it may be written again.
struct Pinned {
    memory: PinnedHostSlice<u8>,
    /// Recorded after the work that reads the memory.
    read: CudaEvent,
}

impl Pinned {
    fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Self> {
        // SAFETY: it is written before it is read. Not write-combined: the host copies into it in any order.
        let memory =
            unsafe { context.alloc_pinned_with_flags(bytes.max(1), 0) }.map_err(call("cuMemHostAlloc"))?;
        let read = context.new_event(None).map_err(call("cuEventCreate"))?;
        Ok(Self { memory, read })
    }

    /// Waits until the memory may be written, and copies `bytes` to it.
    fn fill(&mut self, bytes: &[u8]) -> Result<()> {
        self.read.synchronize().map_err(call("cuEventSynchronize"))?;
        self.memory.as_mut_slice().map_err(call("cuEventSynchronize"))?[..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

/// A ring of slots for small writes, which are queued in order; the host does not wait for them.
pub(super) struct Ring {
    places: Vec<Pinned>,
    next: usize,
}

impl Ring {
    pub fn new(context: &Arc<CudaContext>) -> Result<Self> {
        let places = (0..SLOTS).map(|_| Pinned::new(context, SLOT_BYTES)).collect::<Result<_>>()?;
        Ok(Self { places, next: 0 })
    }

    /// Queues a write of `from` to the device's memory at `to`. `from` may be changed when this returns.
    ///
    /// # Safety
    /// `to` has room for the bytes; the context is bound.
    pub unsafe fn write(&mut self, stream: &CudaStream, to: Address, from: &[u8]) -> Result<()> {
        if from.len() > SLOT_BYTES {
            // Large values such as weights, at the start: the driver may still read pageable memory when it returns.
            // SAFETY: the caller's; `from` is borrowed until the copy is done.
            let queued = unsafe { result::memcpy_htod_async(to, from, stream.cu_stream()) };
            stream.synchronize().map_err(call("cuStreamSynchronize"))?;
            return queued.map_err(call("cuMemcpyHtoD"));
        }
        if from.is_empty() {
            return Ok(());
        }
        let place = &mut self.places[self.next];
        self.next = (self.next + 1) % SLOTS;
        place.fill(from)?;
        let bytes = &place.memory.as_slice().map_err(call("cuEventSynchronize"))?[..from.len()];
        // SAFETY: the caller's; the place is written again only after the event behind the copy, and dropped after the
        // device has waited for its queue.
        unsafe { result::memcpy_htod_async(to, bytes, stream.cu_stream()) }.map_err(call("cuMemcpyHtoD"))?;
        place.read.record(stream).map_err(call("cuEventRecord"))
    }
}

/// Page-locked memory and memory of the device for one batch.
pub(super) struct Slot {
    pinned: Pinned,
    device: Address,
    bytes: usize,
    /// Whether the batch was received and not yet released, so that nothing may be written to the device's memory.
    in_use: bool,
    /// The stream on which batches are copied.
    copies: Arc<CudaStream>,
    queue: Arc<CudaStream>,
    /// Recorded after the copy of the batch.
    arrived: CudaEvent,
    /// Recorded after the work that reads the batch on the device.
    released: CudaEvent,
}

impl Slot {
    pub fn new(context: &Arc<CudaContext>, queue: &Arc<CudaStream>, bytes: usize) -> Result<Self> {
        let event = || context.new_event(None).map_err(call("cuEventCreate"));
        let (arrived, released) = (event()?, event()?);
        let copies = context.new_stream().map_err(call("cuStreamCreate"))?;
        let pinned = Pinned::new(context, bytes)?;
        let device = allocation::allocate(bytes.max(1))?;
        Ok(Self { pinned, device, bytes, in_use: false, copies, queue: Arc::clone(queue), arrived, released })
    }
}

impl Staging for Slot {
    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        ensure(!self.in_use, || "a batch is written over another one that is still read".to_owned())?;
        ensure(bytes.len() <= self.bytes, || format!("{} bytes for a slot of {}", bytes.len(), self.bytes))?;
        self.pinned.fill(bytes)?;
        // Work that reads the previous batch on the device comes first; an event that was never recorded does not block.
        self.copies.wait(&self.released).map_err(call("cuStreamWaitEvent"))?;
        let memory = &self.pinned.memory.as_slice().map_err(call("cuEventSynchronize"))?[..bytes.len()];
        // SAFETY: the device's memory has as many bytes; the page-locked memory is written again only after `read`.
        unsafe { result::memcpy_htod_async(self.device, memory, self.copies.cu_stream()) }
            .map_err(call("cuMemcpyHtoD"))?;
        self.pinned.read.record(&self.copies).map_err(call("cuEventRecord"))?;
        self.arrived.record(&self.copies).map_err(call("cuEventRecord"))
    }

    fn receive(&mut self) -> Result<Address> {
        self.queue.wait(&self.arrived).map_err(call("cuStreamWaitEvent"))?;
        self.in_use = true;
        Ok(self.device)
    }

    fn release(&mut self) -> Result<()> {
        self.released.record(&self.queue).map_err(call("cuEventRecord"))?;
        self.in_use = false;
        Ok(())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Both streams may still use the memory. A failure leaves it with a process whose device has failed anyhow.
        let _ = self.copies.synchronize();
        let _ = self.queue.synchronize();
        // SAFETY: it came from `allocate`, and nothing uses it once the streams are done.
        let _ = unsafe { result::free_sync(self.device) };
    }
}
