//! The interface between operators and a device: memory, kernels, convolutions and products of matrices.
//!
//! There are two devices: a CUDA device (`cuda`, feature `cuda`) and an emulation that runs the same kernels on CPU threads
//! (`emulated`, feature `emulated`), with which all operators are tested without a GPU.

use crate::error::Result;
use crate::shape::{Convolution, Element, Shape};

/// An address in a device's memory.
pub type Address = u64;

/// An argument of a kernel, as its bits.
#[derive(Debug, Clone, Copy)]
pub struct Argument(pub(crate) u64);

impl From<Address> for Argument {
    fn from(address: Address) -> Self {
        Self(address)
    }
}

impl From<i32> for Argument {
    fn from(number: i32) -> Self {
        Self(u64::from(number.cast_unsigned()))
    }
}

/// Sizes are passed in 32 bits, because kernels count in 32 bits.
impl From<usize> for Argument {
    fn from(size: usize) -> Self {
        Self::from(size as i32)
    }
}

impl From<f32> for Argument {
    fn from(number: f32) -> Self {
        Self(u64::from(number.to_bits()))
    }
}

impl From<f64> for Argument {
    fn from(number: f64) -> Self {
        Self(number.to_bits())
    }
}

/// A kernel launch. Blocks have [`BLOCK`] threads.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Name of the kernel.
    pub kernel: String,
    /// Number of blocks in each dimension.
    pub grid: [u32; 3],
    /// The kernel's arguments, in its order.
    pub arguments: Vec<Argument>,
}

/// Number of threads of a block.
pub const BLOCK: usize = 256;

/// One of the three passes of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pass {
    /// Computes y from x and w.
    Forward,
    /// Computes dx from dy and w.
    BackwardData,
    /// Computes dw from x and dy.
    BackwardFilter,
}

/// The arguments of a convolution by a library. x has the shape `input`, w is (outputs, kernel height, kernel width, inputs),
/// and y has the shape `convolution.output(input)`; the padding must be symmetric.
#[derive(Debug, Clone, Copy)]
pub struct Convolve {
    /// The pass, which decides which of x, w and y is computed.
    pub pass: Pass,
    /// The sizes of the convolution.
    pub convolution: Convolution,
    /// The shape of x.
    pub input: Shape,
    /// Element type of x, w and y.
    pub element: Element,
    /// Whether 32-bit numbers may be multiplied in 19 bits (TF32).
    pub tf32: bool,
    /// Address of x or dx.
    pub x: Address,
    /// Address of w or dw.
    pub w: Address,
    /// Address of y or dy.
    pub y: Address,
    /// Whether the result is added to the existing values.
    pub add: bool,
}

/// The arguments of a product of row-major matrices, `c = a b (+ c)`: a is (rows, inner), or (inner, rows) if transposed; b is
/// (inner, columns), or (columns, inner) if transposed; c is (rows, columns). Sums have 32 bits.
#[derive(Debug, Clone, Copy)]
pub struct Multiply {
    /// Number of rows of c.
    pub rows: usize,
    /// Number of columns of c.
    pub columns: usize,
    /// Number of columns of a and rows of b, over which products are summed.
    pub inner: usize,
    /// Whether a and b are stored transposed.
    pub transposed: [bool; 2],
    /// Element type of a and b.
    pub element: Element,
    /// Element type of c.
    pub result: Element,
    /// Whether 32-bit numbers may be multiplied in 19 bits (TF32).
    pub tf32: bool,
    /// Addresses of the matrices a, b, c.
    pub matrices: [Address; 3],
    /// Whether the product is added to c.
    pub add: bool,
}

/// A device. Work is queued and done in order; only those methods wait for it that say so.
///
/// # Safety
/// An implementation must return memory that is not shared until it is freed, keep the order of the queue, and access only memory
/// that a call names.
pub unsafe trait Device: Send + Sync {
    /// Returns the name of the device for messages.
    fn name(&self) -> String;

    /// Allocates at least this number of bytes, aligned to 256 bytes.
    ///
    /// # Errors
    /// Not enough memory.
    fn allocate(&self, bytes: usize) -> Result<Address>;

    /// Frees memory; waits for queued work.
    ///
    /// # Safety
    /// The address came from [`Device::allocate`], and nothing queued later uses it.
    unsafe fn free(&self, address: Address);

    /// Returns the number of free bytes and of all bytes of the device's memory.
    ///
    /// # Errors
    /// The driver fails.
    fn memory(&self) -> Result<[usize; 2]>;

    /// Queues a kernel.
    ///
    /// # Safety
    /// The arguments have the number and types of the kernel's, and everything that the kernel reads and writes with them and the
    /// grid is in allocated memory.
    ///
    /// # Errors
    /// There is no such kernel; the driver fails.
    unsafe fn launch(&self, launch: &Launch) -> Result<()>;

    /// Queues a copy from the host to the device; `from` may be changed when this returns.
    ///
    /// # Safety
    /// There is room for `from` at `to`.
    ///
    /// # Errors
    /// The driver fails.
    unsafe fn write(&self, to: Address, from: &[u8]) -> Result<()>;

    /// Copies from the device to the host; waits for queued work.
    ///
    /// # Safety
    /// There are as many bytes at `from` as `to` has.
    ///
    /// # Errors
    /// The driver or earlier queued work fails.
    unsafe fn read(&self, to: &mut [u8], from: Address) -> Result<()>;

    /// Queues a copy within the device's memory.
    ///
    /// # Safety
    /// There are `bytes` bytes at both addresses, and they do not overlap.
    ///
    /// # Errors
    /// The driver fails.
    unsafe fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<()>;

    /// Queues filling memory with zeros.
    ///
    /// # Safety
    /// There are `bytes` bytes at `to`.
    ///
    /// # Errors
    /// The driver fails.
    unsafe fn zero(&self, to: Address, bytes: usize) -> Result<()>;

    /// Queues a convolution.
    ///
    /// # Safety
    /// x, w and y have the sizes that the call says.
    ///
    /// # Errors
    /// The library does not support the convolution; not enough memory for its workspace.
    unsafe fn convolve(&self, call: &Convolve) -> Result<()>;

    /// Queues a product of matrices.
    ///
    /// # Safety
    /// The matrices have the sizes that the call says.
    ///
    /// # Errors
    /// The library fails.
    unsafe fn multiply(&self, call: &Multiply) -> Result<()>;

    /// Allocates memory for uploads of at most `bytes` bytes, which do not wait for queued work.
    ///
    /// # Errors
    /// Not enough memory.
    fn staging(&self, bytes: usize) -> Result<Box<dyn Staging>>;

    /// Waits for all queued work.
    ///
    /// # Errors
    /// Earlier queued work fails.
    fn synchronize(&self) -> Result<()>;
}

/// Memory on the host and on the device for one upload at a time, which does not wait for queued work. An upload is sent, received
/// and released before the next one is sent; an upload that was not received may be replaced by another one.
pub trait Staging: Send {
    /// Copies `bytes` and starts their transfer to the device, which begins there when all work that reads the previous upload is
    /// done. The host waits only for the previous transfer, not for the work that reads it.
    ///
    /// # Errors
    /// More bytes than there is room for; the previous upload was received and not released; the driver fails.
    fn send(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes work that is queued from now on wait for the upload, and returns its address.
    ///
    /// # Errors
    /// The driver fails.
    fn receive(&mut self) -> Result<Address>;

    /// Declares that all work that reads the upload has been queued.
    ///
    /// # Errors
    /// The driver fails.
    fn release(&mut self) -> Result<()>;
}
