//! Convolutions by cuDNN in the order (batch, height, width, channels), summed in 32 bits.
//!
//! Algorithms are chosen once for each shape and precision (`algorithms`) and kept with their descriptors. All convolutions share
//! one workspace, which only grows.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Arc;

use cudarc::cudnn::sys::{self, cudnnMathType_t};
use cudarc::driver::{CudaStream, result};

use super::algorithms::{Algorithm, Call, Limits, Timing, best, table};
use super::allocation;
use super::descriptors::{Descriptors, checked};
use crate::device::{Address, Convolve, Pass};
use crate::error::{Error, Result, ensure};
use crate::shape::{Convolution, Element, Shape};

/// Maximum number of input shapes of a convolution for which its algorithms are timed; for further shapes the last choice is used.
/// Training has one or two shapes (the last batch of an epoch may be smaller). Whole tracks have hundreds of lengths, and timing
/// takes as long as hundreds of passes.
const TIMED: usize = 4;

/// Maximum size of the workspace in bytes.
const WORKSPACE: usize = 1 << 30;

/// Maximum number of plans; when it is reached, those whose algorithms were not timed are dropped.
const PLANS: usize = 1 << 14;

/// A cuDNN handle on the device's stream, the plans of all convolutions so far, and their workspace.
pub(super) struct Cudnn {
    handle: sys::cudnnHandle_t,
    stream: Arc<CudaStream>,
    plans: HashMap<Key, Plan>,
    timed: HashMap<Family, Timed>,
    workspace: Address,
    workspace_bytes: usize,
}

// SAFETY: a handle and descriptors may be used from any thread, by one at a time: this value is behind a mutex.
unsafe impl Send for Cudnn {}

/// Everything that the choice of an algorithm depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    pass: Pass,
    convolution: Convolution,
    input: Shape,
    element: Element,
    tf32: bool,
}

/// A [`Key`] without the shape of the input.
type Family = (Pass, Convolution, Element, bool);

/// The timings of a convolution so far.
struct Timed {
    /// Number of input shapes for which algorithms were timed.
    inputs: usize,
    /// The algorithm that was chosen last.
    choice: Timing,
}

struct Plan {
    descriptors: Descriptors,
    algorithm: Algorithm,
    workspace: usize,
    /// Whether the algorithm was timed for this input shape; else it was chosen for another one.
    timed: bool,
}

impl Key {
    fn of(by: &Convolve) -> Self {
        let Convolve { pass, convolution, input, element, tf32, .. } = *by;
        Self { pass, convolution, input, element, tf32: tf32 && element == Element::F32 }
    }

    fn family(&self) -> Family {
        (self.pass, self.convolution, self.element, self.tf32)
    }

    /// Returns whether factors must keep their precision, so that tensor cores may not reduce it.
    fn is_exact(&self) -> bool {
        self.element == Element::F32 && !self.tf32
    }

    fn math(&self) -> cudnnMathType_t {
        match self.element {
            Element::Bf16 => cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
            // The default is tf32 where there are tensor cores.
            Element::F32 if self.tf32 => cudnnMathType_t::CUDNN_DEFAULT_MATH,
            Element::F32 => cudnnMathType_t::CUDNN_FMA_MATH,
        }
    }

    /// Returns the number of values of the result of the pass.
    fn result(&self) -> Result<usize> {
        Ok(match self.pass {
            Pass::Forward => self.convolution.output(self.input)?.count(),
            Pass::BackwardData => self.input.count(),
            Pass::BackwardFilter => self.convolution.weights(),
        })
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { pass, convolution, input, element, .. } = self;
        write!(f, "{convolution} of {input} ({pass:?}, {})", element.name())
    }
}

/// Adds the convolution to an error of the library.
fn named(error: Error, key: &Key) -> Error {
    match error {
        Error::Call { call, message } => Error::Call { call, message: format!("{message}, for {key}") },
        other => other,
    }
}

impl Cudnn {
    pub fn new(stream: &Arc<CudaStream>) -> Result<Self> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: the call writes a handle, which is destroyed with this value.
        checked(unsafe { sys::cudnnCreate(&mut handle) }, "cudnnCreate")?;
        let cudnn = Self {
            handle,
            stream: Arc::clone(stream),
            plans: HashMap::new(),
            timed: HashMap::new(),
            workspace: 0,
            workspace_bytes: 0,
        };
        // SAFETY: handle and stream live as long as this value.
        checked(unsafe { sys::cudnnSetStream(handle, stream.cu_stream().cast()) }, "cudnnSetStream")?;
        Ok(cudnn)
    }

    /// Queues a convolution.
    ///
    /// Queues a convolution.
    ///
    /// # Safety
    /// x, w and y have the sizes of the call; the context is bound.
    pub unsafe fn convolve(&mut self, by: &Convolve) -> Result<()> {
        ensure(by.convolution.padding.is_symmetric(), || format!("{} is not cuDNN's", by.convolution))?;
        let key = Key::of(by);
        let plan = match self.plans.remove(&key) {
            Some(plan) => plan,
            // SAFETY: the caller's.
            None => unsafe { self.plan(&key, by) }.map_err(|error| named(error, &key))?,
        };
        self.grow(plan.workspace)?;
        // SAFETY: the caller's; the workspace has as many bytes as the plan says.
        let done = unsafe { self.run(&plan, by) };
        if self.plans.len() >= PLANS {
            self.plans.retain(|_, plan| plan.timed);
        }
        self.plans.insert(key, plan);
        done.map_err(|error| named(error, &key))
    }

    /// Queues a convolution with the algorithm of a plan.
    ///
    /// # Safety
    /// The requirements of [`Cudnn::convolve`].
    // Long: three calls of thirteen arguments each.
    unsafe fn run(&self, plan: &Plan, by: &Convolve) -> Result<()> {
        let (one, old) = (1f32, if by.add { 1f32 } else { 0f32 });
        let (alpha, beta): (*const c_void, *const c_void) =
            ((&raw const one).cast(), (&raw const old).cast());
        let [x, w, y] = [by.x, by.w, by.y].map(|address| address as *mut c_void);
        let (d, handle, space) = (&plan.descriptors, self.handle, self.workspace as *mut c_void);
        let (convolution, bytes) = (d.convolution, plan.workspace);
        // SAFETY: the caller's; scaling factors are on the host and read before the call returns.
        unsafe {
            match plan.algorithm {
                Algorithm::Forward(algorithm) => checked(
                    sys::cudnnConvolutionForward(
                        handle,
                        alpha,
                        d.x,
                        x,
                        d.w,
                        w,
                        convolution,
                        algorithm,
                        space,
                        bytes,
                        beta,
                        d.y,
                        y,
                    ),
                    "cudnnConvolutionForward",
                ),
                Algorithm::Data(algorithm) => checked(
                    sys::cudnnConvolutionBackwardData(
                        handle,
                        alpha,
                        d.w,
                        w,
                        d.y,
                        y,
                        convolution,
                        algorithm,
                        space,
                        bytes,
                        beta,
                        d.x,
                        x,
                    ),
                    "cudnnConvolutionBackwardData",
                ),
                Algorithm::Filter(algorithm) => checked(
                    sys::cudnnConvolutionBackwardFilter(
                        handle,
                        alpha,
                        d.x,
                        x,
                        d.y,
                        y,
                        convolution,
                        algorithm,
                        space,
                        bytes,
                        beta,
                        d.w,
                        w,
                    ),
                    "cudnnConvolutionBackwardFilter",
                ),
            }
        }
    }

    /// Returns the fastest algorithm that satisfies the limits, with its descriptors.
    ///
    /// # Safety
    /// The requirements of [`Cudnn::convolve`].
    unsafe fn plan(&mut self, key: &Key, by: &Convolve) -> Result<Plan> {
        let descriptors = Descriptors::new(key.input, &key.convolution, key.element, key.math())?;
        let call = Call { handle: self.handle, descriptors: &descriptors, pass: key.pass };
        let math =
            |choice: &Timing| if key.is_exact() { cudnnMathType_t::CUDNN_FMA_MATH } else { choice.math };
        let inputs = self.timed.get(&key.family()).map_or(0, |timed| timed.inputs);
        if let Some(Timed { choice, .. }) = self.timed.get(&key.family()).filter(|_| inputs >= TIMED) {
            descriptors.set_math(math(choice))?;
            let workspace = call.workspace_of(choice.algorithm).filter(|bytes| *bytes <= WORKSPACE);
            if let Some(workspace) = workspace {
                let algorithm = choice.algorithm;
                return Ok(Plan { descriptors, algorithm, workspace, timed: false });
            }
            descriptors.set_math(key.math())?;
        }
        // SAFETY: the caller's.
        let timings = unsafe { self.time(key, &call, by)? };
        let limits = Limits { workspace: self.workspace_bytes, exact: key.is_exact() };
        let choice = best(&timings, &limits).ok_or_else(|| Error::NoAlgorithm(table(key, &timings)))?;
        self.timed.insert(key.family(), Timed { inputs: inputs + 1, choice });
        descriptors.set_math(math(&choice))?;
        Ok(Plan { descriptors, algorithm: choice.algorithm, workspace: choice.memory, timed: true })
    }

    /// Times the algorithms on the call's values; returns them ordered by time.
    ///
    /// # Safety
    /// The requirements of [`Cudnn::convolve`].
    unsafe fn time(&mut self, key: &Key, call: &Call<'_>, by: &Convolve) -> Result<Vec<Timing>> {
        self.grow(call.workspace(WORKSPACE))?;
        // Timing writes its results to scratch memory: the real result may be accumulated into, or still be needed.
        let scratch = Scratch::new(key.result()? * key.element.bytes(), &self.stream)?;
        // SAFETY: the caller's; the scratch has room for the result, and the workspace is as large as it says.
        unsafe { call.time(by, scratch.address, (self.workspace, self.workspace_bytes)) }
    }

    /// Grows the workspace to at least this size; waits for queued work that uses the old one.
    fn grow(&mut self, bytes: usize) -> Result<()> {
        if bytes <= self.workspace_bytes {
            return Ok(());
        }
        self.free_workspace();
        self.workspace = allocation::allocate(bytes)?;
        self.workspace_bytes = bytes;
        Ok(())
    }

    fn free_workspace(&mut self) {
        if self.workspace != 0 {
            let _ = self.stream.synchronize();
            // SAFETY: it came from `allocate`, and nothing uses it once the queue is done.
            let _ = unsafe { result::free_sync(self.workspace) };
            (self.workspace, self.workspace_bytes) = (0, 0);
        }
    }
}

impl Drop for Cudnn {
    fn drop(&mut self) {
        self.plans.clear();
        self.free_workspace();
        // SAFETY: the handle was created and is destroyed here alone.
        let _ = unsafe { sys::cudnnDestroy(self.handle) };
    }
}

/// Scratch memory for results while algorithms are timed.
struct Scratch<'a> {
    address: Address,
    stream: &'a CudaStream,
}

impl<'a> Scratch<'a> {
    fn new(bytes: usize, stream: &'a CudaStream) -> Result<Self> {
        Ok(Self { address: allocation::allocate(bytes.max(1))?, stream })
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        let _ = self.stream.synchronize();
        // SAFETY: it came from `allocate`, and nothing uses it once the queue is done.
        let _ = unsafe { result::free_sync(self.address) };
    }
}
