//! Matrix products, whose factors may be transposed or be the windows of a convolution.
//!
//! The result is cut into blocks that threads compute independently. For each, a block of the right factor is packed into
//! panels and rows of the left factor are gathered, both small enough to stay in the L2 cache (Goto & van de Geijn 2008,
//! "Anatomy of High-Performance Matrix Multiplication"). The depth is cut in the same way for any number of threads, so
//! results do not depend on it.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::im2col::{Map, Sizes};
use super::tile::{DEPTH, PANEL, Panels, ROW_STRIDE, RowLayout, Rows, Target, multiply as multiply_tiles};
use super::transpose::into_panel;
use super::{Uninit, assume_init, vec_filled_by, zeroed};
use crate::simd::vectorized;

/// Maximum number of panels that are packed at once.
const PANELS: usize = 24;
/// Number of rows of the left factor that are gathered at once.
const GATHERED: usize = 112;

/// A view of a matrix, row-major or transposed.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    /// Distance in memory from one row to the next, or from one column to the next if `transposed`.
    stride: usize,
    transposed: bool,
}

impl<'a> View<'a> {
    /// Views `rows x columns` values, row-major, as a matrix.
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns);
        Self { values, rows, columns, stride: columns, transposed: false }
    }

    /// Returns a view of the transposed matrix.
    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, transposed: !self.transposed, ..self }
    }
}

/// A factor of a product.
#[derive(Clone, Copy)]
pub(super) enum Matrix<'a> {
    /// A matrix in memory.
    Stored(View<'a>),
    /// The windows of an input: (channel, tap) x (sample, position).
    Im2col(&'a [f32], &'a Sizes),
    /// The transposed windows, (sample, position) x (channel, tap); possible only as the right factor.
    Im2colTransposed(&'a [f32], &'a Sizes),
}

impl Matrix<'_> {
    /// Returns the numbers of rows and columns.
    fn size(&self) -> [usize; 2] {
        match self {
            Matrix::Stored(view) => [view.rows, view.columns],
            Matrix::Im2col(_, sizes) => [sizes.depth(), sizes.columns()],
            Matrix::Im2colTransposed(_, sizes) => [sizes.columns(), sizes.depth()],
        }
    }

    /// Returns the map of a range of (sample, position) of windows; `None` for a matrix in memory.
    fn map(&self, range: Range<usize>) -> Option<Map> {
        match self {
            Matrix::Stored(_) => None,
            Matrix::Im2col(_, sizes) | Matrix::Im2colTransposed(_, sizes) => Some(Map::new(sizes, range)),
        }
    }

    /// Packs a block of this matrix, the right factor, into panels. `map` is the map of the columns if these are positions.
    fn pack(
        &self,
        depth: Range<usize>,
        columns: Range<usize>,
        map: Option<&Map>,
        panels: &mut [f32],
        spare: &mut [f32],
    ) {
        let distance = distance(depth.len());
        match (self, map) {
            (Matrix::Im2col(x, _), Some(map)) => {
                // An odd number of chunks fills only half of the last panel; the other half is not used, but must be finite.
                if !columns.len().is_multiple_of(PANEL) {
                    let last = columns.len() / PANEL;
                    panels[last * distance..(last + 1) * distance].fill(0.0);
                }
                map.fetch(x, depth, panels, PANEL, distance);
            }
            (Matrix::Im2colTransposed(x, _), _) => {
                let Some(map) = self.map(depth.clone()) else { return };
                for (panel, first) in panels.chunks_mut(distance).zip(columns.clone().step_by(PANEL)) {
                    let rows = first..(first + PANEL).min(columns.end);
                    map.fetch(x, rows.clone(), spare, ROW_STRIDE, PANEL);
                    into_panel(spare, ROW_STRIDE, rows.len(), depth.len(), panel);
                }
            }
            (Matrix::Stored(view), _) if view.transposed => {
                for (panel, first) in panels.chunks_mut(distance).zip(columns.clone().step_by(PANEL)) {
                    let count = PANEL.min(columns.end - first);
                    let from = &view.values[first * view.stride + depth.start..];
                    into_panel(from, view.stride, count, depth.len(), panel);
                }
            }
            (Matrix::Stored(view), _) => {
                for (k, position) in depth.zip((0..).step_by(PANEL)) {
                    let row = &view.values[k * view.stride..][columns.clone()];
                    copy_row(row, &mut panels[position..], distance);
                }
            }
            (Matrix::Im2col(..), None) => unreachable!("windows are packed by a map"),
        }
    }

    /// Gathers rows of this matrix, the left factor. `map` is the map of the depth if that consists of positions.
    fn gather(
        &self,
        rows: Range<usize>,
        depth: Range<usize>,
        map: Option<&Map>,
        block: &mut [f32],
    ) -> RowLayout {
        match (self, map) {
            (Matrix::Im2col(x, _), Some(map)) => {
                map.fetch(x, rows, block, ROW_STRIDE, PANEL);
                RowLayout::RowMajor
            }
            (Matrix::Stored(view), _) if view.transposed => {
                for (to, k) in block.chunks_mut(GATHERED).zip(depth) {
                    to[..rows.len()]
                        .copy_from_slice(&view.values[k * view.stride + rows.start..][..rows.len()]);
                }
                RowLayout::ColumnMajor(GATHERED)
            }
            (Matrix::Stored(view), _) => {
                for (to, row) in block.chunks_mut(ROW_STRIDE).zip(rows) {
                    to[..depth.len()]
                        .copy_from_slice(&view.values[row * view.stride + depth.start..][..depth.len()]);
                }
                RowLayout::RowMajor
            }
            _ => unreachable!("transposed windows are right factors"),
        }
    }
}

vectorized! {
    /// Copies a row of a matrix into the corresponding row of the panels, and fills the last panel with zeros.
    fn copy_row(from: &[f32], panels: &mut [f32], distance: usize) {
        let (parts, rest) = from.as_chunks::<PANEL>();
        for (part, to) in parts.iter().zip(panels.chunks_mut(distance)) {
            to[..PANEL].copy_from_slice(part);
        }
        if !rest.is_empty() {
            let to = &mut panels[parts.len() * distance..][..PANEL];
            to[rest.len()..].fill(0.0);
            to[..rest.len()].copy_from_slice(rest);
        }
    }
}

/// Returns the distance from one panel to the next: one row more than a panel holds, because at a distance of a power of two
/// the rows of several panels would share few sets of the L1 cache.
fn distance(depth: usize) -> usize {
    (depth + 1) * PANEL
}

/// Returns the part of a buffer that is aligned to a cache line.
pub(super) fn aligned(buffer: &mut Vec<f32>, count: usize) -> &mut [f32] {
    const LINE: usize = 64;
    if buffer.len() < count + LINE / size_of::<f32>() {
        buffer.resize(count + LINE / size_of::<f32>(), 0.0);
    }
    let skipped = buffer.as_ptr().align_offset(LINE).min(LINE / size_of::<f32>());
    &mut buffer[skipped..][..count]
}

/// The numbers of parts into which the rows and the columns of a product are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Split {
    rows: usize,
    columns: usize,
}

impl Split {
    /// Returns the split with the least work for the busiest thread, in cycles per step of the depth.
    fn best(rows: usize, panels: usize, threads: usize) -> Self {
        /// Cycles for gathering a value, relative to those for multiplying a row with a panel.
        const GATHERING: f64 = 0.4;
        let least = panels.div_ceil(PANELS);
        let mut best = (f64::INFINITY, Self { rows: 1, columns: least });
        for row_parts in [1, 2, threads, 2 * threads, 4 * threads] {
            for columns in [least, least.next_multiple_of(threads), least.next_multiple_of(threads) + threads]
            {
                if columns > panels || row_parts > rows {
                    continue;
                }
                let (height, width) = (rows.div_ceil(row_parts), panels.div_ceil(columns) * PANEL);
                let item = (height * width) as f64 / 32.0 + GATHERING * (height + width) as f64;
                let rounds = (row_parts * columns).div_ceil(threads);
                let cost = item * rounds as f64;
                if cost < best.0 {
                    best = (cost, Self { rows: row_parts, columns });
                }
            }
        }
        best.1
    }
}

/// Cuts `0..count` into `parts` parts, and returns part `number`.
pub(super) fn share(count: usize, parts: usize, number: usize) -> Range<usize> {
    count * number / parts..count * (number + 1) / parts
}

/// Memory that a thread reuses for its blocks.
#[derive(Default)]
struct Scratch {
    /// Panels of the right factor.
    panels: Vec<f32>,
    /// Rows of the left factor.
    block: Vec<f32>,
    /// Windows before they are transposed into panels.
    spare: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// A function that is applied to finished values while they are in cache; its arguments are their row, their first column, and
/// the values.
pub(super) type BlockEpilogue<'a> = &'a (dyn Fn(usize, usize, &mut [f32]) + Sync);

/// Writes the product of `left` and `right` into uninitialised memory, row-major, and returns it as initialised memory.
pub(super) fn multiply_into<'a>(
    out: &'a mut [Uninit],
    left: Matrix<'_>,
    right: Matrix<'_>,
    finish: Option<BlockEpilogue<'_>>,
) -> &'a mut [f32] {
    let ([rows, depth], [_, columns]) = (left.size(), right.size());
    if depth == 0 {
        zeroed(out);
    }
    let len = out.len();
    assert!(len == rows * columns);
    product(Target::unwritten(out, columns), len, left, right, false, finish);
    // SAFETY: the blocks of `product` cover all rows and columns, and without `add` it writes each
    // element before it reads it; at a depth of 0 zeros were written.
    unsafe { assume_init(out) }
}

/// Writes the product of `left` and `right` into `out`, row-major, or adds it with `add`. Runs on all threads of the current
/// pool; the values do not depend on which thread computes them.
pub(super) fn multiply(
    out: &mut [f32],
    left: Matrix<'_>,
    right: Matrix<'_>,
    add: bool,
    finish: Option<BlockEpilogue<'_>>,
) {
    let ([_, depth], [_, columns]) = (left.size(), right.size());
    if depth == 0 && !add {
        out.fill(0.0);
    }
    let len = out.len();
    product(Target::new(out, columns), len, left, right, add, finish);
}

/// Computes the product of two matrices in memory, row-major.
pub(crate) fn matmul(left: View<'_>, right: View<'_>) -> Vec<f32> {
    vec_filled_by(left.rows * right.columns, |out| {
        multiply_into(out, Matrix::Stored(left), Matrix::Stored(right), None)
    })
}

/// Computes a product into a target of `len` values, which must be initialised already with `add` or if the depth is 0.
fn product(
    target: Target<'_>,
    len: usize,
    left: Matrix<'_>,
    right: Matrix<'_>,
    add: bool,
    finish: Option<BlockEpilogue<'_>>,
) {
    let ([rows, depth], [of_depth, columns]) = (left.size(), right.size());
    assert!(depth == of_depth && len == rows * columns);
    if len == 0 {
        return;
    }
    let panels = columns.div_ceil(PANEL);
    let split = Split::best(rows, panels, rayon::current_num_threads());
    let product = Product { left, right, depth, target, add, finish };
    (0..split.rows * split.columns).into_par_iter().with_max_len(1).for_each(|item| {
        let rows = share(rows, split.rows, item % split.rows);
        let panels = share(panels, split.columns, item / split.rows);
        let columns = panels.start * PANEL..(panels.end * PANEL).min(columns);
        // Each item has its own rows and columns.
        SCRATCH.with_borrow_mut(|scratch| product.block(rows, columns, scratch));
    });
}

/// A product with its factors and its target.
struct Product<'a> {
    left: Matrix<'a>,
    right: Matrix<'a>,
    /// Number of columns of the left factor, and of rows of the right one.
    depth: usize,
    target: Target<'a>,
    add: bool,
    finish: Option<BlockEpilogue<'a>>,
}

impl Product<'_> {
    /// Computes the elements in these rows and columns, which no other thread computes.
    fn block(&self, rows: Range<usize>, columns: Range<usize>, scratch: &mut Scratch) {
        let Self { left, right, depth, target, add, finish } = self;
        let Scratch { panels, block, spare } = scratch;
        let panel_count = columns.len().div_ceil(PANEL);
        if rows.is_empty() || panel_count == 0 {
            return;
        }
        let panels = aligned(panels, panel_count * distance(DEPTH));
        let block = aligned(block, GATHERED * ROW_STRIDE);
        let spare = aligned(spare, PANEL * ROW_STRIDE);
        let right_map = match right {
            Matrix::Im2col(..) => right.map(columns.clone()),
            _ => None,
        };
        let parts = depth.div_ceil(DEPTH);
        for part in 0..parts {
            let depth = share(*depth, parts, part);
            let distance = distance(depth.len());
            let panels = &mut panels[..panel_count * distance];
            right.pack(depth.clone(), columns.clone(), right_map.as_ref(), panels, spare);
            let packed = Panels { values: panels, distance, step: PANEL, columns: columns.len() };
            let left_map = left.map(depth.clone());
            for first in rows.clone().step_by(GATHERED) {
                let rows = first..(first + GATHERED).min(rows.end);
                let layout = left.gather(rows.clone(), depth.clone(), left_map.as_ref(), block);
                let gathered = Rows { values: block, layout, count: rows.len() };
                let corner = [rows.start, columns.start];
                // SAFETY: the block of the target belongs to this item, and its first part of the depth writes it.
                unsafe { multiply_tiles(gathered, packed, depth.len(), *target, corner, *add || part > 0) };
                if let Some(finish) = finish
                    && part + 1 == parts
                {
                    for row in rows {
                        // SAFETY: as above.
                        finish(row, columns.start, unsafe { target.row(row, columns.clone()) });
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::values;
    use super::super::vec_filled_by;
    use super::*;
    use proptest::prelude::*;

    fn at(matrix: &Matrix<'_>, row: usize, column: usize) -> f64 {
        let value = match matrix {
            Matrix::Stored(v) if v.transposed => v.values[column * v.stride + row],
            Matrix::Stored(v) => v.values[row * v.stride + column],
            Matrix::Im2col(x, sizes) => {
                let (channel, tap) = (row / sizes.taps(), row % sizes.taps());
                let (sample, position) = (column / sizes.positions(), column % sizes.positions());
                let y = position / sizes.out_width() * sizes.stride[0] + tap / sizes.kernel[1];
                let x_position = position % sizes.out_width() * sizes.stride[1] + tap % sizes.kernel[1];
                let inside = |at: usize, axis: usize, size| {
                    (sizes.padding[axis]..sizes.padding[axis] + size).contains(&at)
                };
                if inside(y, 0, sizes.height) && inside(x_position, 1, sizes.width) {
                    let plane = &x[(channel * sizes.batch + sample) * sizes.plane()..];
                    plane[(y - sizes.padding[0]) * sizes.width + x_position - sizes.padding[1]]
                } else {
                    0.0
                }
            }
            Matrix::Im2colTransposed(x, sizes) => {
                return at(&Matrix::Im2col(x, sizes), column, row);
            }
        };
        f64::from(value)
    }

    /// `multiply` against the sum of products, for one thread and three, added and not.
    fn compare(left: Matrix<'_>, right: Matrix<'_>) {
        let ([rows, depth], [_, columns]) = (left.size(), right.size());
        let mut results = Vec::new();
        for threads in [1, 3] {
            let mut out = vec![0.5; rows * columns];
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let double = |_: usize, _: usize, values: &mut [f32]| values.iter_mut().for_each(|v| *v *= 2.0);
            pool.install(|| {
                multiply(&mut out, left, right, false, None);
                multiply(&mut out, left, right, true, Some(&double));
            });
            let fresh = pool.install(|| {
                vec_filled_by(rows * columns, |out| multiply_into(out, left, right, Some(&double)))
            });
            // (1 + 1) 2 and 1 x 2 products: the same roundings but for factors of two.
            assert!(
                out.iter()
                    .zip(&fresh)
                    .all(|(out, fresh)| (out - 2.0 * fresh).abs() <= 1e-5 * out.abs().max(1.0))
            );
            results.push(out);
        }
        assert_eq!(results[0], results[1], "the number of threads changes a product");
        for row in 0..rows {
            for column in 0..columns {
                let sum: f64 =
                    (0..depth).map(|k| at(&left, row, k) * at(&right, k, column)).sum::<f64>() * 4.0;
                let found = f64::from(results[0][row * columns + column]);
                assert!((found - sum).abs() < 1e-3, "{row}, {column}: {found} against {sum}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn stored_factors_of_any_size_and_lie(
            rows in 1..130usize, depth in 1..300usize, columns in 1..80usize, lies in 0..4usize,
        ) {
            let (a, b) = (values(rows * depth, 1), values(depth * columns, 2));
            let lay = |values, rows, columns, across: bool| {
                if across { View::new(values, columns, rows).transposed() } else { View::new(values, rows, columns) }
            };
            compare(
                Matrix::Stored(lay(&a, rows, depth, lies & 1 == 1)),
                Matrix::Stored(lay(&b, depth, columns, lies & 2 == 2)),
            );
        }

        #[test]
        fn windows_on_either_side(
            inputs in 1..6usize, outputs in 1..40usize, batch in 1..4usize, height in 3..12usize,
            width in 3..30usize, which in 0..5usize,
        ) {
            let (kernel, stride, padding) = [(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (7, 2, 3)][which];
            let (kernel, stride, padding) = ([kernel; 2], [stride; 2], [padding; 2]);
            let sizes =
                Sizes { batch, inputs, height, width, outputs, kernel, stride, padding, ring: false };
            let x = values(inputs * batch * height * width, 3);
            let weight = values(outputs * sizes.depth(), 4);
            let dy = values(outputs * sizes.columns(), 5);
            let weight = View::new(&weight, outputs, sizes.depth());
            let dy = View::new(&dy, outputs, sizes.columns());
            compare(Matrix::Stored(weight), Matrix::Im2col(&x, &sizes));
            compare(Matrix::Stored(dy), Matrix::Im2colTransposed(&x, &sizes));
            compare(Matrix::Im2col(&x, &sizes), Matrix::Stored(dy.transposed()));
        }
    }

    #[test]
    fn a_split_covers_everything_for_any_number_of_threads() {
        for threads in [1, 2, 3, 16, 64] {
            for (rows, panels) in [(1, 1), (64, 284), (512, 21), (8858, 1), (2048, 21)] {
                let split = Split::best(rows, panels, threads);
                assert!(split.rows <= rows && split.columns <= panels, "{split:?}");
                assert!(panels.div_ceil(split.columns) <= PANELS);
            }
        }
    }
}
