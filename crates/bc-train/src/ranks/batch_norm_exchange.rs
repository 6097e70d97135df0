//! Exchanges the statistics of batch norms between ranks, so that they are those of the whole batch.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use bc_nn::Peers;
use bc_ranks::{Ranks, Values};

/// Connects a network's batch norms with those of the other ranks.
pub(super) struct BatchNormExchange {
    channel: Ranks,
    /// Whether this rank has no share of the batch.
    idle: AtomicBool,
}

impl BatchNormExchange {
    /// Exchanges statistics over `channel`, which must not be used by anything else.
    pub fn new(channel: Ranks) -> Self {
        Self { channel, idle: AtomicBool::new(false) }
    }

    /// Sets whether this rank's values are ignored from now on.
    pub fn set_idle(&self, idle: bool) {
        self.idle.store(idle, Ordering::Relaxed);
    }
}

impl Peers for BatchNormExchange {
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
        self.idle.load(Ordering::Relaxed)
    }
}
