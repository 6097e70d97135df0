//! Gradients of all parameters, summed over the passes since the last step.

use candle_core::{Result, Tensor, Var};

use rayon::prelude::*;

use crate::ops::{in_place, read, values};
use crate::simd::vectorized;

/// Values that a thread sums at once.
const BLOCK: usize = 1 << 14;

/// Whom a backward pass shows each gradient as soon as it is complete, while the pass continues.
pub trait Listener: Send {
    /// The gradient of parameter `index` is `values`; each comes once in a pass.
    ///
    /// # Errors
    /// What ends the pass.
    fn complete(&mut self, index: usize, values: &[f32]) -> Result<()>;
}

/// One gradient per parameter, in the network's order. Their memory is reused from step to step.
pub struct Gradients {
    names: Vec<String>,
    values: Vec<Tensor>,
    /// Whether a pass has written it since the last [`Gradients::clear`].
    written: Vec<bool>,
    listener: Option<Box<dyn Listener>>,
}

impl Gradients {
    /// None written yet.
    ///
    /// # Errors
    /// A device without memory for them.
    pub fn new(parameters: &[(String, Var)]) -> Result<Self> {
        let values = parameters.iter().map(|(_, parameter)| parameter.as_detached_tensor().zeros_like());
        Ok(Self {
            names: parameters.iter().map(|(name, _)| name.clone()).collect(),
            values: values.collect::<Result<_>>()?,
            written: vec![false; parameters.len()],
            listener: None,
        })
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.written.fill(false);
    }

    /// The gradient of each parameter, where a pass has written one.
    pub fn iter(&self) -> impl Iterator<Item = Option<&Tensor>> {
        self.values.iter().zip(&self.written).map(|(values, written)| written.then_some(values))
    }

    /// The gradient of a parameter by its name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        let index = self.names.iter().position(|n| n == name)?;
        self.written[index].then_some(&self.values[index])
    }

    /// The Euclidean norm of all of them; the same for any number of threads.
    ///
    /// # Errors
    /// None on the CPU.
    pub fn norm(&self) -> Result<f64> {
        let mut total = 0f64;
        for gradient in self.iter().flatten() {
            let (storage, layout) = gradient.storage_and_layout();
            let candle_core::Storage::Cpu(storage) = &*storage else {
                candle_core::bail!("gradients layout on the CPU")
            };
            total += sum_of_squares(values(storage, layout)?);
        }
        Ok(total.sqrt())
    }

    /// Shows `listener` the gradients of the passes from now on; of the last pass of a step, whose gradients are
    /// the sums over all its passes.
    pub fn listen(&mut self, listener: Option<Box<dyn Listener>>) {
        self.listener = listener;
    }

    /// Replaces the gradient of a parameter, where there is to be one.
    ///
    /// # Errors
    /// Another number of values.
    pub fn replace(&mut self, index: usize, values: Option<&[f32]>) -> Result<()> {
        self.written[index] = false;
        values.map_or(Ok(()), |values| self.add(index, values))
    }

    /// Number of values of each gradient.
    pub fn sizes(&self) -> Vec<usize> {
        self.values.iter().map(Tensor::elem_count).collect()
    }

    /// Calls `write` with the tensor to write a gradient into, and whether to add to what it holds.
    pub(crate) fn write(
        &mut self,
        index: usize,
        write: impl FnOnce(&Tensor, bool) -> Result<()>,
    ) -> Result<()> {
        let values = &self.values[index];
        write(values, std::mem::replace(&mut self.written[index], true))?;
        match &mut self.listener {
            Some(listener) => read(values, |values| listener.complete(index, values))?,
            None => Ok(()),
        }
    }

    /// Adds values.
    pub(crate) fn add(&mut self, index: usize, more: &[f32]) -> Result<()> {
        struct Add<'a>(&'a [f32], bool);
        impl candle_core::InplaceOp1 for Add<'_> {
            fn name(&self) -> &'static str {
                "add-gradient"
            }

            fn cpu_fwd(&self, sum: &mut candle_core::CpuStorage, layout: &candle_core::Layout) -> Result<()> {
                let sum = in_place(sum, layout)?;
                if sum.len() != self.0.len() {
                    candle_core::bail!("{} values for a gradient of {}", self.0.len(), sum.len());
                }
                for (sum, more) in sum.iter_mut().zip(self.0) {
                    *sum = if self.1 { *sum + more } else { *more };
                }
                Ok(())
            }
        }
        self.write(index, |values, add| values.inplace_op1(&Add(more, add)))
    }
}

/// Blocks are added in their order: the sum does not depend on the threads.
fn sum_of_squares(x: &[f32]) -> f64 {
    x.par_chunks(BLOCK).map(squares).collect::<Vec<f64>>().iter().sum()
}

vectorized! {
    fn squares(x: &[f32]) -> f64 {
        let mut lanes = [0f64; 16];
        let (parts, rest) = x.as_chunks::<16>();
        for part in parts {
            for (lane, x) in lanes.iter_mut().zip(part) {
                *lane += f64::from(*x) * f64::from(*x);
            }
        }
        lanes.iter().sum::<f64>() + rest.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn gradients_are_summed_until_they_are_cleared() {
        let named = |name: &str| (name.to_owned(), Var::new(&[1f32, 2.0], &Device::Cpu).unwrap());
        let mut gradients = Gradients::new(&[named("a"), named("b")]).unwrap();
        assert!(gradients.get("a").is_none());
        for _ in 0..2 {
            gradients.add(0, &[3.0, 4.0]).unwrap();
        }
        assert_eq!(gradients.get("a").unwrap().to_vec1::<f32>().unwrap(), [6.0, 8.0]);
        assert_eq!((gradients.norm().unwrap(), gradients.iter().flatten().count()), (10.0, 1));
        gradients.clear();
        gradients.add(0, &[1.0, 0.0]).unwrap();
        assert_eq!(gradients.get("a").unwrap().to_vec1::<f32>().unwrap(), [1.0, 0.0]);
        assert!(gradients.add(1, &[1.0]).is_err() && gradients.get("c").is_none());
    }
}
