//! Products of matrices by cuBLAS.

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use cudarc::cublas::result::{create_handle, destroy_handle, gemm_ex, set_stream};
use cudarc::cublas::sys::{self, cublasComputeType_t, cublasGemmAlgo_t, cublasOperation_t, cudaDataType_t};
use cudarc::driver::CudaStream;

use super::call;
use crate::device::Multiply;
use crate::error::{Result, ensure};
use crate::shape::Element;

/// A cuBLAS handle that works on the device's stream.
pub(super) struct Cublas {
    handle: sys::cublasHandle_t,
    /// Kept alive because the handle queues work on it.
    _stream: Arc<CudaStream>,
}

// SAFETY: cuBLAS allows calls from any thread, one at a time for a handle; `multiply` queues in one call, and those who
// share a device take turns (see `Gpu`).
unsafe impl Send for Cublas {}
// SAFETY: as above.
unsafe impl Sync for Cublas {}

impl Cublas {
    pub fn new(stream: &Arc<CudaStream>) -> Result<Self> {
        let handle = create_handle().map_err(call("cublasCreate"))?;
        let cublas = Self { handle, _stream: Arc::clone(stream) };
        // SAFETY: both live as long as this value.
        unsafe { set_stream(handle, stream.cu_stream().cast()) }.map_err(call("cublasSetStream"))?;
        Ok(cublas)
    }

    /// Queues a product of matrices. cuBLAS matrices are column-major, so it regards our row-major matrices as their transposes and
    /// computes c^T = b^T a^T.
    ///
    /// # Safety
    /// The matrices have the sizes of the call; the context is bound.
    pub unsafe fn multiply(&self, by: &Multiply) -> Result<()> {
        let Multiply { rows, columns, inner, transposed, element, result, .. } = *by;
        let most = c_int::MAX as usize;
        ensure(rows.max(columns).max(inner) <= most && rows * columns * inner > 0, || {
            format!("a product of {rows} x {inner} and {inner} x {columns}")
        })?;
        let operation = |transposed: bool| {
            if transposed { cublasOperation_t::CUBLAS_OP_T } else { cublasOperation_t::CUBLAS_OP_N }
        };
        // Row lengths as they are stored.
        let a_row = if transposed[0] { rows } else { inner };
        let b_row = if transposed[1] { inner } else { columns };
        let (one, old) = (1f32, if by.add { 1f32 } else { 0f32 });
        let compute = if element == Element::F32 && by.tf32 {
            cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32
        } else {
            cublasComputeType_t::CUBLAS_COMPUTE_32F
        };
        let [a, b, c] = by.matrices;
        // SAFETY: the caller's; alpha and beta are on the host, read before the call returns.
        unsafe {
            gemm_ex(
                self.handle,
                operation(transposed[1]),
                operation(transposed[0]),
                columns as c_int,
                rows as c_int,
                inner as c_int,
                (&raw const one).cast(),
                b as *const c_void,
                kind(element),
                b_row as c_int,
                a as *const c_void,
                kind(element),
                a_row as c_int,
                (&raw const old).cast(),
                c as *mut c_void,
                kind(result),
                columns as c_int,
                compute,
                cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP,
            )
        }
        .map_err(call("cublasGemmEx"))
    }
}

impl Drop for Cublas {
    fn drop(&mut self) {
        // SAFETY: the handle was created and is destroyed here alone.
        let _ = unsafe { destroy_handle(self.handle) };
    }
}

fn kind(element: Element) -> cudaDataType_t {
    match element {
        Element::F32 => cudaDataType_t::CUDA_R_32F,
        Element::Bf16 => cudaDataType_t::CUDA_R_16BF,
    }
}
