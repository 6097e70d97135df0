//! Tensors on the device: images (activations) and buffers (weights, gradients, statistics, labels).

use std::marker::PhantomData;

use bytemuck::Pod;

use crate::device::Address;
use crate::memory::Memory;
use crate::shape::{Element, Shape};

/// Activations on the device: (batch, height, width, channels), f32 or bf16. Clones share memory.
#[derive(Debug, Clone)]
pub struct Image {
    pub(crate) memory: Memory,
    pub(crate) shape: Shape,
    pub(crate) element: Element,
}

impl Image {
    /// Returns the shape of the image.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Returns the element type of the image.
    pub fn element(&self) -> Element {
        self.element
    }

    /// Returns the same values in another shape.
    ///
    /// # Panics
    /// The shape has another number of values.
    #[must_use]
    pub fn reshape(&self, shape: Shape) -> Self {
        assert_eq!(shape.count(), self.shape.count(), "{} is not of as many values as {shape}", self.shape);
        Self { shape, ..self.clone() }
    }

    pub(crate) fn address(&self) -> Address {
        self.memory.address()
    }
}

/// Contiguous values on the device.
#[derive(Debug)]
pub struct Buffer<T> {
    pub(crate) memory: Memory,
    pub(crate) len: usize,
    pub(crate) values: PhantomData<T>,
}

impl<T: Pod> Buffer<T> {
    /// Returns the number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn address(&self) -> Address {
        self.memory.address()
    }

    /// Returns the address of value `index`.
    pub(crate) fn at(&self, index: usize) -> Address {
        assert!(index <= self.len, "value {index} of {}", self.len);
        self.memory.address() + (index * size_of::<T>()) as u64
    }
}

/// Permutes values from (channels, batch, height, width) to (batch, height, width, channels).
pub fn channels_last(values: &[f32], shape: Shape) -> Vec<f32> {
    let Shape { channels, .. } = shape;
    let places = shape.count() / channels.max(1);
    (0..shape.count()).map(|index| values[index % channels * places + index / channels]).collect()
}

/// Permutes values from (batch, height, width, channels) to (channels, batch, height, width).
pub fn channels_first(values: &[f32], shape: Shape) -> Vec<f32> {
    let Shape { channels, .. } = shape;
    let places = shape.count() / channels.max(1);
    (0..shape.count()).map(|index| values[index % places * channels + index / places]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_transposes() {
        let shape = Shape::new(2, 1, 1, 3);
        let first = [1.0, 2.0, 3.0, 10.0, 20.0, 30.0];
        let last = channels_last(&first, shape);
        assert_eq!(last, [1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
        assert_eq!(channels_first(&last, shape), first);
    }
}
