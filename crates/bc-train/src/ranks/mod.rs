//! Training by several ranks (processes) that share every batch, with the result of one.
//!
//! Each rank computes its share of a batch ([`crate::sampler::Shares`]). Three things need the others: batch norms
//! ([`norms`]), losses over pairs and triplets, which see the embeddings of all ([`Team::rows_of_all`]), and the
//! gradients, which are summed while the backward pass continues ([`exchange`]), or behind it where they lie on GPUs
//! ([`at_once`]). With a single rank, none of this does anything. [`device`] gives each rank a device of its own.

mod at_once;
pub mod device;
mod exchange;
mod norms;
mod traffic;

use std::sync::Arc;

use anyhow::{Context, Result};
use bc_cli::progress;
use bc_formats::config::TrainConfig;
use bc_nn::{Backend, Gradients, Parameters, Peers};
use bc_ranks::{Ranks, Values};

use crate::sampler::Shares;
use at_once::AtOnce;
use exchange::Exchange;
use norms::NormPeers;
pub use traffic::{Traffic, Way};

/// An error that all ranks have in common: rank 0 reports it, and none has to end the others.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SharedError(pub String);

/// Prints a line once, by rank 0.
pub(crate) fn say(ranks: &Ranks, text: String) {
    if ranks.is_first() {
        progress::line(text);
    }
}

/// What a learner needs of the other ranks.
pub struct Team {
    ranks: Ranks,
    norms: Option<Arc<NormPeers>>,
    sums: Sums,
}

/// How gradients are summed over ranks.
enum Sums {
    /// There is one rank.
    None,
    AsTheyCome(Exchange),
    AtOnce(AtOnce),
}

impl Team {
    /// With a channel for the gradients, which are on this backend.
    ///
    /// # Errors
    /// A rank that has ended.
    pub fn new(ranks: &Ranks, train: &TrainConfig, backend: &Backend) -> Result<Self> {
        if ranks.is_alone() {
            return Ok(Self { ranks: ranks.clone(), norms: None, sums: Sums::None });
        }
        let channel = ranks.channel(train.deterministic)?;
        let norms = train.sync_norms.then(|| ranks.channel(train.deterministic)).transpose()?;
        Ok(Self {
            ranks: ranks.clone(),
            norms: norms.map(|channel| Arc::new(NormPeers::new(channel))),
            sums: match backend.is_cpu() {
                true => Sums::AsTheyCome(Exchange::new(channel)),
                false => Sums::AtOnce(AtOnce::new(channel)),
            },
        })
    }

    /// The other ranks, for the network's norms; `None` if they are not shared.
    pub fn peers(&self) -> Option<Arc<dyn Peers>> {
        self.norms.clone().map(|norms| norms as Arc<dyn Peers>)
    }

    /// Prepares for forward and backward passes of a batch with these shares.
    pub fn begin(&self, shares: &Shares) {
        if let Some(norms) = &self.norms {
            norms.set_idle(shares.is_idle());
        }
    }

    /// Whether there is no other rank.
    pub fn is_alone(&self) -> bool {
        self.ranks.is_alone()
    }

    /// The rows (of `dim` values) of every rank in the order of the batch.
    ///
    /// # Errors
    /// A rank that has ended.
    pub fn rows_of_all(&self, own: Vec<f32>, dim: usize, shares: &Shares) -> Result<Vec<f32>> {
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
        shares.own().iter().flat_map(|&place| &all[place as usize * dim..][..dim]).copied().collect()
    }

    /// The sum over ranks.
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
    pub fn listen(&mut self, gradients: &mut Gradients) -> Result<()> {
        match &mut self.sums {
            Sums::AsTheyCome(exchange) => exchange.listen(gradients),
            Sums::None | Sums::AtOnce(_) => Ok(()),
        }
    }

    /// Replaces the gradients by their sums over ranks; one that no rank has stays unwritten.
    ///
    /// # Errors
    /// A rank that has ended.
    pub fn sum_gradients(&mut self, gradients: &mut Gradients) -> Result<()> {
        match &mut self.sums {
            Sums::None => Ok(()),
            Sums::AsTheyCome(exchange) => exchange.finish(gradients),
            Sums::AtOnce(at_once) => at_once.finish(gradients),
        }
    }

    /// If norms are not shared, replaces the running statistics by those of rank 0.
    ///
    /// # Errors
    /// A rank that has ended.
    pub fn share_running(&self, running: &mut Parameters) -> Result<()> {
        if self.is_alone() || self.norms.is_some() {
            return Ok(());
        }
        let (backend, len) = (running.backend().clone(), running.layout().len());
        let mut counts = vec![0; self.ranks.size()];
        counts[0] = len;
        let own = if self.ranks.is_first() { backend.read(running.flat(), 0..len)? } else { Vec::new() };
        // All in one message: a network has a hundred of them, and a step is short.
        let first = self.ranks.gather(&own, &counts)?;
        backend.write(running.flat_mut(), 0, &first, false)?;
        running.changed()
    }

    /// Refuses to continue if the ranks' networks differ; `fingerprint` is that of the network.
    ///
    /// # Errors
    /// They differ.
    pub fn check_same(&self, fingerprint: impl FnOnce() -> Result<String>) -> Result<()> {
        if self.ranks.is_alone() {
            return Ok(());
        }
        self.ranks.same("the network", &fingerprint()?).context(
            "the ranks do not train the same network any more (is the memory or the processor of a machine \
             faulty?); --resume continues from the last checkpoint",
        )
    }

    /// The cost of summing the gradients so far; `None` with one rank.
    pub fn traffic(&self) -> Option<Traffic> {
        match &self.sums {
            Sums::None => None,
            Sums::AsTheyCome(exchange) => Some(exchange.traffic()),
            Sums::AtOnce(at_once) => Some(at_once.traffic()),
        }
    }
}
