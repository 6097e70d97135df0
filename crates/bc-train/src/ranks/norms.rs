//! Batch norms over the batch of all ranks.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use bc_nn::Peers;
use bc_ranks::{Ranks, Values};

/// The other ranks, as the norms of a network see them.
pub(super) struct NormPeers {
    channel: Ranks,
    /// Whether this rank has no share of the batch.
    silent: AtomicBool,
}

impl NormPeers {
    pub fn new(channel: Ranks) -> Self {
        Self { channel, silent: AtomicBool::new(false) }
    }

    /// Sets whether this rank's values are ignored from now on.
    pub fn set_idle(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
    }
}

impl Peers for NormPeers {
    fn gather(&self, own: &[f64]) -> Result<Vec<f64>> {
        let counts = vec![own.len(); self.channel.size()];
        let nothing = self.is_idle().then(|| vec![0.0; own.len()]);
        self.channel.gather(nothing.as_deref().unwrap_or(own), &counts)
    }

    fn sum(&self, values: &mut [f64]) -> Result<()> {
        if self.is_idle() {
            values.fill(0.0);
        }
        self.channel.sum(Values::F64(values))
    }

    fn is_idle(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }
}
