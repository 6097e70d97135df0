//! Gradient clipping, Adam and AdamW, and the moving average of weights, over flat buffers. The gradient's norm is computed and used
//! on the device; the host may read it.

use crate::device::Argument;
use crate::error::{Result, ensure};
use crate::gpu::{Gpu, flat_grid};
use crate::tensor::Buffer;

/// Maximum number of values of a parameter that one block of threads updates.
const CHUNK: usize = 4096;

/// The settings of Adam apart from the learning rate, as in `bc_nn::optim::AdamSettings`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamSettings {
    /// Decay rates of the two moments.
    pub betas: [f64; 2],
    /// Added to the square root of the second moment.
    pub epsilon: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Whether weight decay is applied to the weights themselves (AdamW) and not to the gradient (Adam).
    pub decoupled: bool,
}

/// The optimiser: its settings, and which values belong to which parameter, and whether each parameter is updated and decayed.
pub struct Adam {
    settings: AdamSettings,
    /// Three numbers for each block of threads: start, count, parameter.
    stretches: Buffer<i32>,
    /// For each parameter 0: not updated, 1: updated without weight decay, 2: updated with weight decay.
    kinds: Buffer<i32>,
    decayed: Vec<bool>,
    active: Vec<bool>,
    len: usize,
}

/// The number of steps, and the coefficients of the last one.
pub struct State {
    /// The number of steps, as a single value.
    pub steps: Buffer<f64>,
    /// Five numbers of the last step: the gradient's norm before clipping (the step was skipped if it is not finite), the factor of
    /// the gradients, step size, root of the second moment's bias correction, and whether the step was made.
    step: Buffer<f32>,
}

impl State {
    /// Returns the norm before clipping of the mean gradient of the last [`Gpu::adam_step`], as a single value that the host can
    /// read when it needs it.
    pub fn norm(&self) -> &Buffer<f32> {
        &self.step
    }
}

impl Gpu {
    /// Creates an optimiser for parameters that lie one after the other in the flat buffers. Each is given by its number of values
    /// and whether weight decay applies to it.
    ///
    /// # Errors
    /// Not enough memory.
    pub fn adam(&self, settings: AdamSettings, parameters: &[(usize, bool)]) -> Result<Adam> {
        let (mut table, mut start) = (Vec::new(), 0);
        for (parameter, (size, _)) in parameters.iter().enumerate() {
            for first in (0..*size).step_by(CHUNK) {
                let count = CHUNK.min(size - first);
                table.extend([start + first, count, parameter].map(|number| number as i32));
            }
            start += size;
        }
        let decayed: Vec<bool> = parameters.iter().map(|(_, decayed)| *decayed).collect();
        let active = vec![true; decayed.len()];
        Ok(Adam {
            settings,
            stretches: self.upload(&table)?,
            kinds: self.upload(&kinds(&decayed, &active))?,
            decayed,
            active,
            len: start,
        })
    }

    /// Sets which parameters have a gradient; the others are not updated. Uploads the flags only if they changed.
    ///
    /// # Errors
    /// The number of flags is not that of the parameters.
    pub fn set_active(&self, adam: &mut Adam, active: &[bool]) -> Result<()> {
        ensure(active.len() == adam.decayed.len(), || {
            format!("{} flags of {}", active.len(), adam.decayed.len())
        })?;
        if adam.active != active {
            adam.active = active.to_vec();
            self.write(&mut adam.kinds, 0, &kinds(&adam.decayed, active))?;
        }
        Ok(())
    }

    /// Returns the state before the first step.
    ///
    /// # Errors
    /// Not enough memory.
    pub fn adam_state(&self) -> Result<State> {
        Ok(State { steps: self.zeros(1)?, step: self.zeros(5)? })
    }

    /// Makes one step with `by.mean` times the gradients, clipped to the norm `by.most` (0: not clipped). If their norm is not
    /// finite, nothing is changed, not even the number of steps.
    ///
    /// # Errors
    /// The buffers are those of another network; not enough memory.
    pub fn adam_step(
        &self,
        adam: &Adam,
        state: &mut State,
        moments: [&mut Buffer<f32>; 2],
        weights: &mut Buffer<f32>,
        gradients: &Buffer<f32>,
        by: &Step,
    ) -> Result<()> {
        let fits = [weights.len(), gradients.len(), moments[0].len(), moments[1].len()];
        ensure(fits.iter().all(|len| *len == adam.len), || format!("buffers of {fits:?} for {}", adam.len))?;
        let grid = flat_grid(adam.len);
        let parts = self.buffer::<f64>(grid[0])?;
        let arguments = vec![gradients.address().into(), parts.address().into(), adam.len.into()];
        let AdamSettings { betas, epsilon, weight_decay, decoupled } = adam.settings;
        let addresses = [parts.address(), state.steps.address(), state.step.address()];
        let mut prepare: Vec<Argument> = addresses.map(Argument::from).to_vec();
        prepare.extend([
            Argument::from(grid[0]),
            by.mean.into(),
            by.most.into(),
            Argument::from(by.rate as f32),
        ]);
        prepare.extend(betas.map(Argument::from));
        let moments = moments.map(|moments| moments.address());
        let addresses = [
            weights.address(),
            moments[0],
            moments[1],
            gradients.address(),
            adam.stretches.address(),
            adam.kinds.address(),
            state.step.address(),
        ];
        let mut update: Vec<Argument> = addresses.map(Argument::from).to_vec();
        let through_gradient = if decoupled { 0.0 } else { weight_decay };
        let keep = if decoupled { 1.0 - by.rate * weight_decay } else { 1.0 };
        let numbers = [betas[0], betas[1], epsilon, through_gradient, keep];
        update.extend(numbers.map(|number| Argument::from(number as f32)));
        // SAFETY: the four buffers are of one length, the stretches are of it, and each has a kind.
        unsafe {
            self.launch("squares".to_owned(), grid, arguments)?;
            self.launch("adam_prepare".to_owned(), [1, 1, 1], prepare)?;
            self.launch("adam".to_owned(), [adam.stretches.len() / 3, 1, 1], update)
        }
    }

    /// Computes `average = decay average + (1 - decay) x`, unless the last step was skipped.
    ///
    /// # Errors
    /// Buffers of other lengths.
    pub fn average(
        &self,
        average: &mut Buffer<f32>,
        x: &Buffer<f32>,
        state: &State,
        decay: f32,
    ) -> Result<()> {
        ensure(average.len() == x.len(), || format!("an average of {} for {}", average.len(), x.len()))?;
        let addresses = [average.address(), x.address(), state.step.address()];
        let mut arguments: Vec<Argument> = addresses.map(Argument::from).to_vec();
        arguments.extend([Argument::from(x.len()), decay.into()]);
        // SAFETY: both have as many values.
        unsafe { self.launch("average".to_owned(), flat_grid(x.len()), arguments) }
    }
}

/// The settings of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Factor of the gradients: 1 / the number of batches over which they were summed.
    pub mean: f32,
    /// Maximum norm of the gradient; 0 for no limit.
    pub most: f32,
    /// The learning rate.
    pub rate: f64,
}

fn kinds(decayed: &[bool], active: &[bool]) -> Vec<i32> {
    decayed
        .iter()
        .zip(active)
        .map(|(decayed, active)| i32::from(*active) * (1 + i32::from(*decayed)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_gradient_is_left_alone() {
        assert_eq!(kinds(&[true, false, true], &[true, true, false]), [2, 1, 0]);
    }
}
