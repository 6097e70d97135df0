//! The geometry of a convolution: stride and padding of its window.

/// Stride and padding, of the height and of the width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Stride of the windows.
    pub stride: [usize; 2],
    /// Zeros on each side; the other end's rows above and below if the rows are a ring.
    pub padding: [usize; 2],
    /// Whether the rows form a ring (PyTorch's circular padding, of the height alone). It
    /// needs a kernel of odd height and half of it as the padding.
    pub ring: bool,
}

impl Geometry {
    /// The same in both directions.
    pub const fn square(stride: usize, padding: usize) -> Self {
        Self { stride: [stride; 2], padding: [padding; 2], ring: false }
    }
}
