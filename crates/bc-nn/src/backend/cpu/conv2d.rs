//! Two-dimensional convolution as a matrix product: weights times windows (im2col).
//!
//! The matrix of windows is never stored; the product packs its parts directly from the input. Where Winograd's minimal
//! filtering is faster ([`winograd`]), it is used instead of the product. If the stride is 1, the gradient of the input is
//! itself a convolution, with the taps reversed and inputs and outputs exchanged.

use anyhow::{Result, bail};
use rayon::prelude::*;

use super::super::geometry::Geometry;
use super::super::{Array, Shape};
use super::im2col::{Sizes, col2im};
use super::normalise::{Affine, affine_add_relu_in_place, affine_in_place};
use super::product::{BlockEpilogue, Matrix, View, multiply, multiply_into};
use super::winograd;
use super::{Uninit, array, assume_init, in_place, values, vec_filled_by, zeroed};

/// Number of outputs up to which the gradient of the weights is computed transposed.
const MAX_TRANSPOSED_OUTPUTS: usize = 128;

/// Returns the windows of `x` as a factor of a matrix product.
fn windows<'a>(x: &'a [f32], sizes: &'a Sizes) -> Matrix<'a> {
    if sizes.direct() {
        Matrix::Stored(View::new(x, sizes.inputs, sizes.columns()))
    } else {
        Matrix::Im2col(x, sizes)
    }
}

/// Computes the convolution of `x`; `finish` is applied to each block of results while it is in cache.
fn forward(x: &[f32], weight: &[f32], sizes: &Sizes, finish: Option<BlockEpilogue<'_>>) -> Vec<f32> {
    vec_filled_by(sizes.outputs * sizes.columns(), |y| {
        Destination::Uninit(y).convolve(x, weight, sizes, finish)
    })
}

/// Returns the weights of the convolution that computes the gradient of the input from that of the output: (C, O, k, k), with
/// the taps reversed.
fn reversed(weight: &[f32], sizes: &Sizes) -> Vec<f32> {
    /// Input channels of a task.
    const CHANNELS: usize = 16;
    let (taps, depth, row) = (sizes.taps(), sizes.depth(), sizes.outputs * sizes.taps());
    vec_filled_by(weight.len(), |out| {
        out.par_chunks_mut(CHANNELS * row).enumerate().for_each(|(task, out)| {
            for (output, weight) in weight.chunks(depth).enumerate() {
                let from = &weight[task * CHANNELS * taps..];
                let to = out.chunks_mut(row).map(|row| &mut row[output * taps..][..taps]);
                // 3x3 kernels have a loop of constant length, which is faster.
                if taps == 9 {
                    to.zip(from.as_chunks::<9>().0).for_each(|(to, from)| {
                        to.write_copy_of_slice(&std::array::from_fn::<_, 9, _>(|tap| from[8 - tap]));
                    });
                } else {
                    for (to, from) in to.zip(from.chunks(taps)) {
                        to.write_copy_of_slice(from).reverse();
                    }
                }
            }
        });
        // SAFETY: `out` is (C, O, taps), and every input channel of a task gets the taps of every output channel.
        unsafe { assume_init(out) }
    })
}

/// Where a convolution, or the gradient of its input, is written.
enum Destination<'a> {
    /// Into uninitialised memory.
    Uninit(&'a mut [Uninit]),
    /// Added to the present values.
    AddTo(&'a mut [f32]),
}

impl<'a> Destination<'a> {
    /// Writes or adds the product of two matrices.
    fn multiply(
        self,
        left: Matrix<'_>,
        right: Matrix<'_>,
        finish: Option<BlockEpilogue<'_>>,
    ) -> &'a mut [f32] {
        match self {
            Destination::Uninit(out) => multiply_into(out, left, right, finish),
            Destination::AddTo(out) => {
                multiply(out, left, right, true, finish);
                out
            }
        }
    }

    /// Writes or adds the convolution of `x`; `finish` is applied to each block of results.
    fn convolve(
        self,
        x: &[f32],
        weight: &[f32],
        sizes: &Sizes,
        finish: Option<BlockEpilogue<'_>>,
    ) -> &'a mut [f32] {
        if !winograd::is_faster(sizes) {
            let weight = Matrix::Stored(View::new(weight, sizes.outputs, sizes.depth()));
            return self.multiply(weight, windows(x, sizes), finish);
        }
        match self {
            Destination::Uninit(out) => winograd::convolve_into(out, x, weight, sizes, finish),
            Destination::AddTo(out) => {
                winograd::convolve_add(out, x, weight, sizes, finish);
                out
            }
        }
    }
}

/// Writes or adds the gradient of the input, and returns it.
fn input_gradient<'a>(dx: Destination<'a>, dy: &[f32], weight: &[f32], sizes: &Sizes) -> &'a mut [f32] {
    let stored = View::new(dy, sizes.outputs, sizes.columns());
    let across = Matrix::Stored(View::new(weight, sizes.outputs, sizes.depth()).transposed());
    if sizes.direct() {
        return dx.multiply(across, Matrix::Stored(stored), None);
    }
    if sizes.stride == [1, 1] && (0..2).all(|axis| sizes.padding[axis] < sizes.kernel[axis]) {
        let back = Sizes {
            inputs: sizes.outputs,
            outputs: sizes.inputs,
            height: sizes.out_height(),
            width: sizes.out_width(),
            padding: [0, 1].map(|axis| sizes.kernel[axis] - 1 - sizes.padding[axis]),
            ..*sizes
        };
        return dx.convolve(dy, &reversed(weight, sizes), &back, None);
    }
    let columns = vec_filled_by(sizes.depth() * sizes.columns(), |columns| {
        multiply_into(columns, across, Matrix::Stored(stored), None)
    });
    let (channel, of_channel) = (sizes.batch * sizes.plane(), sizes.taps() * sizes.columns());
    match dx {
        Destination::AddTo(dx) => {
            dx.par_chunks_mut(channel)
                .zip(columns.par_chunks(of_channel))
                .for_each(|(dx, columns)| col2im(columns, sizes, dx));
            dx
        }
        Destination::Uninit(dx) => {
            assert_eq!(dx.len(), sizes.inputs * channel);
            // Zeroed channel by channel, so that the zeros are still in cache when the windows are added to them.
            dx.par_chunks_mut(channel)
                .zip(columns.par_chunks(of_channel))
                .for_each(|(dx, columns)| col2im(columns, sizes, zeroed(dx)));
            // SAFETY: there are as many channels of columns as of dx, by the assertion, and each was zeroed.
            unsafe { assume_init(dx) }
        }
    }
}

/// Writes the gradient of the weights into `dw`, or adds it with `add`.
fn weight_gradient(dw: &mut [f32], x: &[f32], dy: &[f32], sizes: &Sizes, add: bool) {
    let (outputs, depth) = (sizes.outputs, sizes.depth());
    let dy = View::new(dy, outputs, sizes.columns());
    if outputs > MAX_TRANSPOSED_OUTPUTS || outputs >= depth {
        let right = if sizes.direct() {
            Matrix::Stored(View::new(x, sizes.inputs, sizes.columns()).transposed())
        } else {
            Matrix::Im2colTransposed(x, sizes)
        };
        return multiply(dw, Matrix::Stored(dy), right, add, None);
    }
    // The right factor is transposed while it is packed, so it should be the smaller one.
    let across = vec_filled_by(depth * outputs, |across| {
        multiply_into(across, windows(x, sizes), Matrix::Stored(dy.transposed()), None)
    });
    dw.par_chunks_mut(depth).enumerate().for_each(|(output, dw)| {
        for (dw, row) in dw.iter_mut().zip(across.chunks(outputs)) {
            *dw = if add { *dw + row[output] } else { row[output] };
        }
    });
}

/// The weights of a convolution: (outputs, inputs, kernel height, kernel width).
#[derive(Debug, Clone, Copy)]
pub struct Kernel<'a> {
    /// The weights.
    pub values: &'a [f32],
    /// Their shape.
    pub shape: Shape,
}

/// Computes a convolution of x (C, B, H, W) with weights (O, C, kernel height, kernel width); returns (O, B, H', W').
///
/// # Errors
/// Shapes that do not fit.
pub fn conv2d(x: &Array, kernel: Kernel<'_>, geometry: Geometry) -> Result<Array> {
    let sizes = Sizes::new(x.shape(), kernel.shape, geometry)?;
    Ok(array(forward(values(x)?, kernel.values, &sizes, None), sizes.out_shape()))
}

/// Computes a convolution, and then `max(y * factor + offset, floor)` with the factor and offset of each output channel. With
/// a `shortcut` of the output's shape, adds it and applies a ReLU.
///
/// # Errors
/// Shapes that do not fit.
pub(crate) fn conv2d_affine(
    x: &Array,
    kernel: Kernel<'_>,
    geometry: Geometry,
    affine: &[Affine],
    floor: f32,
    shortcut: Option<&Array>,
) -> Result<Array> {
    let sizes = Sizes::new(x.shape(), kernel.shape, geometry)?;
    let shape = sizes.out_shape();
    if affine.len() != sizes.outputs || shortcut.is_some_and(|shortcut| shortcut.shape() != shape) {
        bail!("{} scales or a shortcut do not fit {shape:?}", affine.len());
    }
    let columns = sizes.columns();
    let shortcut = shortcut.map(values).transpose()?;
    let finish = |row: usize, first: usize, values: &mut [f32]| match shortcut {
        None => affine_in_place(values, affine[row], floor),
        Some(shortcut) => {
            let shortcut = &shortcut[row * columns + first..][..values.len()];
            affine_add_relu_in_place(values, affine[row], floor, shortcut);
        }
    };
    Ok(array(forward(values(x)?, kernel.values, &sizes, Some(&finish)), shape))
}

/// Computes the gradient of an input of shape `x` from that of the output; added to `add_to` in place
/// if that is given.
///
/// # Errors
/// Shapes that do not fit.
pub fn conv2d_input_gradient(
    dy: &Array,
    kernel: Kernel<'_>,
    x: Shape,
    geometry: Geometry,
    add_to: Option<Array>,
) -> Result<Array> {
    let sizes = Sizes::new(x, kernel.shape, geometry)?;
    require_outputs(dy, &sizes)?;
    let dy = values(dy)?;
    match add_to {
        None => {
            let dx = vec_filled_by(x.iter().product(), |dx| {
                input_gradient(Destination::Uninit(dx), dy, kernel.values, &sizes)
            });
            Ok(array(dx, x))
        }
        Some(mut add_to) => {
            if add_to.shape() != x {
                bail!("a gradient of {:?} for {x:?}", add_to.shape());
            }
            input_gradient(Destination::AddTo(in_place(&mut add_to)?), dy, kernel.values, &sizes);
            Ok(add_to)
        }
    }
}

/// Writes the gradient of weights of shape `kernel` into `dw`, or adds it.
///
/// # Errors
/// Shapes that do not fit.
pub fn conv2d_weight_gradient(
    dw: &mut [f32],
    kernel: Shape,
    x: &Array,
    dy: &Array,
    geometry: Geometry,
    add: bool,
) -> Result<()> {
    let sizes = Sizes::new(x.shape(), kernel, geometry)?;
    require_outputs(dy, &sizes)?;
    weight_gradient(dw, values(x)?, values(dy)?, &sizes, add);
    Ok(())
}

/// Refuses a gradient that does not have the shape of the outputs.
fn require_outputs(dy: &Array, sizes: &Sizes) -> Result<()> {
    if dy.shape() != sizes.out_shape() {
        bail!("a gradient of {:?} for {:?}", dy.shape(), sizes.out_shape());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::{self, difference, flat, test_array};
    use super::*;
    use candle_core::{Device, Tensor};

    fn kernel(weight: &Array) -> Kernel<'_> {
        Kernel { values: values(weight).unwrap(), shape: weight.shape() }
    }

    fn largest(x: &Array) -> f32 {
        flat(x).iter().fold(0.0, |most, value| most.max(value.abs()))
    }

    fn weight_gradient_of(x: &Array, dy: &Array, weight: &Array, geometry: Geometry) -> Result<Array> {
        let mut dw = vec![0.0; weight.count()];
        conv2d_weight_gradient(&mut dw, weight.shape(), x, dy, geometry, false)?;
        Ok(array(dw, weight.shape()))
    }

    fn check_gradients(x: &Array, w: &Array, geometry: Geometry) {
        let backward = |inputs: &[Array], dy: &Array| {
            let dx = conv2d_input_gradient(dy, kernel(&inputs[1]), x.shape(), geometry, None)?;
            Ok(vec![dx, weight_gradient_of(&inputs[0], dy, &inputs[1], geometry)?])
        };
        let forward = |inputs: &[Array]| conv2d(&inputs[0], kernel(&inputs[1]), geometry);
        gradient_check::check(&[x.clone(), w.clone()], forward, backward, 1e-2, 1e-3);
    }

    fn tensor(x: &Array) -> Tensor {
        Tensor::from_vec(flat(x), x.shape().as_slice(), &Device::Cpu).unwrap()
    }

    fn apart(ours: &Array, candles: &Tensor) -> f32 {
        assert_eq!(ours.shape().as_slice(), candles.dims());
        let candles = candles.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        flat(ours).iter().zip(candles).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    /// Batch first and back.
    fn exchanged(x: &Tensor) -> Tensor {
        x.transpose(0, 1).unwrap().contiguous().unwrap()
    }

    #[test]
    fn the_forward_pass_is_candles_and_gradients_are_differences() {
        for (size, stride, padding) in [(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (7, 2, 3)] {
            let geometry = Geometry::square(stride, padding);
            let (x, w) = (test_array([3, 2, 9, 12], 1), test_array([4, 3, size, size], 2));
            let ours = conv2d(&x, kernel(&w), geometry).unwrap();
            let candles = exchanged(&tensor(&x)).conv2d(&tensor(&w), padding, stride, 1, 1).unwrap();
            let apart = apart(&ours, &exchanged(&candles));
            assert!(apart < 1e-4, "kernel {size}, stride {stride}: {apart}");
            check_gradients(&x, &w, geometry);
        }
    }

    #[test]
    fn convolutions_by_winograd_are_candles_and_gradients_are_differences() {
        let geometry = Geometry::square(1, 1);
        for (outputs, height, width) in [(32, 5, 8), (67, 6, 9)] {
            let (x, w) = (test_array([36, 2, height, width], 1), test_array([outputs, 36, 3, 3], 2));
            let ours = conv2d(&x, kernel(&w), geometry).unwrap();
            let candles = exchanged(&tensor(&x)).conv2d(&tensor(&w), 1, 1, 1, 1).unwrap();
            let apart = apart(&ours, &exchanged(&candles));
            assert!(apart < 1e-4, "{outputs} outputs: {apart}");
            check_gradients(&x, &w, geometry);
        }
    }

    #[test]
    fn unequal_and_circular_padding_equals_padding_by_hand() {
        for (size, stride, padding, ring) in [
            ([5, 3], [1, 1], [0, 1], false),
            ([3, 3], [1, 1], [1, 1], true),
            ([3, 3], [1, 2], [1, 1], true),
            ([5, 1], [1, 1], [2, 0], true),
        ] {
            let geometry = Geometry { stride, padding, ring };
            let (x, w) = (test_array([3, 2, 6, 11], 1), test_array([4, 3, size[0], size[1]], 2));
            let images = tensor(&x);
            // Candle's convolution knows one stride: every second column of stride 1 is stride 2.
            let (above, below) =
                (images.narrow(2, 6 - padding[0], padding[0]), images.narrow(2, 0, padding[0]));
            let padded = match ring {
                true => Tensor::cat(&[&above.unwrap(), &images, &below.unwrap()], 2).unwrap(),
                false => images.pad_with_zeros(2, padding[0], padding[0]).unwrap(),
            };
            let padded = padded.pad_with_zeros(3, padding[1], padding[1]).unwrap();
            let candles = exchanged(&exchanged(&padded).conv2d(&tensor(&w), 0, 1, 1, 1).unwrap());
            let columns: Vec<u32> = (0..candles.dim(3).unwrap() as u32).step_by(stride[1]).collect();
            let columns = Tensor::new(columns, &Device::Cpu).unwrap();
            let candles = candles.index_select(&columns, 3).unwrap();
            let ours = conv2d(&x, kernel(&w), geometry).unwrap();
            assert!(apart(&ours, &candles) < 1e-4, "{geometry:?}");
            check_gradients(&x, &w, geometry);
        }
    }

    #[test]
    fn gradients_can_be_added_to_earlier_ones() {
        for (outputs, size, stride) in [(5, 3, 1), (5, 3, 2), (200, 1, 1), (200, 3, 1)] {
            let geometry = Geometry::square(stride, size / 2);
            let (x, w) = (test_array([7, 2, 6, 9], 1), test_array([outputs, 7, size, size], 2));
            let dy = conv2d(&x, kernel(&w), geometry).unwrap();
            let input = |add_to| conv2d_input_gradient(&dy, kernel(&w), x.shape(), geometry, add_to).unwrap();
            let dx = input(None);
            let twice = input(Some(dx.clone()));
            let doubled = |x: &Array| array(flat(x).iter().map(|x| 2.0 * x).collect(), x.shape());
            assert!(difference(&doubled(&dx), &twice) < 1e-5 * largest(&dx));
            let once = weight_gradient_of(&x, &dy, &w, geometry).unwrap();
            let mut dw = flat(&once);
            conv2d_weight_gradient(&mut dw, w.shape(), &x, &dy, geometry, true).unwrap();
            assert!(difference(&doubled(&once), &array(dw, w.shape())) < 1e-5 * largest(&once));
        }
    }

    #[test]
    fn what_follows_a_convolution_can_be_done_in_it() {
        let geometry = Geometry::square(1, 1);
        let (x, w) = (test_array([3, 2, 9, 12], 1), test_array([4, 3, 3, 3], 2));
        let shortcut = test_array([4, 2, 9, 12], 3);
        let affine: Vec<Affine> =
            (0..4).map(|i| Affine { factor: 0.5 + i as f32, offset: 0.1 - i as f32 }).collect();
        let mut y = conv2d(&x, kernel(&w), geometry).unwrap();
        let channel = y.count() / 4;
        for (values, affine) in in_place(&mut y).unwrap().chunks_mut(channel).zip(&affine) {
            values.iter_mut().for_each(|y| *y = (*y * affine.factor + affine.offset).max(0.0));
        }
        let fused = conv2d_affine(&x, kernel(&w), geometry, &affine, 0.0, None).unwrap();
        assert!(difference(&y, &fused) < 1e-5);
        let sum = flat(&y).iter().zip(flat(&shortcut)).map(|(a, b)| (a + b).max(0.0)).collect();
        let fused = conv2d_affine(&x, kernel(&w), geometry, &affine, 0.0, Some(&shortcut)).unwrap();
        assert!(difference(&array(sum, y.shape()), &fused) < 1e-5);
    }
}
