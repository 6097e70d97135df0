//! Clipping, Adam and AdamW, and the moving average, over flat buffers; nothing of a step goes through the host.

use std::ops::Range;

use crate::device::Argument;
use crate::error::{Result, ensure};
use crate::gpu::{Gpu, flat_grid};
use crate::tensor::Buffer;

/// Values of one range that a block updates.
const STRETCH: usize = 4096;

/// Which values of the flat buffers a step moves, and which of them weight decay reaches: made once, and again when
/// other parameters get gradients.
pub struct Adam {
    stretches: Buffer<i32>,
    count: usize,
    /// Of each range, 1: without weight decay, 2: with it.
    kinds: Buffer<i32>,
    len: usize,
}

/// Weights and moments that a step moves, and the gradients.
pub struct AdamBuffers<'a> {
    /// Weights.
    pub weights: &'a mut Buffer<f32>,
    /// First and second moments.
    pub moments: [&'a mut Buffer<f32>; 2],
    /// Their gradients.
    pub gradients: &'a Buffer<f32>,
}

/// The steps made so far, on the device.
pub struct Steps {
    /// Their number, as a single value: those of [`Rate::Counted`] count.
    pub count: Buffer<f64>,
    /// Of the last step: the norm before clipping (not finite: nothing was changed), the gradients' factor, step size,
    /// root, whether it was made.
    report: Buffer<f32>,
}

impl Steps {
    /// The norm of the mean gradient before clipping of the last step, as the first value, to be read when the host wants
    /// it.
    pub fn norm(&self) -> &Buffer<f32> {
        &self.report
    }
}

/// How large a step is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// The learning rate; the corrections of the moments' beginning are by the device's count, so that the host need not
    /// know whether the steps before were made.
    Counted(f32),
    /// The learning rate over the first correction, and 1 / root of the second, as the host counts.
    Given {
        /// Learning rate / first correction.
        step: f32,
        /// 1 / root of the second correction.
        root: f32,
    },
}

/// What a step is made with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Factor of the gradients: 1 / the number of batches that they are the sum of.
    pub mean: f32,
    /// The largest norm; 0: any.
    pub most: f32,
    /// Decay of the two moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Share of the weight that is added to its gradient (Adam), where weight decay reaches.
    pub gradient_decay: f32,
    /// What is left of the weight (AdamW: 1 - learning rate * weight decay), where weight decay reaches.
    pub keep: f32,
    /// Its size.
    pub rate: Rate,
}

impl Gpu {
    /// For flat buffers of `len` values, of which these ranges have gradients, each with whether weight decay reaches it.
    /// What is in none of them stays as it is.
    ///
    /// # Errors
    /// A range outside; no memory.
    pub fn adam(&self, len: usize, ranges: &[(Range<usize>, bool)]) -> Result<Adam> {
        let mut table = Vec::new();
        for (number, (range, _)) in ranges.iter().enumerate() {
            ensure(range.start <= range.end && range.end <= len, || {
                format!("range {range:?} of {len} values")
            })?;
            for first in range.clone().step_by(STRETCH) {
                let count = STRETCH.min(range.end - first);
                table.extend([first, count, number].map(|number| number as i32));
            }
        }
        let kinds: Vec<i32> = ranges.iter().map(|(_, decayed)| 1 + i32::from(*decayed)).collect();
        Ok(Adam { count: table.len() / 3, stretches: self.upload(&table)?, kinds: self.upload(&kinds)?, len })
    }

    /// No step made.
    ///
    /// # Errors
    /// No memory.
    pub fn steps(&self) -> Result<Steps> {
        Ok(Steps { count: self.zeros(1)?, report: self.zeros(5)? })
    }

    /// One step with `mean` times the gradients, clipped to a norm of `most`. If their norm (over the whole flat buffer) is
    /// not finite nothing changes, not even the number of steps.
    ///
    /// # Errors
    /// Buffers of another length; no memory.
    pub fn adam_step(
        &self,
        adam: &Adam,
        buffers: AdamBuffers<'_>,
        steps: &mut Steps,
        by: &Step,
    ) -> Result<()> {
        let AdamBuffers { weights, moments: [first, second], gradients } = buffers;
        let lengths = [weights.len(), gradients.len(), first.len(), second.len()];
        ensure(lengths.iter().all(|len| *len == adam.len), || {
            format!("buffers of {lengths:?} for {}", adam.len)
        })?;
        let grid = flat_grid(adam.len);
        let parts = self.buffer::<f64>(grid[0])?;
        let number = |size: usize| Argument::from(size as i32);
        let squares = vec![gradients.address().into(), parts.address().into(), number(adam.len)];
        // With betas of zero nothing is corrected; a given root is put into the step and epsilon: it shortens the fraction
        // step m / (root sqrt(v) + epsilon).
        let (size, betas, root) = match by.rate {
            Rate::Counted(rate) => (rate, by.betas, 1.0),
            Rate::Given { step, root } => (step / root, [0.0; 2], root),
        };
        let addresses = [parts.address(), steps.count.address(), steps.report.address()];
        let mut prepare: Vec<Argument> = addresses.map(Argument::from).to_vec();
        prepare.extend([number(grid[0]), by.mean.into(), by.most.into(), size.into()]);
        prepare.extend(betas.map(Argument::from));
        let addresses = [
            weights.address(),
            first.address(),
            second.address(),
            gradients.address(),
            adam.stretches.address(),
            adam.kinds.address(),
            steps.report.address(),
        ];
        let mut update: Vec<Argument> = addresses.map(Argument::from).to_vec();
        update.extend(by.betas.map(|beta| Argument::from(beta as f32)));
        update.extend([by.epsilon / root, by.gradient_decay, by.keep].map(Argument::from));
        // SAFETY: the four buffers are of one length, the stretches are inside it, and each has a kind.
        unsafe {
            self.launch("squares".to_owned(), grid, squares)?;
            self.launch("adam_prepare".to_owned(), [1, 1, 1], prepare)?;
            self.launch("adam".to_owned(), [adam.count, 1, 1], update)
        }
    }

    /// The sum of squares of `places` of a buffer; waits.
    ///
    /// # Errors
    /// A range outside; those of earlier launches.
    pub fn sum_of_squares(&self, x: &Buffer<f32>, places: &[Range<usize>]) -> Result<f64> {
        let mut sums = Vec::new();
        for range in places.iter().filter(|range| !range.is_empty()) {
            ensure(range.end <= x.len(), || format!("range {range:?} of {} values", x.len()))?;
            let grid = flat_grid(range.len());
            let parts = self.buffer::<f64>(grid[0])?;
            let arguments =
                vec![x.at(range.start).into(), parts.address().into(), (range.len() as i32).into()];
            // SAFETY: the range is inside the buffer, and there is a part for each block.
            unsafe { self.launch("squares".to_owned(), grid, arguments)? };
            sums.push(parts);
        }
        let read = |parts: &Buffer<f64>| Ok(self.read(parts, 0, parts.len())?.iter().sum::<f64>());
        sums.iter().map(read).sum()
    }

    /// `average = decay average + (1 - decay) x`; with `steps`, unless the last step was not made.
    ///
    /// # Errors
    /// Buffers of other lengths.
    pub fn average(
        &self,
        average: &mut Buffer<f32>,
        x: &Buffer<f32>,
        decay: f32,
        steps: Option<&Steps>,
    ) -> Result<()> {
        ensure(average.len() == x.len(), || format!("an average of {} for {}", average.len(), x.len()))?;
        let always;
        let report = match steps {
            Some(steps) => &steps.report,
            None => {
                always = self.upload(&[1f32; 5])?;
                &always
            }
        };
        let addresses = [average.address(), x.address(), report.address()];
        let mut arguments: Vec<Argument> = addresses.map(Argument::from).to_vec();
        arguments.extend([Argument::from(x.len() as i32), decay.into()]);
        // SAFETY: both have as many values.
        unsafe { self.launch("average".to_owned(), flat_grid(x.len()), arguments) }
    }
}
