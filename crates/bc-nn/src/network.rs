//! A network: one of the known bodies, then the embedding, the BNNeck and the classifier.

use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};

use crate::gradients::Gradients;
use crate::head::{Columns, Head, HeadSaved, HeadSizes};
use crate::layers::Weights;
use crate::peers::Peers;
use crate::settings::NetworkSettings;
use crate::{bytecover, ring};

/// What the network computes from a batch.
#[derive(Debug, Clone)]
pub struct Outputs {
    /// (B, embedding), before the BNNeck: what the triplet loss sees.
    pub f_t: Tensor,
    /// (B, embedding), behind it: what is compared in retrieval.
    pub f_c: Tensor,
    /// (B, classes), if the network has a classifier.
    pub logits: Option<Tensor>,
}

impl Outputs {
    /// The logits.
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
    fn new(settings: &NetworkSettings, weights: &mut Weights<'_>) -> Result<Self> {
        Ok(match settings {
            NetworkSettings::ByteCover(settings) => Self::ByteCover(bytecover::Body::new(settings, weights)?),
            NetworkSettings::Ring(settings) => Self::Ring(ring::Body::new(settings, weights)?),
        })
    }

    /// (1, B, bins, frames) to (channels, B).
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::ByteCover(body) => body.forward(x),
            Self::Ring(body) => body.forward(x),
        }
    }

    fn forward_train(&self, x: &Tensor) -> candle_core::Result<(Tensor, BodySaved)> {
        Ok(match self {
            Self::ByteCover(body) => {
                let (y, saved) = body.forward_train(x)?;
                (y, BodySaved::ByteCover(saved))
            }
            Self::Ring(body) => {
                let (y, saved) = body.forward_train(x)?;
                (y, BodySaved::Ring(saved))
            }
        })
    }

    fn backward(&self, saved: BodySaved, dy: &Tensor, gradients: &mut Gradients) -> candle_core::Result<()> {
        match (self, saved) {
            (Self::ByteCover(body), BodySaved::ByteCover(saved)) => body.backward(saved, dy, gradients),
            (Self::Ring(body), BodySaved::Ring(saved)) => body.backward(saved, dy, gradients),
            _ => candle_core::bail!("the backward pass needs the network that made the forward pass"),
        }
    }
}

/// A training pass: the outputs, and what the backward pass needs.
///
/// The outputs are leaves of candle's graph: losses are built from them, `backward` of a loss
/// gives their gradients, and [`Pass::backward`] takes it from there. Several passes may feed one loss.
pub struct Pass {
    outputs: Outputs,
    f_t: Var,
    f_c: Var,
    logits: Option<Var>,
    body: BodySaved,
    head: HeadSaved,
}

impl Pass {
    /// The outputs.
    pub fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// Adds the gradients of the network's parameters, from those that a loss gave the outputs;
    /// none are added if the loss depends on none of them. Frees the saved tensors as it goes.
    ///
    /// # Errors
    /// Gradients of another network.
    pub fn backward(self, network: &Network, loss: &GradStore, gradients: &mut Gradients) -> Result<()> {
        let of = |leaf: &Var| loss.get(leaf).map(columns).transpose();
        let of = Columns {
            f_t: of(&self.f_t)?,
            f_c: of(&self.f_c)?,
            logits: self.logits.as_ref().map_or(Ok(None), of)?,
        };
        if let Some(dy) = network.head.backward(self.head, of, gradients)? {
            network.body.backward(self.body, &dy, gradients)?;
        }
        Ok(())
    }
}

/// The network with its weights.
pub struct Network {
    settings: NetworkSettings,
    body: Body,
    head: Head,
    parameters: Vec<(String, Var)>,
    buffers: Vec<(String, Var)>,
}

impl Network {
    /// Fresh weights, drawn from the seed as PyTorch draws them by default.
    ///
    /// # Errors
    /// Sizes that no network has; a device without memory for them.
    pub fn new(settings: &NetworkSettings, seed: u64, device: &Device) -> Result<Self> {
        Self::with_peers(settings, seed, device, None)
    }

    /// As [`Network::new`], with `peers` that have a share of each training batch: batch norms are over all of it,
    /// and gradients of this process's share.
    ///
    /// # Errors
    /// As [`Network::new`].
    pub fn with_peers(
        settings: &NetworkSettings,
        seed: u64,
        device: &Device,
        peers: Option<Arc<dyn Peers>>,
    ) -> Result<Self> {
        let mut weights = Weights::new(seed, device, peers);
        let body = Body::new(settings, &mut weights)?;
        let sizes = HeadSizes {
            inputs: settings.pooled(),
            projection: settings.projection(),
            classes: settings.classes(),
        };
        let head = Head::new(&sizes, &mut weights)?;
        let Weights { parameters, buffers, .. } = weights;
        Ok(Self { settings: settings.clone(), body, head, parameters, buffers })
    }

    /// Its sizes.
    pub fn settings(&self) -> &NetworkSettings {
        &self.settings
    }

    /// The evaluation mode: by running statistics, without a backward pass. x is (B, bins,
    /// frames), the pooled CQT magnitudes.
    ///
    /// # Errors
    /// Another number of bins.
    pub fn forward(&self, x: &Tensor) -> Result<Outputs> {
        let (f_t, f_c) = self.features(x)?;
        let logits = self.head.logits(&f_c)?;
        let logits = logits.as_ref().map(rows).transpose()?;
        Ok(Outputs { f_t: rows(&f_t)?, f_c: rows(&f_c)?, logits })
    }

    /// f_t and f_c of x in evaluation mode, without the classifier's work.
    ///
    /// # Errors
    /// Another number of bins.
    pub fn embed(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let (f_t, f_c) = self.features(x)?;
        Ok((rows(&f_t)?, rows(&f_c)?))
    }

    fn images(&self, x: &Tensor) -> Result<Tensor> {
        let (_, bins, frames) = x.dims3().context("the network's input is batch x bins x frames")?;
        anyhow::ensure!(
            bins == self.settings.bins() && frames > 0,
            "the network was made for {} bins, its input has {bins} x {frames}",
            self.settings.bins()
        );
        Ok(x.contiguous()?.unsqueeze(0)?)
    }

    /// f_t and f_c, (embedding, B).
    fn features(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok(self.head.forward(self.body.forward(&self.images(x)?)?)?)
    }

    /// The training mode: normalisations use the statistics of the batch, running statistics are updated.
    ///
    /// # Errors
    /// Another number of bins; a batch of one.
    pub fn forward_train(&self, x: &Tensor) -> Result<Pass> {
        let (pooled, body) = self.body.forward_train(&self.images(x)?)?;
        let (out, head) = self.head.forward_train(pooled)?;
        let leaf = |x: &Tensor| Var::from_tensor(&rows(x)?);
        let (f_t, f_c) = (leaf(&out.f_t)?, leaf(&out.f_c)?);
        let logits = out.logits.as_ref().map(leaf).transpose()?;
        let outputs = Outputs {
            f_t: f_t.as_tensor().clone(),
            f_c: f_c.as_tensor().clone(),
            logits: logits.as_ref().map(|logits| logits.as_tensor().clone()),
        };
        Ok(Pass { outputs, f_t, f_c, logits, body, head })
    }

    /// The classifier's weights (classes, embedding), if there is one: for a loss that reads them itself.
    pub fn classifier(&self) -> Option<Var> {
        self.head.classifier().map(|classifier| classifier.var.clone())
    }

    /// Adds the gradient that such a loss gave these weights, once for each loss ([`Pass::backward`] knows the
    /// gradients of the outputs alone); none if the loss did not read them.
    ///
    /// # Errors
    /// Gradients of another network.
    pub fn backward_classifier(&self, loss: &GradStore, gradients: &mut Gradients) -> Result<()> {
        let Some(classifier) = self.head.classifier() else { return Ok(()) };
        let Some(gradient) = loss.get(&classifier.var) else { return Ok(()) };
        Ok(gradients.add(classifier.index, &gradient.flatten_all()?.to_vec1::<f32>()?)?)
    }

    /// What is trained, by PyTorch's names and in PyTorch's order.
    pub fn parameters(&self) -> Vec<(String, Var)> {
        self.parameters.clone()
    }

    /// Running statistics, by PyTorch's names.
    pub fn buffers(&self) -> Vec<(String, Var)> {
        self.buffers.clone()
    }

    /// See [`NetworkSettings::flops`].
    pub fn flops(&self, bins: usize, frames: usize) -> f64 {
        self.settings.flops(bins, frames)
    }
}

/// One sample per row.
fn rows(x: &Tensor) -> candle_core::Result<Tensor> {
    x.t()?.contiguous()
}

/// The transpose of rows (B, embedding).
fn columns(x: &Tensor) -> candle_core::Result<Tensor> {
    x.t()?.contiguous()
}
