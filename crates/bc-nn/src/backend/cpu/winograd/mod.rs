//! Convolutions of 3x3 windows with stride 1 by Winograd's minimal filtering F(2x2, 3x3) (Lavin & Gray 2016, "Fast
//! Algorithms for Convolutional Neural Networks", section 4): four outputs take 16 multiplications instead of 36.
//!
//! Weights, windows of 4x4 inputs (two apart) and tiles of 2x2 outputs are transformed by sums and differences, so that
//! each of the 16 elements of the windows is a product of matrices of its own: weights (outputs x inputs) times windows
//! (inputs x tiles). A block of tiles is transformed, multiplied and transformed back by one thread, in memory of its own
//! whose parts in use fit into the L1 and L2 caches. Each value is summed in the same order for any number of threads, any
//! block and any batch.

mod blocks;
mod lanes;
mod transform;

use std::cell::RefCell;
use std::ops::Range;
use std::sync::OnceLock;

use rayon::prelude::*;

use super::im2col::Sizes;
use super::product::{BlockEpilogue, aligned, share};
use super::tile::{DEPTH, PANEL, Panels, ROW_STRIDE, RowLayout, Rows, Target, multiply};
use super::{Uninit, assume_init, vec_filled_by};
use blocks::{Block, LANES, Tiles};
use transform::ELEMENTS;

/// Number of outputs whose weights are stored together.
const GROUP: usize = 64;

/// Returns whether a convolution is computed with this algorithm. The batch has no influence on that, so that a recording has
/// the same embedding, to the last bit, alone and together with others.
///
/// Speed relative to the direct product (CPU time, batch 8, AVX-512; AVX2 within a tenth): 1.3 to 1.45 for 16 channels of 84
/// rows, 1.5 for 24 and 32, 1.7 for 64 and more; 1.2 for 32 channels of 6x14, 1.5 for 64 to 512; 1.0 for 96 channels of 3x7
/// and 0.8 for 256 of 2x4, where weights are transformed for few tiles.
pub(super) fn is_faster(sizes: &Sizes) -> bool {
    /// Minimum number of input channels, and of output channels.
    const CHANNELS: usize = 16;
    /// Minimum number of outputs of a channel of one sample.
    const POSITIONS: usize = 32;
    let Tiles { down, across, .. } = Tiles::new(sizes);
    fits(sizes)
        && sizes.inputs.min(sizes.outputs) >= CHANNELS
        && sizes.positions() >= POSITIONS
        // With the tiles that reach beyond the edge, there must be at least 1.5 times fewer multiplications.
        && 3 * ELEMENTS * down * across <= 2 * sizes.taps() * sizes.positions()
        && !direct()
}

/// Returns whether a convolution can be computed with this algorithm.
fn fits(sizes: &Sizes) -> bool {
    sizes.kernel == [3, 3] && sizes.stride == [1, 1] && sizes.padding == [1, 1]
}

/// Returns whether `BYTECOVER_CONV=direct` requests the direct product instead, for comparisons and to reproduce results that
/// were computed with it.
fn direct() -> bool {
    static DIRECT: OnceLock<bool> = OnceLock::new();
    *DIRECT.get_or_init(|| std::env::var("BYTECOVER_CONV").is_ok_and(|kind| kind == "direct"))
}

/// Writes the convolution of x (C, B, H, W) into uninitialised memory, and returns it as initialised memory.
pub(super) fn convolve_into<'a>(
    out: &'a mut [Uninit],
    x: &[f32],
    weight: &[f32],
    sizes: &Sizes,
    finish: Option<BlockEpilogue<'_>>,
) -> &'a mut [f32] {
    assert_eq!(out.len(), sizes.outputs * sizes.columns());
    Convolution::new(x, weight, sizes, Target::unwritten(out, sizes.columns()), false, finish).run();
    // SAFETY: the tiles cover all outputs, and each item of `run` writes those of its tiles.
    unsafe { assume_init(out) }
}

/// Adds the convolution of x (C, B, H, W) to `out`.
pub(super) fn convolve_add(
    out: &mut [f32],
    x: &[f32],
    weight: &[f32],
    sizes: &Sizes,
    finish: Option<BlockEpilogue<'_>>,
) {
    assert_eq!(out.len(), sizes.outputs * sizes.columns());
    Convolution::new(x, weight, sizes, Target::new(out, sizes.columns()), true, finish).run();
}

/// Transformed weights: for every group of outputs and every element a matrix (outputs x inputs) in the row layout that a tile
/// of a product reads, with a depth of at most [`DEPTH`]. Several shallow matrices are stored side by side.
struct Weights {
    values: Vec<f32>,
    inputs: usize,
    outputs: usize,
    /// Number of parts into which the inputs are cut.
    parts: usize,
    /// Number of matrices that are stored side by side.
    side_by_side: usize,
}

impl Weights {
    fn new(weight: &[f32], sizes: &Sizes) -> Self {
        let (inputs, outputs) = (sizes.inputs, sizes.outputs);
        assert_eq!(weight.len(), outputs * sizes.depth());
        let parts = inputs.div_ceil(DEPTH);
        let side_by_side = if parts == 1 { DEPTH / inputs } else { 1 };
        let mut weights = Self { values: Vec::new(), inputs, outputs, parts, side_by_side };
        weights.values = vec_filled_by(outputs * weights.matrices() * ROW_STRIDE, |out| {
            out.par_chunks_mut(GROUP * weights.matrices() * ROW_STRIDE)
                .zip(weight.par_chunks(GROUP * sizes.depth()))
                .for_each(|(out, weight)| weights.group(weight, sizes.depth(), out));
            // SAFETY: there are as many groups in both, and each writes all of its rows.
            unsafe { assume_init(out) }
        });
        weights
    }

    /// Returns the number of matrices with rows of [`ROW_STRIDE`] values, each of which holds `side_by_side` matrices.
    fn matrices(&self) -> usize {
        (ELEMENTS * self.parts).div_ceil(self.side_by_side)
    }

    /// Returns the offset of a row in a group of `count` outputs, for an element and a part of the inputs.
    fn offset(&self, [element, part]: [usize; 2], row: usize, count: usize) -> usize {
        let number = element * self.parts + part;
        let column = number % self.side_by_side * self.inputs;
        (number / self.side_by_side * count + row) * ROW_STRIDE + column
    }

    /// Transforms the weights of a group, and writes all of its memory.
    fn group(&self, weight: &[f32], depth: usize, out: &mut [Uninit]) {
        let count = weight.len() / depth;
        for (row, weight) in weight.chunks(depth).enumerate() {
            for part in 0..self.parts {
                let inputs = share(self.inputs, self.parts, part);
                let offsets = std::array::from_fn(|element| self.offset([element, part], row, count));
                transform::weights(&weight[9 * inputs.start..9 * inputs.end], &offsets, out);
            }
        }
        for (number, row) in out.chunks_mut(ROW_STRIDE).enumerate() {
            let matrix = number / count;
            let used = match self.parts {
                1 => self.side_by_side.min(ELEMENTS - matrix * self.side_by_side) * self.inputs,
                parts => share(self.inputs, parts, matrix % parts).len(),
            };
            row[used..].fill(Uninit::new(0.0));
        }
    }

    /// Returns the transformed weights of a group for an element and a part of the inputs.
    fn rows(&self, element: usize, part: usize, group: usize) -> Rows<'_> {
        let count = GROUP.min(self.outputs - group * GROUP);
        let offset = group * GROUP * self.matrices() * ROW_STRIDE + self.offset([element, part], 0, count);
        Rows { values: &self.values[offset..], layout: RowLayout::RowMajor, count }
    }
}

/// The numbers of blocks of tiles, and of parts of the groups of outputs, into which a convolution is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    blocks: usize,
    parts: usize,
}

impl Plan {
    /// Returns the plan with the least work for the busiest thread.
    fn best(sizes: &Sizes, tiles: usize, threads: usize) -> Self {
        /// Maximum number of vectors of tiles in a block, so that memory stays bounded.
        const VECTORS: usize = 16;
        let groups = sizes.outputs.div_ceil(GROUP);
        let vectors = tiles.div_ceil(LANES);
        let mut best = (f64::INFINITY, Self { blocks: 1, parts: 1 });
        for (parts, size) in (1..=groups.min(4 * threads)).flat_map(|p| (1..=VECTORS).map(move |s| (p, s))) {
            let least = vectors.div_ceil(size);
            for blocks in [least, least.next_multiple_of(threads).min(vectors)] {
                let rows = (groups.div_ceil(parts) * GROUP).min(sizes.outputs);
                let cost = Self::cost(sizes.inputs, rows, vectors.div_ceil(blocks))
                    * (parts * blocks).div_ceil(threads) as f64;
                if cost < best.0 {
                    best = (cost, Self { blocks, parts });
                }
            }
        }
        best.1
    }

    /// Estimates the cycles of an item.
    fn cost(inputs: usize, rows: usize, vectors: usize) -> f64 {
        /// Cycles to transform a vector of windows, or of tiles.
        const TRANSFORM: f64 = 150.0;
        /// Number of values that the L3 cache transfers in a cycle.
        const RATE: f64 = 2.0;
        /// Number of values that the L2 cache holds besides the weights.
        const CACHE: usize = 200_000;
        let (weights, values) = (ELEMENTS * inputs * rows, ELEMENTS * LANES * vectors * (inputs + rows));
        let products = (weights * vectors) as f64;
        let transforms = TRANSFORM * ((inputs + rows) * vectors) as f64;
        let moved = weights + if values > CACHE { 2 * values } else { 0 };
        products + transforms + moved as f64 / RATE
    }
}

/// Memory that a thread reuses for its items.
#[derive(Default)]
struct Scratch {
    padded: Vec<f32>,
    windows: Vec<f32>,
    products: Vec<f32>,
    lines: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// A convolution with its transformed weights and its target.
struct Convolution<'a> {
    x: &'a [f32],
    weights: Weights,
    sizes: &'a Sizes,
    tiles: Tiles,
    target: Target<'a>,
    add: bool,
    finish: Option<BlockEpilogue<'a>>,
}

impl<'a> Convolution<'a> {
    fn new(
        x: &'a [f32],
        weight: &[f32],
        sizes: &'a Sizes,
        target: Target<'a>,
        add: bool,
        finish: Option<BlockEpilogue<'a>>,
    ) -> Self {
        assert!(fits(sizes) && x.len() == sizes.inputs * sizes.batch * sizes.plane());
        let (weights, tiles) = (Weights::new(weight, sizes), Tiles::new(sizes));
        Self { x, weights, sizes, tiles, target, add, finish }
    }

    fn run(&self) {
        let plan = Plan::best(self.sizes, self.tiles.count, rayon::current_num_threads());
        let vectors = self.tiles.count.div_ceil(LANES);
        let groups = self.sizes.outputs.div_ceil(GROUP);
        (0..plan.parts * plan.blocks).into_par_iter().with_max_len(1).for_each(|item| {
            let vectors = share(vectors, plan.blocks, item / plan.parts);
            let tiles = vectors.start * LANES..(vectors.end * LANES).min(self.tiles.count);
            let groups = share(groups, plan.parts, item % plan.parts);
            if !tiles.is_empty() && !groups.is_empty() {
                // Each item has tiles and outputs of its own.
                SCRATCH.with_borrow_mut(|scratch| self.item(tiles, groups, scratch));
            }
        });
    }

    /// Computes the outputs of some groups at some tiles, which no other thread computes.
    fn item(&self, tiles: Range<usize>, groups: Range<usize>, scratch: &mut Scratch) {
        let block = Block::new(self.sizes, self.tiles, tiles);
        let outputs = groups.start * GROUP..(groups.end * GROUP).min(self.sizes.outputs);
        // One cache line more from element to element: at a distance of whole pages, they would share sets of the L1 cache.
        let plane = self.sizes.inputs * block.step + LANES;
        let windows = aligned(&mut scratch.windows, ELEMENTS * plane);
        let padded = aligned(&mut scratch.padded, block.padded);
        padded.fill(0.0);
        transform::inputs(self.x, self.sizes.batch * self.sizes.plane(), &block, padded, windows, plane);
        let of_products = outputs.len() * block.step + LANES;
        let products = aligned(&mut scratch.products, ELEMENTS * of_products);
        self.multiply(&block, groups, windows, products, outputs.len());
        let lines = aligned(&mut scratch.lines, 4 * block.step);
        self.write(&block, outputs, products, lines);
    }

    /// Multiplies the weights of some groups with the windows, for all elements.
    fn multiply(
        &self,
        block: &Block,
        groups: Range<usize>,
        windows: &[f32],
        products: &mut [f32],
        rows: usize,
    ) {
        let Weights { inputs, parts, .. } = self.weights;
        let (of_windows, of_products) = (windows.len() / ELEMENTS, products.len() / ELEMENTS);
        for element in 0..ELEMENTS {
            let target = &mut products[element * of_products..][..rows * block.step];
            let target = Target::new(target, block.step);
            for part in 0..parts {
                let inputs = share(inputs, parts, part);
                let panels = Panels {
                    values: &windows[element * of_windows + inputs.start * block.step..],
                    distance: PANEL,
                    step: block.step,
                    columns: block.tiles,
                };
                for group in groups.clone() {
                    let rows = self.weights.rows(element, part, group);
                    let corner = [(group - groups.start) * GROUP, 0];
                    // SAFETY: the target is this thread's, and the first part writes it.
                    unsafe { multiply(rows, panels, inputs.len(), target, corner, part > 0) };
                }
            }
        }
    }

    /// Transforms the products of some outputs back, writes the results, and applies `finish` to them.
    fn write(&self, block: &Block, outputs: Range<usize>, products: &[f32], lines: &mut [f32]) {
        let plane = products.len() / ELEMENTS;
        let (upper, lower) = lines.split_at_mut(lines.len() / 2);
        for (output, products) in outputs.zip((0..).step_by(block.step)).map(|(o, at)| (o, &products[at..])) {
            transform::outputs(products, plane, block.tiles, upper, lower);
            for segment in &block.segments {
                for (line, first) in [&*upper, &*lower].into_iter().zip(segment.outputs) {
                    let values = &line[2 * segment.at..][..segment.width];
                    if let Some(first) = first {
                        // SAFETY: these outputs belong to this item.
                        unsafe { self.target.put(output, first, values, self.add) };
                    }
                }
            }
            let Some(finish) = self.finish else { continue };
            for places in &block.written {
                // SAFETY: as above, and they were written by the loop above.
                finish(output, places.start, unsafe { self.target.row(output, places.clone()) });
            }
        }
    }
}

#[cfg(test)]
mod tests;
