//! The sum of gradients over ranks where they lie on a GPU: all at once, behind the backward pass.
//!
//! GPUs that are connected sum them where they lie, in the order of their queues, and the host does not wait. Others
//! copy them to the host and the sums back.

use std::time::Instant;

use anyhow::Result;
use bc_nn::Gradients;
use bc_ranks::{Ranks, Values};

use super::traffic::{Traffic, Way};

/// Values of a message of the host.
const MESSAGE: usize = 1 << 22;

/// Sums, and what they have cost.
pub(super) struct AtOnce {
    channel: Ranks,
    traffic: Traffic,
}

impl AtOnce {
    /// By a channel that nothing else uses.
    pub fn new(channel: Ranks) -> Self {
        Self { channel, traffic: Traffic::default() }
    }

    /// Replaces all gradients by their sums.
    pub fn finish(&mut self, gradients: &mut Gradients) -> Result<()> {
        let started = Instant::now();
        let written = self.written_by_any(gradients.written())?;
        let places = 0..gradients.flat().0.len();
        let mut way = Way::Gpus;
        gradients.sum(&written, |backend, flat| {
            if backend.sum_over_devices(flat)? {
                return Ok(());
            }
            way = Way::Host;
            let mut values = backend.read(flat, places.clone())?;
            values.chunks_mut(MESSAGE).try_for_each(|values| self.channel.sum(Values::F32(values)))?;
            backend.write(flat, 0, &values, false)
        })?;
        self.traffic.way = way;
        self.traffic.steps += 1;
        self.traffic.bytes = size_of::<f32>() * places.len();
        if way == Way::Host {
            self.traffic.summing += started.elapsed();
            self.traffic.waiting = self.traffic.summing;
        }
        Ok(())
    }

    /// Which gradients any rank has.
    fn written_by_any(&self, own: &[bool]) -> Result<Vec<bool>> {
        let own: Vec<u8> = own.iter().map(|written| u8::from(*written)).collect();
        let all = self.channel.gather(&own, &vec![own.len(); self.channel.size()])?;
        Ok((0..own.len())
            .map(|index| all[index..].iter().step_by(own.len()).any(|flag| *flag != 0))
            .collect())
    }

    /// What it has cost so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }
}
