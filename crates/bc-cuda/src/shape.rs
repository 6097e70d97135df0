//! Shapes, element types and the sizes of convolutions.

use crate::error::{Error, Result, ensure};

/// The shape of a tensor; on the device (batch, height, width, channels), the last one fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Items of the batch.
    pub batch: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
}

impl Shape {
    /// From the order of bc-nn: channels first.
    pub const fn new(channels: usize, batch: usize, height: usize, width: usize) -> Self {
        Self { batch, height, width, channels }
    }

    /// Rows of a matrix: (batch, channels).
    pub const fn matrix(batch: usize, channels: usize) -> Self {
        Self { batch, height: 1, width: 1, channels }
    }

    /// Positions of an item.
    pub const fn positions(&self) -> usize {
        self.height * self.width
    }

    /// All values.
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

/// How a value of an activation is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Element {
    /// 32 bits.
    F32,
    /// The upper 16 bits of 32, rounded to nearest even.
    Bf16,
}

impl Element {
    /// Bytes of a value.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    /// Its name in the names of kernels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// How numbers are stored and multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// 32 bits throughout.
    #[default]
    F32,
    /// Stored in 32 bits, multiplied by tensor cores in 19 and summed in 32.
    Tf32,
    /// Activations and copies of weights in bf16, sums in 32 bits.
    Bf16,
}

impl Precision {
    /// Returns how activations and copies of weights are stored.
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
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns on the left.
    pub left: usize,
    /// Columns on the right.
    pub right: usize,
    /// Whether the rows above and below are the other end's (a ring) and not zeros.
    pub ring: bool,
}

impl Padding {
    /// Equally many zeros on both sides.
    pub const fn symmetric(rows: usize, columns: usize) -> Self {
        Self { top: rows, bottom: rows, left: columns, right: columns, ring: false }
    }

    /// Whether cuDNN supports it: zeros, equally many on both sides.
    pub const fn is_symmetric(&self) -> bool {
        self.top == self.bottom && self.left == self.right && !(self.ring && self.top > 0)
    }

    /// A padded shape.
    pub const fn apply(&self, shape: Shape) -> Shape {
        Shape {
            height: shape.height + self.top + self.bottom,
            width: shape.width + self.left + self.right,
            ..shape
        }
    }
}

/// A convolution: cross-correlation, as PyTorch's `Conv2d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Convolution {
    /// Channels of the input.
    pub inputs: usize,
    /// Channels of the output.
    pub outputs: usize,
    /// Height and width.
    pub kernel: [usize; 2],
    /// Over height and width.
    pub stride: [usize; 2],
    /// Around the input.
    pub padding: Padding,
}

impl Convolution {
    /// Values of the weights.
    pub const fn weights(&self) -> usize {
        self.outputs * self.inputs * self.taps()
    }

    /// Positions of the kernel.
    pub const fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Returns the output's shape.
    ///
    /// # Errors
    /// An input of other channels, or smaller than the kernel.
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

    /// Multiplications and additions of the forward pass (each of the two backward passes has as many).
    ///
    /// # Errors
    /// As [`Convolution::output`].
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
