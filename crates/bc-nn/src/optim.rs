//! Adam and AdamW (Kingma & Ba 2015; Loshchilov & Hutter 2019), equal to PyTorch's, with a
//! state that can be saved.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};

use crate::Gradients;
use crate::backend::{AdamState, AdamUpdate, Backend, Clipping, Flat};
use crate::parameters::{Layout, Parameters};

/// The settings of Adam, except the learning rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamSettings {
    /// Decay rates of the first and the second moment.
    pub betas: [f64; 2],
    /// Number that is added to the root of the second moment.
    pub epsilon: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Whether weight decay reduces the weights directly (AdamW) instead of being added to the gradient (Adam).
    pub decoupled: bool,
    /// Whether weight decay also applies to parameters with a single dimension: scales and shifts of norms, biases, GeM's
    /// exponent.
    pub decay_vectors: bool,
}

/// The coefficients of a step; `gradient_decay` and `weight_factor` are for the ranges to which weight decay applies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamCoefficients {
    pub betas: [f32; 2],
    /// Learning rate with the bias correction of the first moment.
    pub step: f32,
    /// Bias correction of the root of the second moment.
    pub second_moment_correction: f32,
    pub epsilon: f32,
    /// Share of the weight that is added to its gradient (Adam).
    pub gradient_decay: f32,
    /// Factor of the weight (AdamW).
    pub weight_factor: f32,
}

impl AdamCoefficients {
    pub fn of(update: &AdamUpdate) -> Self {
        let AdamUpdate { settings, number, rate, .. } = *update;
        let AdamSettings { betas, epsilon, weight_decay, decoupled, .. } = settings;
        let corrections = betas.map(|beta| 1.0 - beta.powf(number as f64));
        Self {
            betas: betas.map(|beta| beta as f32),
            step: (rate / corrections[0]) as f32,
            second_moment_correction: (1.0 / corrections[1].sqrt()) as f32,
            epsilon: epsilon as f32,
            gradient_decay: if decoupled { 0.0 } else { weight_decay as f32 },
            weight_factor: if decoupled { (1.0 - rate * weight_decay) as f32 } else { 1.0 },
        }
    }
}

/// The optimiser with its moments.
pub struct Adam {
    backend: Backend,
    layout: Arc<Layout>,
    /// First and second moments, in memory with the layout of the parameters.
    moments: [Flat; 2],
    settings: AdamSettings,
    steps: u64,
}

impl Adam {
    /// Creates an optimiser before its first step.
    ///
    /// # Errors
    /// A device without memory for the moments.
    pub fn new(parameters: &Parameters, settings: AdamSettings) -> Result<Self> {
        let (backend, layout) = (parameters.backend().clone(), parameters.layout().clone());
        let zeros = || backend.flat(vec![0.0; layout.len()]);
        let moments = [zeros()?, zeros()?];
        Ok(Self { backend, layout, moments, settings, steps: 0 })
    }

    /// Makes one step with gradients that are scaled and clipped by `clipping`, and returns their norm before clipping. A
    /// parameter without a gradient does not change, and none changes if the norm is not finite.
    ///
    /// # Errors
    /// Gradients of another network.
    pub fn step(
        &mut self,
        parameters: &mut Parameters,
        gradients: &Gradients,
        clipping: Clipping,
        rate: f64,
    ) -> Result<f64> {
        let (layout, flat) = gradients.flat();
        ensure!(
            *layout == *self.layout && *parameters.layout() == self.layout,
            "gradients of another network"
        );
        let (settings, number) = (self.settings, self.steps + 1);
        let update = AdamUpdate { settings, number, rate, clipping };
        let state = AdamState { weights: parameters.flat_mut(), moments: &mut self.moments, gradients: flat };
        let norm = self.backend.adam(state, &gradients.ranges(settings.decay_vectors), &update)?;
        if norm.is_finite() {
            self.steps += 1;
            parameters.changed()?;
        }
        Ok(norm)
    }

    /// Writes moments and the number of steps as safetensors.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut named = HashMap::new();
        for (kind, moments) in ["first", "second"].into_iter().zip(&self.moments) {
            for entry in self.layout.entries() {
                let values = self.backend.read(moments, entry.range.clone())?;
                let count = values.len();
                named
                    .insert(format!("{kind}.{}", entry.name), Tensor::from_vec(values, count, &Device::Cpu)?);
            }
        }
        let metadata = HashMap::from([("steps".to_owned(), self.steps.to_string())]);
        crate::weights::write(path, &named, metadata)
    }

    /// Reads what [`Adam::save`] wrote.
    ///
    /// # Errors
    /// The state of another network's parameters.
    pub fn load(&mut self, path: &Path) -> Result<()> {
        let (named, metadata) = crate::weights::read(path)?;
        self.steps = metadata
            .get("steps")
            .and_then(|steps| steps.parse().ok())
            .with_context(|| format!("{} is not the state of an optimiser", path.display()))?;
        ensure!(
            named.len() == 2 * self.layout.entries().len(),
            "{} holds the state of another network's optimiser",
            path.display()
        );
        for (kind, moments) in ["first", "second"].into_iter().zip(&mut self.moments) {
            for entry in self.layout.entries() {
                let key = format!("{kind}.{}", entry.name);
                match named.get(&key).map(|tensor| tensor.to_vec1::<f32>()) {
                    Some(Ok(found)) if found.len() == entry.range.len() => {
                        self.backend.write(moments, entry.range.start, &found, false)?;
                    }
                    _ => bail!("{}: {key} is missing or of another size", path.display()),
                }
            }
        }
        Ok(())
    }
}

/// Returns the factor that reduces gradients of this norm to at most `max_norm` (0 for no limit).
pub(crate) fn clipping(norm: f64, max_norm: f64) -> f64 {
    // PyTorch's clip_grad_norm_ divides by the norm plus 1e-6.
    if max_norm > 0.0 && norm > max_norm && norm.is_finite() { max_norm / (norm + 1e-6) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::{Parameter, ParameterList};

    /// Where torch.optim.Adam and AdamW of PyTorch 2.11 end.
    const TORCH_ADAM: [f32; 3] = [0.9768336, -1.994978, 2.980785];
    const TORCH_ADAMW: [f32; 3] = [0.9768935, -1.991595, 2.987516];

    const UNCLIPPED: Clipping = Clipping { gradient_scale: 1.0, max_norm: 0.0 };

    fn settings(decoupled: bool) -> AdamSettings {
        AdamSettings { betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: 0.1, decoupled, decay_vectors: true }
    }

    fn parameters(shapes: &[&[usize]], values: &[f32]) -> Parameters {
        let mut collected = ParameterList::default();
        for (number, shape) in shapes.iter().enumerate() {
            collected.push(number.to_string(), shape, values.iter().copied());
        }
        Parameters::new(&Backend::cpu(), collected).unwrap()
    }

    fn three() -> Parameters {
        parameters(&[&[3]], &[1.0, -2.0, 3.0])
    }

    fn gradients(values: [f32; 3]) -> Gradients {
        let mut gradients = Gradients::new(&three()).unwrap();
        gradients.add(Parameter(0), &values).unwrap();
        gradients
    }

    #[test]
    fn steps_are_pytorchs() {
        for (decoupled, expected) in [(false, TORCH_ADAM), (true, TORCH_ADAMW)] {
            let mut parameters = three();
            let mut adam = Adam::new(&parameters, settings(decoupled)).unwrap();
            for gradient in [[1f32, -2.0, 0.5], [0.2, 4.0, -1.0], [-0.6, 0.8, 0.0]] {
                let halved = Clipping { gradient_scale: 0.5, max_norm: 0.0 };
                adam.step(&mut parameters, &gradients(gradient), halved, 0.01).unwrap();
            }
            let found = parameters.values(Parameter(0)).unwrap();
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 2e-6, "{found} against {expected}");
            }
        }
    }

    #[test]
    fn weight_decay_spares_vectors_if_asked_to() {
        for (decoupled, decay_vectors) in [(false, true), (false, false), (true, true), (true, false)] {
            let mut parameters = parameters(&[&[1, 2], &[2]], &[1.0, -2.0]);
            let mut gradients = Gradients::new(&parameters).unwrap();
            (0..2).for_each(|index| gradients.add(Parameter(index), &[0.0, 0.0]).unwrap());
            let settings = AdamSettings { decay_vectors, ..settings(decoupled) };
            Adam::new(&parameters, settings)
                .unwrap()
                .step(&mut parameters, &gradients, UNCLIPPED, 0.01)
                .unwrap();
            // Without a gradient only the decay moves anything.
            assert_ne!(parameters.values(Parameter(0)).unwrap(), [1.0, -2.0]);
            assert_eq!(parameters.values(Parameter(1)).unwrap() == [1.0, -2.0], !decay_vectors);
        }
    }

    #[test]
    fn a_parameter_without_a_gradient_and_gradients_that_are_not_finite_change_nothing() {
        let mut parameters = parameters(&[&[1, 2], &[2]], &[1.0, -2.0]);
        let mut adam = Adam::new(&parameters, settings(true)).unwrap();
        let mut gradients = Gradients::new(&parameters).unwrap();
        gradients.add(Parameter(1), &[0.5, 0.5]).unwrap();
        adam.step(&mut parameters, &gradients, UNCLIPPED, 0.01).unwrap();
        assert_eq!(parameters.values(Parameter(0)).unwrap(), [1.0, -2.0]);
        let moved = parameters.values(Parameter(1)).unwrap();
        assert_ne!(moved, [1.0, -2.0]);
        gradients.replace(1, Some(&[f32::NAN, 0.5])).unwrap();
        assert!(adam.step(&mut parameters, &gradients, UNCLIPPED, 0.01).unwrap().is_nan());
        assert_eq!((parameters.values(Parameter(1)).unwrap(), adam.steps), (moved, 1));
    }

    #[test]
    fn a_saved_state_goes_on_as_if_nothing_had_happened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("optimizer.safetensors");
        let gradients = gradients([0.5, -1.0, 0.25]);
        let (mut w, mut v) = (three(), three());
        let mut one = Adam::new(&w, settings(true)).unwrap();
        one.step(&mut w, &gradients, UNCLIPPED, 0.01).unwrap();
        one.save(&path).unwrap();
        let mut other = Adam::new(&v, settings(true)).unwrap();
        v.swap(&mut w.copy().unwrap()).unwrap();
        other.load(&path).unwrap();
        one.step(&mut w, &gradients, UNCLIPPED, 0.01).unwrap();
        other.step(&mut v, &gradients, UNCLIPPED, 0.01).unwrap();
        assert_eq!(w.values(Parameter(0)).unwrap(), v.values(Parameter(0)).unwrap());
    }

    #[test]
    fn clipping_leaves_small_gradients_alone() {
        let norm = gradients([3.0, 4.0, 0.0]).norm().unwrap();
        assert_eq!((norm, clipping(norm, 0.0), clipping(norm, 6.0)), (5.0, 1.0, 1.0));
        assert!((clipping(norm, 1.0) - 0.2).abs() < 1e-6);
        assert_eq!(clipping(f64::INFINITY, 1.0), 1.0);
    }
}
