//! Training by several ranks (processes) that share every batch, with the result of one.
//!
//! Each rank computes its share of a batch ([`crate::sampler::Shares`]). Three things need the others: batch norms
//! ([`batch_norm_exchange`]), losses over pairs and triplets, which see the embeddings of all ([`RankSync::gather_rows`]), and the
//! gradients, which are summed while the backward pass continues ([`bucketed_all_reduce`]), or after it if they are on GPUs
//! ([`single_all_reduce`]). With a single rank, nothing of this is needed. [`device`] gives each rank a device of its own.

mod batch_norm_exchange;
mod bucketed_all_reduce;
pub mod device;
mod reduction_cost;
mod single_all_reduce;

use std::sync::Arc;

use anyhow::{Context, Result};
use bc_cli::progress;
use bc_formats::config::TrainConfig;
use bc_nn::{Backend, Gradients, Parameters, Peers};
use bc_ranks::{Ranks, Values};

use crate::sampler::Shares;
use batch_norm_exchange::BatchNormExchange;
use bucketed_all_reduce::BucketedAllReduce;
pub use reduction_cost::{ReductionCost, ReductionPath};
use single_all_reduce::SingleAllReduce;

/// An error that all ranks have in common: rank 0 reports it, and none has to end the others.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SharedError(pub String);

/// Prints a line once, by rank 0.
pub(crate) fn print_once(ranks: &Ranks, text: String) {
    if ranks.is_first() {
        progress::line(text);
    }
}

/// Synchronises a learner with the other ranks.
pub struct RankSync {
    ranks: Ranks,
    norms: Option<Arc<BatchNormExchange>>,
    reduction: GradientReduction,
}

/// How gradients are summed over ranks.
enum GradientReduction {
    /// There is a single rank: nothing is summed.
    None,
    Bucketed(BucketedAllReduce),
    Single(SingleAllReduce),
}

impl RankSync {
    /// Opens channels for the gradients, which are on `backend`, and for batch norms if they are shared.
    ///
    /// # Errors
    /// A rank that has ended.
    pub fn new(ranks: &Ranks, train: &TrainConfig, backend: &Backend) -> Result<Self> {
        if ranks.is_alone() {
            return Ok(Self { ranks: ranks.clone(), norms: None, reduction: GradientReduction::None });
        }
        let channel = ranks.channel(train.deterministic)?;
        let norms = train.sync_norms.then(|| ranks.channel(train.deterministic)).transpose()?;
        Ok(Self {
            ranks: ranks.clone(),
            norms: norms.map(|channel| Arc::new(BatchNormExchange::new(channel))),
            reduction: match backend.is_cpu() {
                true => GradientReduction::Bucketed(BucketedAllReduce::new(channel)),
                false => GradientReduction::Single(SingleAllReduce::new(channel)),
            },
        })
    }

    /// Returns the other ranks, for the network's norms; `None` if they are not shared.
    pub fn peers(&self) -> Option<Arc<dyn Peers>> {
        self.norms.clone().map(|norms| norms as Arc<dyn Peers>)
    }

    /// Prepares for the forward and backward passes of a batch with these shares.
    pub fn begin_batch(&self, shares: &Shares) {
        if let Some(norms) = &self.norms {
            norms.set_idle(shares.is_idle());
        }
    }

    /// Returns whether there is no other rank.
    pub fn is_alone(&self) -> bool {
        self.ranks.is_alone()
    }

    /// Gathers the rows (of `dim` values) of every rank in the order of the batch.
    ///
    /// # Errors
    /// A rank that has ended.
    pub fn gather_rows(&self, own: Vec<f32>, dim: usize, shares: &Shares) -> Result<Vec<f32>> {
        if self.is_alone() {
            return Ok(own);
        }
        let own = if shares.is_idle() { Vec::new() } else { own };
        let counts: Vec<usize> = shares.counts().iter().map(|count| count * dim).collect();
        let all = self.ranks.gather(&own, &counts)?;
        let row = |number: u32| all[number as usize * dim..][..dim].iter().copied();
        Ok(shares.order().into_iter().flat_map(row).collect())
    }

    /// Selects this rank's rows from the gradients of the rows of all ranks; zeros if it has no share.
    pub fn own_rows(&self, all: Vec<f32>, dim: usize, shares: &Shares) -> Vec<f32> {
        if self.is_alone() {
            return all;
        }
        if shares.is_idle() {
            return vec![0.0; shares.own().len() * dim];
        }
        shares.own().iter().flat_map(|&slot| &all[slot as usize * dim..][..dim]).copied().collect()
    }

    /// Sums a value over ranks.
    ///
    /// # Errors
    /// A rank that has ended.
    pub fn sum(&self, own: f32) -> Result<f32> {
        let mut sum = [f64::from(own)];
        self.ranks.sum(Values::F64(&mut sum))?;
        Ok(if self.ranks.is_alone() { own } else { sum[0] as f32 })
    }

    /// Announces the last backward pass of a step: its gradients may be sent as soon as they are complete.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub fn send_when_complete(&mut self, gradients: &mut Gradients) -> Result<()> {
        match &mut self.reduction {
            GradientReduction::Bucketed(reduction) => reduction.send_when_complete(gradients),
            GradientReduction::None | GradientReduction::Single(_) => Ok(()),
        }
    }

    /// Replaces the gradients by their sums over ranks; a gradient that no rank has stays absent.
    ///
    /// # Errors
    /// A rank that has ended.
    pub fn sum_gradients(&mut self, gradients: &mut Gradients) -> Result<()> {
        match &mut self.reduction {
            GradientReduction::None => Ok(()),
            GradientReduction::Bucketed(reduction) => reduction.finish(gradients),
            GradientReduction::Single(reduction) => reduction.finish(gradients),
        }
    }

    /// Replaces the running statistics by those of rank 0, if batch norms are not shared.
    ///
    /// # Errors
    /// A rank that has ended.
    pub fn broadcast_running_statistics(&self, running: &mut Parameters) -> Result<()> {
        if self.is_alone() || self.norms.is_some() {
            return Ok(());
        }
        let (backend, len) = (running.backend().clone(), running.layout().len());
        let mut counts = vec![0; self.ranks.size()];
        counts[0] = len;
        let own = if self.ranks.is_first() { backend.read(running.flat(), 0..len)? } else { Vec::new() };
        // All statistics are sent in one message: a network has about a hundred of them, and a step is short.
        let first = self.ranks.gather(&own, &counts)?;
        backend.write(running.flat_mut(), 0, &first, false)?;
        running.changed()
    }

    /// Refuses to continue if the ranks' networks differ; `fingerprint` is that of the network.
    ///
    /// # Errors
    /// They differ.
    pub fn require_same_network(&self, fingerprint: impl FnOnce() -> Result<String>) -> Result<()> {
        if self.ranks.is_alone() {
            return Ok(());
        }
        self.ranks.require_same("the network", &fingerprint()?).context(
            "the ranks do not train the same network any more (is the memory or the processor of a machine \
             faulty?); --resume continues from the last checkpoint",
        )
    }

    /// Returns the cost of summing the gradients so far; `None` with one rank.
    pub fn reduction_cost(&self) -> Option<ReductionCost> {
        match &self.reduction {
            GradientReduction::None => None,
            GradientReduction::Bucketed(reduction) => Some(reduction.cost()),
            GradientReduction::Single(reduction) => Some(reduction.cost()),
        }
    }
}
