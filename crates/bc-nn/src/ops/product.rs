//! Products of matrices, by the `gemm` crate.

use std::ops::Range;

/// A view of a matrix, row-major or transposed.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_step: usize,
    column_step: usize,
}

impl<'a> View<'a> {
    /// `rows x columns`, row-major.
    pub(super) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns);
        Self { values, rows, columns, row_step: columns, column_step: 1 }
    }

    pub(super) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_step: self.column_step,
            column_step: self.row_step,
            ..self
        }
    }

    /// Some of the columns.
    pub(super) fn columns(self, range: Range<usize>) -> Self {
        assert!(range.end <= self.columns);
        Self { values: &self.values[range.start * self.column_step..], columns: range.len(), ..self }
    }

    fn fits(&self) -> bool {
        self.rows == 0
            || self.columns == 0
            || (self.rows - 1) * self.row_step + (self.columns - 1) * self.column_step < self.values.len()
    }
}

/// Writes `a b` into the columns `range` of `out`, which has rows of `width`; adds it there
/// with `add`. Runs on all threads of the current pool; which of them computes an element
/// has no influence on its value.
pub(super) fn multiply(
    out: &mut [f32],
    width: usize,
    range: Range<usize>,
    a: View<'_>,
    b: View<'_>,
    add: bool,
) {
    assert_eq!(a.columns, b.rows);
    assert_eq!(b.columns, range.len());
    assert!(range.end <= width && out.len() >= a.rows * width);
    assert!(a.fits() && b.fits());
    if range.is_empty() || a.rows == 0 {
        return;
    }
    let threads = rayon::current_num_threads();
    let parallelism = if threads > 1 { gemm::Parallelism::Rayon(threads) } else { gemm::Parallelism::None };
    let out = &mut out[range.start..];
    // SAFETY: the asserts above bound every access of the three matrices.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out.as_mut_ptr(),
            1,
            width as isize,
            add,
            a.values.as_ptr(),
            a.column_step as isize,
            a.row_step as isize,
            b.values.as_ptr(),
            b.column_step as isize,
            b.row_step as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}
