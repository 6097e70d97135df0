//! The objective of training: the losses of a batch's outputs and their gradients.
//!
//! **In**: outputs of a batch's passes on the network's backend. **Out**: the losses, the gradients of the outputs, and, if a
//! loss reads the classifier's weights itself, their gradient. Losses over pairs see the rows of all ranks; the gradients are those
//! of this rank's rows.

use anyhow::{Context, Result};
use bc_formats::config::{Batches, Classified, Loss, Mining, TrainConfig};
use bc_nn::backend::Array;
use bc_nn::loss::{self, Rows, alignment_uniformity, cosine_cross_entropy, supervised_contrastive};
use bc_nn::{Backend, HeadOutputs, Network, OutputGradients};

use crate::data::Batch;
use crate::mining::{self, Distances, Triplets};
use crate::randomness::generator;
use crate::ranks::RankSync;

/// A loss as a weighted sum of numbers that may still be on the backend. Reading one waits for the device, so it is done
/// only after the backward pass is queued.
#[derive(Default, Clone)]
pub(crate) struct DeferredLoss {
    /// Numbers on the backend (arrays of one value), each with its weight.
    terms: Vec<(Array, f64)>,
    /// The part of the sum that is known already.
    constant: f64,
}

impl DeferredLoss {
    /// Returns `weight` times a number on the backend.
    fn on_backend(value: Array, weight: f64) -> Self {
        Self { terms: vec![(value, weight)], constant: 0.0 }
    }

    /// Returns a loss that is known already.
    fn known(value: f32) -> Self {
        Self { terms: Vec::new(), constant: f64::from(value) }
    }

    /// Adds `weight` times `other`.
    fn plus(mut self, other: &Self, weight: f64) -> Self {
        self.terms.extend(other.terms.iter().map(|(value, factor)| (value.clone(), weight * factor)));
        self.constant += weight * other.constant;
        self
    }

    /// Reads the sum from the backend.
    ///
    /// # Errors
    /// The device fails.
    pub fn read(self, backend: &Backend) -> Result<f32> {
        let mut sum = self.constant;
        for (value, weight) in self.terms {
            sum += weight * f64::from(*backend.rows(&value)?.first().context("a loss without a value")?);
        }
        Ok(sum as f32)
    }
}

/// Losses of a batch, and gradients of what is minimised.
#[derive(Default)]
pub(crate) struct BatchLosses {
    /// Cross entropy, without its weight: this rank's share of the mean.
    pub classification: DeferredLoss,
    /// Triplet loss, without its weight.
    pub triplet: DeferredLoss,
    /// The total loss, which is minimised.
    pub sum: DeferredLoss,
    /// Gradients of the outputs of this rank's items.
    pub outputs: OutputGradients,
    /// Gradient of the classifier's weights, if the loss reads them itself.
    pub classifier: Option<Vec<f32>>,
}

/// Everything that the losses of one batch depend on, besides the network's outputs.
pub(crate) struct Objective<'a> {
    pub train: &'a TrainConfig,
    pub network: &'a Network,
    pub rank_sync: &'a RankSync,
    pub batch: &'a Batch,
}

impl Objective<'_> {
    /// Computes the losses of the batch, and the gradients of the outputs of this rank's items.
    pub fn losses_of(&self, outputs: &HeadOutputs<Array>) -> Result<BatchLosses> {
        match self.train.loss {
            Loss::Bytecover => self.bytecover_loss(outputs),
            Loss::CosineSoftmax => self.cosine_loss(&outputs.f_c),
            _ => self.pair_loss(&outputs.f_c),
        }
    }

    fn backend(&self) -> &Backend {
        self.network.backend()
    }

    /// Computes a loss over all pairs of the batch.
    fn pair_loss(&self, f_c: &Array) -> Result<BatchLosses> {
        let (backend, dim) = (self.backend(), f_c.shape()[0]);
        let all = self.gather_rows(f_c)?;
        let (rows, labels) = (Rows::new(&all, dim), &self.batch.labels);
        let loss::Loss { value, gradient } = match self.train.loss {
            Loss::Clews => alignment_uniformity(rows, labels)?,
            _ => supervised_contrastive(rows, labels, self.train.temperature)?,
        };
        let gradient = self.rank_sync.own_rows(gradient, dim, &self.batch.shares);
        let f_c = Some(backend.matrix(&gradient, dim)?);
        Ok(BatchLosses {
            sum: DeferredLoss::known(value),
            outputs: HeadOutputs { f_c, ..HeadOutputs::default() },
            ..BatchLosses::default()
        })
    }

    /// Computes the cross entropy on the cosines of f_c with the classifier's weights.
    fn cosine_loss(&self, f_c: &Array) -> Result<BatchLosses> {
        let (backend, [dim, items, _, _]) = (self.backend(), f_c.shape());
        let classifier = self.network.classifier().context("a network without a classifier")?;
        let weights = self.network.parameters().values(classifier)?;
        let (labels, share) = self.classified_labels();
        let rows = backend.rows(&backend.part(f_c, 0, labels.len())?)?;
        let (rows, class_rows) = (Rows::new(&rows, dim), Rows::new(&weights, dim));
        let (scale, smoothing) = (self.train.cosine_scale, self.train.label_smoothing);
        let result = cosine_cross_entropy(rows, class_rows, &labels, scale, smoothing)?;
        let weighted = |mut values: Vec<f32>| {
            values.iter_mut().for_each(|value| *value *= share as f32);
            values
        };
        let mut gradient = weighted(result.loss.gradient);
        gradient.resize(items * dim, 0.0);
        let classification = DeferredLoss::default().plus(&DeferredLoss::known(result.loss.value), share);
        Ok(BatchLosses {
            sum: classification.clone(),
            classification,
            outputs: HeadOutputs { f_c: Some(backend.matrix(&gradient, dim)?), ..HeadOutputs::default() },
            classifier: Some(weighted(result.weights)),
            ..BatchLosses::default()
        })
    }

    /// Returns the labels of this rank's items that the classifier learns from (the first ones of its share), and how large
    /// a share of all such items of the batch they are.
    fn classified_labels(&self) -> (Vec<u32>, f64) {
        let classified =
            |items: usize| if self.train.classified == Classified::Anchors { items / 3 } else { items };
        let own = &self.batch.shares.own()[..classified(self.batch.shares.own().len())];
        let labels: Vec<u32> = own.iter().map(|&slot| self.batch.labels[slot as usize]).collect();
        let counted = if self.batch.shares.is_idle() { 0 } else { own.len() };
        (labels, counted as f64 / classified(self.batch.items.len()) as f64)
    }

    /// Computes the weighted sum of the cross entropy and the triplet loss.
    fn bytecover_loss(&self, outputs: &HeadOutputs<Array>) -> Result<BatchLosses> {
        let (train, backend) = (self.train, self.backend());
        let mut losses = BatchLosses::default();
        if train.classification_weight > 0.0 {
            let logits =
                outputs.logits.as_ref().context("this network has no classifier, and so no logits")?;
            let (labels, share) = self.classified_labels();
            let weight = share * train.classification_weight;
            let (value, gradient) = backend.cross_entropy(logits, &labels, train.label_smoothing, weight)?;
            losses.classification = DeferredLoss::on_backend(value, share);
            losses.sum = losses.sum.plus(&losses.classification, train.classification_weight);
            losses.outputs.logits = Some(gradient);
        }
        if train.triplet_weight > 0.0
            && let Some((value, gradient)) = self.triplet_loss(&outputs.f_t)?
        {
            losses.triplet = DeferredLoss::on_backend(value, 1.0);
            losses.sum = losses.sum.plus(&losses.triplet, train.triplet_weight);
            losses.outputs.f_t = Some(gradient);
        }
        Ok(losses)
    }

    /// Computes the triplet loss and the gradient of this rank's f_t; `None` without a triplet.
    fn triplet_loss(&self, f_t: &Array) -> Result<Option<(Array, Array)>> {
        let (backend, dim) = (self.backend(), f_t.shape()[0]);
        let alone = self.rank_sync.is_alone();
        let all = match alone {
            true => f_t.clone(),
            false => backend.matrix(&self.gather_rows(f_t)?, dim)?,
        };
        let thirds = self.train.batches == Batches::RandomTriplets && self.train.mining == Mining::Random;
        let chosen = match thirds {
            true => Triplets::in_thirds(self.batch.items.len() / 3),
            false => self.mine_triplets(&all)?,
        };
        if chosen.is_empty() {
            return Ok(None);
        }
        let (margin, weight) = (self.train.margin, self.train.triplet_weight);
        let (value, gradient) = backend.triplet_margin(&all, chosen.as_lists(), margin, weight)?;
        if alone {
            return Ok(Some((value, gradient)));
        }
        let gradient = self.rank_sync.own_rows(backend.rows(&gradient)?, dim, &self.batch.shares);
        Ok(Some((value, backend.matrix(&gradient, dim)?)))
    }

    /// Chooses triplets from the batch by `[train] mining`.
    fn mine_triplets(&self, f_t: &Array) -> Result<Triplets> {
        let labels = &self.batch.labels;
        if self.train.mining == Mining::Random {
            let position = [self.batch.epoch, self.batch.index as u64];
            let mut rng = generator(self.train.seed, "mining", &position);
            return Ok(mining::random(labels, &mut rng));
        }
        let distances = Distances::new(labels.len(), self.backend().squared_distances(f_t)?);
        Ok(match self.train.mining {
            Mining::SemiHard => mining::semi_hard(&distances, labels),
            _ => mining::batch_hard(&distances, labels),
        })
    }

    /// Gathers the rows of an array of all ranks, in the order of the batch.
    fn gather_rows(&self, own: &Array) -> Result<Vec<f32>> {
        self.rank_sync.gather_rows(self.backend().rows(own)?, own.shape()[0], &self.batch.shares)
    }
}
