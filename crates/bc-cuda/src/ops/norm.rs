//! Batch norm, instance norm and IBN, fused with what follows them: the activation and the end of a bottleneck.

use crate::device::Argument;
use crate::error::{Result, ensure};
use crate::gpu::{Gpu, Tiling};
use crate::ops::peers::Peers;
use crate::shape::Shape;
use crate::tensor::{Buffer, Image};

/// Number of lanes of the kernels that join partial statistics: `JOIN_LANES` of `norm.cu`.
const JOIN: usize = 8;

/// A normalisation layer. Its first `instance` channels are normalised over each item (instance norm), the others over the batch
/// (batch norm). Indices are those of the flat buffers of parameters and gradients, or of running statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Norm {
    /// Number of channels.
    pub channels: usize,
    /// Number of channels with instance norm.
    pub instance: usize,
    /// Indices at which scale and shift of the instance norm begin; not read without instance norm.
    pub instance_at: [usize; 2],
    /// Indices at which scale and shift of the batch norm begin.
    pub batch_at: [usize; 2],
    /// Index at which the bias of the preceding convolution begins, if it has one. The normalisation cancels the bias, so it has no
    /// gradient, but it is part of the running mean.
    pub bias_at: Option<usize>,
    /// Indices at which running mean and running variance begin, with `channels - instance` values each.
    pub running_at: [usize; 2],
}

/// The activation after a normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// No activation.
    Identity,
    /// ReLU, with derivative 0 at 0.
    Relu,
}

impl Activation {
    fn floor(self) -> f32 {
        match self {
            Self::Identity => f32::NEG_INFINITY,
            Self::Relu => 0.0,
        }
    }
}

/// The operations that are fused with a normalisation. Its output is `activation(normalised)`, or with a shortcut
/// `relu(activation(normalised) + shortcut)`.
#[derive(Debug, Clone, Copy)]
pub struct Epilogue<'a> {
    /// The activation after the normalisation.
    pub activation: Activation,
    /// The shortcut of a bottleneck block, if the normalisation is the last one of a block.
    pub shortcut: Option<&'a Image>,
}

/// What the backward pass of a normalisation needs besides its input.
#[derive(Debug)]
pub struct NormSaved {
    norm: Norm,
    shape: Shape,
    floor: f32,
    /// Mean, 1 / standard deviation, factor and offset of each group of values that are normalised together.
    groups: Buffer<f32>,
    /// Number of values per channel over which the batch was normalised, including those of other processes.
    total: Buffer<f32>,
}

/// Gradients of the inputs of a normalisation.
#[derive(Debug)]
pub struct NormGradients {
    /// Gradient of x.
    pub dx: Image,
    /// Gradient of the shortcut, if there was one.
    pub shortcut: Option<Image>,
}

impl Norm {
    fn groups(&self, batch: usize) -> usize {
        batch * self.instance + self.channels - self.instance
    }

    fn check(&self, shape: Shape, parameters: &Buffer<f32>, running: Option<&Buffer<f32>>) -> Result<()> {
        let rest = self.channels - self.instance.min(self.channels);
        let mut fits = shape.channels == self.channels && self.instance <= self.channels && shape.count() > 0;
        fits &= self.batch_at.iter().all(|at| at + rest <= parameters.len());
        fits &=
            self.instance == 0 || self.instance_at.iter().all(|at| at + self.instance <= parameters.len());
        fits &= self.bias_at.is_none_or(|at| at + self.channels <= parameters.len());
        fits &= running.is_none_or(|running| self.running_at.iter().all(|at| at + rest <= running.len()));
        ensure(fits, || format!("{self:?} does not fit {shape} and {} parameters", parameters.len()))
    }

    /// Returns the addresses of scales and shifts in a buffer, those of the instance norm first.
    fn rows(&self, buffer: &Buffer<f32>) -> [Argument; 4] {
        let [scale, shift] = if self.instance > 0 { self.instance_at } else { [0; 2] };
        [scale, shift, self.batch_at[0], self.batch_at[1]].map(|at| buffer.at(at).into())
    }
}

/// Partial statistics, from which those of the groups are computed.
struct Parts<'a> {
    /// The parts of instance norms, and their number per item.
    items: Option<(&'a Buffer<f32>, usize)>,
    /// Address, number and row length of the parts of the batch norm; `None` to use running statistics.
    batch: Option<(u64, usize, usize)>,
}

impl Gpu {
    /// Normalises x in training mode: with the batch's statistics, with which running statistics are updated. With `peers`, the
    /// batch is that of all processes.
    ///
    /// # Errors
    /// Shapes that do not match; a single value per channel; not enough memory.
    pub fn norm_train(
        &self,
        norm: &Norm,
        x: &Image,
        parameters: &Buffer<f32>,
        running: &mut Buffer<f32>,
        ending: Epilogue<'_>,
        peers: Option<&dyn Peers>,
    ) -> Result<(Image, NormSaved)> {
        norm.check(x.shape, parameters, Some(running))?;
        let alone = x.shape.batch * x.shape.positions() < 2 && peers.is_none();
        ensure(!alone, || {
            "batch norm needs more than one value per channel in training; use larger batches".to_owned()
        })?;
        let (parts, chunks) = self.moments(x)?;
        let (rest, count) = (norm.channels - norm.instance, chunks * x.shape.batch);
        let gathered;
        let batch = match peers {
            Some(peers) if rest > 0 => {
                gathered = peers.gather(self, &self.joined(norm, &parts, count)?)?;
                ensure(!gathered.is_empty() && gathered.len().is_multiple_of(3 * rest), || {
                    format!("{} statistics of {rest} channels", gathered.len())
                })?;
                (gathered.address(), gathered.len() / (3 * rest), rest)
            }
            _ => (parts.at(norm.instance), count, norm.channels),
        };
        let from = Parts { items: Some((&parts, chunks)), batch: Some(batch) };
        let saved = self.finish(norm, x.shape, from, parameters, running, ending.activation)?;
        let y = self.apply(x, &saved, ending.shortcut)?;
        Ok((y, saved))
    }

    /// Normalises x in evaluation mode: batch norm with running statistics, instance norm with each item's own.
    ///
    /// # Errors
    /// Shapes that do not match; not enough memory.
    pub fn norm_eval(
        &self,
        norm: &Norm,
        x: &Image,
        parameters: &Buffer<f32>,
        running: &Buffer<f32>,
        ending: Epilogue<'_>,
    ) -> Result<Image> {
        norm.check(x.shape, parameters, Some(running))?;
        let moments = if norm.instance > 0 { Some(self.moments(x)?) } else { None };
        let items = moments.as_ref().map(|(parts, chunks)| (parts, *chunks));
        let saved =
            self.finish(norm, x.shape, Parts { items, batch: None }, parameters, running, ending.activation)?;
        self.apply(x, &saved, ending.shortcut)
    }

    /// Computes the gradients of a normalisation. x is the input of the forward pass; `y` is its output, and only needed with a
    /// shortcut. The gradients of scale and shift, for this process's part of the batch, are added to `gradients`. The memory of dy
    /// is reused if it is not shared.
    ///
    /// # Errors
    /// The errors of [`Gpu::norm_train`].
    pub fn norm_backward(
        &self,
        saved: &NormSaved,
        x: &Image,
        dy: Image,
        y: Option<&Image>,
        gradients: &mut Buffer<f32>,
        peers: Option<&dyn Peers>,
    ) -> Result<NormGradients> {
        let norm = &saved.norm;
        norm.check(x.shape, gradients, None)?;
        let fits = saved.shape == x.shape
            && dy.shape == x.shape
            && dy.element == x.element
            && y.is_none_or(|y| y.shape == x.shape && y.element == x.element);
        ensure(fits, || format!("a gradient of {} for {}", dy.shape, x.shape))?;
        let dy = self.own(dy)?;
        let (instance_sums, mut batch_sums) = self.gradient_sums(saved, [x, &dy], y, gradients)?;
        if let Some(peers) = peers
            && norm.instance < norm.channels
        {
            peers.sum(self, &mut batch_sums)?;
        }
        let dx = if y.is_some() { self.image(x.shape, x.element)? } else { dy.clone() };
        let tiling = Tiling::new(x.shape, x.element, 4, 1 << 20);
        let mut arguments: Vec<Argument> = [x, &dy, &dx].map(|image| image.address().into()).to_vec();
        arguments.extend(
            [&saved.groups, &instance_sums, &batch_sums, &saved.total]
                .map(|buffer| Argument::from(buffer.address())),
        );
        arguments.extend(tile_sizes(norm, x.shape, &tiling));
        arguments.push(saved.floor.into());
        // SAFETY: the three images have x's shape, the buffers were made for this normalisation's groups.
        unsafe { self.launch(tiling.kernel("norm_input", x.element), tiling.grid(x.shape), arguments)? };
        Ok(NormGradients { dx, shortcut: y.map(|_| dy) })
    }

    /// Computes count, mean and sum of squared differences for each channel of each chunk of each item; also returns the number of
    /// chunks per item.
    fn moments(&self, x: &Image) -> Result<(Buffer<f32>, usize)> {
        let tiling = Tiling::new(x.shape, x.element, 8, 2048);
        let channels = x.shape.channels;
        let parts = self.buffer(x.shape.batch * tiling.chunks * 3 * channels)?;
        let sizes = [channels, x.shape.positions(), tiling.lanes].map(Argument::from);
        let mut arguments = vec![x.address().into(), parts.address().into()];
        arguments.extend(sizes);
        // SAFETY: the grid is the tiling of x's shape, and there are three rows of parts for each of its blocks.
        unsafe { self.launch(tiling.kernel("norm_moments", x.element), tiling.grid(x.shape), arguments)? };
        Ok((parts, tiling.chunks))
    }

    /// Joins `count` partial statistics into one for each channel of the batch norm.
    fn joined(&self, norm: &Norm, parts: &Buffer<f32>, count: usize) -> Result<Buffer<f32>> {
        let rest = norm.channels - norm.instance;
        let joined = self.buffer(3 * rest)?;
        let mut arguments = vec![parts.address().into(), joined.address().into()];
        arguments.extend([count, norm.channels, norm.instance].map(Argument::from));
        // SAFETY: there are `count` parts of three rows of channels, and `joined` has three rows of the rest.
        unsafe { self.launch("norm_join".to_owned(), [rest.div_ceil(JOIN), 1, 1], arguments)? };
        Ok(joined)
    }

    /// Computes the statistics of the groups from their parts. If there are parts of the batch norm, updates running statistics;
    /// else uses them.
    fn finish(
        &self,
        norm: &Norm,
        shape: Shape,
        parts: Parts<'_>,
        parameters: &Buffer<f32>,
        running: &Buffer<f32>,
        activation: Activation,
    ) -> Result<NormSaved> {
        let groups = self.buffer(4 * norm.groups(shape.batch))?;
        let total = self.buffer(1)?;
        let (items, chunks) = parts.items.map_or((0, 0), |(parts, chunks)| (parts.address(), chunks));
        let (batch, count, stride) = parts.batch.unwrap_or((0, 0, 0));
        let mut arguments = vec![items.into(), chunks.into(), batch.into(), count.into(), stride.into()];
        arguments.extend(norm.rows(parameters));
        arguments.push(norm.bias_at.map_or(0, |at| parameters.at(at)).into());
        arguments.extend(norm.running_at.map(|at| Argument::from(running.at(at))));
        arguments.extend([groups.address(), total.address()].map(Argument::from));
        arguments.extend([norm.channels, norm.instance, shape.batch].map(Argument::from));
        let tiles = norm.instance.max(norm.channels - norm.instance).div_ceil(JOIN);
        let items = if norm.instance > 0 { shape.batch } else { 0 };
        // SAFETY: `check` compared the layer with the buffers; parts are those of the shape's items and chunks, or of
        // all peers; there are four values for each group.
        unsafe { self.launch("norm_finish".to_owned(), [tiles, 1 + items, 1], arguments)? };
        Ok(NormSaved { norm: *norm, shape, floor: activation.floor(), groups, total })
    }

    fn apply(&self, x: &Image, saved: &NormSaved, shortcut: Option<&Image>) -> Result<Image> {
        let fits = shortcut.is_none_or(|s| s.shape == x.shape && s.element == x.element);
        ensure(fits, || format!("a shortcut of another shape than {}", x.shape))?;
        let y = self.image(x.shape, x.element)?;
        let tiling = Tiling::new(x.shape, x.element, 4, 1 << 20);
        let shortcut = shortcut.map_or(0, Image::address);
        let mut arguments: Vec<Argument> =
            [x.address(), shortcut, y.address(), saved.groups.address()].map(Argument::from).to_vec();
        arguments.extend(tile_sizes(&saved.norm, x.shape, &tiling));
        arguments.push(saved.floor.into());
        // SAFETY: all images have x's shape, and there are four values for each group.
        unsafe { self.launch(tiling.kernel("norm_apply", x.element), tiling.grid(x.shape), arguments)? };
        Ok(y)
    }

    /// Computes the sums over each group that dx needs; sets dy to zero where y is, and adds the gradients of scale and shift to
    /// `gradients`.
    fn gradient_sums(
        &self,
        saved: &NormSaved,
        [x, dy]: [&Image; 2],
        y: Option<&Image>,
        gradients: &mut Buffer<f32>,
    ) -> Result<(Buffer<f32>, Buffer<f32>)> {
        let (norm, shape) = (&saved.norm, x.shape);
        let tiling = Tiling::new(shape, x.element, 8, 2048);
        let parts = self.buffer::<f32>(shape.batch * tiling.chunks * 2 * norm.channels)?;
        let y = y.map_or(0, Image::address);
        let addresses = [x.address(), dy.address(), y, dy.address(), saved.groups.address(), parts.address()];
        let mut arguments: Vec<Argument> = addresses.map(Argument::from).to_vec();
        arguments.extend(tile_sizes(norm, shape, &tiling));
        arguments.push(saved.floor.into());
        // SAFETY: the images have one shape, there are two rows of parts for each block of its tiling.
        unsafe { self.launch(tiling.kernel("norm_sums", x.element), tiling.grid(shape), arguments)? };
        let rest = norm.channels - norm.instance;
        let instance_sums = self.buffer(2 * shape.batch * norm.instance)?;
        let batch_sums = self.buffer(2 * rest)?;
        let mut arguments = vec![parts.address().into(), tiling.chunks.into()];
        let buffers = [&saved.groups, &instance_sums, &batch_sums];
        arguments.extend(buffers.map(|buffer| Argument::from(buffer.address())));
        arguments.extend(norm.rows(gradients));
        let instance_tiles = norm.instance.div_ceil(JOIN);
        arguments.extend([norm.channels, norm.instance, shape.batch, instance_tiles].map(Argument::from));
        let tiles = instance_tiles + rest.div_ceil(JOIN);
        // SAFETY: `check` compared the layer with the gradients; parts and sums were made for the same shape.
        unsafe { self.launch("norm_sums_finish".to_owned(), [tiles, 1, 1], arguments)? };
        Ok((instance_sums, batch_sums))
    }
}

/// Returns the kernels' size arguments: channels, positions, channels with instance norm and lanes.
fn tile_sizes(norm: &Norm, shape: Shape, tiling: &Tiling) -> [Argument; 4] {
    [norm.channels, shape.positions(), norm.instance, tiling.lanes].map(Argument::from)
}
