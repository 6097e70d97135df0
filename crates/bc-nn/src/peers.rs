//! The other processes that train the same network, each with a share of the batch.

use anyhow::Result;

/// What batch norm asks of them, so that it normalises over the batch of all: nothing is known here of how values
/// travel. All processes make the same calls in the same order.
pub trait Peers: Send + Sync {
    /// The values of every process, one process after the other; all have as many.
    ///
    /// # Errors
    /// A process that has ended.
    fn gather(&self, own: &[f64]) -> Result<Vec<f64>>;

    /// Replaces values by their sum over all processes.
    ///
    /// # Errors
    /// A process that has ended.
    fn sum(&self, values: &mut [f64]) -> Result<()>;
}
