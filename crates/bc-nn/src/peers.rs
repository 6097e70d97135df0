//! The other processes that train the same network, each with a share of the batch.

use anyhow::Result;

/// The exchange that batch norm needs to normalise over the batch of all processes; how values
/// travel is not defined here. All processes make the same calls in the same order.
pub trait Peers: Send + Sync {
    /// Gathers the values of every process, one process after the other; all must have equally many.
    ///
    /// # Errors
    /// A process that has ended.
    fn gather(&self, own: &[f64]) -> Result<Vec<f64>>;

    /// Replaces values by their sum over all processes.
    ///
    /// # Errors
    /// A process that has ended.
    fn sum(&self, values: &mut [f64]) -> Result<()>;

    /// Returns whether this process has no share of the batch. Then its values are ignored, also when devices exchange values
    /// directly.
    fn is_idle(&self) -> bool;
}
