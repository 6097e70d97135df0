//! The exchange between processes that train one network, and sums in a fixed order.

use std::ops::Range;

use crate::device::Argument;
use crate::error::{Result, ensure};
use crate::gpu::{Gpu, flat_grid};
use crate::tensor::Buffer;

/// The connection to the other processes that train the same network, each with a share of the batch: normalisations need their
/// statistics, the optimiser the sum of the gradients. All processes must make the same calls in the same order.
pub trait Peers {
    /// Gathers the values of all processes, one process after the other. All must pass equally many values.
    ///
    /// # Errors
    /// A process that has ended.
    fn gather(&self, gpu: &Gpu, own: &Buffer<f32>) -> Result<Buffer<f32>>;

    /// Replaces values by their sums over all processes.
    ///
    /// # Errors
    /// A process that has ended.
    fn sum(&self, gpu: &Gpu, values: &mut Buffer<f32>) -> Result<()>;
}

impl Gpu {
    /// Writes the sums over processes to the values of `to` at the indices `places`. `parts` holds as many values for each process,
    /// one process after the other. They are added in this order and in 64 bits, like sums over processes on the host.
    ///
    /// # Errors
    /// The size of `parts` is not a multiple of the number of places; places outside of the buffer.
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
