//! A network: one of two bodies, followed by the embedding, the BNNeck and the classifier.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};

use crate::backend::{Array, Backend, BackwardPass, Flat, TrainPass, Upload, Weights};
use crate::gradients::Gradients;
use crate::head::{Head, HeadOutputs, HeadSaved, HeadSizes};
use crate::layers::ParameterBuilder;
use crate::parameters::{Parameter, Parameters};
use crate::peers::Peers;
use crate::settings::NetworkSettings;
use crate::{bytecover, ring};

/// The outputs of the network for a batch.
#[derive(Debug, Clone)]
pub struct Outputs {
    /// The embedding before the BNNeck, which the triplet loss uses: (B, embedding).
    pub f_t: Tensor,
    /// The embedding after the BNNeck, which retrieval compares: (B, embedding).
    pub f_c: Tensor,
    /// The classifier's outputs (B, classes), if the network has a classifier.
    pub logits: Option<Tensor>,
}

impl Outputs {
    /// Returns the logits.
    ///
    /// # Errors
    /// A network without a classifier.
    pub fn logits(&self) -> Result<&Tensor> {
        self.logits.as_ref().context("this network has no classifier, and so no logits")
    }
}

enum Body {
    ByteCover(bytecover::Body),
    Ring(ring::Body),
}

enum BodySaved {
    ByteCover(bytecover::Saved),
    Ring(ring::Saved),
}

impl Body {
    fn new(settings: &NetworkSettings, builder: &mut ParameterBuilder) -> Result<Self> {
        Ok(match settings {
            NetworkSettings::ByteCover(settings) => Self::ByteCover(bytecover::Body::new(settings, builder)),
            NetworkSettings::Ring(settings) => Self::Ring(ring::Body::new(settings, builder)?),
        })
    }

    /// Computes the pooled channels (channels, B) of x (1, B, bins, frames).
    fn forward(&self, weights: Weights<'_>, x: &Array) -> Result<Array> {
        match self {
            Self::ByteCover(body) => body.forward(weights, x),
            Self::Ring(body) => body.forward(weights, x),
        }
    }

    fn forward_train(&self, x: &Array, pass: &mut TrainPass<'_>) -> Result<(Array, BodySaved)> {
        Ok(match self {
            Self::ByteCover(body) => {
                let (y, saved) = body.forward_train(x, pass)?;
                (y, BodySaved::ByteCover(saved))
            }
            Self::Ring(body) => {
                let (y, saved) = body.forward_train(x, pass)?;
                (y, BodySaved::Ring(saved))
            }
        })
    }

    fn backward(&self, saved: BodySaved, dy: &Array, pass: &mut BackwardPass<'_>) -> Result<()> {
        match (self, saved) {
            (Self::ByteCover(body), BodySaved::ByteCover(saved)) => body.backward(saved, dy, pass),
            (Self::Ring(body), BodySaved::Ring(saved)) => body.backward(saved, dy, pass),
            _ => bail!("the backward pass needs the network of the forward pass"),
        }
    }
}

/// Inputs of a batch on the backend.
#[derive(Clone)]
pub struct Images(Array);

/// A training pass: the outputs, and what the backward pass needs.
///
/// Losses ([`crate::loss`], [`crate::backend::Operators`]) give the gradients of the outputs, and [`Pass::backward`]
/// propagates them. Several passes may feed one loss.
pub struct Pass {
    outputs: HeadOutputs<Array>,
    body: BodySaved,
    head: HeadSaved,
    /// Running statistics for parts that run again in the backward pass, if it was made to recompute them.
    discarded: Option<Parameters>,
}

/// Gradients of a pass's outputs, (size, B) each; `None` for outputs that no loss depends on.
pub type OutputGradients = HeadOutputs<Option<Array>>;

impl Pass {
    /// Returns the outputs, (size, B) each.
    pub fn outputs(&self) -> &HeadOutputs<Array> {
        &self.outputs
    }

    /// Runs the backward pass from the gradients of the outputs (`of`), and adds those of the parameters to `gradients`. Frees
    /// the saved arrays on the way.
    ///
    /// # Errors
    /// Gradients of another network.
    pub fn backward(self, network: &Network, of: OutputGradients, gradients: &mut Gradients) -> Result<()> {
        let Network { backend, parameters, peers, body, head, .. } = network;
        let Self { outputs, body: body_saved, head: head_saved, mut discarded } = self;
        drop(outputs);
        let mut pass = BackwardPass {
            backend: &**backend,
            parameters,
            gradients,
            peers: peers.as_deref(),
            discarded: discarded.as_mut(),
        };
        if let Some(dy) = head.backward(head_saved, of, &mut pass)? {
            body.backward(body_saved, &dy, &mut pass)?;
        }
        Ok(())
    }
}

/// The network with its weights.
pub struct Network {
    settings: NetworkSettings,
    backend: Backend,
    body: Body,
    head: Head,
    parameters: Parameters,
    running: Parameters,
    peers: Option<Arc<dyn Peers>>,
    recompute_activations: bool,
}

/// A copy of a network's weights, which can be swapped with its own.
pub struct Snapshot([Flat; 2]);

impl Snapshot {
    /// Returns parameters and running statistics.
    pub(crate) fn parts(&self) -> &[Flat; 2] {
        &self.0
    }

    pub(crate) fn parts_mut(&mut self) -> &mut [Flat; 2] {
        &mut self.0
    }
}

impl Network {
    /// Creates a network with random weights, drawn from the seed with PyTorch's default distributions.
    ///
    /// # Errors
    /// Sizes that are not possible; a device without enough memory.
    pub fn new(settings: &NetworkSettings, seed: u64, backend: &Backend) -> Result<Self> {
        Self::with_peers(settings, seed, backend, None)
    }

    /// Creates a network like [`Network::new`] that trains together with `peers`, each of which has a share of each batch:
    /// batch norms are computed over the whole batch, and gradients over this process's share.
    ///
    /// # Errors
    /// The errors of [`Network::new`].
    pub fn with_peers(
        settings: &NetworkSettings,
        seed: u64,
        backend: &Backend,
        peers: Option<Arc<dyn Peers>>,
    ) -> Result<Self> {
        let mut builder = ParameterBuilder::new(seed);
        let body = Body::new(settings, &mut builder)?;
        let sizes = HeadSizes {
            inputs: settings.pooled(),
            projection: settings.projection(),
            classes: settings.classes(),
        };
        let head = Head::new(&sizes, &mut builder);
        let [parameters, running] = builder.finish(backend)?;
        Ok(Self {
            settings: settings.clone(),
            backend: backend.clone(),
            body,
            head,
            parameters,
            running,
            peers,
            recompute_activations: false,
        })
    }

    /// Sets whether later training passes save only the input of each part (the front, each residual block), and their
    /// backward passes run the forward pass of the part again: this takes less memory and about a third more time, with the
    /// same results to the last bit. It must be the same for all peers.
    pub fn recompute_activations(&mut self, recompute: bool) {
        self.recompute_activations = recompute;
    }

    /// Returns the sizes of the network.
    pub fn settings(&self) -> &NetworkSettings {
        &self.settings
    }

    /// Returns the backend that it runs on.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Computes the outputs for x (B, bins, frames), pooled CQT magnitudes, in evaluation mode: by running statistics, without
    /// a backward pass.
    ///
    /// # Errors
    /// Another number of bins.
    pub fn forward(&self, x: &Tensor) -> Result<Outputs> {
        let (f_t, f_c) = self.features(x)?;
        let logits = self.head.logits(&*self.backend, &self.parameters, &f_c)?;
        let logits = logits.map(|logits| self.tensor(&logits)).transpose()?;
        Ok(Outputs { f_t: self.tensor(&f_t)?, f_c: self.tensor(&f_c)?, logits })
    }

    /// Computes f_t and f_c of x in evaluation mode, without the logits.
    ///
    /// # Errors
    /// Another number of bins.
    pub fn embed(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let (f_t, f_c) = self.features(x)?;
        Ok((self.tensor(&f_t)?, self.tensor(&f_c)?))
    }

    /// Converts a matrix to a tensor on the CPU with one row for each sample.
    fn tensor(&self, x: &Array) -> Result<Tensor> {
        let [channels, batch, _, _] = x.shape();
        Ok(Tensor::from_vec(self.backend.rows(x)?, (batch, channels), &Device::Cpu)?)
    }

    /// Sends inputs (B, bins, frames) to the backend: the next batch travels while a step runs.
    ///
    /// # Errors
    /// Another number of bins.
    pub fn send(&self, values: &[f32], [batch, bins, frames]: [usize; 3]) -> Result<Upload> {
        ensure!(
            bins == self.settings.bins() && frames > 0,
            "the network was made for {} bins, but its input has {bins} x {frames}",
            self.settings.bins()
        );
        self.backend.send(values, [batch, bins, frames])
    }

    /// Returns the inputs that were sent, cut into `parts` of equally many samples.
    ///
    /// # Errors
    /// A number of samples that is no multiple of `parts`.
    pub fn receive(&self, upload: Upload, parts: usize) -> Result<Vec<Images>> {
        Ok(self.backend.receive(upload, parts)?.into_iter().map(Images).collect())
    }

    /// Copies inputs (B, bins, frames) to the backend.
    ///
    /// # Errors
    /// Another number of bins.
    pub fn images(&self, values: &[f32], size: [usize; 3]) -> Result<Images> {
        self.receive(self.send(values, size)?, 1)?.pop().context("a batch in one part")
    }

    fn images_of(&self, x: &Tensor) -> Result<Images> {
        let (batch, bins, frames) = x.dims3().context("the network's input is batch x bins x frames")?;
        self.images(&x.flatten_all()?.to_vec1::<f32>()?, [batch, bins, frames])
    }

    /// Computes f_t and f_c, (embedding, B) each.
    fn features(&self, x: &Tensor) -> Result<(Array, Array)> {
        let Images(x) = self.images_of(x)?;
        let weights =
            Weights { backend: &*self.backend, parameters: &self.parameters, running: &self.running };
        self.head.forward(weights, &self.body.forward(weights, &x)?)
    }

    /// Runs the forward pass in training mode: normalisations use the statistics of the batch, and running statistics are
    /// updated.
    ///
    /// # Errors
    /// Another number of bins; a batch of one.
    pub fn forward_train(&mut self, x: &Tensor) -> Result<Pass> {
        self.forward_train_images(&self.images_of(x)?)
    }

    /// Runs [`Network::forward_train`] on inputs that are on the backend already.
    ///
    /// # Errors
    /// The errors of [`Network::forward_train`].
    pub fn forward_train_images(&mut self, Images(x): &Images) -> Result<Pass> {
        let recompute = self.recompute_activations;
        let discarded = recompute.then(|| self.running.zeros()).transpose()?;
        let Self { backend, body, head, parameters, running, peers, .. } = self;
        let mut pass =
            TrainPass { backend: &**backend, parameters, running, peers: peers.as_deref(), recompute };
        let (pooled, body) = body.forward_train(x, &mut pass)?;
        let (outputs, head) = head.forward_train(pooled, &mut pass)?;
        Ok(Pass { outputs, body, head, discarded })
    }

    /// Returns the classifier's weights (classes, embedding), if there is a classifier. They are for a loss that reads the
    /// weights itself; it must also add their gradient ([`Gradients::add`]), because [`Pass::backward`] starts from the
    /// gradients of the outputs.
    pub fn classifier(&self) -> Option<Parameter> {
        self.head.classifier().map(crate::layers::Linear::weight)
    }

    /// Returns the trained parameters, in PyTorch's order.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Returns the trained parameters, for the optimiser.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// Returns the running statistics.
    pub fn running(&self) -> &Parameters {
        &self.running
    }

    /// Returns the running statistics for overwriting.
    pub fn running_mut(&mut self) -> &mut Parameters {
        &mut self.running
    }

    /// Returns the parameters and then the running statistics by PyTorch's names, as tensors on the CPU.
    ///
    /// # Errors
    /// The device fails.
    pub fn tensors(&self) -> Result<Vec<(String, Tensor)>> {
        let mut tensors = self.parameters.tensors()?;
        tensors.extend(self.running.tensors()?);
        Ok(tensors)
    }

    /// Returns a copy of all weights.
    ///
    /// # Errors
    /// A device without memory for them.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot([self.parameters.copy()?, self.running.copy()?]))
    }

    /// Swaps the weights with those of a snapshot.
    ///
    /// # Errors
    /// The device fails.
    pub fn swap(&mut self, Snapshot([parameters, running]): &mut Snapshot) -> Result<()> {
        self.parameters.swap(parameters)?;
        self.running.swap(running)
    }

    /// Updates an average of weights with the present ones: `average * decay + now * (1 - decay)`.
    ///
    /// # Errors
    /// A snapshot of another network.
    pub fn average(&self, Snapshot([parameters, running]): &mut Snapshot, decay: f64) -> Result<()> {
        self.backend.average(parameters, self.parameters.flat(), decay)?;
        self.backend.average(running, self.running.flat(), decay)
    }
}
