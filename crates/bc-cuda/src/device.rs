//! What a device does for the operators: memory, kernels, convolutions and products of matrices.
//!
//! Two devices exist: a CUDA device (`cuda`, feature `cuda`) and the same kernels on CPU threads (`emulated`, feature
//! `emulated`), by which sizes, arguments and results of all operators are tested without a GPU.

use crate::error::Result;
use crate::shape::{Convolution, Element, Shape};

/// An address in a device's memory.
pub type Address = u64;

/// A value that a kernel gets, as its bits.
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

/// A size: kernels count in 32 bits.
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

/// A kernel and what it is launched with. Blocks have [`BLOCK`] threads.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The kernel's name.
    pub kernel: String,
    /// Blocks.
    pub grid: [u32; 3],
    /// In the kernel's order.
    pub arguments: Vec<Argument>,
}

/// Threads of every block.
pub const BLOCK: usize = 256;

/// Which of the three products of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pass {
    /// y of x and w.
    Forward,
    /// dx of dy and w.
    BackwardData,
    /// dw of x and dy.
    BackwardFilter,
}

/// A convolution by a library. x is `input`, w is (outputs, kernel height, kernel width, inputs), y is
/// `convolution.output(input)`; the padding is symmetric.
#[derive(Debug, Clone, Copy)]
pub struct Convolve {
    /// Which of x, w and y is computed.
    pub pass: Pass,
    /// Its sizes.
    pub convolution: Convolution,
    /// The shape of x.
    pub input: Shape,
    /// Of all three.
    pub element: Element,
    /// Whether 32-bit numbers may be multiplied in 19 bits (TF32).
    pub tf32: bool,
    /// x or dx.
    pub x: Address,
    /// w or dw.
    pub w: Address,
    /// y or dy.
    pub y: Address,
    /// Whether the result is added to what is there.
    pub add: bool,
}

/// `c = a b (+ c)` of row-major matrices: a is (rows, inner), or (inner, rows) if transposed; b is (inner, columns), or
/// (columns, inner) if transposed; c is (rows, columns). Sums are of 32 bits.
#[derive(Debug, Clone, Copy)]
pub struct Multiply {
    /// Rows of c.
    pub rows: usize,
    /// Columns of c.
    pub columns: usize,
    /// What is summed over.
    pub inner: usize,
    /// Whether a and b are stored transposed.
    pub transposed: [bool; 2],
    /// Of a and b.
    pub element: Element,
    /// Of c.
    pub result: Element,
    /// Whether 32-bit numbers may be multiplied in 19 bits (TF32).
    pub tf32: bool,
    /// The matrices a, b, c.
    pub matrices: [Address; 3],
    /// Whether the product is added to c.
    pub add: bool,
}

/// A device. Work is queued and done in order; only methods that say so wait for it.
///
/// # Safety
/// An implementation returns memory that is not shared until it is freed, keeps the order of the queue, and
/// accesses only memory that a call names.
pub unsafe trait Device: Send + Sync {
    /// Its name, for messages.
    fn name(&self) -> String;

    /// Memory of at least this size, aligned to 256 bytes.
    ///
    /// # Errors
    /// None left.
    fn allocate(&self, bytes: usize) -> Result<Address>;

    /// Frees memory; waits for queued work.
    ///
    /// # Safety
    /// The address came from [`Device::allocate`], and nothing queued later uses it.
    unsafe fn free(&self, address: Address);

    /// Bytes free and in all.
    ///
    /// # Errors
    /// The driver's.
    fn memory(&self) -> Result<[usize; 2]>;

    /// Queues a kernel.
    ///
    /// # Safety
    /// The arguments are those of the kernel, and everything that it reads and writes with them and its grid is in allocated
    /// memory.
    ///
    /// # Errors
    /// A kernel that is not there; the driver's.
    unsafe fn launch(&self, launch: &Launch) -> Result<()>;

    /// Queues a copy to the device; `from` may be changed afterwards.
    ///
    /// # Safety
    /// `to` has room for it.
    ///
    /// # Errors
    /// The driver's.
    unsafe fn write(&self, to: Address, from: &[u8]) -> Result<()>;

    /// Copies from the device; waits for queued work.
    ///
    /// # Safety
    /// `from` has as many bytes.
    ///
    /// # Errors
    /// The driver's, those of earlier launches too.
    unsafe fn read(&self, to: &mut [u8], from: Address) -> Result<()>;

    /// Queues a copy on the device.
    ///
    /// # Safety
    /// Both have as many bytes and do not overlap.
    ///
    /// # Errors
    /// The driver's.
    unsafe fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<()>;

    /// Queues zeros.
    ///
    /// # Safety
    /// The memory has as many bytes.
    ///
    /// # Errors
    /// The driver's.
    unsafe fn zero(&self, to: Address, bytes: usize) -> Result<()>;

    /// Queues a convolution.
    ///
    /// # Safety
    /// x, w and y have the sizes that the call says.
    ///
    /// # Errors
    /// A convolution that the library does not know; no memory to work in.
    unsafe fn convolve(&self, call: &Convolve) -> Result<()>;

    /// Queues a product of matrices.
    ///
    /// # Safety
    /// The matrices have the sizes that the call says.
    ///
    /// # Errors
    /// The library's.
    unsafe fn multiply(&self, call: &Multiply) -> Result<()>;

    /// Room for uploads that travel beside the queue.
    ///
    /// # Errors
    /// No memory.
    fn staging(&self, bytes: usize) -> Result<Box<dyn Staging>>;

    /// Waits for all that is queued.
    ///
    /// # Errors
    /// Those of earlier launches.
    fn synchronize(&self) -> Result<()>;
}

/// Memory on both sides, for one upload at a time that does not wait for the queue. An upload is sent, received and
/// released, and only then comes the next (or it is sent anew without having been received).
pub trait Staging: Send {
    /// Copies `bytes` and starts their way to the device, where they arrive behind what reads the upload before. The host
    /// waits only for the copy before, not for what the device reads.
    ///
    /// # Errors
    /// More bytes than there is room for; an upload that is received and not released; the driver's.
    fn send(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes work that is queued from now on wait for the upload, and returns its address.
    ///
    /// # Errors
    /// The driver's.
    fn receive(&mut self) -> Result<Address>;

    /// Declares that all work that reads the upload has been queued.
    ///
    /// # Errors
    /// The driver's.
    fn release(&mut self) -> Result<()>;
}
