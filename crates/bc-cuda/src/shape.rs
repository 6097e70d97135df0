//! Shapes, element types and the sizes of convolutions.

use crate::error::{Error, Result, ensure};

/// The shape of a tensor. Its memory order on the device is (batch, height, width, channels), with channels consecutive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Number of items of the batch.
    pub batch: usize,
    /// Number of rows.
    pub height: usize,
    /// Number of columns.
    pub width: usize,
    /// Number of channels.
    pub channels: usize,
}

impl Shape {
    /// Creates a shape from sizes in the order of bc-nn, channels first.
    pub const fn new(channels: usize, batch: usize, height: usize, width: usize) -> Self {
        Self { batch, height, width, channels }
    }

    /// Creates the shape of a matrix (batch, channels).
    pub const fn matrix(batch: usize, channels: usize) -> Self {
        Self { batch, height: 1, width: 1, channels }
    }

    /// Returns the number of positions of an item: height x width.
    pub const fn positions(&self) -> usize {
        self.height * self.width
    }

    /// Returns the number of values.
    pub const fn count(&self) -> usize {
        self.batch * self.height * self.width * self.channels
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { batch, height, width, channels } = self;
        write!(f, "{channels} channels x {batch} x {height} x {width}")
    }
}

/// The element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Element {
    /// A 32-bit float.
    F32,
    /// bfloat16: the upper 16 bits of a 32-bit float, rounded to nearest even.
    Bf16,
}

impl Element {
    /// Returns the number of bytes of a value.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    /// Returns the type's name as it is used in the names of kernels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// The precision in which numbers are stored and multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// Numbers have 32 bits throughout.
    #[default]
    F32,
    /// Numbers are stored in 32 bits, multiplied by tensor cores in 19 bits and summed in 32 bits.
    Tf32,
    /// Activations and copies of weights are stored in bf16; sums have 32 bits.
    Bf16,
}

impl Precision {
    /// Returns the element type of activations and copies of weights.
    pub const fn element(self) -> Element {
        match self {
            Self::F32 | Self::Tf32 => Element::F32,
            Self::Bf16 => Element::Bf16,
        }
    }
}

impl std::str::FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "f32" => Ok(Self::F32),
            "tf32" => Ok(Self::Tf32),
            "bf16" => Ok(Self::Bf16),
            _ => {
                Err(Error::Shape(format!("precision = \"{name}\" is not one of \"f32\", \"tf32\", \"bf16\"")))
            }
        }
    }
}

/// Padding around an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Padding {
    /// Number of rows above.
    pub top: usize,
    /// Number of rows below.
    pub bottom: usize,
    /// Number of columns on the left.
    pub left: usize,
    /// Number of columns on the right.
    pub right: usize,
    /// Whether the height is padded circularly, with the rows of the other end instead of zeros.
    pub ring: bool,
}

impl Padding {
    /// Creates a padding with this number of zero rows above and below, and of zero columns on the left and right.
    pub const fn symmetric(rows: usize, columns: usize) -> Self {
        Self { top: rows, bottom: rows, left: columns, right: columns, ring: false }
    }

    /// Returns whether cuDNN supports the padding: zeros, equally many on both sides.
    pub const fn is_symmetric(&self) -> bool {
        self.top == self.bottom && self.left == self.right && !(self.ring && self.top > 0)
    }

    /// Returns a shape with this padding added.
    pub const fn apply(&self, shape: Shape) -> Shape {
        Shape {
            height: shape.height + self.top + self.bottom,
            width: shape.width + self.left + self.right,
            ..shape
        }
    }
}

/// The sizes of a convolution (a cross-correlation, like PyTorch's `Conv2d`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Convolution {
    /// Number of channels of the input.
    pub inputs: usize,
    /// Number of channels of the output.
    pub outputs: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Stride along height and width.
    pub stride: [usize; 2],
    /// Padding around the input.
    pub padding: Padding,
}

impl Convolution {
    /// Returns the number of weights.
    pub const fn weights(&self) -> usize {
        self.outputs * self.inputs * self.taps()
    }

    /// Returns the number of positions of the kernel: height x width.
    pub const fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Returns the output's shape.
    ///
    /// # Errors
    /// The input has another number of channels, or is smaller than the kernel.
    pub fn output(&self, x: Shape) -> Result<Shape> {
        let padded = self.padding.apply(x);
        ensure(
            x.channels == self.inputs
                && padded.height >= self.kernel[0]
                && padded.width >= self.kernel[1]
                && self.stride[0] > 0
                && self.stride[1] > 0
                && !(self.padding.ring && self.padding.top.max(self.padding.bottom) > x.height),
            || format!("{self} does not fit an input of {x}"),
        )?;
        Ok(Shape {
            batch: x.batch,
            height: (padded.height - self.kernel[0]) / self.stride[0] + 1,
            width: (padded.width - self.kernel[1]) / self.stride[1] + 1,
            channels: self.outputs,
        })
    }

    /// Computes the number of multiplications and additions of the forward pass. Each of the two backward passes has as many.
    ///
    /// # Errors
    /// The errors of [`Convolution::output`].
    pub fn flops(&self, x: Shape) -> Result<f64> {
        Ok(2.0 * self.output(x)?.count() as f64 * (self.inputs * self.taps()) as f64)
    }
}

impl std::fmt::Display for Convolution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { inputs, outputs, kernel: [kh, kw], stride: [sh, sw], padding } = self;
        let Padding { top, bottom, left, right, ring } = padding;
        let ring = if *ring { " round a ring" } else { "" };
        write!(
            f,
            "{kh}x{kw} of {inputs} to {outputs}, stride {sh}x{sw}, padding {top},{bottom},{left},{right}{ring}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_pytorchs() {
        let stem = Convolution {
            inputs: 1,
            outputs: 64,
            kernel: [7, 7],
            stride: [2, 2],
            padding: Padding::symmetric(3, 3),
        };
        let x = Shape::new(1, 8, 84, 215);
        assert_eq!(stem.output(x).unwrap(), Shape::new(64, 8, 42, 108));
        assert_eq!(stem.flops(x).unwrap(), 2.0 * (8 * 42 * 108 * 64 * 49) as f64);
        assert!(stem.output(Shape::new(2, 8, 84, 215)).is_err());
        assert!(stem.output(Shape::new(1, 8, 0, 215)).is_err());
        let ring = Convolution { padding: Padding { ring: true, ..Padding::symmetric(1, 1) }, ..stem };
        assert!(!ring.padding.is_symmetric() && stem.padding.is_symmetric());
    }

    #[test]
    fn precisions_are_named() {
        assert_eq!("tf32".parse::<Precision>().unwrap().element(), Element::F32);
        assert_eq!("bf16".parse::<Precision>().unwrap().element(), Element::Bf16);
        assert!("fp8".parse::<Precision>().unwrap_err().to_string().contains("\"bf16\""));
    }
}
