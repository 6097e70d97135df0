//! Adam and AdamW (Kingma & Ba 2015; Loshchilov & Hutter 2019), equal to PyTorch's, with a
//! state that can be saved.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use candle_core::{CpuStorage, Device, InplaceOp2, Layout, Tensor, Var};
use rayon::prelude::*;

use crate::Gradients;
use crate::ops::values;
use crate::simd::vectorized;

/// Parameters that a thread updates at once.
const BLOCK: usize = 1 << 14;

/// Everything but the learning rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamSettings {
    /// Decay of the two moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Decay of the weights themselves (AdamW) and not through the gradient (Adam).
    pub decoupled: bool,
    /// Weight decay of parameters with a single dimension too: scales and shifts of norms, biases, GeM's exponent.
    pub decay_vectors: bool,
}

/// First and second moments of one parameter.
struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

/// The optimiser with its moments.
pub struct Adam {
    parameters: Vec<(String, Var)>,
    /// Whether weight decay reaches each parameter.
    decayed: Vec<bool>,
    moments: Vec<Mutex<Moments>>,
    settings: AdamSettings,
    steps: u64,
}

impl Adam {
    /// Without a step made.
    ///
    /// # Errors
    /// None on the CPU.
    pub fn new(parameters: Vec<(String, Var)>, settings: AdamSettings) -> Result<Self> {
        let moments = parameters
            .iter()
            .map(|(_, parameter)| {
                let count = parameter.elem_count();
                Mutex::new(Moments { first: vec![0.0; count], second: vec![0.0; count] })
            })
            .collect();
        let decayed = parameters
            .iter()
            .map(|(_, parameter)| settings.decay_vectors || parameter.dims().len() > 1)
            .collect();
        Ok(Self { parameters, decayed, moments, settings, steps: 0 })
    }

    /// One step with the gradients times `factor` (of clipping, or of a mean over batches).
    /// A parameter without a gradient stays as it is.
    ///
    /// # Errors
    /// Gradients of another network.
    pub fn step(&mut self, gradients: &Gradients, factor: f64, rate: f64) -> Result<()> {
        ensure!(gradients.iter().count() == self.parameters.len(), "gradients of another network");
        self.steps += 1;
        let AdamSettings { betas, epsilon, weight_decay, decoupled, .. } = self.settings;
        let corrections = betas.map(|beta| 1.0 - beta.powf(self.steps as f64));
        let update = Update {
            betas: betas.map(|beta| beta as f32),
            factor: factor as f32,
            step: (rate / corrections[0]) as f32,
            root: (1.0 / corrections[1].sqrt()) as f32,
            epsilon: epsilon as f32,
            gradient_decay: if decoupled { 0.0 } else { weight_decay as f32 },
            keep: if decoupled { (1.0 - rate * weight_decay) as f32 } else { 1.0 },
        };
        let undecayed = Update { gradient_decay: 0.0, keep: 1.0, ..update };
        for ((((name, parameter), decayed), moments), gradient) in
            self.parameters.iter().zip(&self.decayed).zip(&self.moments).zip(gradients.iter())
        {
            let update = if *decayed { update } else { undecayed };
            if let Some(gradient) = gradient {
                parameter
                    .inplace_op2(gradient, &Step { update, moments })
                    .with_context(|| format!("cannot update {name}"))?;
            }
        }
        Ok(())
    }

    /// Writes moments and the number of steps as safetensors.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut named = HashMap::new();
        for ((name, _), moments) in self.parameters.iter().zip(&self.moments) {
            let moments = moments.lock().unwrap_or_else(PoisonError::into_inner);
            for (kind, values) in [("first", &moments.first), ("second", &moments.second)] {
                named.insert(
                    format!("{kind}.{name}"),
                    Tensor::from_slice(values, values.len(), &Device::Cpu)?,
                );
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
            named.len() == 2 * self.parameters.len(),
            "{} holds the state of another network's optimiser",
            path.display()
        );
        for ((name, _), moments) in self.parameters.iter().zip(&self.moments) {
            let mut moments = moments.lock().unwrap_or_else(PoisonError::into_inner);
            let Moments { first, second } = &mut *moments;
            for (kind, values) in [("first", first), ("second", second)] {
                let key = format!("{kind}.{name}");
                match named.get(&key).map(|tensor| tensor.to_vec1::<f32>()) {
                    Some(Ok(found)) if found.len() == values.len() => *values = found,
                    _ => bail!("{}: {key} is missing or of another size", path.display()),
                }
            }
        }
        Ok(())
    }
}

/// The numbers of one step.
#[derive(Debug, Clone, Copy)]
struct Update {
    betas: [f32; 2],
    factor: f32,
    step: f32,
    root: f32,
    epsilon: f32,
    gradient_decay: f32,
    keep: f32,
}

vectorized! {
    fn update_block(
        weights: &mut [f32],
        first: &mut [f32],
        second: &mut [f32],
        gradient: &[f32],
        update: Update,
    ) {
        let Update { betas: [beta1, beta2], factor, step, root, epsilon, gradient_decay, keep } = update;
        for (((w, m), v), g) in weights.iter_mut().zip(first).zip(second).zip(gradient) {
            let g = g * factor + gradient_decay * *w;
            *m += (1.0 - beta1) * (g - *m);
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            *w = *w * keep - step * *m / (v.sqrt() * root + epsilon);
        }
    }
}

struct Step<'a> {
    update: Update,
    moments: &'a Mutex<Moments>,
}

impl InplaceOp2 for Step<'_> {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn cpu_fwd(
        &self,
        w: &mut CpuStorage,
        lw: &Layout,
        g: &CpuStorage,
        lg: &Layout,
    ) -> candle_core::Result<()> {
        let gradient = values(g, lg)?;
        let (CpuStorage::F32(weights), Some((from, to))) = (w, lw.contiguous_offsets()) else {
            candle_core::bail!("a parameter is contiguous and of 32 bits")
        };
        let weights = &mut weights[from..to];
        if weights.len() != gradient.len() {
            candle_core::bail!("a gradient of {} values for {}", gradient.len(), weights.len());
        }
        let mut moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner);
        let Moments { first, second } = &mut *moments;
        weights
            .par_chunks_mut(BLOCK)
            .zip(first.par_chunks_mut(BLOCK))
            .zip(second.par_chunks_mut(BLOCK))
            .zip(gradient.par_chunks(BLOCK))
            .for_each(|(((w, m), v), g)| update_block(w, m, v, g, self.update));
        Ok(())
    }
}

/// The factor that brings gradients of this norm to at most `most` (0: no limit).
pub fn clipping(norm: f64, most: f64) -> f64 {
    // PyTorch's clip_grad_norm_ divides by the norm plus 1e-6.
    if most > 0.0 && norm > most && norm.is_finite() { most / (norm + 1e-6) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where torch.optim.Adam and AdamW of PyTorch 2.11 end.
    const TORCH_ADAM: [f32; 3] = [0.9768336, -1.994978, 2.980785];
    const TORCH_ADAMW: [f32; 3] = [0.9768935, -1.991595, 2.987516];

    fn settings(decoupled: bool) -> AdamSettings {
        AdamSettings { betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: 0.1, decoupled, decay_vectors: true }
    }

    fn adam(decoupled: bool) -> (Adam, Var) {
        let var = Var::new(&[1f32, -2.0, 3.0], &Device::Cpu).unwrap();
        (Adam::new(vec![("w".to_owned(), var.clone())], settings(decoupled)).unwrap(), var)
    }

    fn gradients(values: [f32; 3]) -> Gradients {
        let var = Var::new(&[0f32; 3], &Device::Cpu).unwrap();
        let mut gradients = Gradients::new(&[("w".to_owned(), var)]).unwrap();
        gradients.add(0, &values).unwrap();
        gradients
    }

    #[test]
    fn steps_are_pytorchs() {
        for (decoupled, expected) in [(false, TORCH_ADAM), (true, TORCH_ADAMW)] {
            let (mut adam, var) = adam(decoupled);
            for gradient in [[1f32, -2.0, 0.5], [0.2, 4.0, -1.0], [-0.6, 0.8, 0.0]] {
                adam.step(&gradients(gradient), 0.5, 0.01).unwrap();
            }
            let found = var.to_vec1::<f32>().unwrap();
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 2e-6, "{found} against {expected}");
            }
        }
    }

    #[test]
    fn weight_decay_spares_vectors_if_it_shall() {
        for (decoupled, decay_vectors) in [(false, true), (false, false), (true, true), (true, false)] {
            let matrix = Var::new(&[[1f32, -2.0]], &Device::Cpu).unwrap();
            let vector = Var::new(&[1f32, -2.0], &Device::Cpu).unwrap();
            let parameters = vec![("w".to_owned(), matrix.clone()), ("b".to_owned(), vector.clone())];
            let mut gradients = Gradients::new(&parameters).unwrap();
            (0..2).for_each(|index| gradients.add(index, &[0.0, 0.0]).unwrap());
            let settings = AdamSettings { decay_vectors, ..settings(decoupled) };
            Adam::new(parameters, settings).unwrap().step(&gradients, 1.0, 0.01).unwrap();
            // Without a gradient only the decay moves anything.
            assert_ne!(matrix.to_vec2::<f32>().unwrap(), [[1.0, -2.0]]);
            assert_eq!(vector.to_vec1::<f32>().unwrap() == [1.0, -2.0], !decay_vectors);
        }
    }

    #[test]
    fn a_saved_state_goes_on_as_if_nothing_had_happened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("optimizer.safetensors");
        let gradients = gradients([0.5, -1.0, 0.25]);
        let (mut one, w) = adam(true);
        one.step(&gradients, 1.0, 0.01).unwrap();
        one.save(&path).unwrap();
        let (mut other, v) = adam(true);
        v.set(&w).unwrap();
        other.load(&path).unwrap();
        for adam in [&mut one, &mut other] {
            adam.step(&gradients, 1.0, 0.01).unwrap();
        }
        assert_eq!(w.to_vec1::<f32>().unwrap(), v.to_vec1::<f32>().unwrap());
    }

    #[test]
    fn clipping_leaves_small_gradients_alone() {
        let norm = gradients([3.0, 4.0, 0.0]).norm().unwrap();
        assert_eq!((norm, clipping(norm, 0.0), clipping(norm, 6.0)), (5.0, 1.0, 1.0));
        assert!((clipping(norm, 1.0) - 0.2).abs() < 1e-6);
        assert_eq!(clipping(f64::INFINITY, 1.0), 1.0);
    }
}
