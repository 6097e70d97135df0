//! Recomputed activations: what a part of a network (its front, a residual block) keeps between its forward and its
//! backward pass.
//!
//! Either all that the backward pass needs, or the input alone, from which the backward pass runs the part's forward
//! pass again (Chen et al. 2016, "Training deep nets with sublinear memory cost"): about a forward pass more for each
//! step, and of the activations only one part's at a time. The second forward pass computes the same bits as the first.
//! It exchanges the statistics of the batch with other processes again; all processes visit the parts in the same order.
//! Only the first pass updates the running statistics. The second writes them to a copy that is thrown away
//! ([`BackwardPass::discarded`]).

use anyhow::{Context, Result};

use crate::backend::{Array, BackwardPass, TrainPass};

/// What a part keeps for its backward pass.
pub(crate) enum SavedPart<S> {
    /// All that it needs.
    Everything(S),
    /// What went in.
    Input(Array),
}

impl<S> SavedPart<S> {
    /// Runs the forward pass of a part, which gives its output and what its backward pass needs.
    pub fn forward(
        x: Array,
        pass: &mut TrainPass<'_>,
        part: impl FnOnce(&Array, &mut TrainPass<'_>) -> Result<(Array, S)>,
    ) -> Result<(Array, Self)> {
        let (y, saved) = part(&x, pass)?;
        Ok((y, if pass.recompute { Self::Input(x) } else { Self::Everything(saved) }))
    }

    /// What the backward pass needs, from the same forward pass where only its input was kept.
    pub fn saved(
        self,
        pass: &mut BackwardPass<'_>,
        part: impl FnOnce(&Array, &mut TrainPass<'_>) -> Result<(Array, S)>,
    ) -> Result<S> {
        let x = match self {
            Self::Everything(saved) => return Ok(saved),
            Self::Input(x) => x,
        };
        let running = pass.discarded.as_deref_mut().context("a backward pass that cannot recompute")?;
        let (backend, parameters, peers) = (pass.backend, pass.parameters, pass.peers);
        let mut again = TrainPass { backend, parameters, running, peers, recompute: false };
        part(&x, &mut again).map(|(_, saved)| saved)
    }
}
