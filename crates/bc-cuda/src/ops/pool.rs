//! Pooling: 3x3 maxima, the generalised mean, maxima and means over groups of rows, means over time.

use crate::device::Argument;
use crate::error::{Result, ensure};
use crate::gpu::{Gpu, Tiling, kernel, vector};
use crate::ops::conv::pack_grid;
use crate::shape::{Element, Shape};
use crate::tensor::{Buffer, Image};

/// What the gradient of [`Gpu::max_pool`] needs: for each maximum, which of the nine values of its window it was.
#[derive(Debug)]
pub struct MaxPoolSaved {
    taps: Buffer<u8>,
    shape: Shape,
}

/// What the gradient of [`Gpu::max_mean`] needs: for each maximum, which group it came from.
#[derive(Debug)]
pub struct MaxMeanSaved {
    numbers: Buffer<u8>,
    shape: Shape,
    groups: usize,
}

impl Gpu {
    /// Computes maxima with kernel 3, stride 2 and padding 1.
    ///
    /// # Errors
    /// Not enough memory.
    pub fn max_pool(&self, x: &Image) -> Result<(Image, MaxPoolSaved)> {
        let Shape { batch, height, width, channels } = x.shape;
        ensure(x.shape.count() > 0, || format!("maxima of {}", x.shape))?;
        let half = |size: usize| (size - 1) / 2 + 1;
        let y = self.image(Shape { height: half(height), width: half(width), ..x.shape }, x.element)?;
        let taps = self.buffer(y.shape.count())?;
        let v = vector(channels, x.element);
        let mut arguments: Vec<Argument> =
            [x.address(), y.address(), taps.address()].map(Argument::from).to_vec();
        arguments.extend([batch, height, width, channels].map(Argument::from));
        // SAFETY: y and taps have the output's shape, and the kernel has a thread for each pack of it.
        unsafe { self.launch(kernel("max_pool", x.element, v), pack_grid(y.shape, v), arguments)? };
        Ok((y, MaxPoolSaved { taps, shape: x.shape }))
    }

    /// Computes the gradient of the input of [`Gpu::max_pool`].
    ///
    /// # Errors
    /// A gradient of another shape; not enough memory.
    pub fn max_pool_gradient(&self, dy: &Image, saved: &MaxPoolSaved) -> Result<Image> {
        ensure(dy.shape.count() == saved.taps.len(), || {
            format!("a gradient of {} for maxima of {}", dy.shape, saved.shape)
        })?;
        let Shape { batch, height, width, channels } = saved.shape;
        let dx = self.image(saved.shape, dy.element)?;
        let v = vector(channels, dy.element);
        let addresses = [dy.address(), saved.taps.address(), dx.address()];
        let mut arguments: Vec<Argument> = addresses.map(Argument::from).to_vec();
        arguments.extend([batch, height, width, channels].map(Argument::from));
        // SAFETY: dy and taps are of one output, and the kernel has a thread for each pack of dx.
        unsafe {
            self.launch(kernel("max_pool_gradient", dy.element, v), pack_grid(dx.shape, v), arguments)?
        };
        Ok(dx)
    }

    /// Computes the generalised mean over height and width, with the exponent at index `exponent` of the parameters. The result is
    /// (batch, channels) in 32 bits.
    ///
    /// # Errors
    /// Not enough memory.
    pub fn gem(&self, x: &Image, parameters: &Buffer<f32>, exponent: usize) -> Result<Image> {
        ensure(exponent < parameters.len() && x.shape.count() > 0, || format!("a mean of {}", x.shape))?;
        let y = self.image(Shape::matrix(x.shape.batch, x.shape.channels), Element::F32)?;
        let tiling = Tiling::new(x.shape, x.element, 1, 1);
        let addresses = [x.address(), y.address(), parameters.at(exponent)];
        let mut arguments: Vec<Argument> = addresses.map(Argument::from).to_vec();
        arguments.extend([x.shape.channels, x.shape.positions(), tiling.lanes].map(Argument::from));
        // SAFETY: the grid is the tiling of x's shape, y has a value for each item and channel.
        unsafe { self.launch(tiling.kernel("gem", x.element), tiling.grid(x.shape), arguments)? };
        Ok(y)
    }

    /// Computes dx from x, y and dy (y and dy in 32 bits); the exponent's gradient is added to `gradients`.
    ///
    /// # Errors
    /// Shapes that do not match; not enough memory.
    pub fn gem_gradient(
        &self,
        x: &Image,
        [y, dy]: [&Image; 2],
        parameters: &Buffer<f32>,
        exponent: usize,
        gradients: &mut Buffer<f32>,
    ) -> Result<Image> {
        let shape = Shape::matrix(x.shape.batch, x.shape.channels);
        let fits = [y, dy].iter().all(|m| m.shape.count() == shape.count() && m.element == Element::F32)
            && exponent < parameters.len().min(gradients.len());
        ensure(fits, || format!("a gradient of {} for a mean of {}", dy.shape, x.shape))?;
        let dx = self.image(x.shape, x.element)?;
        let tiling = Tiling::new(x.shape, x.element, 1, 1);
        let parts = self.buffer(tiling.tiles * x.shape.batch)?;
        let addresses =
            [x.address(), y.address(), dy.address(), parameters.at(exponent), dx.address(), parts.address()];
        let mut arguments: Vec<Argument> = addresses.map(Argument::from).to_vec();
        arguments.extend([x.shape.channels, x.shape.positions(), tiling.lanes].map(Argument::from));
        // SAFETY: y and dy have a value for each item and channel, dx has x's shape, there is a part for each block.
        unsafe { self.launch(tiling.kernel("gem_gradient", x.element), tiling.grid(x.shape), arguments)? };
        self.add_sum(&parts, gradients, exponent)?;
        Ok(dx)
    }

    /// Computes maxima and means over groups of rows: (batch, groups * height, width, channels) becomes
    /// (batch, height, width, 2 channels), first the maxima over the groups and then the means. Row h of the result is computed
    /// from the rows h, h + height, ...
    ///
    /// # Errors
    /// A height that is not a multiple of `groups`, more than 256 groups; not enough memory.
    pub fn max_mean(&self, x: &Image, groups: usize) -> Result<(Image, MaxMeanSaved)> {
        let Shape { batch, height, width, channels } = x.shape;
        ensure((1..=256).contains(&groups) && height.is_multiple_of(groups), || {
            format!("{height} rows are no {groups} groups of equal size")
        })?;
        let inner = Shape { height: height / groups, ..x.shape };
        let y = self.image(Shape { channels: 2 * channels, ..inner }, x.element)?;
        let found = self.buffer(inner.count())?;
        let v = vector(channels, x.element);
        let mut arguments: Vec<Argument> =
            [x.address(), y.address(), found.address()].map(Argument::from).to_vec();
        arguments.extend([batch, groups, inner.height, width, channels].map(Argument::from));
        // SAFETY: y and the numbers have the output's shape, and the kernel has a thread for each pack of a maximum.
        unsafe { self.launch(kernel("max_mean", x.element, v), pack_grid(inner, v), arguments)? };
        Ok((y, MaxMeanSaved { numbers: found, shape: x.shape, groups }))
    }

    /// Computes the gradient of the input of [`Gpu::max_mean`].
    ///
    /// # Errors
    /// A gradient of another shape; not enough memory.
    pub fn max_mean_gradient(&self, dy: &Image, saved: &MaxMeanSaved) -> Result<Image> {
        let Shape { batch, height, width, channels } = saved.shape;
        let inner = Shape { height: height / saved.groups, ..saved.shape };
        ensure(dy.shape.count() == 2 * inner.count(), || {
            format!("a gradient of {} for {}", dy.shape, saved.shape)
        })?;
        let dx = self.image(saved.shape, dy.element)?;
        let v = vector(channels, dy.element);
        let addresses = [dy.address(), saved.numbers.address(), dx.address()];
        let mut arguments: Vec<Argument> = addresses.map(Argument::from).to_vec();
        arguments.extend([batch, saved.groups, inner.height, width, channels].map(Argument::from));
        // SAFETY: as of the forward pass, with dy for y.
        unsafe { self.launch(kernel("max_mean_gradient", dy.element, v), pack_grid(inner, v), arguments)? };
        Ok(dx)
    }

    /// Computes the means of each `stride` consecutive columns; the last one may be of fewer columns.
    ///
    /// # Errors
    /// A stride of 0; not enough memory.
    pub fn time_mean(&self, x: &Image, stride: usize) -> Result<Image> {
        ensure(stride > 0 && x.shape.count() > 0, || format!("means of {stride} columns of {}", x.shape))?;
        let y = self.image(Shape { width: x.shape.width.div_ceil(stride), ..x.shape }, x.element)?;
        let v = vector(x.shape.channels, x.element);
        let arguments = time_arguments([x, &y], x.shape, stride);
        // SAFETY: the kernel has a thread for each pack of y and reads within x.
        unsafe { self.launch(kernel("time_mean", x.element, v), pack_grid(y.shape, v), arguments)? };
        Ok(y)
    }

    /// Computes the gradient of [`Gpu::time_mean`] for an input of shape `x`.
    ///
    /// # Errors
    /// A gradient of another shape; not enough memory.
    pub fn time_mean_gradient(&self, dy: &Image, x: Shape, stride: usize) -> Result<Image> {
        let fits = stride > 0 && dy.shape == Shape { width: x.width.div_ceil(stride), ..x };
        ensure(fits, || format!("a gradient of {} for means of {stride} columns of {x}", dy.shape))?;
        let dx = self.image(x, dy.element)?;
        let v = vector(x.channels, dy.element);
        let arguments = time_arguments([dy, &dx], x, stride);
        // SAFETY: the kernel has a thread for each pack of dx and reads within dy.
        unsafe { self.launch(kernel("time_mean_gradient", dy.element, v), pack_grid(x, v), arguments)? };
        Ok(dx)
    }
}

fn time_arguments(images: [&Image; 2], x: Shape, stride: usize) -> Vec<Argument> {
    let mut arguments: Vec<Argument> = images.map(|image| image.address().into()).to_vec();
    arguments.extend([x.batch * x.height, x.width, x.channels, stride].map(Argument::from));
    arguments
}
