//! Sums gradients on GPUs over ranks in a single all-reduce after the backward pass.
//!
//! Connected GPUs sum the gradients in their own memory, in the order of their queues, and the host does not wait. Otherwise
//! the gradients are copied to the host, summed there and copied back.

use std::time::Instant;

use anyhow::Result;
use bc_nn::Gradients;
use bc_ranks::{Ranks, Values};

use super::reduction_cost::{ReductionCost, ReductionPath};

/// Maximum number of values that the host sends in one message.
const VALUES_PER_MESSAGE: usize = 1 << 22;

/// Sums all gradients at once, and records what that costs.
pub(super) struct SingleAllReduce {
    channel: Ranks,
    cost: ReductionCost,
}

impl SingleAllReduce {
    /// Sums gradients over `channel`, which must not be used by anything else.
    pub fn new(channel: Ranks) -> Self {
        Self { channel, cost: ReductionCost::default() }
    }

    /// Replaces all gradients by their sums.
    pub fn finish(&mut self, gradients: &mut Gradients) -> Result<()> {
        let started = Instant::now();
        let written = self.written_by_any(gradients.written())?;
        let all = 0..gradients.flat().0.len();
        let mut path = ReductionPath::Gpus;
        gradients.sum(&written, |backend, flat| {
            if backend.sum_over_devices(flat)? {
                return Ok(());
            }
            path = ReductionPath::Host;
            let mut values = backend.read(flat, all.clone())?;
            values
                .chunks_mut(VALUES_PER_MESSAGE)
                .try_for_each(|values| self.channel.sum(Values::F32(values)))?;
            backend.write(flat, 0, &values, false)
        })?;
        self.cost.path = path;
        self.cost.steps += 1;
        self.cost.bytes = size_of::<f32>() * all.len();
        if path == ReductionPath::Host {
            self.cost.summing += started.elapsed();
            self.cost.waiting = self.cost.summing;
        }
        Ok(())
    }

    /// Returns for each gradient whether any rank has it.
    fn written_by_any(&self, own: &[bool]) -> Result<Vec<bool>> {
        let own: Vec<u8> = own.iter().map(|written| u8::from(*written)).collect();
        let all = self.channel.gather(&own, &vec![own.len(); self.channel.size()])?;
        Ok((0..own.len())
            .map(|index| all[index..].iter().step_by(own.len()).any(|flag| *flag != 0))
            .collect())
    }

    /// Returns the cost so far.
    pub fn cost(&self) -> ReductionCost {
        self.cost
    }
}
