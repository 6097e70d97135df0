//! Lists and times cuDNN's algorithms for a convolution, and chooses one.

use std::ffi::{c_int, c_void};
use std::fmt::Display;
use std::mem::MaybeUninit;

use cudarc::cudnn::sys::{
    self, cudnnConvolutionBwdDataAlgo_t as DataAlgorithm, cudnnConvolutionBwdFilterAlgo_t as FilterAlgorithm,
    cudnnConvolutionFwdAlgo_t as ForwardAlgorithm, cudnnDeterminism_t, cudnnMathType_t, cudnnStatus_t,
};

use super::descriptors::{Descriptors, checked};
use crate::device::{Address, Convolve, Pass};
use crate::error::Result;

/// Maximum number of algorithms that cuDNN reports at once.
const RESULTS: usize = 16;

/// An algorithm of one of the three passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Forward(ForwardAlgorithm),
    Data(DataAlgorithm),
    Filter(FilterAlgorithm),
}

/// What cuDNN reports of an algorithm that it has timed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    pub algorithm: Algorithm,
    pub status: cudnnStatus_t,
    /// Bytes of workspace that the algorithm needs.
    pub memory: usize,
    pub determinism: cudnnDeterminism_t,
    pub math: cudnnMathType_t,
}

/// The conditions for the choice of an algorithm.
pub(super) struct Limits {
    /// Maximum number of bytes of workspace.
    pub workspace: usize,
    /// Whether factors must keep their precision, so that tensor cores may not reduce it.
    pub exact: bool,
}

/// Returns the first of `timings` (ordered by time) that satisfies the limits and is deterministic.
pub(super) fn best(timings: &[Timing], limits: &Limits) -> Option<Timing> {
    let fits = |timing: &&Timing| {
        timing.status == cudnnStatus_t::CUDNN_STATUS_SUCCESS
            && timing.memory <= limits.workspace
            && timing.determinism == cudnnDeterminism_t::CUDNN_DETERMINISTIC
            && (!limits.exact || is_exact(timing.math))
    };
    timings.iter().find(fits).copied()
}

/// Returns whether 32-bit factors keep their precision with this math type. (The default does so too if the descriptor says FMA.)
fn is_exact(math: cudnnMathType_t) -> bool {
    matches!(math, cudnnMathType_t::CUDNN_FMA_MATH | cudnnMathType_t::CUDNN_DEFAULT_MATH)
}

/// Formats a convolution with all that cuDNN reported about its algorithms, for an error message: how each one failed, or that it
/// is not deterministic.
pub(super) fn table(convolution: &impl Display, timings: &[Timing]) -> String {
    let line = |Timing { algorithm, status, memory, determinism, math }: &Timing| {
        format!("\n  {algorithm:?}: {status:?}, {determinism:?}, {math:?}, workspace of {memory} bytes")
    };
    format!("{convolution}; it says:{}", timings.iter().map(line).collect::<String>())
}

/// A convolution as cuDNN's functions take it.
pub(super) struct Call<'a> {
    pub handle: sys::cudnnHandle_t,
    pub descriptors: &'a Descriptors,
    pub pass: Pass,
}

/// Calls a function of cuDNN that fills an array with at most `most` results, and returns those that it has filled.
macro_rules! results {
    ($kind:ident, $name:literal, |$places:ident, $most:ident, $count:ident| $call:expr) => {{
        // Zeros are values of every field, whatever a failed algorithm leaves out.
        let mut places = [const { MaybeUninit::<sys::$kind>::zeroed() }; RESULTS];
        let ($places, $most) = (places.as_mut_ptr().cast::<sys::$kind>(), RESULTS as c_int);
        let mut $count: c_int = 0;
        // SAFETY: the caller's; at most RESULTS results are written, and the count says how many were.
        checked(unsafe { $call }, $name)?;
        let places = &places[..($count.max(0) as usize).min(RESULTS)];
        let read = |place: &MaybeUninit<sys::$kind>| {
            // SAFETY: so many were written, over zeros.
            let found = unsafe { place.assume_init_ref() };
            Timing {
                algorithm: found.algo.into(),
                status: found.status,
                memory: found.memory,
                determinism: found.determinism,
                math: found.mathType,
            }
        };
        Ok(places.iter().map(read).collect())
    }};
}

impl Call<'_> {
    /// Runs and times the algorithms for which the workspace (address, bytes) suffices; returns them ordered by time. Their results
    /// are written to `to`.
    ///
    /// # Safety
    /// x, w and y have the sizes of the call, `to` has room for the result, and the workspace has as many bytes as given; the
    /// context is bound.
    #[rustfmt::skip]
    pub unsafe fn time(
        &self,
        by: &Convolve,
        to: Address,
        (space, bytes): (Address, usize),
    ) -> Result<Vec<Timing>> {
        let [x, w, y, to, space] = [by.x, by.w, by.y, to, space].map(|address| address as *mut c_void);
        let Self { handle, descriptors: d, pass } = *self;
        match pass {
            Pass::Forward => results!(
                cudnnConvolutionFwdAlgoPerf_t, "cudnnFindConvolutionForwardAlgorithmEx",
                |places, most, count| sys::cudnnFindConvolutionForwardAlgorithmEx(
                    handle, d.x, x, d.w, w, d.convolution, d.y, to, most, &mut count, places, space, bytes,
                )
            ),
            Pass::BackwardData => results!(
                cudnnConvolutionBwdDataAlgoPerf_t, "cudnnFindConvolutionBackwardDataAlgorithmEx",
                |places, most, count| sys::cudnnFindConvolutionBackwardDataAlgorithmEx(
                    handle, d.w, w, d.y, y, d.convolution, d.x, to, most, &mut count, places, space, bytes,
                )
            ),
            Pass::BackwardFilter => results!(
                cudnnConvolutionBwdFilterAlgoPerf_t, "cudnnFindConvolutionBackwardFilterAlgorithmEx",
                |places, most, count| sys::cudnnFindConvolutionBackwardFilterAlgorithmEx(
                    handle, d.x, x, d.y, y, d.convolution, d.w, to, most, &mut count, places, space, bytes,
                )
            ),
        }
    }

    /// Returns the bytes of workspace that an algorithm needs; `None` if it does not support this convolution.
    #[rustfmt::skip]
    pub fn workspace_of(&self, algorithm: Algorithm) -> Option<usize> {
        let Self { handle, descriptors: d, .. } = *self;
        let mut bytes = 0usize;
        // SAFETY: handle and descriptors live, and the call writes one number.
        let status = unsafe {
            match algorithm {
                Algorithm::Forward(algorithm) => sys::cudnnGetConvolutionForwardWorkspaceSize(
                    handle, d.x, d.w, d.convolution, d.y, algorithm, &mut bytes,
                ),
                Algorithm::Data(algorithm) => sys::cudnnGetConvolutionBackwardDataWorkspaceSize(
                    handle, d.w, d.y, d.convolution, d.x, algorithm, &mut bytes,
                ),
                Algorithm::Filter(algorithm) => sys::cudnnGetConvolutionBackwardFilterWorkspaceSize(
                    handle, d.x, d.y, d.convolution, d.w, algorithm, &mut bytes,
                ),
            }
        };
        (status == cudnnStatus_t::CUDNN_STATUS_SUCCESS).then_some(bytes)
    }

    /// Returns the bytes of the largest workspace that any algorithm needs, apart from those that need more than `most`.
    pub fn workspace(&self, most: usize) -> usize {
        let all: Vec<Algorithm> = match self.pass {
            Pass::Forward => FORWARD.map(Algorithm::from).to_vec(),
            Pass::BackwardData => DATA.map(Algorithm::from).to_vec(),
            Pass::BackwardFilter => FILTER.map(Algorithm::from).to_vec(),
        };
        let sizes = all.into_iter().filter_map(|algorithm| self.workspace_of(algorithm));
        sizes.filter(|bytes| *bytes <= most).max().unwrap_or(0)
    }
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

/// Algorithms that may need a workspace. (Those that use Fourier transforms need gigabytes in this layout, if they support it.)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Deterministic, by tensor cores, in no workspace.
    const GOOD: Timing = Timing {
        algorithm: Algorithm::Data(DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1),
        status: cudnnStatus_t::CUDNN_STATUS_SUCCESS,
        memory: 0,
        determinism: cudnnDeterminism_t::CUDNN_DETERMINISTIC,
        math: cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
    };

    #[test]
    fn the_first_that_keeps_all_limits_is_chosen() {
        let timings = [
            Timing { status: cudnnStatus_t::CUDNN_STATUS_NOT_SUPPORTED, memory: 1, ..GOOD },
            Timing { determinism: cudnnDeterminism_t::CUDNN_NON_DETERMINISTIC, memory: 2, ..GOOD },
            Timing { memory: 2000, ..GOOD },
            Timing { memory: 4, ..GOOD },
            Timing { math: cudnnMathType_t::CUDNN_FMA_MATH, memory: 5, ..GOOD },
        ];
        let chosen = |workspace, exact| best(&timings, &Limits { workspace, exact }).map(|t| t.memory);
        assert_eq!(chosen(1000, false), Some(4));
        assert_eq!(chosen(4000, false), Some(2000));
        assert_eq!(chosen(1000, true), Some(5));
        assert_eq!(chosen(3, false), None);
    }

    #[test]
    fn an_error_shows_what_there_is() {
        let slow = Timing { determinism: cudnnDeterminism_t::CUDNN_NON_DETERMINISTIC, ..GOOD };
        let text = table(&"7x7 of 1 to 64", &[slow, GOOD]);
        assert!(
            text.starts_with("7x7 of 1 to 64; it says:\n  Data(CUDNN_CONVOLUTION_BWD_DATA_ALGO_1)"),
            "{text}"
        );
        assert!(text.contains("NON_DETERMINISTIC") && text.lines().count() == 3, "{text}");
    }
}
