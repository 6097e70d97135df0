//! The geometry of a convolution: stride and padding of its window.

/// Stride and padding, for height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Stride of the windows.
    pub stride: [usize; 2],
    /// Number of zeros on each side; if the rows are a ring, the rows of the other end are used instead above and below.
    pub padding: [usize; 2],
    /// Whether the rows form a ring (PyTorch's circular padding, for the height only). Then the height of the kernel must be
    /// odd, and the padding half of it.
    pub ring: bool,
}

impl Geometry {
    /// Returns a geometry with the same stride and padding in both directions.
    pub const fn square(stride: usize, padding: usize) -> Self {
        Self { stride: [stride; 2], padding: [padding; 2], ring: false }
    }
}
