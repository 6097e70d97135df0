//! Convolution as products of matrices.
//!
//! With the channels first a 1x1 convolution of a whole batch is one product; any other is
//! one after its windows have been gathered into columns, some samples at a time so that
//! the columns stay in cache.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::product::{View, multiply};
use super::{result, values};

/// Values of gathered columns at a time, if the weights are not more than that.
const GATHERED: usize = 1 << 20;

/// Sizes of a convolution with a square kernel.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    batch: usize,
    inputs: usize,
    height: usize,
    width: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
}

/// A run of windows that meets the input: where it lies in the gathered columns and in the plane.
struct Run {
    column: usize,
    count: usize,
    input: usize,
}

impl Sizes {
    fn new(x: &Shape, weight: &Shape, stride: usize, padding: usize) -> Result<Self> {
        let (inputs, batch, height, width) = x.dims4()?;
        let (outputs, of_inputs, kernel, other) = weight.dims4()?;
        if of_inputs != inputs
            || kernel != other
            || height + 2 * padding < kernel
            || width + 2 * padding < kernel
        {
            candle_core::bail!("a convolution of {x:?} with {weight:?}, stride {stride}, padding {padding}");
        }
        Ok(Self { batch, inputs, height, width, outputs, kernel, stride, padding })
    }

    fn out_height(&self) -> usize {
        (self.height + 2 * self.padding - self.kernel) / self.stride + 1
    }

    fn out_width(&self) -> usize {
        (self.width + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Outputs of one channel and sample.
    fn places(&self) -> usize {
        self.out_height() * self.out_width()
    }

    /// Inputs of one channel and sample.
    fn plane(&self) -> usize {
        self.height * self.width
    }

    /// Values of a window of one channel.
    fn window(&self) -> usize {
        self.kernel * self.kernel
    }

    fn depth(&self) -> usize {
        self.inputs * self.window()
    }

    /// Whether the columns are the input itself.
    fn direct(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.padding == 0
    }

    /// Ranges of samples whose columns are gathered together.
    fn blocks(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let most = GATHERED.max(self.outputs * self.depth()) / (self.depth() * self.places()).max(1);
        let (step, batch) = (most.clamp(1, self.batch.max(1)), self.batch);
        (0..batch).step_by(step).map(move |first| first..(first + step).min(batch))
    }

    /// The runs of windows of one plane for kernel row `ky` and column `kx`.
    fn runs(&self, ky: usize, kx: usize) -> impl Iterator<Item = Run> {
        let sizes = *self;
        let first = sizes.padding.saturating_sub(kx).div_ceil(sizes.stride);
        let last =
            (sizes.width + sizes.padding).saturating_sub(kx).div_ceil(sizes.stride).min(sizes.out_width());
        let rows = if first < last { sizes.out_height() } else { 0 };
        (0..rows).filter_map(move |y| {
            let row = (y * sizes.stride + ky).checked_sub(sizes.padding).filter(|row| *row < sizes.height)?;
            Some(Run {
                column: y * sizes.out_width() + first,
                count: last - first,
                input: row * sizes.width + first * sizes.stride + kx - sizes.padding,
            })
        })
    }
}

/// depth x (samples of the block x places): the windows, zero where they leave the input.
fn gather(x: &[f32], sizes: &Sizes, block: &std::ops::Range<usize>, columns: &mut Vec<f32>) {
    let (places, plane) = (sizes.places(), sizes.plane());
    let width = block.len() * places;
    columns.resize(sizes.depth() * width, 0.0);
    columns.par_chunks_mut(sizes.window() * width).enumerate().for_each(|(channel, rows)| {
        if sizes.padding > 0 {
            rows.fill(0.0);
        }
        for (tap, row) in rows.chunks_mut(width).enumerate() {
            for (row, sample) in row.chunks_mut(places).zip(block.clone()) {
                let from = &x[(channel * sizes.batch + sample) * plane..][..plane];
                for run in sizes.runs(tap / sizes.kernel, tap % sizes.kernel) {
                    let to = &mut row[run.column..run.column + run.count];
                    if sizes.stride == 1 {
                        to.copy_from_slice(&from[run.input..run.input + run.count]);
                    } else {
                        for (to, from) in to.iter_mut().zip(from[run.input..].iter().step_by(sizes.stride)) {
                            *to = *from;
                        }
                    }
                }
            }
        }
    });
}

/// The transpose of [`gather`]: adds columns to where they came from.
fn scatter(columns: &[f32], sizes: &Sizes, block: &std::ops::Range<usize>, x: &mut [f32]) {
    let (places, plane) = (sizes.places(), sizes.plane());
    let width = block.len() * places;
    x.par_chunks_mut(sizes.batch * plane).zip(columns.par_chunks(sizes.window() * width)).for_each(
        |(x, rows)| {
            for (tap, row) in rows.chunks(width).enumerate() {
                for (row, sample) in row.chunks(places).zip(block.clone()) {
                    let to = &mut x[sample * plane..(sample + 1) * plane];
                    for run in sizes.runs(tap / sizes.kernel, tap % sizes.kernel) {
                        let from = &row[run.column..run.column + run.count];
                        if sizes.stride == 1 {
                            for (to, from) in to[run.input..run.input + run.count].iter_mut().zip(from) {
                                *to += *from;
                            }
                        } else {
                            for (to, from) in to[run.input..].iter_mut().step_by(sizes.stride).zip(from) {
                                *to += *from;
                            }
                        }
                    }
                }
            }
        },
    );
}

fn forward(x: &[f32], weight: &[f32], sizes: &Sizes) -> Vec<f32> {
    let (places, depth) = (sizes.places(), sizes.depth());
    let width = sizes.batch * places;
    let weight = View::new(weight, sizes.outputs, depth);
    let mut y = vec![0.0; sizes.outputs * width];
    if sizes.direct() {
        multiply(&mut y, width, 0..width, weight, View::new(x, depth, width), false);
        return y;
    }
    let mut columns = Vec::new();
    for block in sizes.blocks() {
        gather(x, sizes, &block, &mut columns);
        let range = block.start * places..block.end * places;
        let gathered = View::new(&columns, depth, range.len());
        multiply(&mut y, width, range, weight, gathered, false);
    }
    y
}

fn input_gradient(dy: &[f32], weight: &[f32], sizes: &Sizes) -> Vec<f32> {
    let (places, depth) = (sizes.places(), sizes.depth());
    let width = sizes.batch * places;
    let weight = View::new(weight, sizes.outputs, depth).transposed();
    let dy = View::new(dy, sizes.outputs, width);
    let mut dx = vec![0.0; sizes.inputs * sizes.batch * sizes.plane()];
    if sizes.direct() {
        multiply(&mut dx, width, 0..width, weight, dy, false);
        return dx;
    }
    let mut columns = Vec::new();
    for block in sizes.blocks() {
        let range = block.start * places..block.end * places;
        columns.resize(depth * range.len(), 0.0);
        multiply(&mut columns, range.len(), 0..range.len(), weight, dy.columns(range.clone()), false);
        scatter(&columns, sizes, &block, &mut dx);
    }
    dx
}

fn weight_gradient(x: &[f32], dy: &[f32], sizes: &Sizes) -> Vec<f32> {
    let (places, depth) = (sizes.places(), sizes.depth());
    let width = sizes.batch * places;
    let dy = View::new(dy, sizes.outputs, width);
    let mut dw = vec![0.0; sizes.outputs * depth];
    if sizes.direct() {
        multiply(&mut dw, depth, 0..depth, dy, View::new(x, depth, width).transposed(), false);
        return dw;
    }
    let mut columns = Vec::new();
    for block in sizes.blocks() {
        gather(x, sizes, &block, &mut columns);
        let range = block.start * places..block.end * places;
        let gathered = View::new(&columns, depth, range.len()).transposed();
        multiply(&mut dw, depth, 0..depth, dy.columns(range), gathered, block.start > 0);
    }
    dw
}

/// What is computed from two of input, weight and the output's gradient.
enum Part {
    Forward,
    /// Of (output gradient, weight); holds the input's shape.
    Input(Shape),
    /// Of (input, output gradient); holds the weight's shape.
    Weight(Shape),
}

struct Conv2d {
    stride: usize,
    padding: usize,
    part: Part,
}

impl CustomOp2 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        la: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (a, b) = (values(a, la)?, values(b, lb)?);
        match &self.part {
            Part::Forward => {
                let sizes = Sizes::new(la.shape(), lb.shape(), self.stride, self.padding)?;
                let shape = (sizes.outputs, sizes.batch, sizes.out_height(), sizes.out_width());
                result(forward(a, b, &sizes), shape)
            }
            Part::Input(shape) => {
                let sizes = Sizes::new(shape, lb.shape(), self.stride, self.padding)?;
                result(input_gradient(a, b, &sizes), shape.clone())
            }
            Part::Weight(shape) => {
                let sizes = Sizes::new(la.shape(), shape, self.stride, self.padding)?;
                result(weight_gradient(a, b, &sizes), shape.clone())
            }
        }
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (stride, padding) = (self.stride, self.padding);
        let dy = dy.contiguous()?;
        let dx = if x.track_op() {
            Some(
                dy.apply_op2_no_bwd(weight, &Self { stride, padding, part: Part::Input(x.shape().clone()) })?,
            )
        } else {
            None
        };
        let dw =
            x.apply_op2_no_bwd(&dy, &Self { stride, padding, part: Part::Weight(weight.shape().clone()) })?;
        Ok((dx, Some(dw)))
    }
}

/// (C, B, H, W) with weights (O, C, k, k) to (O, B, H', W').
///
/// # Errors
/// Shapes that do not fit.
pub fn conv2d(x: &Tensor, weight: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    x.contiguous()?.apply_op2(weight, Conv2d { stride, padding, part: Part::Forward })
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check;
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn the_forward_pass_is_candles_and_gradients_are_differences() {
        for (kernel, stride, padding) in [(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (7, 2, 3)] {
            let tensor = |shape: [usize; 4], seed| {
                let count = shape.iter().product();
                Var::from_vec(gradient_check::values(count, seed), &shape, &Device::Cpu).unwrap()
            };
            let (x, w) = (tensor([3, 2, 9, 12], 1), tensor([4, 3, kernel, kernel], 2));
            let ours = conv2d(&x, &w, stride, padding).unwrap().transpose(0, 1).unwrap();
            let batch_first = x.transpose(0, 1).unwrap().contiguous().unwrap();
            let candles = batch_first.conv2d(&w, padding, stride, 1, 1).unwrap();
            let difference =
                (ours - candles).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(difference < 1e-4, "kernel {kernel}, stride {stride}: {difference}");
            gradient_check::check(&[x.clone(), w.clone()], || conv2d(&x, &w, stride, padding), 1e-2, 1e-3);
        }
    }

    #[test]
    fn blocks_of_samples_give_what_the_whole_batch_gives() {
        // Wide enough that a block holds two of the five samples.
        let sizes = Sizes {
            batch: 5,
            inputs: 8,
            height: 60,
            width: 100,
            outputs: 3,
            kernel: 3,
            stride: 1,
            padding: 1,
        };
        assert_eq!(sizes.blocks().collect::<Vec<_>>(), [0..2, 2..4, 4..5]);
        let x = gradient_check::values(8 * 5 * 6_000, 3);
        let w = gradient_check::values(3 * 72, 4);
        let y = forward(&x, &w, &sizes);
        let one = Sizes { batch: 1, ..sizes };
        for sample in 0..5 {
            let alone: Vec<f32> =
                (0..8).flat_map(|c| x[(c * 5 + sample) * 6_000..][..6_000].to_vec()).collect();
            let alone = forward(&alone, &w, &one);
            for channel in 0..3 {
                let (ours, theirs) =
                    (&y[(channel * 5 + sample) * 6_000..][..6_000], &alone[channel * 6_000..][..6_000]);
                assert!(ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 1e-5));
            }
        }
    }
}
