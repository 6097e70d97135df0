//! Computes the dot products of many rows at once, with the crate `gemm`.

#![allow(unsafe_code, reason = "gemm takes pointers and strides")]

/// Writes the dot products of rows of `dim` numbers to `out` (queries x candidates). One call spans all candidates, so
/// each product is summed in the same order and equal vectors tie exactly.
///
/// # Panics
/// Lengths that are not multiples of `dim`, or a wrong length of `out`.
pub(crate) fn products(
    queries: &[f32],
    candidates: &[f32],
    dim: usize,
    out: &mut [f32],
    parallelism: gemm::Parallelism,
) {
    let (height, width) = (queries.len() / dim.max(1), candidates.len() / dim.max(1));
    assert!(out.len() == height * width && queries.len() == height * dim && candidates.len() == width * dim);
    // SAFETY: the lengths asserted above are what sizes and strides reach.
    unsafe {
        gemm::gemm(
            width,
            height,
            dim,
            out.as_mut_ptr(),
            width as isize,
            1,
            false,
            candidates.as_ptr(),
            1,
            dim as isize,
            queries.as_ptr(),
            dim as isize,
            1,
            0f32,
            1f32,
            false,
            false,
            false,
            parallelism,
        );
    }
}
