//! Uploads batches to the device without waiting for queued work: the next one arrives while a step reads the current one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::device::Staging;
use crate::error::{Result, ensure};
use crate::gpu::Gpu;
use crate::memory::block_size;
use crate::shape::{Element, Shape};
use crate::tensor::Image;

/// Page-locked memory and memory of the device, for one batch.
struct Slot {
    bytes: usize,
    staging: Box<dyn Staging>,
}

/// The free slots, the one that was freed first in front.
#[derive(Default)]
struct Slots(Mutex<VecDeque<Slot>>);

impl Slots {
    fn locked(&self) -> MutexGuard<'_, VecDeque<Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Uploads batches to a device. It allocates as many slots as there are uploads at a time (two if the next batch is sent while a step
/// runs); slots are reused, and replaced by larger ones for larger batches.
pub struct Uploader {
    gpu: Gpu,
    free: Arc<Slots>,
}

/// A batch that was sent and not yet received. Its slot becomes free when it is received or dropped.
pub struct Upload {
    slot: Option<Slot>,
    shape: Shape,
    home: Arc<Slots>,
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.home.locked().extend(self.slot.take());
    }
}

impl Uploader {
    /// Creates an uploader without slots.
    pub fn new(gpu: &Gpu) -> Self {
        Self { gpu: gpu.clone(), free: Arc::default() }
    }

    /// Starts the transfer of a batch (batch, height, width, channels) to the device; returns before it has arrived.
    ///
    /// # Errors
    /// Another number of values; not enough memory; the driver fails.
    pub fn send(&self, values: &[f32], shape: Shape) -> Result<Upload> {
        ensure(values.len() == shape.count(), || format!("{} values for {shape}", values.len()))?;
        let mut slot = self.slot(size_of_val(values))?;
        slot.staging.send(bytemuck::cast_slice(values))?;
        Ok(Upload { slot: Some(slot), shape, home: Arc::clone(&self.free) })
    }

    /// Returns a free slot of at least this number of bytes: the one that was freed first, because the work that reads it is most
    /// likely done.
    fn slot(&self, bytes: usize) -> Result<Slot> {
        let mut free = self.free.locked();
        let large = free.iter().position(|slot| slot.bytes >= bytes);
        if let Some(slot) = large.and_then(|place| free.remove(place)) {
            return Ok(slot);
        }
        // A larger one takes the place of one that is too small.
        drop(free.pop_front());
        let bytes = block_size(bytes);
        let staging = self.gpu.with_spare_memory(|| self.gpu.device.staging(bytes))?;
        Ok(Slot { bytes, staging })
    }

    /// Returns a batch that was sent, divided into `parts` images of equally many items and of this element type. Work that is
    /// queued from now on waits for its arrival; the host does not.
    ///
    /// # Errors
    /// The number of items is not a multiple of `parts`; not enough memory; the driver fails.
    pub fn receive(&self, mut upload: Upload, parts: usize, element: Element) -> Result<Vec<Image>> {
        let shape = upload.shape;
        ensure(parts > 0 && shape.batch.is_multiple_of(parts), || format!("{shape} in {parts} parts"))?;
        let Some(Slot { staging, .. }) = &mut upload.slot else { return Ok(Vec::new()) };
        let from = staging.receive()?;
        let part = Shape { batch: shape.batch / parts, ..shape };
        let image = |number: usize| -> Result<Image> {
            let image = self.gpu.image(part, element)?;
            let at = from + (number * part.count() * size_of::<f32>()) as u64;
            // SAFETY: the slot holds all parts one behind the other, in 32 bits, and the image has room for one.
            unsafe { self.gpu.convert_at(at, image.address(), part.count(), [Element::F32, element])? };
            Ok(image)
        };
        let images = (0..parts).map(image).collect();
        staging.release()?;
        images
    }
}
