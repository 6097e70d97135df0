//! What processes that train one network ask of each other, and sums in a fixed order.

use std::ops::Range;

use crate::device::Argument;
use crate::error::{Result, ensure};
use crate::gpu::{Gpu, flat_grid};
use crate::tensor::Buffer;

/// The other processes that train the same network, each with a share of the batch: norms need their statistics, the
/// optimiser the sum of the gradients. All processes make the same calls in the same order.
pub trait Peers {
    /// Gathers the values of every process, one process after the other; all have as many.
    ///
    /// # Errors
    /// A process that has ended.
    fn gather(&self, gpu: &Gpu, own: &Buffer<f32>) -> Result<Buffer<f32>>;

    /// Replaces values by their sum over all processes.
    ///
    /// # Errors
    /// A process that has ended.
    fn sum(&self, gpu: &Gpu, values: &mut Buffer<f32>) -> Result<()>;
}

impl Gpu {
    /// Writes to some places the sums of `parts`, which has as many values for each process, one process after the
    /// other: added in this order by way of 64 bits, as sums over processes are on the host.
    ///
    /// # Errors
    /// Parts of other sizes, places outside.
    pub fn sum_in_order(
        &self,
        parts: &Buffer<f32>,
        to: &mut Buffer<f32>,
        places: Range<usize>,
    ) -> Result<()> {
        let count = places.len();
        let fits =
            count > 0 && places.end <= to.len() && !parts.is_empty() && parts.len().is_multiple_of(count);
        ensure(fits, || format!("sums of {} values for places {places:?} of {}", parts.len(), to.len()))?;
        let addresses = [parts.address(), to.at(places.start)];
        let mut arguments: Vec<Argument> = addresses.map(Argument::from).to_vec();
        arguments.extend([count, parts.len() / count].map(Argument::from));
        // SAFETY: the places are inside their buffer, and every part has as many values, by the lines above.
        unsafe { self.launch("sum_in_order".to_owned(), flat_grid(count), arguments) }
    }
}
