//! The cost of summing gradients over ranks.

use std::fmt;
use std::time::Duration;

/// The path that gradients take when they are summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReductionPath {
    /// In buckets on the CPU, while the backward pass continues.
    #[default]
    Buckets,
    /// All at once, copied from GPUs to the host and back.
    Host,
    /// Between GPUs, in the order of their queues: the host does not wait, and no time is measured.
    Gpus,
}

/// The cost of the sums of gradients so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ReductionCost {
    /// The path that they take.
    pub path: ReductionPath,
    /// Number of steps.
    pub steps: u64,
    /// Number of buckets of a step.
    pub buckets: usize,
    /// Bytes of gradients that are summed in a step.
    pub bytes: usize,
    /// Time that the sums took.
    pub summing: Duration,
    /// Part of that time during which the backward pass had ended and training waited.
    pub waiting: Duration,
}

impl ReductionCost {
    /// Returns the share of the time of the sums that overlapped with the backward pass, from 0 to 1.
    pub fn overlap(&self) -> f64 {
        if self.summing.is_zero() {
            return 0.0;
        }
        (1.0 - self.waiting.as_secs_f64() / self.summing.as_secs_f64()).max(0.0)
    }
}

impl fmt::Display for ReductionCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} MiB of gradients summed in each step", self.bytes as f64 / f64::from(1 << 20))?;
        let millis = 1e3 * self.summing.as_secs_f64() / self.steps.max(1) as f64;
        match self.path {
            ReductionPath::Buckets => {
                let overlap = 100.0 * self.overlap();
                write!(
                    f,
                    " in {} buckets, {millis:.1} ms, {overlap:.0} % of it during the backward pass",
                    self.buckets
                )
            }
            ReductionPath::Host => write!(f, " through the host's memory, {millis:.1} ms"),
            ReductionPath::Gpus => write!(f, " between the GPUs"),
        }
    }
}
