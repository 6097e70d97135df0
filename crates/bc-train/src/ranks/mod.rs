//! Training by several ranks (processes) that share every batch, with the result of one.
//!
//! Each rank computes its share of a batch ([`crate::sampler::Shares`]). Three things need the others: batch norms
//! ([`norms`]), losses over pairs and triplets, which see the embeddings of all ([`Team::rows_of_all`]), and the
//! gradients, which are summed while the backward pass continues ([`exchange`]). Alone none of this does anything.

mod exchange;
mod norms;

use std::sync::Arc;

use anyhow::{Context, Result};
use bc_cli::progress;
use bc_formats::config::TrainConfig;
use bc_nn::{Gradients, Peers};
use bc_ranks::{Ranks, Values};
use candle_core::{Tensor, Var};

use crate::sampler::Shares;
use exchange::Exchange;
pub use exchange::Traffic;
use norms::NormPeers;

/// An error that all ranks came to together: rank 0 reports it, and none has to end the others.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Agreed(pub String);

/// Prints a line once: rank 0 speaks for all.
pub(crate) fn say(ranks: &Ranks, text: String) {
    if ranks.is_first() {
        progress::line(text);
    }
}

/// What a learner needs of the other ranks.
pub struct Team {
    ranks: Ranks,
    norms: Option<Arc<NormPeers>>,
    exchange: Option<Exchange>,
}

impl Team {
    /// With a channel for the gradients.
    ///
    /// # Errors
    /// A rank that has ended.
    pub fn new(ranks: &Ranks, train: &TrainConfig) -> Result<Self> {
        if ranks.is_alone() {
            return Ok(Self { ranks: ranks.clone(), norms: None, exchange: None });
        }
        let channel = ranks.channel(train.deterministic)?;
        let norms = train.sync_norms.then(|| ranks.channel(train.deterministic)).transpose()?;
        Ok(Self {
            ranks: ranks.clone(),
            norms: norms.map(|channel| Arc::new(NormPeers::new(channel))),
            exchange: Some(Exchange::new(channel)),
        })
    }

    /// For the network's norms.
    pub fn peers(&self) -> Option<Arc<dyn Peers>> {
        self.norms.clone().map(|norms| norms as Arc<dyn Peers>)
    }

    /// The next forward and backward passes are of a batch that is cut like this.
    pub fn begin(&self, shares: &Shares) {
        if let Some(norms) = &self.norms {
            norms.be_silent(shares.is_silent());
        }
    }

    /// The rows (items x dimensions) of every rank in the order of the batch. Gradients reach those of this rank
    /// alone.
    ///
    /// # Errors
    /// A rank that has ended.
    pub fn rows_of_all(&self, own: Tensor, shares: &Shares) -> Result<Tensor> {
        if self.ranks.is_alone() {
            return Ok(own);
        }
        let (rows, dimensions) = own.dims2()?;
        let mut values = own.detach().flatten_all()?.to_vec1::<f32>()?;
        if shares.is_silent() {
            values.clear();
        }
        let counts: Vec<usize> = shares.counts().iter().map(|count| count * dimensions).collect();
        let all = self.ranks.gather(&values, &counts)?;
        let mut order = shares.order();
        let all = Tensor::from_vec(all, (order.len(), dimensions), own.device())?;
        // Behind this rank's rows, which have a graph, those of all, which have none.
        order.iter_mut().for_each(|number| *number += rows as u32);
        if !shares.is_silent() {
            for (row, &place) in shares.own().iter().enumerate() {
                order[place as usize] = row as u32;
            }
        }
        let order = Tensor::new(order, own.device())?;
        Ok(Tensor::cat(&[&own, &all], 0)?.index_select(&order, 0)?)
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

    /// The next backward pass is the last one of a step: its gradients may leave as they come.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub fn listen(&mut self, gradients: &mut Gradients) -> Result<()> {
        self.exchange.as_mut().map_or(Ok(()), |exchange| exchange.listen(gradients))
    }

    /// Replaces the gradients by their sums over ranks; one that no rank has stays unwritten.
    ///
    /// # Errors
    /// A rank that has ended.
    pub fn sum_gradients(&mut self, gradients: &mut Gradients) -> Result<()> {
        self.exchange.as_mut().map_or(Ok(()), |exchange| exchange.finish(gradients))
    }

    /// Where norms are not shared, running statistics become those of rank 0.
    ///
    /// # Errors
    /// A rank that has ended.
    pub fn share_running(&self, buffers: &[(String, Var)]) -> Result<()> {
        if self.ranks.is_alone() || self.norms.is_some() {
            return Ok(());
        }
        let mut counts = vec![0; self.ranks.size()];
        counts[0] = buffers.iter().map(|(_, buffer)| buffer.elem_count()).sum();
        let mut own = Vec::new();
        if self.ranks.is_first() {
            for (_, buffer) in buffers {
                own.extend(buffer.flatten_all()?.to_vec1::<f32>()?);
            }
        }
        // All in one message: a network has a hundred of them, and a step is short.
        let first = self.ranks.gather(&own, &counts)?;
        let mut rest = &first[..];
        for (name, buffer) in buffers {
            let values;
            (values, rest) = rest.split_at(buffer.elem_count());
            let values = Tensor::from_slice(values, buffer.shape(), buffer.device())?;
            buffer.set(&values).with_context(|| format!("cannot set {name}"))?;
        }
        Ok(())
    }

    /// Refuses to continue if the ranks have come apart; `fingerprint` is of the network.
    ///
    /// # Errors
    /// They have.
    pub fn check_same(&self, fingerprint: impl FnOnce() -> Result<String>) -> Result<()> {
        if self.ranks.is_alone() {
            return Ok(());
        }
        self.ranks.same("the network", &fingerprint()?).context(
            "the ranks do not train the same network any more (is the memory or the processor of a machine \
             faulty?); --resume continues from the last checkpoint",
        )
    }

    /// What the gradients have cost so far; `None` alone.
    pub fn traffic(&self) -> Option<Traffic> {
        self.exchange.as_ref().map(Exchange::traffic)
    }
}
