//! The gradients of all parameters in one block of memory, summed over the passes since the last step.

use std::ops::Range;
use std::sync::Arc;

use anyhow::{Result, ensure};
use candle_core::Tensor;

use crate::backend::{AdamRange, Backend, Flat};
use crate::parameters::{Entry, Layout, Parameter, Parameters, tensor};

/// Receives each gradient as soon as it is complete, while the backward pass continues.
pub trait GradientListener: Send {
    /// Called once in a pass for each parameter, when its gradient is complete: `values` is the gradient of parameter `index`.
    ///
    /// # Errors
    /// An error ends the pass.
    fn complete(&mut self, index: usize, values: &[f32]) -> Result<()>;
}

/// One gradient per parameter, in the network's order. Their memory is reused from step to step.
pub struct Gradients {
    backend: Backend,
    layout: Arc<Layout>,
    flat: Flat,
    /// For each parameter, whether a pass has written its gradient since the last [`Gradients::clear`].
    written: Vec<bool>,
    listener: Option<Box<dyn GradientListener>>,
}

impl Gradients {
    /// Allocates gradients, none of which is written yet.
    ///
    /// # Errors
    /// The device has not enough memory.
    pub fn new(parameters: &Parameters) -> Result<Self> {
        let (backend, layout) = (parameters.backend().clone(), parameters.layout().clone());
        let flat = backend.flat(vec![0.0; layout.len()])?;
        let written = vec![false; layout.entries().len()];
        Ok(Self { backend, layout, flat, written, listener: None })
    }

    /// Clears all gradients.
    ///
    /// # Errors
    /// The device fails.
    pub fn clear(&mut self) -> Result<()> {
        self.written.fill(false);
        self.backend.discard_gradients(&mut self.flat)
    }

    /// Sets the listener that receives the gradients of later passes, or removes it. It reads gradients without a copy, and is
    /// never called if the CPU cannot read them.
    pub fn set_listener(&mut self, listener: Option<Box<dyn GradientListener>>) {
        self.listener = listener;
    }

    /// Returns the memory of the gradients, with names and shapes; only the ranges that a pass has written are valid.
    pub fn flat(&self) -> (&Layout, &Flat) {
        (&self.layout, &self.flat)
    }

    /// Returns the gradient of parameter number `index`, if a pass has written it.
    ///
    /// # Errors
    /// Those of the device.
    pub fn values(&self, index: usize) -> Result<Option<Vec<f32>>> {
        let range = || self.layout.entries()[index].range.clone();
        self.written[index].then(|| self.backend.read(&self.flat, range())).transpose()
    }

    /// Returns the gradient of the parameter called `name`, if a pass has written it.
    ///
    /// # Errors
    /// Those of the device.
    pub fn get(&self, name: &str) -> Result<Option<Tensor>> {
        let found = self.layout.entries().iter().zip(&self.written).find(|(entry, _)| entry.name == name);
        let found = found.filter(|(_, written)| **written);
        found.map(|(entry, _)| tensor(&self.backend, &self.flat, entry)).transpose()
    }

    /// Returns the ranges of memory that passes have written.
    fn written_ranges(&self) -> Vec<Range<usize>> {
        let written = self.layout.entries().iter().zip(&self.written).filter(|(_, written)| **written);
        written.map(|(entry, _)| entry.range.clone()).collect()
    }

    /// Returns the ranges of all parameters for a step of Adam; weight decay applies to vectors only with `decay_vectors`.
    pub(crate) fn ranges(&self, decay_vectors: bool) -> Vec<AdamRange> {
        let range = |(entry, written): (&Entry, &bool)| AdamRange {
            range: entry.range.clone(),
            decayed: decay_vectors || entry.shape.len() > 1,
            written: *written,
        };
        self.layout.entries().iter().zip(&self.written).map(range).collect()
    }

    /// Computes the Euclidean norm of all gradients. On the CPU, it does not depend on the number of threads.
    ///
    /// # Errors
    /// Those of the device.
    pub fn norm(&self) -> Result<f64> {
        self.backend.euclidean_norm(&self.flat, &self.written_ranges())
    }

    /// Replaces the gradient of parameter number `index`; with `None` it has no gradient.
    ///
    /// # Errors
    /// Another number of values.
    pub fn replace(&mut self, index: usize, values: Option<&[f32]>) -> Result<()> {
        self.written[index] = false;
        values.map_or(Ok(()), |values| self.add(Parameter(index), values))
    }

    /// Returns the number of values of each gradient.
    pub fn sizes(&self) -> Vec<usize> {
        self.layout.entries().iter().map(|entry| entry.range.len()).collect()
    }

    /// Returns for each parameter whether passes have written its gradient.
    pub fn written(&self) -> &[bool] {
        &self.written
    }

    /// Replaces all gradients by their sums over processes, which `sum` computes in place. `written` says for each gradient
    /// whether any process has it; those that this process does not have are set to zero before.
    ///
    /// # Errors
    /// The errors of `sum`; flags of another network.
    pub fn sum(
        &mut self,
        written: &[bool],
        sum: impl FnOnce(&Backend, &mut Flat) -> Result<()>,
    ) -> Result<()> {
        ensure!(written.len() == self.written.len(), "flags of another network");
        for ((entry, own), any) in self.layout.entries().iter().zip(&mut self.written).zip(written) {
            if *any && !std::mem::replace(own, true) {
                let zeros = vec![0.0; entry.range.len()];
                self.backend.write(&mut self.flat, entry.range.start, &zeros, false)?;
            }
        }
        sum(&self.backend, &mut self.flat)
    }

    /// Calls `write` with the memory of all gradients, the range of this parameter's, and whether to add to the present
    /// values; returns its result.
    ///
    /// # Errors
    /// The errors of `write` and of the listener.
    pub fn write<T>(
        &mut self,
        parameter: Parameter,
        write: impl FnOnce(&mut Flat, Range<usize>, bool) -> Result<T>,
    ) -> Result<T> {
        let Parameter(index) = parameter;
        let range = self.layout.entry(parameter).range.clone();
        let returned =
            write(&mut self.flat, range.clone(), std::mem::replace(&mut self.written[index], true))?;
        if let (Some(listener), Some(values)) = (&mut self.listener, self.backend.host(&self.flat)) {
            listener.complete(index, &values[range])?;
        }
        Ok(returned)
    }

    /// Adds values to the gradient of a parameter.
    ///
    /// # Errors
    /// Another number of values.
    pub fn add(&mut self, parameter: Parameter, more: &[f32]) -> Result<()> {
        let backend = self.backend.clone();
        self.write(parameter, |flat, range, add| {
            ensure!(more.len() == range.len(), "{} values for a gradient of {}", more.len(), range.len());
            backend.write(flat, range.start, more, add)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::ParameterList;

    #[test]
    fn gradients_are_summed_until_they_are_cleared() {
        let mut collected = ParameterList::default();
        let [a, b] = ["a", "b"].map(|name| collected.push(name.to_owned(), &[2], [1.0, 2.0].into_iter()));
        let parameters = Parameters::new(&Backend::cpu(), collected).unwrap();
        let mut gradients = Gradients::new(&parameters).unwrap();
        let get = |gradients: &Gradients, name| {
            gradients.get(name).unwrap().map(|found| found.to_vec1::<f32>().unwrap())
        };
        assert!(get(&gradients, "a").is_none());
        for _ in 0..2 {
            gradients.add(a, &[3.0, 4.0]).unwrap();
        }
        assert_eq!(get(&gradients, "a").unwrap(), [6.0, 8.0]);
        assert_eq!((gradients.norm().unwrap(), gradients.written_ranges().len()), (10.0, 1));
        gradients.clear().unwrap();
        gradients.add(a, &[1.0, 0.0]).unwrap();
        assert_eq!(get(&gradients, "a").unwrap(), [1.0, 0.0]);
        assert!(gradients.add(b, &[1.0]).is_err() && get(&gradients, "c").is_none());
    }
}
