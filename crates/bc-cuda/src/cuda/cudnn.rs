//! Convolutions by cuDNN in the order (batch, height, width, channels), summed in 32 bits.
//!
//! Algorithms are timed once for each shape and precision and kept with their descriptors; all share one workspace that
//! only grows.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::Arc;

use cudarc::cudnn::sys::{
    self, cudnnConvolutionBwdDataAlgo_t as DataAlgorithm, cudnnConvolutionBwdFilterAlgo_t as FilterAlgorithm,
    cudnnConvolutionFwdAlgo_t as ForwardAlgorithm, cudnnConvolutionMode_t, cudnnDataType_t,
    cudnnDeterminism_t, cudnnMathType_t, cudnnStatus_t, cudnnTensorFormat_t,
};
use cudarc::driver::{CudaStream, result};

use super::allocation;
use crate::device::{Address, Convolve, Pass};
use crate::error::{Error, Result, ensure};
use crate::shape::{Convolution, Element, Shape};

/// Maximum number of algorithms that cuDNN reports at once.
const RESULTS: usize = 16;

/// The most bytes that a convolution may work in.
const WORKSPACE: usize = 1 << 30;

/// A handle on the queue, plans of all convolutions so far, and their workspace.
pub(super) struct Cudnn {
    handle: sys::cudnnHandle_t,
    stream: Arc<CudaStream>,
    plans: HashMap<Key, Plan>,
    workspace: Address,
    workspace_bytes: usize,
}

// SAFETY: a handle and descriptors may be used from any thread, by one at a time: this value is behind a mutex.
unsafe impl Send for Cudnn {}

/// What an algorithm depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    pass: Pass,
    convolution: Convolution,
    input: Shape,
    element: Element,
    tf32: bool,
}

/// An algorithm, by its pass.
#[derive(Debug, Clone, Copy)]
enum Algorithm {
    Forward(ForwardAlgorithm),
    Data(DataAlgorithm),
    Filter(FilterAlgorithm),
}

/// The timing of an algorithm.
struct Timing {
    algorithm: Algorithm,
    status: cudnnStatus_t,
    memory: usize,
    determinism: cudnnDeterminism_t,
    math: cudnnMathType_t,
}

struct Plan {
    descriptors: Descriptors,
    algorithm: Algorithm,
    workspace: usize,
}

fn checked(status: cudnnStatus_t, name: &'static str) -> Result<()> {
    if status == cudnnStatus_t::CUDNN_STATUS_SUCCESS {
        return Ok(());
    }
    Err(Error::Call { call: name, message: format!("{status:?}") })
}

/// Descriptors of x, w, y and of the convolution.
struct Descriptors {
    x: sys::cudnnTensorDescriptor_t,
    w: sys::cudnnFilterDescriptor_t,
    y: sys::cudnnTensorDescriptor_t,
    convolution: sys::cudnnConvolutionDescriptor_t,
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // SAFETY: each was created or is null, and is destroyed here alone. Nothing can be done about a failure.
        unsafe {
            if !self.x.is_null() {
                let _ = sys::cudnnDestroyTensorDescriptor(self.x);
            }
            if !self.w.is_null() {
                let _ = sys::cudnnDestroyFilterDescriptor(self.w);
            }
            if !self.y.is_null() {
                let _ = sys::cudnnDestroyTensorDescriptor(self.y);
            }
            if !self.convolution.is_null() {
                let _ = sys::cudnnDestroyConvolutionDescriptor(self.convolution);
            }
        }
    }
}

impl Descriptors {
    fn new(key: &Key) -> Result<Self> {
        let (x, w, y) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
        let mut d = Self { x, w, y, convolution: std::ptr::null_mut() };
        // SAFETY: each call writes one descriptor, which is dropped with `d` whatever happens.
        unsafe {
            checked(sys::cudnnCreateTensorDescriptor(&mut d.x), "cudnnCreateTensorDescriptor")?;
            checked(sys::cudnnCreateFilterDescriptor(&mut d.w), "cudnnCreateFilterDescriptor")?;
            checked(sys::cudnnCreateTensorDescriptor(&mut d.y), "cudnnCreateTensorDescriptor")?;
            checked(
                sys::cudnnCreateConvolutionDescriptor(&mut d.convolution),
                "cudnnCreateConvolutionDescriptor",
            )?;
        }
        let kind = match key.element {
            Element::F32 => cudnnDataType_t::CUDNN_DATA_FLOAT,
            Element::Bf16 => cudnnDataType_t::CUDNN_DATA_BFLOAT16,
        };
        let last = cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
        let c = &key.convolution;
        let output = c.output(key.input)?;
        let filter = Shape { batch: c.outputs, height: c.kernel[0], width: c.kernel[1], channels: c.inputs };
        let [pad_height, pad_width] = [c.padding.top, c.padding.left].map(|size| size as c_int);
        let [down, along] = c.stride.map(|size| size as c_int);
        // The order of the arguments is always (n, c, h, w); the format says how they are stored.
        let sizes = |s: Shape| [s.batch, s.channels, s.height, s.width].map(|size| size as c_int);
        let ([xn, xc, xh, xw], [yn, yc, yh, yw]) = (sizes(key.input), sizes(output));
        let [wk, wc, wh, ww] = sizes(filter);
        // SAFETY: the descriptors were created above.
        unsafe {
            let tensor = "cudnnSetTensor4dDescriptor";
            checked(sys::cudnnSetTensor4dDescriptor(d.x, last, kind, xn, xc, xh, xw), tensor)?;
            checked(sys::cudnnSetTensor4dDescriptor(d.y, last, kind, yn, yc, yh, yw), tensor)?;
            checked(
                sys::cudnnSetFilter4dDescriptor(d.w, kind, last, wk, wc, wh, ww),
                "cudnnSetFilter4dDescriptor",
            )?;
            let mode = cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
            let sums = cudnnDataType_t::CUDNN_DATA_FLOAT;
            checked(
                sys::cudnnSetConvolution2dDescriptor(
                    d.convolution,
                    pad_height,
                    pad_width,
                    down,
                    along,
                    1,
                    1,
                    mode,
                    sums,
                ),
                "cudnnSetConvolution2dDescriptor",
            )?;
        }
        d.set_math(key.math())?;
        Ok(d)
    }

    fn set_math(&self, math: cudnnMathType_t) -> Result<()> {
        // SAFETY: the descriptor lives.
        checked(
            unsafe { sys::cudnnSetConvolutionMathType(self.convolution, math) },
            "cudnnSetConvolutionMathType",
        )
    }
}

impl Key {
    fn of(by: &Convolve) -> Self {
        let Convolve { pass, convolution, input, element, tf32, .. } = *by;
        Self { pass, convolution, input, element, tf32: tf32 && element == Element::F32 }
    }

    /// Whether tensor cores must not reduce the precision of its factors.
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

    /// Number of values of the result.
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

impl Cudnn {
    pub fn new(stream: &Arc<CudaStream>) -> Result<Self> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: the call writes a handle, which is destroyed with this value.
        checked(unsafe { sys::cudnnCreate(&mut handle) }, "cudnnCreate")?;
        let cudnn = Self {
            handle,
            stream: Arc::clone(stream),
            plans: HashMap::new(),
            workspace: 0,
            workspace_bytes: 0,
        };
        // SAFETY: handle and stream live as long as this value.
        checked(unsafe { sys::cudnnSetStream(handle, stream.cu_stream().cast()) }, "cudnnSetStream")?;
        Ok(cudnn)
    }

    /// # Safety
    /// x, w and y have the sizes of the call; the context is bound.
    pub unsafe fn convolve(&mut self, by: &Convolve) -> Result<()> {
        ensure(by.convolution.padding.is_symmetric(), || format!("{} is not cuDNN's", by.convolution))?;
        let key = Key::of(by);
        let plan = match self.plans.remove(&key) {
            Some(plan) => plan,
            // SAFETY: the caller's.
            None => unsafe { self.plan(&key, by)? },
        };
        self.grow(plan.workspace)?;
        // SAFETY: the caller's; the workspace has as many bytes as the plan says.
        let done = unsafe { self.run(&plan, by) };
        self.plans.insert(key, plan);
        done
    }

    /// # Safety
    /// As of [`Cudnn::convolve`].
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

    /// The fastest algorithm that may be used, with its descriptors.
    ///
    /// # Safety
    /// As of [`Cudnn::convolve`].
    unsafe fn plan(&mut self, key: &Key, by: &Convolve) -> Result<Plan> {
        let descriptors = Descriptors::new(key)?;
        self.grow(self.wanted(key.pass, &descriptors))?;
        // Timing writes its results to scratch memory: the real result may be accumulated into, or still be needed.
        let scratch = Scratch::new(key.result()? * key.element.bytes(), &self.stream)?;
        // SAFETY: the caller's, and the scratch has room for the result.
        let measured = unsafe { self.measure(key.pass, &descriptors, by, scratch.address)? };
        let fits = |m: &Timing| {
            m.status == cudnnStatus_t::CUDNN_STATUS_SUCCESS
                && m.memory <= self.workspace_bytes
                && m.determinism == cudnnDeterminism_t::CUDNN_DETERMINISTIC
                && (!key.is_exact() || is_exact(m.math))
        };
        // They come with the fastest first.
        let best = measured.into_iter().find(fits).ok_or_else(|| Error::NoAlgorithm(key.to_string()))?;
        descriptors.set_math(if key.is_exact() { cudnnMathType_t::CUDNN_FMA_MATH } else { best.math })?;
        Ok(Plan { descriptors, algorithm: best.algorithm, workspace: best.memory })
    }

    /// The largest workspace that an allowed algorithm needs.
    fn wanted(&self, pass: Pass, d: &Descriptors) -> usize {
        let size = |ask: &dyn Fn(*mut usize) -> cudnnStatus_t| {
            let mut bytes = 0usize;
            let known = ask(&mut bytes) == cudnnStatus_t::CUDNN_STATUS_SUCCESS;
            if known && bytes <= WORKSPACE { bytes } else { 0 }
        };
        let (handle, convolution) = (self.handle, d.convolution);
        // SAFETY (of all three): handle and descriptors live, and the call writes one number.
        let sizes: Vec<usize> = match pass {
            Pass::Forward => FORWARD
                .iter()
                .map(|a| {
                    size(&|to| unsafe {
                        sys::cudnnGetConvolutionForwardWorkspaceSize(
                            handle,
                            d.x,
                            d.w,
                            convolution,
                            d.y,
                            *a,
                            to,
                        )
                    })
                })
                .collect(),
            Pass::BackwardData => DATA
                .iter()
                .map(|a| {
                    size(&|to| unsafe {
                        sys::cudnnGetConvolutionBackwardDataWorkspaceSize(
                            handle,
                            d.w,
                            d.y,
                            convolution,
                            d.x,
                            *a,
                            to,
                        )
                    })
                })
                .collect(),
            Pass::BackwardFilter => FILTER
                .iter()
                .map(|a| {
                    size(&|to| unsafe {
                        sys::cudnnGetConvolutionBackwardFilterWorkspaceSize(
                            handle,
                            d.x,
                            d.y,
                            convolution,
                            d.w,
                            *a,
                            to,
                        )
                    })
                })
                .collect(),
        };
        sizes.into_iter().max().unwrap_or(0)
    }

    /// The timings of cuDNN, the fastest first.
    ///
    /// # Safety
    /// As of [`Cudnn::convolve`]; `result` has room for the result.
    // Long: three calls of thirteen arguments each.
    unsafe fn measure(&self, pass: Pass, d: &Descriptors, by: &Convolve, to: Address) -> Result<Vec<Timing>> {
        let [x, w, y, to] = [by.x, by.w, by.y, to].map(|address| address as *mut c_void);
        let (handle, convolution, most) = (self.handle, d.convolution, RESULTS as c_int);
        let (space, bytes) = (self.workspace as *mut c_void, self.workspace_bytes);
        let mut count: c_int = 0;
        /// The results that were written.
        macro_rules! results {
            ($kind:ident, $name:literal, |$places:ident| $call:expr) => {{
                let mut places = [const { MaybeUninit::uninit() }; RESULTS];
                let $places = places.as_mut_ptr().cast();
                // SAFETY: the caller's; at most RESULTS results are written, `count` says how many were.
                checked(unsafe { $call }, $name)?;
                let places = &places[..(count.max(0) as usize).min(RESULTS)];
                let read = |place: &MaybeUninit<_>| {
                    // SAFETY: `count` were written.
                    let found = unsafe { place.assume_init_ref() };
                    let _: &sys::$kind = found;
                    measured!(found)
                };
                Ok(places.iter().map(read).collect())
            }};
        }
        macro_rules! measured {
            ($found:expr) => {
                Timing {
                    algorithm: $found.algo.into(),
                    status: $found.status,
                    memory: $found.memory,
                    determinism: $found.determinism,
                    math: $found.mathType,
                }
            };
        }
        match pass {
            Pass::Forward => {
                results!(cudnnConvolutionFwdAlgoPerf_t, "cudnnFindConvolutionForwardAlgorithmEx", |places| {
                    sys::cudnnFindConvolutionForwardAlgorithmEx(
                        handle,
                        d.x,
                        x,
                        d.w,
                        w,
                        convolution,
                        d.y,
                        to,
                        most,
                        &mut count,
                        places,
                        space,
                        bytes,
                    )
                })
            }
            Pass::BackwardData => {
                results!(
                    cudnnConvolutionBwdDataAlgoPerf_t,
                    "cudnnFindConvolutionBackwardDataAlgorithmEx",
                    |places| {
                        sys::cudnnFindConvolutionBackwardDataAlgorithmEx(
                            handle,
                            d.w,
                            w,
                            d.y,
                            y,
                            convolution,
                            d.x,
                            to,
                            most,
                            &mut count,
                            places,
                            space,
                            bytes,
                        )
                    }
                )
            }
            Pass::BackwardFilter => {
                results!(
                    cudnnConvolutionBwdFilterAlgoPerf_t,
                    "cudnnFindConvolutionBackwardFilterAlgorithmEx",
                    |places| {
                        sys::cudnnFindConvolutionBackwardFilterAlgorithmEx(
                            handle,
                            d.x,
                            x,
                            d.y,
                            y,
                            convolution,
                            d.w,
                            to,
                            most,
                            &mut count,
                            places,
                            space,
                            bytes,
                        )
                    }
                )
            }
        }
    }

    /// Grows the workspace to at least this size; waits for work that uses the old one.
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

/// Scratch memory for the results of timing.
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

/// Whether 32-bit factors stay so. (With the descriptor's FMA math, the default too means that.)
fn is_exact(math: cudnnMathType_t) -> bool {
    matches!(math, cudnnMathType_t::CUDNN_FMA_MATH | cudnnMathType_t::CUDNN_DEFAULT_MATH)
}

impl From<ForwardAlgorithm> for Algorithm {
    fn from(algorithm: ForwardAlgorithm) -> Self {
        Self::Forward(algorithm)
    }
}

impl From<DataAlgorithm> for Algorithm {
    fn from(algorithm: DataAlgorithm) -> Self {
        Self::Data(algorithm)
    }
}

impl From<FilterAlgorithm> for Algorithm {
    fn from(algorithm: FilterAlgorithm) -> Self {
        Self::Filter(algorithm)
    }
}

/// Algorithms that may need a workspace. (Those by Fourier transforms need gigabytes in this layout, where they exist at all.)
const FORWARD: [ForwardAlgorithm; 4] = [
    ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM,
    ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
    ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_GEMM,
    ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED,
];
const DATA: [DataAlgorithm; 3] = [
    DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_0,
    DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1,
    DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD_NONFUSED,
];
const FILTER: [FilterAlgorithm; 4] = [
    FilterAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0,
    FilterAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1,
    FilterAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_3,
    FilterAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD_NONFUSED,
];
