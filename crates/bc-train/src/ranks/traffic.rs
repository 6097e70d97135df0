//! What the sums of gradients over ranks have cost.

use std::fmt;
use std::time::Duration;

/// How gradients are summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// Part by part, while the backward pass continues.
    #[default]
    Buckets,
    /// All at once, copied from GPUs to the host and back.
    Host,
    /// Between GPUs, in the order of their queues: nobody waits, and nobody takes the time.
    Gpus,
}

/// What sums of gradients have cost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Traffic {
    /// How they are summed.
    pub way: Way,
    /// Steps.
    pub steps: u64,
    /// Buckets of a step.
    pub buckets: usize,
    /// Bytes of gradients that are summed in a step.
    pub bytes: usize,
    /// Time that the sums took.
    pub summing: Duration,
    /// How much of it the backward pass was over already, and waited.
    pub waiting: Duration,
}

impl Traffic {
    /// Share of the sums' time that was hidden behind the backward pass.
    pub fn overlap(&self) -> f64 {
        if self.summing.is_zero() {
            return 0.0;
        }
        (1.0 - self.waiting.as_secs_f64() / self.summing.as_secs_f64()).max(0.0)
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} MiB of gradients summed in each step", self.bytes as f64 / f64::from(1 << 20))?;
        let millis = 1e3 * self.summing.as_secs_f64() / self.steps.max(1) as f64;
        match self.way {
            Way::Buckets => {
                let overlap = 100.0 * self.overlap();
                write!(
                    f,
                    " in {} buckets, {millis:.1} ms, {overlap:.0} % of it behind the backward pass",
                    self.buckets
                )
            }
            Way::Host => write!(f, " by way of the host, {millis:.1} ms"),
            Way::Gpus => write!(f, " between the GPUs"),
        }
    }
}
