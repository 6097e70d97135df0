//! Linear layers without bias: products of matrices by cuBLAS.

use crate::device::Multiply;
use crate::error::{Result, ensure};
use crate::gpu::Gpu;
use crate::ops::elements::WeightCopies;
use crate::shape::{Element, Shape};
use crate::tensor::{Buffer, Image};

/// A linear layer: y = x W^T, where W is (outputs, inputs).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linear {
    /// Number of columns of x.
    pub inputs: usize,
    /// Number of columns of y.
    pub outputs: usize,
    /// Index in the flat buffers at which W begins.
    pub weight: usize,
}

impl Linear {
    fn check(&self, x: Shape, columns: usize) -> Result<usize> {
        ensure(x.positions() == 1 && x.channels == columns, || {
            format!("a linear layer of {} to {} with {x}", self.inputs, self.outputs)
        })?;
        Ok(x.batch)
    }
}

impl Gpu {
    /// Computes y (batch, outputs) from x (batch, inputs), with element type `result`. x is converted to the weights' element type.
    ///
    /// # Errors
    /// Shapes that do not match; not enough memory.
    pub fn linear(
        &self,
        x: &Image,
        weights: &WeightCopies,
        layer: &Linear,
        result: Element,
    ) -> Result<Image> {
        let rows = layer.check(x.shape, layer.inputs)?;
        let x = self.convert(x, weights.element())?;
        let y = self.image(Shape::matrix(rows, layer.outputs), result)?;
        let w = weights.at(layer.weight, layer.inputs * layer.outputs)?;
        // SAFETY: x is (rows, inputs), w (outputs, inputs) inside its buffer, y was made for (rows, outputs).
        unsafe {
            self.device.multiply(&Multiply {
                rows,
                columns: layer.outputs,
                inner: layer.inputs,
                transposed: [false, true],
                element: weights.element(),
                result,
                tf32: self.tf32(),
                matrices: [x.address(), w, y.address()],
                add: false,
            })?;
        }
        Ok(y)
    }

    /// Computes dx (batch, inputs) from dy, with element type `result`. If `add_to` is given, which must have that type, adds dx to
    /// it.
    ///
    /// # Errors
    /// The errors of [`Gpu::linear`].
    pub fn linear_input_gradient(
        &self,
        dy: &Image,
        weights: &WeightCopies,
        layer: &Linear,
        result: Element,
        add_to: Option<Image>,
    ) -> Result<Image> {
        let rows = layer.check(dy.shape, layer.outputs)?;
        let dy = self.convert(dy, weights.element())?;
        let shape = Shape::matrix(rows, layer.inputs);
        let add = add_to.is_some();
        let dx = match add_to {
            Some(dx) => {
                ensure(dx.shape == shape && dx.element == result, || format!("a gradient of {}", dx.shape))?;
                self.own(dx)?
            }
            None => self.image(shape, result)?,
        };
        let w = weights.at(layer.weight, layer.inputs * layer.outputs)?;
        // SAFETY: dy is (rows, outputs), w (outputs, inputs) inside its buffer, dx (rows, inputs).
        unsafe {
            self.device.multiply(&Multiply {
                rows,
                columns: layer.inputs,
                inner: layer.outputs,
                transposed: [false, false],
                element: weights.element(),
                result,
                tf32: self.tf32(),
                matrices: [dy.address(), w, dx.address()],
                add,
            })?;
        }
        Ok(dx)
    }

    /// Computes dW from x and dy, both converted to this run's element type, and adds it to the flat gradient.
    ///
    /// # Errors
    /// The errors of [`Gpu::linear`].
    pub fn linear_weight_gradient(
        &self,
        x: &Image,
        dy: &Image,
        layer: &Linear,
        gradients: &mut Buffer<f32>,
    ) -> Result<()> {
        let inner = layer.check(x.shape, layer.inputs)?;
        let fits = layer.check(dy.shape, layer.outputs)? == inner
            && layer.weight + layer.inputs * layer.outputs <= gradients.len();
        ensure(fits, || format!("a gradient of {} for {}", dy.shape, x.shape))?;
        let element = self.element();
        let (x, dy) = (self.convert(x, element)?, self.convert(dy, element)?);
        // SAFETY: dy is (batch, outputs) and read transposed, x (batch, inputs), and the gradient has room.
        unsafe {
            self.device.multiply(&Multiply {
                rows: layer.outputs,
                columns: layer.inputs,
                inner,
                transposed: [true, false],
                element,
                result: Element::F32,
                tf32: self.tf32(),
                matrices: [dy.address(), x.address(), gradients.at(layer.weight)],
                add: true,
            })
        }
    }
}
