//! Layers with weights, from which networks are built. Each weight has the name that it has in PyTorch.

use anyhow::Result;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::backend::geometry::Geometry;
use crate::backend::{self, Array, Backend, BackwardPass, Epilogue, Operators, Saved, TrainPass, Weights};
use crate::parameters::{Parameter, ParameterList, Parameters};

/// Initialises weights from a seed and collects them, in PyTorch's order.
pub(crate) struct ParameterBuilder {
    rng: ChaCha8Rng,
    /// The trained parameters.
    parameters: ParameterList,
    /// Running statistics.
    running: ParameterList,
}

impl ParameterBuilder {
    pub fn new(seed: u64) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Self { rng, parameters: ParameterList::default(), running: ParameterList::default() }
    }

    /// Puts parameters and running statistics on a backend.
    pub fn finish(self, backend: &Backend) -> Result<[Parameters; 2]> {
        Ok([Parameters::new(backend, self.parameters)?, Parameters::new(backend, self.running)?])
    }

    /// Adds a parameter whose values are uniform in +-1/sqrt(fan_in), PyTorch's default for convolutions and linear layers.
    fn uniform(&mut self, name: String, shape: &[usize], fan_in: usize) -> Parameter {
        let bound = 1.0 / (fan_in as f32).sqrt();
        let values = (0..shape.iter().product()).map(|_| self.rng.random_range(-bound..bound));
        self.parameters.push(name, shape, values)
    }

    pub fn constant(&mut self, name: String, value: f32, count: usize) -> Parameter {
        self.parameters.push(name, &[count], std::iter::repeat_n(value, count))
    }

    fn buffer(&mut self, name: String, value: f32, count: usize) -> Parameter {
        self.running.push(name, &[count], std::iter::repeat_n(value, count))
    }
}

/// A linear layer without bias.
#[derive(Debug, Clone)]
pub(crate) struct Linear(backend::Conv);

impl Linear {
    /// Adds a linear layer with weights (outputs, inputs).
    pub fn new(builder: &mut ParameterBuilder, name: &str, inputs: usize, outputs: usize) -> Self {
        let weight = builder.uniform(format!("{name}.weight"), &[outputs, inputs], inputs);
        // A convolution with one position.
        Self(backend::Conv { weight, geometry: Geometry::square(1, 0) })
    }

    /// Returns the weights.
    pub fn weight(&self) -> Parameter {
        self.0.weight
    }

    /// Computes the outputs (outputs, batch) of x (inputs, batch).
    pub fn forward(&self, backend: &dyn Operators, parameters: &Parameters, x: &Array) -> Result<Array> {
        backend.conv(x, parameters, &self.0)
    }

    /// Returns the gradient of x, added to `add_to`.
    pub fn backward(
        &self,
        x: &Array,
        dy: &Array,
        add_to: Option<Array>,
        pass: &mut BackwardPass<'_>,
    ) -> Result<Array> {
        pass.backend.conv_weight_gradient(x, dy, &self.0, pass)?;
        pass.backend.conv_input_gradient(dy, pass.parameters, &self.0, x.shape(), add_to)
    }
}

/// A convolution followed by a normalisation, which adds the convolution's bias.
pub(crate) struct ConvNorm {
    conv: backend::Conv,
    norm: backend::Norm,
}

/// Sizes of a convolution.
pub(crate) struct ConvSizes {
    pub inputs: usize,
    pub outputs: usize,
    /// Height and width.
    pub kernel: [usize; 2],
    pub geometry: Geometry,
    pub bias: bool,
}

impl ConvSizes {
    /// Creates a square kernel that keeps the size at stride 1, without a bias.
    pub fn square(inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Self {
        let geometry = Geometry::square(stride, kernel / 2);
        Self { inputs, outputs, kernel: [kernel; 2], geometry, bias: false }
    }
}

/// What the backward pass through a [`ConvNorm`] needs.
pub(crate) struct ConvNormSaved {
    x: Array,
    /// Result of the convolution, the input of the normalisation.
    between: Array,
    saved: Saved,
}

impl ConvNorm {
    /// Adds a convolution and a normalisation with these names; `ibn` makes the normalisation an IBN.
    pub fn new(builder: &mut ParameterBuilder, names: [&str; 2], sizes: &ConvSizes, ibn: bool) -> Self {
        let ConvSizes { inputs, outputs, kernel: [height, width], geometry, bias } = *sizes;
        let fan_in = inputs * height * width;
        let weight =
            builder.uniform(format!("{}.weight", names[0]), &[outputs, inputs, height, width], fan_in);
        let bias = bias.then(|| builder.uniform(format!("{}.bias", names[0]), &[outputs], fan_in));
        let norm = norm(builder, names[1], outputs, if ibn { outputs / 2 } else { 0 });
        Self { conv: backend::Conv { weight, geometry }, norm: backend::Norm { bias, ..norm } }
    }

    /// Computes the result (C', B, H', W') of x (C, B, H, W), by running statistics.
    pub fn forward(&self, weights: Weights<'_>, x: &Array, epilogue: Epilogue<'_>) -> Result<Array> {
        weights.backend.conv_norm(x, weights, &self.conv, &self.norm, epilogue)
    }

    /// Computes the result by the statistics of the batch, updates the running ones, and returns what the backward pass
    /// needs.
    pub fn forward_train(
        &self,
        x: &Array,
        epilogue: Epilogue<'_>,
        pass: &mut TrainPass<'_>,
    ) -> Result<(Array, ConvNormSaved)> {
        let between = pass.backend.conv(x, pass.parameters, &self.conv)?;
        let (y, saved) = pass.backend.norm_train(&between, pass, &self.norm, epilogue)?;
        Ok((y, ConvNormSaved { x: x.clone(), between, saved }))
    }

    /// Adds the gradients of the weights. Returns the input, the gradient of the convolution's result, and that of the
    /// shortcut.
    fn backward_weights(
        &self,
        saved: ConvNormSaved,
        dy: Array,
        y: Option<&Array>,
        pass: &mut BackwardPass<'_>,
    ) -> Result<(Array, Array, Option<Array>)> {
        let ConvNormSaved { x, between, saved } = saved;
        let (dy, shortcut) = pass.backend.norm_backward(&saved, &between, dy, y, &self.norm, pass)?;
        drop(between);
        pass.backend.conv_weight_gradient(&x, &dy, &self.conv, pass)?;
        Ok((x, dy, shortcut))
    }

    /// Computes the backward pass of a network's first layer, whose input needs no gradient.
    pub fn backward_first(&self, saved: ConvNormSaved, dy: Array, pass: &mut BackwardPass<'_>) -> Result<()> {
        self.backward_weights(saved, dy, None, pass).map(drop)
    }

    /// Computes the backward pass; `y` is the result of [`ConvNorm::forward_train`] if it had a shortcut. Returns
    /// the gradients of the input (added to `add_to`, the gradient that another branch gave it) and of the
    /// shortcut.
    pub fn backward(
        &self,
        saved: ConvNormSaved,
        dy: Array,
        y: Option<&Array>,
        add_to: Option<Array>,
        pass: &mut BackwardPass<'_>,
    ) -> Result<(Array, Option<Array>)> {
        let (x, dy, shortcut) = self.backward_weights(saved, dy, y, pass)?;
        Ok((pass.backend.conv_input_gradient(&dy, pass.parameters, &self.conv, x.shape(), add_to)?, shortcut))
    }
}

/// Creates a batch norm, or IBN: instance norm on the first channels.
pub(crate) fn norm(
    builder: &mut ParameterBuilder,
    name: &str,
    channels: usize,
    instance: usize,
) -> backend::Norm {
    let rest = channels - instance;
    let mut scale_and_shift = |name: &str, channels| {
        [("weight", 1.0), ("bias", 0.0)]
            .map(|(key, value)| builder.constant(format!("{name}.{key}"), value, channels))
    };
    let instance_affine = (instance > 0).then(|| scale_and_shift(&format!("{name}.IN"), instance));
    let name = if instance > 0 { format!("{name}.BN") } else { name.to_owned() };
    let batch_affine = scale_and_shift(&name, rest);
    let running = [("running_mean", 0.0), ("running_var", 1.0)]
        .map(|(key, value)| builder.buffer(format!("{name}.{key}"), value, rest));
    backend::Norm { instance, instance_affine, batch_affine, bias: None, running }
}
