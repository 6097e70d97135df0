//! Conversions, sums, and copies of weights in the order that convolutions need.

use crate::device::{Address, Argument, BLOCK};
use crate::error::{Error, Result, ensure};
use crate::gpu::{Gpu, flat_grid};
use crate::shape::{Convolution, Element, Shape};
use crate::tensor::{Buffer, Image};

/// The table of the weights of the flat buffer that have copies for convolutions and products, created once for a network. A weight
/// is divided into runs, each copied by one block of threads.
pub struct Runs {
    /// Four numbers per run: start, count, inputs, taps.
    table: Buffer<i32>,
    /// The index in the flat buffer at which the last run ends.
    end: usize,
}

/// Maximum number of values of a run.
const RUN: usize = 8192;

impl Gpu {
    /// Converts an image to an element type; returns the same image if it already has that type.
    ///
    /// # Errors
    /// Not enough memory.
    pub fn convert(&self, x: &Image, element: Element) -> Result<Image> {
        if x.element == element {
            return Ok(x.clone());
        }
        let y = self.image(x.shape, element)?;
        // SAFETY: both images have as many values of these elements.
        unsafe { self.convert_at(x.address(), y.address(), x.shape.count(), [x.element, element])? };
        Ok(y)
    }

    /// Converts `count` values from the first element type to the second.
    ///
    /// # Safety
    /// There is memory for `count` values of their type at both addresses.
    pub(crate) unsafe fn convert_at(
        &self,
        from: Address,
        to: Address,
        count: usize,
        elements: [Element; 2],
    ) -> Result<()> {
        let kernel = match elements {
            [from_element, to_element] if from_element == to_element => {
                // SAFETY: the caller's; the places differ.
                return unsafe { self.device.copy(to, from, count * from_element.bytes()) };
            }
            [Element::F32, to_element] => format!("to_{}", to_element.name()),
            [from_element, _] => format!("from_{}", from_element.name()),
        };
        // SAFETY: the caller's.
        unsafe { self.launch(kernel, flat_grid(count), vec![from.into(), to.into(), count.into()]) }
    }

    /// Computes `to + x`, in the memory of `to` if it is not shared.
    ///
    /// # Errors
    /// Shapes or elements that differ; not enough memory.
    pub fn add(&self, to: Image, x: &Image) -> Result<Image> {
        ensure(to.shape == x.shape && to.element == x.element, || {
            format!("a sum of {} and {}", to.shape, x.shape)
        })?;
        let to = self.own(to)?;
        let count = to.shape.count();
        let kernel = format!("add_{}", to.element.name());
        let arguments = vec![to.address().into(), x.address().into(), count.into()];
        // SAFETY: both have as many values.
        unsafe { self.launch(kernel, flat_grid(count), arguments)? };
        Ok(to)
    }

    /// Returns an image that may be overwritten: `x` itself, or a copy if its memory is shared.
    pub(crate) fn own(&self, x: Image) -> Result<Image> {
        if x.memory.is_unique() {
            return Ok(x);
        }
        let copy = self.image(x.shape, x.element)?;
        // SAFETY: both have as many bytes and are two.
        unsafe { self.device.copy(copy.address(), x.address(), x.shape.count() * x.element.bytes())? };
        Ok(copy)
    }

    /// Adds values to those of a buffer from index `at` on.
    ///
    /// # Errors
    /// More values than there is room for; not enough memory.
    pub fn add_values(&self, to: &mut Buffer<f32>, at: usize, values: &[f32]) -> Result<()> {
        ensure(at + values.len() <= to.len(), || format!("{} values at {at} of {}", values.len(), to.len()))?;
        let x = self.upload(values)?;
        let arguments = vec![to.at(at).into(), x.address().into(), x.len().into()];
        // SAFETY: both have as many values, by the lines above.
        unsafe { self.launch("add_f32".to_owned(), flat_grid(x.len()), arguments) }
    }

    /// Concatenates images of one height, width and number of channels along the batch.
    ///
    /// # Errors
    /// There are no images; their shapes or elements differ; not enough memory.
    pub fn join(&self, parts: &[&Image]) -> Result<Image> {
        let Some(first) = parts.first() else { return Err(Error::Shape("an image of no parts".to_owned())) };
        let batch = parts.iter().map(|part| part.shape.batch).sum();
        let joined = self.image(Shape { batch, ..first.shape }, first.element)?;
        let mut at = joined.address();
        for part in parts {
            let fits = Shape { batch, ..part.shape } == joined.shape && part.element == first.element;
            ensure(fits, || format!("{} behind {}", part.shape, first.shape))?;
            let bytes = part.shape.count() * part.element.bytes();
            // SAFETY: the parts together are as long as the joined image, which has its own memory.
            unsafe { self.device.copy(at, part.address(), bytes)? };
            at += bytes as u64;
        }
        Ok(joined)
    }

    /// Copies `count` items of an image's batch from item `first` on.
    ///
    /// # Errors
    /// More items than there are; not enough memory.
    pub fn part(&self, x: &Image, first: usize, count: usize) -> Result<Image> {
        ensure(first + count <= x.shape.batch, || format!("{count} items at {first} of {}", x.shape))?;
        let part = self.image(Shape { batch: count, ..x.shape }, x.element)?;
        let item = x.shape.count() / x.shape.batch.max(1) * x.element.bytes();
        // SAFETY: the items are inside x, and the part has its own memory for as many.
        unsafe { self.device.copy(part.address(), x.address() + (first * item) as u64, count * item)? };
        Ok(part)
    }

    /// Creates the table of weights from the start of each weight in the flat buffer and its sizes. Linear layers are given as 1x1
    /// convolutions.
    ///
    /// # Errors
    /// Not enough memory.
    pub fn runs(&self, weights: &[(usize, Convolution)]) -> Result<Runs> {
        let mut table = Vec::new();
        let mut end = 0;
        for (start, convolution) in weights {
            let row = convolution.inputs * convolution.taps();
            let outputs = (RUN / row.max(1)).max(1);
            for first in (0..convolution.outputs).step_by(outputs) {
                let count = outputs.min(convolution.outputs - first) * row;
                let numbers = [start + first * row, count, convolution.inputs, convolution.taps()];
                table.extend(numbers.map(|number| number as i32));
            }
            end = end.max(start + convolution.weights());
        }
        Ok(Runs { table: self.upload(&table)?, end })
    }

    /// Updates the copies of the weights, in the order (outputs, kernel height, kernel width, inputs) and the element type of
    /// activations. Must be called after each step of the optimiser. `copies` was created by [`Gpu::weight_copies`]; a weight's
    /// copy begins at the same index as the weight.
    ///
    /// # Errors
    /// The buffers are those of another network.
    pub fn refresh_weights(
        &self,
        runs: &Runs,
        masters: &Buffer<f32>,
        copies: &mut WeightCopies,
    ) -> Result<()> {
        ensure(runs.end <= masters.len() && runs.end <= copies.len(), || {
            format!("weights up to {} of buffers of {} and {}", runs.end, masters.len(), copies.len())
        })?;
        let kernel = format!("weights_to_{}", copies.image.element.name());
        let arguments =
            vec![masters.address().into(), copies.image.address().into(), runs.table.address().into()];
        // SAFETY: the table's runs end within both buffers.
        unsafe { self.launch(kernel, [runs.table.len() / 4, 1, 1], arguments) }
    }

    /// Allocates memory for copies of all weights of a flat buffer of `len` values.
    ///
    /// # Errors
    /// Not enough memory.
    pub fn weight_copies(&self, len: usize) -> Result<WeightCopies> {
        Ok(WeightCopies { image: self.image(Shape::matrix(1, len), self.element())? })
    }

    /// Adds a weight's gradient at `from`, in the order that convolutions use, to the flat gradient from index `at` on.
    ///
    /// # Safety
    /// There are as many values of the element type at `from` as the convolution has weights.
    pub(crate) unsafe fn add_weight_gradient(
        &self,
        from: Address,
        element: Element,
        convolution: &Convolution,
        gradients: &mut Buffer<f32>,
        at: usize,
    ) -> Result<()> {
        let count = convolution.weights();
        let sizes = [convolution.inputs, convolution.taps(), count].map(Argument::from);
        let [inputs, taps, number] = sizes;
        let arguments = vec![from.into(), gradients.at(at).into(), inputs, taps, number];
        let kernel = format!("weights_from_{}", element.name());
        // SAFETY: the caller's, and `at` was compared by it with the buffer's length.
        unsafe { self.launch(kernel, [count.div_ceil(BLOCK).min(4096), 1, 1], arguments) }
    }
}

/// The copies of all weights; see [`Gpu::refresh_weights`].
#[derive(Debug)]
pub struct WeightCopies {
    image: Image,
}

impl WeightCopies {
    fn len(&self) -> usize {
        self.image.shape.count()
    }

    /// Returns the address of the copy of the weight at `index`, which has `count` values.
    pub(crate) fn at(&self, index: usize, count: usize) -> Result<Address> {
        ensure(index + count <= self.len(), || format!("a weight of {count} at {index} of {}", self.len()))?;
        Ok(self.image.address() + (index * self.image.element.bytes()) as u64)
    }

    pub(crate) fn element(&self) -> Element {
        self.image.element
    }
}
