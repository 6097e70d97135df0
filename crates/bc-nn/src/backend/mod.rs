//! Backends: the operators that compute the network's arithmetic, and the memory that they work on.
//!
//! Layers, networks, losses and the optimiser are written once, for the trait [`Operators`]. A backend is chosen when a network
//! is created, and only the backend knows layout and precision of an [`Array`] or a [`Flat`]: on the CPU channels come first
//! and values have 32 bits; other backends may differ.
//!
//! To add an operator, add a method to [`Operators`] and implement it in `cpu/` and in `cuda.rs` (whose kernels are in the
//! crate bc-cuda). To add a backend, implement the whole trait and add a name to [`Backend::open`] (`open.rs`).

pub mod cpu;
#[cfg(feature = "device")]
mod cuda;
pub mod geometry;
#[cfg(feature = "cuda")]
pub mod gpus;
#[cfg(not(feature = "cuda"))]
#[path = "no_gpus.rs"]
pub mod gpus;
mod open;

use std::any::Any;
use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use crate::gradients::Gradients;
use crate::loss::Triplets;
use crate::optim::AdamSettings;
use crate::parameters::{Parameter, Parameters};
use crate::peers::Peers;
use geometry::Geometry;
pub use open::names_gpu;

/// A shape: channels, batch, height, width.
pub type Shape = [usize; 4];

/// An array of a backend with its logical shape: (channels, batch, height, width), or (channels, batch, 1, 1) for a matrix.
/// A clone shares its memory; an operator that overwrites an array copies it first if it is shared.
#[derive(Clone)]
pub struct Array {
    shape: Shape,
    data: Arc<dyn Any + Send + Sync>,
}

/// The error message for an array of another backend.
const FOREIGN: &str = "an array of another backend";

impl Array {
    /// Wraps a backend's values.
    pub fn new(shape: Shape, data: impl Any + Send + Sync) -> Self {
        Self { shape, data: Arc::new(data) }
    }

    /// Returns the shape: channels, batch, height, width.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Returns the number of values.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Returns the same values in another shape of as many channels: batch and positions are in the same order in
    /// every layout.
    ///
    /// # Errors
    /// Another number of channels or of values.
    pub fn reshape(self, shape: Shape) -> Result<Self> {
        if shape[0] != self.shape[0] || shape.iter().product::<usize>() != self.count() {
            bail!("{:?} cannot be reshaped to {shape:?}", self.shape);
        }
        Ok(Self { shape, ..self })
    }

    /// Returns the backend's own representation.
    ///
    /// # Errors
    /// An array of another backend.
    pub fn data<T: Any>(&self) -> Result<&T> {
        self.data.downcast_ref().context(FOREIGN)
    }

    /// Returns the backend's own representation, by value.
    ///
    /// # Errors
    /// An array of another backend.
    pub fn into_data<T: Any + Clone + Send + Sync>(self) -> Result<T> {
        let Ok(data) = self.data.downcast::<T>() else { bail!(FOREIGN) };
        Ok(Arc::unwrap_or_clone(data))
    }

    /// Returns the backend's own representation, mutable.
    ///
    /// # Errors
    /// An array of another backend.
    pub fn data_mut<T: Any + Clone + Send + Sync>(&mut self) -> Result<&mut T> {
        if Arc::get_mut(&mut self.data).is_none() {
            self.data = Arc::new(self.data::<T>()?.clone());
        }
        Arc::get_mut(&mut self.data).and_then(|data| data.downcast_mut()).context(FOREIGN)
    }
}

/// What the backward pass of an operator needs besides arrays, in a backend's own representation.
pub struct Saved(Box<dyn Any + Send>);

impl Saved {
    /// Wraps a backend's own representation.
    pub fn new(data: impl Any + Send) -> Self {
        Self(Box::new(data))
    }

    /// Returns the backend's own representation.
    ///
    /// # Errors
    /// What another operator saved.
    pub fn get<T: Any>(&self) -> Result<&T> {
        self.0.downcast_ref().context("what another operator saved")
    }
}

/// Inputs of a batch that are being copied to the backend, in the backend's own representation.
pub struct Upload(Box<dyn Any + Send>);

impl Upload {
    /// Wraps a backend's own representation.
    pub fn new(data: impl Any + Send) -> Self {
        Self(Box::new(data))
    }

    /// Returns the backend's own representation, by value.
    ///
    /// # Errors
    /// An upload to another backend.
    pub fn into_data<T: Any>(self) -> Result<T> {
        let Ok(data) = self.0.downcast::<T>() else { bail!("an upload to another backend") };
        Ok(*data)
    }
}

/// Flat memory: one contiguous block of 32-bit values, such as all parameters of a network or all their gradients.
pub struct Flat(Box<dyn Any + Send + Sync>);

impl Flat {
    /// Wraps a backend's memory.
    pub fn new(data: impl Any + Send + Sync) -> Self {
        Self(Box::new(data))
    }

    /// Returns the backend's own representation.
    ///
    /// # Errors
    /// Memory of another backend.
    pub fn data<T: Any>(&self) -> Result<&T> {
        self.0.downcast_ref().context("memory of another backend")
    }

    /// Returns the backend's own representation, mutable.
    ///
    /// # Errors
    /// Memory of another backend.
    pub fn data_mut<T: Any>(&mut self) -> Result<&mut T> {
        self.0.downcast_mut().context("memory of another backend")
    }
}

/// The activation after a normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// No activation.
    Identity,
    /// ReLU.
    Relu,
}

/// A convolution: weights (outputs, inputs, kernel height, kernel width), or (outputs, inputs) of a linear layer.
#[derive(Debug, Clone, Copy)]
pub struct Conv {
    /// The weights.
    pub weight: Parameter,
    /// Stride and padding of the window.
    pub geometry: Geometry,
}

/// A normalisation of the first `instance` channels over each sample, and of the others over the batch (IBN, Pan et al.
/// 2018).
#[derive(Debug, Clone)]
pub struct Norm {
    /// Number of channels of the instance norm.
    pub instance: usize,
    /// Scale and shift of the instance norm, if it has channels.
    pub instance_affine: Option<[Parameter; 2]>,
    /// Scale and shift of the batch norm.
    pub batch_affine: [Parameter; 2],
    /// Bias of the preceding convolution, which is added here, where it costs nothing.
    pub bias: Option<Parameter>,
    /// Running means and variances of the batch norm, in [`Weights::running`].
    pub running: [Parameter; 2],
}

/// A network's weights, as operators read them.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    /// The backend that holds them.
    pub backend: &'a dyn Operators,
    /// The trained parameters.
    pub parameters: &'a Parameters,
    /// Running statistics.
    pub running: &'a Parameters,
}

/// What a training pass reads and updates.
pub struct TrainPass<'a> {
    /// The backend that runs the pass.
    pub backend: &'a dyn Operators,
    /// The trained parameters.
    pub parameters: &'a Parameters,
    /// Running statistics, which the pass updates with those of the batch.
    pub running: &'a mut Parameters,
    /// The peers that share the batch of the norms.
    pub peers: Option<&'a dyn Peers>,
    /// Whether parts of the network save only their input, and the backward pass runs their forward pass again.
    pub recompute: bool,
}

/// What a backward pass reads and adds to.
pub struct BackwardPass<'a> {
    /// The backend that runs the pass.
    pub backend: &'a dyn Operators,
    /// The trained parameters.
    pub parameters: &'a Parameters,
    /// The gradients of the parameters, to which the pass adds.
    pub gradients: &'a mut Gradients,
    /// The peers that share the batch of the norms.
    pub peers: Option<&'a dyn Peers>,
    /// Running statistics that nobody reads, for parts whose forward pass runs again: the first forward pass has already
    /// updated those of the network.
    pub discarded: Option<&'a mut Parameters>,
}

/// The operations after a normalisation: the activation, and then, if there is a shortcut of the output's shape, the sum with
/// it and a ReLU.
#[derive(Clone, Copy)]
pub struct Epilogue<'a> {
    /// The activation after the normalisation.
    pub activation: Activation,
    /// The shortcut that is added.
    pub shortcut: Option<&'a Array>,
}

impl Epilogue<'_> {
    /// Nothing follows.
    pub const NOTHING: Self = Self { activation: Activation::Identity, shortcut: None };
    /// A ReLU follows.
    pub const RELU: Self = Self { activation: Activation::Relu, shortcut: None };
}

/// One step of Adam.
#[derive(Debug, Clone, Copy)]
pub struct AdamUpdate {
    /// Everything but the learning rate.
    pub settings: AdamSettings,
    /// The number of this step, from 1.
    pub number: u64,
    /// The learning rate.
    pub rate: f64,
    /// The factors of the gradients.
    pub clipping: Clipping,
}

/// One parameter in a step of Adam.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdamRange {
    /// The range of its values in flat memory.
    pub range: Range<usize>,
    /// Whether weight decay applies to it.
    pub decayed: bool,
    /// Whether it has a gradient; without one its values do not change.
    pub written: bool,
}

/// How gradients are scaled before a step: first by `gradient_scale`, and then so that their norm is at most `max_norm`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clipping {
    /// One over the number of batches whose gradients were added.
    pub gradient_scale: f64,
    /// Maximum norm; 0 for no limit.
    pub max_norm: f64,
}

/// Weights and moments that a step updates, and the gradients.
pub struct AdamState<'a> {
    /// Weights.
    pub weights: &'a mut Flat,
    /// First and second moments.
    pub moments: &'a mut [Flat; 2],
    /// Gradients.
    pub gradients: &'a Flat,
}

/// The operators of a backend. Shapes are logical; every array and flat memory must be of this backend. Calls may return before
/// the work is done: only those that return plain numbers wait for it.
///
/// All methods return an error for shapes that do not fit, insufficient memory, or a failure of the device.
#[allow(clippy::missing_errors_doc)]
pub trait Operators: Send + Sync {
    /// Returns a description of the backend and its device, for messages.
    fn describe(&self) -> String;
    /// Returns the bytes of memory that can be allocated now, if the system or the device reports them.
    fn free_memory(&self) -> Result<Option<usize>>;

    // --- memory -----------------------------------------------------------------------------------------------------

    /// Sends images of one channel, (batch, height, width) in row-major order, to the device. Returns once `values` may be
    /// reused; the transfer overlaps with the work that was queued before.
    fn send(&self, values: &[f32], size: [usize; 3]) -> Result<Upload>;
    /// Returns the images that were sent, cut into `parts` arrays of equally many samples: (1, batch / parts, height, width).
    fn receive(&self, upload: Upload, parts: usize) -> Result<Vec<Array>>;
    /// Returns a matrix (channels, batch) from one row for each sample.
    fn matrix(&self, rows: &[f32], channels: usize) -> Result<Array>;
    /// Returns the rows of a matrix: for each sample its channels.
    fn rows(&self, x: &Array) -> Result<Vec<f32>>;
    /// Concatenates matrices with the same number of channels along the batch.
    fn join(&self, parts: &[&Array]) -> Result<Array>;
    /// Returns `count` samples of a matrix from `first` on.
    fn part(&self, x: &Array, first: usize, count: usize) -> Result<Array>;
    /// Creates flat memory with these values.
    fn flat(&self, values: Vec<f32>) -> Result<Flat>;
    /// Reads a range of flat memory.
    fn read(&self, flat: &Flat, range: Range<usize>) -> Result<Vec<f32>>;
    /// Writes values to flat memory from offset `from` on, or adds them with `add`.
    fn write(&self, flat: &mut Flat, from: usize, values: &[f32], add: bool) -> Result<()>;
    /// Discards the values of gradients: the next write overwrites instead of adding, or the values are
    /// set to zero.
    fn discard_gradients(&self, gradients: &mut Flat) -> Result<()>;
    /// Returns the values of flat memory as a slice, if the CPU can read them in place.
    fn host<'a>(&self, flat: &'a Flat) -> Option<&'a [f32]>;
    /// Updates the copies of the weights in another precision or layout, if the backend has any.
    fn refresh(&self, weights: &mut Parameters) -> Result<()>;
    /// Replaces flat memory by its sum over all processes, if their devices are connected; returns whether it did.
    fn sum_over_devices(&self, flat: &mut Flat) -> Result<bool>;

    // --- layers -----------------------------------------------------------------------------------------------------

    /// Computes a convolution, without its bias.
    fn conv(&self, x: &Array, parameters: &Parameters, conv: &Conv) -> Result<Array>;
    /// Computes the gradient of the input of a convolution, which has shape `x`; adds it to `add_to` if that is given.
    fn conv_input_gradient(
        &self,
        dy: &Array,
        parameters: &Parameters,
        conv: &Conv,
        x: Shape,
        add_to: Option<Array>,
    ) -> Result<Array>;
    /// Adds the gradient of the weights of a convolution to those of the pass.
    fn conv_weight_gradient(
        &self,
        x: &Array,
        dy: &Array,
        conv: &Conv,
        pass: &mut BackwardPass<'_>,
    ) -> Result<()>;
    /// Computes a convolution and the normalisation after it, by running statistics.
    fn conv_norm(
        &self,
        x: &Array,
        weights: Weights<'_>,
        conv: &Conv,
        norm: &Norm,
        epilogue: Epilogue<'_>,
    ) -> Result<Array>;
    /// Computes a normalisation by running statistics (for the channels of the instance norm, by those of each sample).
    fn norm(&self, x: &Array, weights: Weights<'_>, norm: &Norm, epilogue: Epilogue<'_>) -> Result<Array>;
    /// Computes a normalisation by the statistics of the batch, and updates the running ones.
    fn norm_train(
        &self,
        x: &Array,
        pass: &mut TrainPass<'_>,
        norm: &Norm,
        epilogue: Epilogue<'_>,
    ) -> Result<(Array, Saved)>;
    /// Computes the backward pass of [`Operators::norm_train`], and overwrites dy; `y` is the output if there was a shortcut.
    /// Returns the gradients of x and of the shortcut.
    fn norm_backward(
        &self,
        saved: &Saved,
        x: &Array,
        dy: Array,
        y: Option<&Array>,
        norm: &Norm,
        pass: &mut BackwardPass<'_>,
    ) -> Result<(Array, Option<Array>)>;
    /// Computes max pooling with 3x3 windows, stride 2 and padding 1.
    fn max_pool(&self, x: &Array) -> Result<(Array, Saved)>;
    /// Computes the backward pass of [`Operators::max_pool`].
    fn max_pool_backward(&self, dy: &Array, saved: &Saved) -> Result<Array>;
    /// Computes GeM pooling over height and width of x (C, B, H, W), with the exponent `p`: (C, B).
    fn gem(&self, x: &Array, parameters: &Parameters, p: Parameter) -> Result<Array>;
    /// Computes the backward pass of [`Operators::gem`], from x, the result y and its gradient.
    fn gem_backward(
        &self,
        x: &Array,
        y: &Array,
        dy: &Array,
        p: Parameter,
        pass: &mut BackwardPass<'_>,
    ) -> Result<Array>;
    /// Computes maxima and means of x (C, B, groups * H, W) over the groups: (2 C, B, H, W), the maxima first.
    fn max_mean(&self, x: &Array, groups: usize) -> Result<(Array, Saved)>;
    /// Computes the backward pass of [`Operators::max_mean`].
    fn max_mean_backward(&self, dy: &Array, saved: &Saved) -> Result<Array>;
    /// Computes the means of `stride` neighbouring columns.
    fn time_mean(&self, x: &Array, stride: usize) -> Result<Array>;
    /// Computes the backward pass of [`Operators::time_mean`], for an input of shape `x`.
    fn time_mean_backward(&self, dy: &Array, x: Shape, stride: usize) -> Result<Array>;
    /// Computes the sum of two arrays of one shape.
    fn add(&self, a: Array, b: &Array) -> Result<Array>;

    // --- losses: each returns its value as an array of one value, and `weight` times its gradient ---------------------

    /// Computes [`crate::loss::cross_entropy_smoothed`] of the first samples of logits (classes, batch), as many as there are
    /// labels; the gradient of the others is zero.
    fn cross_entropy(
        &self,
        logits: &Array,
        labels: &[u32],
        smoothing: f64,
        weight: f64,
    ) -> Result<(Array, Array)>;
    /// Computes [`crate::loss::triplet_margin`] of samples of x (dimensions, batch).
    fn triplet_margin(
        &self,
        x: &Array,
        triplets: Triplets<'_>,
        margin: f64,
        weight: f64,
    ) -> Result<(Array, Array)>;
    /// Computes the squared Euclidean distances between all samples of x (dimensions, batch): batch x batch.
    fn squared_distances(&self, x: &Array) -> Result<Vec<f32>>;

    // --- optimiser --------------------------------------------------------------------------------------------------

    /// Computes the Euclidean norm of some ranges of flat memory.
    fn euclidean_norm(&self, flat: &Flat, ranges: &[Range<usize>]) -> Result<f64>;
    /// Makes one step of Adam with clipped gradients, and returns their norm times [`Clipping::gradient_scale`] before
    /// clipping. Nothing changes if that is not finite.
    fn adam(&self, state: AdamState<'_>, ranges: &[AdamRange], update: &AdamUpdate) -> Result<f64>;
    /// Replaces `average` by `average * decay + values * (1 - decay)`.
    fn average(&self, average: &mut Flat, values: &Flat, decay: f64) -> Result<()>;
}

/// How a GPU stores and multiplies numbers. Weights, statistics, losses and moments have 32 bits in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32-bit values and multiplications.
    #[default]
    F32,
    /// 32-bit values, which are multiplied with 19 bits.
    Tf32,
    /// Activations have 16 bits (bf16).
    Bf16,
}

impl Precision {
    /// Returns the name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }

    /// Parses the name of a precision.
    ///
    /// # Errors
    /// An unknown name.
    pub fn named(name: &str) -> Result<Self> {
        let all = [Self::F32, Self::Tf32, Self::Bf16];
        let found = all.into_iter().find(|precision| precision.name() == name);
        found.with_context(|| format!("precision = \"{name}\" is not one of \"f32\", \"tf32\", \"bf16\""))
    }
}

/// A backend, shared by everything that uses it.
#[derive(Clone)]
pub struct Backend(pub(in crate::backend) Arc<dyn Operators>);

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Backend({})", self.describe())
    }
}

impl Deref for Backend {
    type Target = dyn Operators;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}
