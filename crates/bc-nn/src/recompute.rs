//! Recomputation of activations: what a part of a network (its front, or a residual block) saves between its forward and its
//! backward pass.
//!
//! A part saves either everything that the backward pass needs, or only its input, from which the backward pass runs the
//! part's forward pass again (Chen et al. 2016, "Training deep nets with sublinear memory cost"). That costs about one more
//! forward pass per step, and only the activations of one part are in memory at a time. The second forward pass computes the
//! same bits as the first, and exchanges the statistics of the batch with other processes again; all processes visit the parts
//! in the same order. Only the first pass updates the running statistics; the second updates a copy that is discarded
//! ([`BackwardPass::discarded`]).

use anyhow::{Context, Result};

use crate::backend::{Array, BackwardPass, TrainPass};

/// What a part saves for its backward pass.
pub(crate) enum SavedPart<S> {
    /// Everything that the backward pass needs.
    Everything(S),
    /// Only the input of the part.
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

    /// Returns what the backward pass needs; if only the input was saved, runs the forward pass again.
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
