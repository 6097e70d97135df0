//! The device handle, whose methods are the operators of this crate.

use std::marker::PhantomData;
use std::sync::Arc;

use bytemuck::Pod;
use half::bf16;

use crate::device::{Argument, BLOCK, Device, Launch};
use crate::error::{Error, Result, ensure};
use crate::memory::{Memory, Pool, Usage};
use crate::shape::{Element, Precision, Shape};
use crate::tensor::{Buffer, Image};

/// A device with its memory and the precision of a run. Clones share the device.
///
/// All work is queued in the order of the calls, from one thread at a time, and methods return before it is done. Only `read`,
/// `read_image` and `synchronize` wait for it.
#[derive(Clone)]
pub struct Gpu {
    pub(crate) device: Arc<dyn Device>,
    pub(crate) pool: Arc<Pool>,
    precision: Precision,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({:?})", self.device.name(), self.precision)
    }
}

/// Maximum number of values of a tensor, because kernels count in 32 bits.
const MAX_VALUES: usize = i32::MAX as usize;

impl Gpu {
    /// Creates a handle for a run of this precision.
    pub fn new(device: Arc<dyn Device>, precision: Precision) -> Self {
        Self { pool: Pool::new(Arc::clone(&device)), device, precision }
    }

    /// Returns the name of the device for messages.
    pub fn name(&self) -> String {
        self.device.name()
    }

    /// Returns the precision of this run.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Returns how activations are stored.
    pub fn element(&self) -> Element {
        self.precision.element()
    }

    pub(crate) fn tf32(&self) -> bool {
        self.precision == Precision::Tf32
    }

    /// Returns this process's usage of the device's memory.
    pub fn usage(&self) -> Usage {
        self.pool.usage()
    }

    /// Returns the number of free bytes and of all bytes of the device's memory.
    ///
    /// # Errors
    /// The driver fails.
    pub fn memory(&self) -> Result<[usize; 2]> {
        self.device.memory()
    }

    /// Frees blocks of the pool that are not in use, for example before tensors of other sizes are allocated or for another process.
    pub fn trim(&self) {
        self.pool.trim();
    }

    /// Calls `work`, which allocates memory from the device and not from the pool. If there is not enough memory, frees the pool's
    /// unused blocks and calls it again.
    pub(crate) fn with_spare_memory<T>(&self, mut work: impl FnMut() -> Result<T>) -> Result<T> {
        match work() {
            Err(Error::OutOfMemory { .. }) => {
                self.trim();
                work()
            }
            other => other,
        }
    }

    /// Waits for all queued work.
    ///
    /// # Errors
    /// Earlier queued work fails.
    pub fn synchronize(&self) -> Result<()> {
        self.device.synchronize()
    }

    fn take(&self, count: usize, bytes: usize) -> Result<Memory> {
        ensure(count <= MAX_VALUES, || {
            format!("a tensor of {count} values; at most {MAX_VALUES}: use a smaller batch")
        })?;
        self.pool.take(count * bytes)
    }

    /// Allocates an uninitialised image.
    ///
    /// # Errors
    /// Not enough memory.
    pub fn image(&self, shape: Shape, element: Element) -> Result<Image> {
        Ok(Image { memory: self.take(shape.count(), element.bytes())?, shape, element })
    }

    /// Allocates an uninitialised buffer.
    ///
    /// # Errors
    /// Not enough memory.
    pub fn buffer<T: Pod>(&self, len: usize) -> Result<Buffer<T>> {
        Ok(Buffer { memory: self.take(len, size_of::<T>())?, len, values: PhantomData })
    }

    /// Allocates a buffer of zeros.
    ///
    /// # Errors
    /// Not enough memory.
    pub fn zeros<T: Pod>(&self, len: usize) -> Result<Buffer<T>> {
        let mut buffer = self.buffer(len)?;
        self.clear(&mut buffer)?;
        Ok(buffer)
    }

    /// Creates a buffer with these values.
    ///
    /// # Errors
    /// Not enough memory.
    pub fn upload<T: Pod>(&self, values: &[T]) -> Result<Buffer<T>> {
        let mut buffer = self.buffer(values.len())?;
        self.write(&mut buffer, 0, values)?;
        Ok(buffer)
    }

    /// Overwrites a buffer's values from index `at` on.
    ///
    /// # Errors
    /// More values than there is room for.
    pub fn write<T: Pod>(&self, buffer: &mut Buffer<T>, at: usize, values: &[T]) -> Result<()> {
        ensure(at + values.len() <= buffer.len, || {
            format!("{} values at {at} of a buffer of {}", values.len(), buffer.len)
        })?;
        // SAFETY: the buffer has room for them, by the line above.
        unsafe { self.device.write(buffer.at(at), bytemuck::cast_slice(values)) }
    }

    /// Reads `count` values of a buffer from index `at` on; waits for queued work.
    ///
    /// # Errors
    /// More values than there are; earlier queued work fails.
    pub fn read<T: Pod>(&self, buffer: &Buffer<T>, at: usize, count: usize) -> Result<Vec<T>> {
        ensure(at + count <= buffer.len, || format!("{count} values at {at} of a buffer of {}", buffer.len))?;
        let mut values = vec![T::zeroed(); count];
        // SAFETY: the buffer has that many values, by the line above.
        unsafe { self.device.read(bytemuck::cast_slice_mut(&mut values), buffer.at(at))? };
        Ok(values)
    }

    /// Overwrites a buffer with zeros.
    ///
    /// # Errors
    /// The driver fails.
    pub fn clear<T: Pod>(&self, buffer: &mut Buffer<T>) -> Result<()> {
        // SAFETY: the buffer has that many bytes.
        unsafe { self.device.zero(buffer.address(), buffer.len * size_of::<T>()) }
    }

    /// Copies `count` values from index `first` of `from` to index `at` of `to`.
    ///
    /// # Errors
    /// More values than there are or there is room for.
    pub fn copy<T: Pod>(
        &self,
        to: &mut Buffer<T>,
        at: usize,
        from: &Buffer<T>,
        first: usize,
        count: usize,
    ) -> Result<()> {
        ensure(at + count <= to.len && first + count <= from.len, || {
            format!("{count} values from {first} of {} to {at} of {}", from.len, to.len)
        })?;
        // SAFETY: both have that many values, and they are two buffers, because the written one is borrowed only once.
        unsafe { self.device.copy(to.at(at), from.at(first), count * size_of::<T>()) }
    }

    /// Creates an image from values in the order (batch, height, width, channels).
    ///
    /// # Errors
    /// Another number of values; not enough memory.
    pub fn upload_image(&self, values: &[f32], shape: Shape, element: Element) -> Result<Image> {
        ensure(values.len() == shape.count(), || format!("{} values for {shape}", values.len()))?;
        let image = self.image(shape, element)?;
        let rounded: Vec<bf16>;
        let bytes = match element {
            Element::F32 => bytemuck::cast_slice(values),
            Element::Bf16 => {
                rounded = values.iter().map(|value| bf16::from_f32(*value)).collect();
                bytemuck::cast_slice(&rounded)
            }
        };
        // SAFETY: the image was made for as many values.
        unsafe { self.device.write(image.address(), bytes)? };
        Ok(image)
    }

    /// Reads an image's values in the order (batch, height, width, channels); waits for queued work.
    ///
    /// # Errors
    /// Earlier queued work fails.
    pub fn read_image(&self, image: &Image) -> Result<Vec<f32>> {
        let count = image.shape.count();
        match image.element {
            Element::F32 => {
                let mut values = vec![0f32; count];
                // SAFETY: the image has that many values.
                unsafe { self.device.read(bytemuck::cast_slice_mut(&mut values), image.address())? };
                Ok(values)
            }
            Element::Bf16 => {
                let mut values = vec![bf16::ZERO; count];
                // SAFETY: as above.
                unsafe { self.device.read(bytemuck::cast_slice_mut(&mut values), image.address())? };
                Ok(values.into_iter().map(bf16::to_f32).collect())
            }
        }
    }

    /// Queues a kernel with a grid of blocks.
    ///
    /// # Safety
    /// The requirements of [`Device::launch`].
    pub(crate) unsafe fn launch(
        &self,
        kernel: String,
        grid: [usize; 3],
        arguments: Vec<Argument>,
    ) -> Result<()> {
        let fits = grid[0] <= MAX_VALUES && grid[1].max(grid[2]) <= 65_535;
        ensure(fits, || format!("{kernel} would need a grid of {grid:?}: use a smaller batch"))?;
        if grid.contains(&0) {
            return Ok(());
        }
        let grid = grid.map(|blocks| blocks as u32);
        // SAFETY: the caller's.
        unsafe { self.device.launch(&Launch { kernel, grid, arguments }) }
    }
}

/// How the threads of a kernel are distributed over an image; see `Tile` in `common.cuh`. A *pack* is `vector` consecutive channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tiling {
    /// Number of channels that a thread reads at once.
    pub vector: usize,
    /// Number of packs side by side in a block; a power of two.
    pub lanes: usize,
    /// Number of blocks along the channels.
    pub tiles: usize,
    /// Number of blocks along the positions.
    pub chunks: usize,
}

/// Returns the number of channels that a thread reads at once: 16 bytes if the number of channels is a multiple, else one channel.
pub(crate) fn vector(channels: usize, element: Element) -> usize {
    let most = 16 / element.bytes();
    if channels.is_multiple_of(most) { most } else { 1 }
}

impl Tiling {
    /// Creates a tiling with about `each` positions per thread and at most about `most` blocks.
    pub fn new(shape: Shape, element: Element, each: usize, most: usize) -> Self {
        let vector = vector(shape.channels, element);
        let packs = shape.channels / vector;
        let lanes = packs.next_power_of_two().clamp(1, 32);
        let tiles = packs.div_ceil(lanes);
        let rows = BLOCK / lanes;
        let wanted = shape.positions().div_ceil(rows * each).max(1);
        let chunks = wanted.min((most / (tiles * shape.batch).max(1)).max(1)).min(65_535);
        Self { vector, lanes, tiles, chunks }
    }

    pub fn grid(&self, shape: Shape) -> [usize; 3] {
        [self.tiles, self.chunks, shape.batch]
    }

    /// Returns the full name of the kernel `name` for this tiling.
    pub fn kernel(&self, name: &str, element: Element) -> String {
        kernel(name, element, self.vector)
    }
}

/// Returns the full name of the kernel `name` for an element type and a number of channels per pack.
pub(crate) fn kernel(name: &str, element: Element, vector: usize) -> String {
    format!("{name}_{}_v{vector}", element.name())
}

/// Returns the grid for kernels that process `count` values in a grid-stride loop.
pub(crate) fn flat_grid(count: usize) -> [usize; 3] {
    [count.div_ceil(BLOCK * 4).min(4096), 1, 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_and_channel_has_a_thread() {
        for channels in [1, 3, 12, 16, 63, 64, 65, 256, 1000, 2048] {
            for (height, width) in [(1, 1), (21, 54), (42, 108), (3, 5)] {
                for element in [Element::F32, Element::Bf16] {
                    let shape = Shape::new(channels, 8, height, width);
                    let tiling = Tiling::new(shape, element, 8, 2048);
                    assert_eq!(channels % tiling.vector, 0);
                    assert!(tiling.lanes.is_power_of_two() && BLOCK.is_multiple_of(tiling.lanes));
                    assert!(tiling.tiles * tiling.lanes * tiling.vector >= channels, "{tiling:?}");
                    assert!(tiling.chunks >= 1 && tiling.chunks <= shape.positions().max(1), "{tiling:?}");
                }
            }
        }
        let stem = Tiling::new(Shape::new(64, 32, 42, 108), Element::Bf16, 8, 2048);
        assert_eq!(stem, Tiling { vector: 8, lanes: 8, tiles: 1, chunks: 18 });
    }
}
