//! Two-dimensional convolution as a product of matrices: weights times windows.
//!
//! The windows are never stored as a matrix; the product packs them straight from the
//! input. The gradient of the input is a convolution too where the stride is 1, with the
//! taps reversed and the channels exchanged.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, InplaceOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::geometry::Geometry;
use super::im2col::{Sizes, col2im};
use super::normalise::{Affine, affine_add_relu_in_place, affine_in_place};
use super::product::{Finish, Matrix, View, multiply, multiply_into};
use super::{Unwritten, fresh, in_place, result, values, written, zeroed};

/// Outputs up to which the gradient of the weights is computed transposed.
const FEW: usize = 128;

fn windows<'a>(x: &'a [f32], sizes: &'a Sizes) -> Matrix<'a> {
    if sizes.direct() {
        Matrix::Stored(View::new(x, sizes.inputs, sizes.columns()))
    } else {
        Matrix::Im2col(x, sizes)
    }
}

fn forward(x: &[f32], weight: &[f32], sizes: &Sizes, finish: Option<Finish<'_>>) -> Vec<f32> {
    let weight = Matrix::Stored(View::new(weight, sizes.outputs, sizes.depth()));
    fresh(sizes.outputs * sizes.columns(), |y| multiply_into(y, weight, windows(x, sizes), finish))
}

/// The weights of the convolution that takes the output's gradient to the input's: (C, O, k, k), taps reversed.
fn reversed(weight: &[f32], sizes: &Sizes) -> Vec<f32> {
    /// Input channels of a task.
    const CHANNELS: usize = 16;
    let (taps, depth, row) = (sizes.taps(), sizes.depth(), sizes.outputs * sizes.taps());
    fresh(weight.len(), |out| {
        out.par_chunks_mut(CHANNELS * row).enumerate().for_each(|(task, out)| {
            for (output, weight) in weight.chunks(depth).enumerate() {
                let from = &weight[task * CHANNELS * taps..];
                let to = out.chunks_mut(row).map(|row| &mut row[output * taps..][..taps]);
                // A kernel of 3x3 is worth a loop of known length.
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
        unsafe { written(out) }
    })
}

/// Where a gradient goes.
enum Destination<'a> {
    /// Into memory that is not written yet.
    Unwritten(&'a mut [Unwritten]),
    /// Added to what is there.
    AddTo(&'a mut [f32]),
}

impl<'a> Destination<'a> {
    fn multiply(self, left: Matrix<'_>, right: Matrix<'_>) -> &'a mut [f32] {
        match self {
            Destination::Unwritten(out) => multiply_into(out, left, right, None),
            Destination::AddTo(out) => {
                multiply(out, left, right, true, None);
                out
            }
        }
    }
}

/// Writes the input's gradient, or adds it, and returns it.
fn input_gradient<'a>(dx: Destination<'a>, dy: &[f32], weight: &[f32], sizes: &Sizes) -> &'a mut [f32] {
    let stored = View::new(dy, sizes.outputs, sizes.columns());
    let across = Matrix::Stored(View::new(weight, sizes.outputs, sizes.depth()).transposed());
    if sizes.direct() {
        return dx.multiply(across, Matrix::Stored(stored));
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
        let weight = reversed(weight, sizes);
        let weight = Matrix::Stored(View::new(&weight, back.outputs, back.depth()));
        return dx.multiply(weight, Matrix::Im2col(dy, &back));
    }
    let columns = fresh(sizes.depth() * sizes.columns(), |columns| {
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
        Destination::Unwritten(dx) => {
            assert_eq!(dx.len(), sizes.inputs * channel);
            // Zeros channel by channel, which are still in cache when the windows are added to them.
            dx.par_chunks_mut(channel)
                .zip(columns.par_chunks(of_channel))
                .for_each(|(dx, columns)| col2im(columns, sizes, zeroed(dx)));
            // SAFETY: there are as many channels of columns as of dx, by the assertion, and each was zeroed.
            unsafe { written(dx) }
        }
    }
}

/// Writes the gradient of the weights, or adds it.
fn weight_gradient(dw: &mut [f32], x: &[f32], dy: &[f32], sizes: &Sizes, add: bool) {
    let (outputs, depth) = (sizes.outputs, sizes.depth());
    let dy = View::new(dy, outputs, sizes.columns());
    if outputs > FEW || outputs >= depth {
        let right = if sizes.direct() {
            Matrix::Stored(View::new(x, sizes.inputs, sizes.columns()).transposed())
        } else {
            Matrix::Im2colTransposed(x, sizes)
        };
        return multiply(dw, Matrix::Stored(dy), right, add, None);
    }
    // The right factor is transposed while it is packed: the smaller one should be it.
    let across = fresh(depth * outputs, |across| {
        multiply_into(across, windows(x, sizes), Matrix::Stored(dy.transposed()), None)
    });
    dw.par_chunks_mut(depth).enumerate().for_each(|(output, dw)| {
        for (dw, row) in dw.iter_mut().zip(across.chunks(outputs)) {
            *dw = if add { *dw + row[output] } else { row[output] };
        }
    });
}

struct Forward(Geometry);

impl CustomOp2 for Forward {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let sizes = Sizes::new(lx.shape(), lw.shape(), self.0)?;
        let shape = (sizes.outputs, sizes.batch, sizes.out_height(), sizes.out_width());
        result(forward(values(x, lx)?, values(w, lw)?, &sizes, None), shape)
    }
}

/// A convolution whose results are scaled, shifted and activated while they are in cache.
struct ForwardAffine<'a> {
    geometry: Geometry,
    affine: &'a [Affine],
    floor: f32,
}

impl ForwardAffine<'_> {
    fn run(
        &self,
        (x, lx): (&CpuStorage, &Layout),
        (w, lw): (&CpuStorage, &Layout),
        shortcut: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
        let sizes = Sizes::new(lx.shape(), lw.shape(), self.geometry)?;
        let shape = Shape::from((sizes.outputs, sizes.batch, sizes.out_height(), sizes.out_width()));
        if self.affine.len() != sizes.outputs || shortcut.is_some_and(|(_, layout)| *layout.shape() != shape)
        {
            candle_core::bail!("{} scales or a shortcut do not fit {shape:?}", self.affine.len());
        }
        let columns = sizes.columns();
        let shortcut = shortcut.map(|(storage, layout)| values(storage, layout)).transpose()?;
        let finish = |row: usize, first: usize, values: &mut [f32]| match shortcut {
            None => affine_in_place(values, self.affine[row], self.floor),
            Some(shortcut) => {
                let shortcut = &shortcut[row * columns + first..][..values.len()];
                affine_add_relu_in_place(values, self.affine[row], self.floor, shortcut);
            }
        };
        result(forward(values(x, lx)?, values(w, lw)?, &sizes, Some(&finish)), shape)
    }
}

impl CustomOp2 for ForwardAffine<'_> {
    fn name(&self) -> &'static str {
        "conv2d-affine"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.run((x, lx), (w, lw), None)
    }
}

impl CustomOp3 for ForwardAffine<'_> {
    fn name(&self) -> &'static str {
        "conv2d-affine-add"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        shortcut: &CpuStorage,
        ls: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.run((x, lx), (w, lw), Some((shortcut, ls)))
    }
}

struct InputGradient(Geometry, Shape);

impl CustomOp2 for InputGradient {
    fn name(&self) -> &'static str {
        "conv2d-input-gradient"
    }

    fn cpu_fwd(
        &self,
        dy: &CpuStorage,
        ly: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let sizes = Sizes::new(&self.1, lw.shape(), self.0)?;
        let (dy, w) = (values(dy, ly)?, values(w, lw)?);
        let dx = fresh(self.1.elem_count(), |dx| input_gradient(Destination::Unwritten(dx), dy, w, &sizes));
        result(dx, self.1.clone())
    }
}

impl InplaceOp3 for InputGradient {
    fn name(&self) -> &'static str {
        "conv2d-add-input-gradient"
    }

    fn cpu_fwd(
        &self,
        dx: &mut CpuStorage,
        lx: &Layout,
        dy: &CpuStorage,
        ly: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<()> {
        let sizes = Sizes::new(lx.shape(), lw.shape(), self.0)?;
        input_gradient(Destination::AddTo(in_place(dx, lx)?), values(dy, ly)?, values(w, lw)?, &sizes);
        Ok(())
    }
}

struct WeightGradient {
    geometry: Geometry,
    add: bool,
}

impl InplaceOp3 for WeightGradient {
    fn name(&self) -> &'static str {
        "conv2d-weight-gradient"
    }

    fn cpu_fwd(
        &self,
        dw: &mut CpuStorage,
        lw: &Layout,
        x: &CpuStorage,
        lx: &Layout,
        dy: &CpuStorage,
        ly: &Layout,
    ) -> Result<()> {
        let sizes = Sizes::new(lx.shape(), lw.shape(), self.geometry)?;
        weight_gradient(in_place(dw, lw)?, values(x, lx)?, values(dy, ly)?, &sizes, self.add);
        Ok(())
    }
}

/// (C, B, H, W) with weights (O, C, kernel height, kernel width) to (O, B, H', W').
///
/// # Errors
/// Shapes that do not fit.
pub fn conv2d(x: &Tensor, weight: &Tensor, geometry: Geometry) -> Result<Tensor> {
    x.apply_op2_no_bwd(weight, &Forward(geometry))
}

/// A convolution, then `max(y * factor + offset, floor)` for each output channel; with a
/// `shortcut` of the output's shape then `relu(that + shortcut)`.
///
/// # Errors
/// Shapes that do not fit.
pub(crate) fn conv2d_affine(
    x: &Tensor,
    weight: &Tensor,
    geometry: Geometry,
    affine: &[Affine],
    floor: f32,
    shortcut: Option<&Tensor>,
) -> Result<Tensor> {
    let op = ForwardAffine { geometry, affine, floor };
    match shortcut {
        None => x.apply_op2_no_bwd(weight, &op),
        Some(shortcut) => x.apply_op3_no_bwd(weight, shortcut, &op),
    }
}

/// The gradient of an input of shape `x` from that of the output; added to `add_to` in place
/// if that is given.
///
/// # Errors
/// Shapes that do not fit.
pub fn conv2d_input_gradient(
    dy: &Tensor,
    weight: &Tensor,
    x: &Shape,
    geometry: Geometry,
    add_to: Option<Tensor>,
) -> Result<Tensor> {
    let op = InputGradient(geometry, x.clone());
    match add_to {
        None => dy.apply_op2_no_bwd(weight, &op),
        Some(add_to) => {
            add_to.inplace_op3(dy, weight, &op)?;
            Ok(add_to)
        }
    }
}

/// Writes the gradient of the weights into `dw`, or adds it.
///
/// # Errors
/// Shapes that do not fit.
pub fn conv2d_weight_gradient(
    dw: &Tensor,
    x: &Tensor,
    dy: &Tensor,
    geometry: Geometry,
    add: bool,
) -> Result<()> {
    dw.inplace_op3(x, dy, &WeightGradient { geometry, add })
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check;
    use super::*;
    use candle_core::Device;

    fn tensor(shape: &[usize], seed: u32) -> Tensor {
        let values = gradient_check::values(shape.iter().product(), seed);
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn difference(a: &Tensor, b: &Tensor) -> f32 {
        (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap()
    }

    #[test]
    fn the_forward_pass_is_candles_and_gradients_are_differences() {
        for (kernel, stride, padding) in [(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (7, 2, 3)] {
            let geometry = Geometry::square(stride, padding);
            let (x, w) = (tensor(&[3, 2, 9, 12], 1), tensor(&[4, 3, kernel, kernel], 2));
            let ours = conv2d(&x, &w, geometry).unwrap();
            let batch_first = x.transpose(0, 1).unwrap().contiguous().unwrap();
            let candles = batch_first.conv2d(&w, padding, stride, 1, 1).unwrap();
            let apart = difference(&ours.transpose(0, 1).unwrap(), &candles);
            assert!(apart < 1e-4, "kernel {kernel}, stride {stride}: {apart}");
            let backward = |inputs: &[Tensor], dy: &Tensor| {
                let dw = inputs[1].zeros_like()?;
                conv2d_weight_gradient(&dw, &inputs[0], dy, geometry, false)?;
                Ok(vec![conv2d_input_gradient(dy, &inputs[1], x.shape(), geometry, None)?, dw])
            };
            let forward = |inputs: &[Tensor]| conv2d(&inputs[0], &inputs[1], geometry);
            gradient_check::check(&[x.clone(), w.clone()], forward, backward, 1e-2, 1e-3);
        }
    }

    #[test]
    fn unequal_axes_and_rings_are_what_padding_by_hand_gives() {
        for (kernel, stride, padding, ring) in [
            ([5, 3], [1, 1], [0, 1], false),
            ([3, 3], [1, 1], [1, 1], true),
            ([3, 3], [1, 2], [1, 1], true),
            ([5, 1], [1, 1], [2, 0], true),
        ] {
            let geometry = Geometry { stride, padding, ring };
            let (x, w) = (tensor(&[3, 2, 6, 11], 1), tensor(&[4, 3, kernel[0], kernel[1]], 2));
            let forward = |inputs: &[Tensor]| conv2d(&inputs[0], &inputs[1], geometry);
            // Candle's convolution knows one stride: every second column of stride 1 is stride 2.
            let (above, below) = (x.narrow(2, 6 - padding[0], padding[0]), x.narrow(2, 0, padding[0]));
            let padded = match ring {
                true => Tensor::cat(&[&above.unwrap(), &x, &below.unwrap()], 2).unwrap(),
                false => x.pad_with_zeros(2, padding[0], padding[0]).unwrap(),
            };
            let padded = padded.pad_with_zeros(3, padding[1], padding[1]).unwrap();
            let candles = padded.transpose(0, 1).unwrap().contiguous().unwrap().conv2d(&w, 0, 1, 1, 1);
            let candles = candles.unwrap().transpose(0, 1).unwrap();
            let columns: Vec<u32> = (0..candles.dim(3).unwrap() as u32).step_by(stride[1]).collect();
            let columns = Tensor::new(columns, &Device::Cpu).unwrap();
            let candles = candles.contiguous().unwrap().index_select(&columns, 3).unwrap();
            assert!(difference(&forward(&[x.clone(), w.clone()]).unwrap(), &candles) < 1e-4, "{geometry:?}");
            let backward = |inputs: &[Tensor], dy: &Tensor| {
                let dw = inputs[1].zeros_like()?;
                conv2d_weight_gradient(&dw, &inputs[0], dy, geometry, false)?;
                Ok(vec![conv2d_input_gradient(dy, &inputs[1], x.shape(), geometry, None)?, dw])
            };
            gradient_check::check(&[x.clone(), w], forward, backward, 1e-2, 1e-3);
        }
    }

    #[test]
    fn gradients_can_be_added_to_what_is_there() {
        for (outputs, kernel, stride) in [(5, 3, 1), (5, 3, 2), (200, 1, 1), (200, 3, 1)] {
            let geometry = Geometry::square(stride, kernel / 2);
            let (x, w) = (tensor(&[7, 2, 6, 9], 1), tensor(&[outputs, 7, kernel, kernel], 2));
            let dy = conv2d(&x, &w, geometry).unwrap();
            let dx = conv2d_input_gradient(&dy, &w, x.shape(), geometry, None).unwrap();
            let twice =
                conv2d_input_gradient(&dy, &w, x.shape(), geometry, Some(dx.copy().unwrap())).unwrap();
            let scale = dx.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(difference(&(dx * 2.0).unwrap(), &twice) < 1e-5 * scale);
            let dw = w.zeros_like().unwrap();
            conv2d_weight_gradient(&dw, &x, &dy, geometry, false).unwrap();
            let once = dw.copy().unwrap();
            conv2d_weight_gradient(&dw, &x, &dy, geometry, true).unwrap();
            let scale = once.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(difference(&(once * 2.0).unwrap(), &dw) < 1e-5 * scale);
        }
    }

    #[test]
    fn what_follows_a_convolution_can_be_done_in_it() {
        let geometry = Geometry::square(1, 1);
        let (x, w) = (tensor(&[3, 2, 9, 12], 1), tensor(&[4, 3, 3, 3], 2));
        let shortcut = tensor(&[4, 2, 9, 12], 3);
        let affine: Vec<Affine> =
            (0..4).map(|i| Affine { factor: 0.5 + i as f32, offset: 0.1 - i as f32 }).collect();
        let column = |get: fn(&Affine) -> f32| {
            Tensor::from_iter(affine.iter().map(get), &Device::Cpu).unwrap().reshape((4, 1, 1, 1)).unwrap()
        };
        let y = conv2d(&x, &w, geometry).unwrap();
        let y = y.broadcast_mul(&column(|a| a.factor)).unwrap();
        let y = y.broadcast_add(&column(|a| a.offset)).unwrap().relu().unwrap();
        let fused = conv2d_affine(&x, &w, geometry, &affine, 0.0, None).unwrap();
        assert!(difference(&y, &fused) < 1e-5);
        let y = (y + &shortcut).unwrap().relu().unwrap();
        let fused = conv2d_affine(&x, &w, geometry, &affine, 0.0, Some(&shortcut)).unwrap();
        assert!(difference(&y, &fused) < 1e-5);
    }
}
