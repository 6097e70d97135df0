//! A device whose every operator is compared with the processor's on the same input, in the midst of a network.
//!
//! A whole network in bf16 cannot be compared with one in 32 bits: what a layer rounds away, the ReLUs and normalisations
//! behind it amplify, and gradients of a small untrained network are soon as far away as they are long. Here each operator
//! reads what the device has computed so far, and its result is at most one rounding from what the processor computes of
//! the same.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use bc_nn::backend::{
    AdamRange, AdamState, AdamUpdate, Array, BackwardPass, Conv, Epilogue, Flat, Norm, Operators, Saved,
    Shape, TrainPass, Upload, Weights,
};
use bc_nn::loss::Triplets;
use bc_nn::{Backend, Gradients, Parameter, Parameters};

use crate::{apart, round_to_bf16};

/// Sums of 32 bits in another order.
const SUMS: f64 = 1e-4;
/// Half a unit in the last of the 8 places of bf16, relative to a value of at least 1.
const ROUNDING: f64 = 1.0 / 256.0;

/// How far an operator's result was away at most, and how often it was compared.
pub type Found = BTreeMap<&'static str, (usize, f64)>;

/// Operators of a device, each compared with the processor's.
pub struct Checked {
    device: Backend,
    cpu: Backend,
    /// Whether images are rounded to 16 bits.
    rounds: bool,
    found: Arc<Mutex<Found>>,
}

impl Checked {
    pub fn new(device: Backend, rounds: bool, found: Arc<Mutex<Found>>) -> Self {
        Self { device, cpu: Backend::cpu(), rounds, found }
    }

    /// A result of this shape is rounded `times`: images are, matrices are not.
    fn tolerance(&self, shape: Shape, times: usize) -> f64 {
        let rounds = self.rounds && shape[2] * shape[3] > 1;
        SUMS + if rounds { times as f64 * ROUNDING } else { 0.0 }
    }

    /// The rows of an array: for each sample and position its channels.
    fn rows_of(backend: &Backend, x: &Array) -> Result<Vec<f32>> {
        let [channels, batch, height, width] = x.shape();
        backend.rows(&x.clone().reshape([channels, batch * height * width, 1, 1])?)
    }

    /// A device's array on the processor.
    fn host(&self, x: &Array) -> Result<Array> {
        self.cpu.matrix(&Self::rows_of(&self.device, x)?, x.shape()[0])?.reshape(x.shape())
    }

    /// As a linear layer of the device reads it.
    fn host_of(&self, x: &Array, parameters: &Parameters, conv: &Conv) -> Result<Array> {
        let mut rows = Self::rows_of(&self.device, x)?;
        if self.rounds && parameters.entry(conv.weight).shape.len() == 2 {
            round_to_bf16(&mut rows);
        }
        self.cpu.matrix(&rows, x.shape()[0])?.reshape(x.shape())
    }

    fn host_parameters(&self, parameters: &Parameters) -> Result<Parameters> {
        let entries = parameters.layout().entries().iter().map(|entry| {
            let values = self.device.read(parameters.flat(), entry.range.clone())?;
            Ok((entry.name.clone(), entry.shape.clone(), values))
        });
        Parameters::of(&self.cpu, entries.collect::<Result<Vec<_>>>()?)
    }

    fn compare(&self, what: &'static str, ours: &[f32], theirs: &[f32], tolerance: f64) {
        let off = apart(ours, theirs, 1e-20);
        let mut found = self.found.lock().unwrap();
        let (count, worst) = found.entry(what).or_default();
        (*count, *worst) = (*count + 1, worst.max(off));
        assert!(off <= tolerance, "{what}: {off:.1e} away, {tolerance:.1e} are allowed");
    }

    fn compare_arrays(&self, what: &'static str, ours: &Array, theirs: &Array, times: usize) -> Result<()> {
        assert_eq!(ours.shape(), theirs.shape(), "{what}");
        let [ours_rows, theirs_rows] =
            [Self::rows_of(&self.device, ours)?, Self::rows_of(&self.cpu, theirs)?];
        self.compare(what, &ours_rows, &theirs_rows, self.tolerance(ours.shape(), times));
        Ok(())
    }

    /// Runs a backward pass of the processor, and compares the gradients of parameters that it writes with those that the
    /// device wrote: the first of this pass.
    fn compare_gradients<T>(
        &self,
        what: &'static str,
        tolerance: f64,
        pass: &BackwardPass<'_>,
        run: impl FnOnce(&mut BackwardPass<'_>) -> Result<T>,
    ) -> Result<T> {
        let parameters = self.host_parameters(pass.parameters)?;
        let mut gradients = Gradients::new(&parameters)?;
        let result = run(&mut BackwardPass {
            backend: &*self.cpu,
            parameters: &parameters,
            gradients: &mut gradients,
            peers: None,
            discarded: None,
        })?;
        for index in 0..gradients.sizes().len() {
            if let Some(theirs) = gradients.values(index)? {
                let ours = pass.gradients.values(index)?.expect("the device wrote no gradient");
                self.compare(what, &ours, &theirs, tolerance);
            }
        }
        Ok(result)
    }
}

/// What both saved.
struct Both {
    device: Saved,
    cpu: Saved,
}

fn saved(device: Saved, cpu: Saved) -> Saved {
    Saved::new(Both { device, cpu })
}

impl Operators for Checked {
    fn describe(&self) -> String {
        self.device.describe()
    }

    fn free_memory(&self) -> Result<Option<usize>> {
        self.device.free_memory()
    }

    fn send(&self, values: &[f32], size: [usize; 3]) -> Result<Upload> {
        Ok(Upload::new((self.device.send(values, size)?, self.cpu.send(values, size)?)))
    }

    fn receive(&self, upload: Upload, parts: usize) -> Result<Vec<Array>> {
        let (device, cpu) = upload.into_data::<(Upload, Upload)>()?;
        let (found, expected) = (self.device.receive(device, parts)?, self.cpu.receive(cpu, parts)?);
        for (found, expected) in found.iter().zip(&expected) {
            self.compare_arrays("images", found, expected, 1)?;
        }
        Ok(found)
    }

    fn matrix(&self, rows: &[f32], channels: usize) -> Result<Array> {
        self.device.matrix(rows, channels)
    }

    fn rows(&self, x: &Array) -> Result<Vec<f32>> {
        self.device.rows(x)
    }

    fn join(&self, parts: &[&Array]) -> Result<Array> {
        self.device.join(parts)
    }

    fn part(&self, x: &Array, first: usize, count: usize) -> Result<Array> {
        self.device.part(x, first, count)
    }

    fn flat(&self, values: Vec<f32>) -> Result<Flat> {
        self.device.flat(values)
    }

    fn read(&self, flat: &Flat, places: Range<usize>) -> Result<Vec<f32>> {
        self.device.read(flat, places)
    }

    fn write(&self, flat: &mut Flat, from: usize, values: &[f32], add: bool) -> Result<()> {
        self.device.write(flat, from, values, add)
    }

    fn discard_gradients(&self, gradients: &mut Flat) -> Result<()> {
        self.device.discard_gradients(gradients)
    }

    fn host<'a>(&self, flat: &'a Flat) -> Option<&'a [f32]> {
        self.device.host(flat)
    }

    fn refresh(&self, weights: &mut Parameters) -> Result<()> {
        self.device.refresh(weights)
    }

    fn conv(&self, x: &Array, parameters: &Parameters, conv: &Conv) -> Result<Array> {
        let y = self.device.conv(x, parameters, conv)?;
        let on_cpu = self.host_parameters(parameters)?;
        let theirs = self.cpu.conv(&self.host_of(x, parameters, conv)?, &on_cpu, conv)?;
        self.compare_arrays("convolution", &y, &theirs, 1)?;
        Ok(y)
    }

    fn conv_input_gradient(
        &self,
        dy: &Array,
        parameters: &Parameters,
        conv: &Conv,
        x: Shape,
        add_to: Option<Array>,
    ) -> Result<Array> {
        let before = add_to.as_ref().map(|array| self.host(array)).transpose()?;
        // A ring's gradient is rounded before the rows at its seam are added, and once more with what it is added to.
        let times = if before.is_some() || conv.geometry.ring { 2 } else { 1 };
        let dx = self.device.conv_input_gradient(dy, parameters, conv, x, add_to)?;
        let (on_cpu, dy) = (self.host_parameters(parameters)?, self.host_of(dy, parameters, conv)?);
        let theirs = self.cpu.conv_input_gradient(&dy, &on_cpu, conv, x, before)?;
        self.compare_arrays("gradient of a convolution's input", &dx, &theirs, times)?;
        Ok(dx)
    }

    fn conv_weight_gradient(
        &self,
        x: &Array,
        dy: &Array,
        conv: &Conv,
        pass: &mut BackwardPass<'_>,
    ) -> Result<()> {
        self.device.conv_weight_gradient(x, dy, conv, pass)?;
        let [x, dy] = [self.host_of(x, pass.parameters, conv)?, self.host_of(dy, pass.parameters, conv)?];
        let tolerance = SUMS + if self.rounds { ROUNDING } else { 0.0 };
        self.compare_gradients("gradient of a convolution's weights", tolerance, pass, |pass| {
            pass.backend.conv_weight_gradient(&x, &dy, conv, pass)
        })
    }

    fn conv_norm(
        &self,
        x: &Array,
        weights: Weights<'_>,
        conv: &Conv,
        norm: &Norm,
        ending: Epilogue<'_>,
    ) -> Result<Array> {
        // It would be rounded in between, and the normalisation may amplify that.
        self.norm(&self.conv(x, weights.parameters, conv)?, weights, norm, ending)
    }

    fn norm(&self, x: &Array, weights: Weights<'_>, norm: &Norm, ending: Epilogue<'_>) -> Result<Array> {
        let y = self.device.norm(x, weights, norm, ending)?;
        let [parameters, running] =
            [self.host_parameters(weights.parameters)?, self.host_parameters(weights.running)?];
        let shortcut = ending.shortcut.map(|array| self.host(array)).transpose()?;
        let ending = Epilogue { shortcut: shortcut.as_ref(), ..ending };
        let weights = Weights { backend: &*self.cpu, parameters: &parameters, running: &running };
        let theirs = self.cpu.norm(&self.host(x)?, weights, norm, ending)?;
        self.compare_arrays("normalisation by running statistics", &y, &theirs, 1)?;
        Ok(y)
    }

    fn norm_train(
        &self,
        x: &Array,
        pass: &mut TrainPass<'_>,
        norm: &Norm,
        ending: Epilogue<'_>,
    ) -> Result<(Array, Saved)> {
        let [parameters, mut running] =
            [self.host_parameters(pass.parameters)?, self.host_parameters(pass.running)?];
        let shortcut = ending.shortcut.map(|array| self.host(array)).transpose()?;
        let on_cpu = Epilogue { shortcut: shortcut.as_ref(), ..ending };
        let (y, of_device) = self.device.norm_train(x, pass, norm, ending)?;
        let mut training = TrainPass {
            backend: &*self.cpu,
            parameters: &parameters,
            running: &mut running,
            peers: None,
            recompute: false,
        };
        let (theirs, of_cpu) = self.cpu.norm_train(&self.host(x)?, &mut training, norm, on_cpu)?;
        self.compare_arrays("normalisation", &y, &theirs, 1)?;
        for parameter in norm.running {
            let places = pass.running.entry(parameter).range.clone();
            let ours = self.device.read(pass.running.flat(), places)?;
            self.compare("running statistics", &ours, &running.values(parameter)?, SUMS);
        }
        Ok((y, saved(of_device, of_cpu)))
    }

    fn norm_backward(
        &self,
        saved: &Saved,
        x: &Array,
        dy: Array,
        y: Option<&Array>,
        norm: &Norm,
        pass: &mut BackwardPass<'_>,
    ) -> Result<(Array, Option<Array>)> {
        let Both { device, cpu } = saved.get()?;
        let on_cpu = (self.host(x)?, self.host(&dy)?, y.map(|array| self.host(array)).transpose()?);
        let (dx, shortcut) = self.device.norm_backward(device, x, dy, y, norm, pass)?;
        let (x, dy, y) = on_cpu;
        let (their_dx, their_shortcut) =
            self.compare_gradients("gradients of a scale and a shift", SUMS, pass, |pass| {
                pass.backend.norm_backward(cpu, &x, dy, y.as_ref(), norm, pass)
            })?;
        self.compare_arrays("gradient of a normalisation's input", &dx, &their_dx, 1)?;
        assert_eq!(shortcut.is_some(), their_shortcut.is_some());
        if let (Some(ours), Some(theirs)) = (&shortcut, &their_shortcut) {
            self.compare_arrays("gradient of a shortcut", ours, theirs, 0)?;
        }
        Ok((dx, shortcut))
    }

    fn max_pool(&self, x: &Array) -> Result<(Array, Saved)> {
        let (y, of_device) = self.device.max_pool(x)?;
        let (theirs, of_cpu) = self.cpu.max_pool(&self.host(x)?)?;
        self.compare_arrays("maxima", &y, &theirs, 0)?;
        Ok((y, saved(of_device, of_cpu)))
    }

    fn max_pool_backward(&self, dy: &Array, saved: &Saved) -> Result<Array> {
        let Both { device, cpu } = saved.get()?;
        let dx = self.device.max_pool_backward(dy, device)?;
        // Where windows overlap, gradients are added.
        self.compare_arrays(
            "gradient of maxima",
            &dx,
            &self.cpu.max_pool_backward(&self.host(dy)?, cpu)?,
            1,
        )?;
        Ok(dx)
    }

    fn gem(&self, x: &Array, parameters: &Parameters, p: Parameter) -> Result<Array> {
        let y = self.device.gem(x, parameters, p)?;
        let theirs = self.cpu.gem(&self.host(x)?, &self.host_parameters(parameters)?, p)?;
        self.compare_arrays("GeM", &y, &theirs, 0)?;
        Ok(y)
    }

    fn gem_backward(
        &self,
        x: &Array,
        y: &Array,
        dy: &Array,
        p: Parameter,
        pass: &mut BackwardPass<'_>,
    ) -> Result<Array> {
        let dx = self.device.gem_backward(x, y, dy, p, pass)?;
        let [x, y, dy] = [self.host(x)?, self.host(y)?, self.host(dy)?];
        let theirs = self.compare_gradients("gradient of GeM's exponent", 10.0 * SUMS, pass, |pass| {
            pass.backend.gem_backward(&x, &y, &dy, p, pass)
        })?;
        self.compare_arrays("gradient of GeM's input", &dx, &theirs, 1)?;
        Ok(dx)
    }

    fn max_mean(&self, x: &Array, groups: usize) -> Result<(Array, Saved)> {
        let (y, of_device) = self.device.max_mean(x, groups)?;
        let (theirs, of_cpu) = self.cpu.max_mean(&self.host(x)?, groups)?;
        self.compare_arrays("maxima and means", &y, &theirs, 1)?;
        Ok((y, saved(of_device, of_cpu)))
    }

    fn max_mean_backward(&self, dy: &Array, saved: &Saved) -> Result<Array> {
        let Both { device, cpu } = saved.get()?;
        let dx = self.device.max_mean_backward(dy, device)?;
        let theirs = self.cpu.max_mean_backward(&self.host(dy)?, cpu)?;
        self.compare_arrays("gradient of maxima and means", &dx, &theirs, 1)?;
        Ok(dx)
    }

    fn time_mean(&self, x: &Array, stride: usize) -> Result<Array> {
        let y = self.device.time_mean(x, stride)?;
        self.compare_arrays("means over time", &y, &self.cpu.time_mean(&self.host(x)?, stride)?, 1)?;
        Ok(y)
    }

    fn time_mean_backward(&self, dy: &Array, x: Shape, stride: usize) -> Result<Array> {
        let dx = self.device.time_mean_backward(dy, x, stride)?;
        let theirs = self.cpu.time_mean_backward(&self.host(dy)?, x, stride)?;
        self.compare_arrays("gradient of means over time", &dx, &theirs, 1)?;
        Ok(dx)
    }

    fn add(&self, a: Array, b: &Array) -> Result<Array> {
        let theirs = self.cpu.add(self.host(&a)?, &self.host(b)?)?;
        let sum = self.device.add(a, b)?;
        self.compare_arrays("sum", &sum, &theirs, 1)?;
        Ok(sum)
    }

    fn cross_entropy(
        &self,
        logits: &Array,
        labels: &[u32],
        smoothing: f64,
        weight: f64,
    ) -> Result<(Array, Array)> {
        let (value, gradient) = self.device.cross_entropy(logits, labels, smoothing, weight)?;
        let theirs = self.cpu.cross_entropy(&self.host(logits)?, labels, smoothing, weight)?;
        self.compare_arrays("cross entropy", &value, &theirs.0, 0)?;
        self.compare_arrays("gradient of the cross entropy", &gradient, &theirs.1, 0)?;
        Ok((value, gradient))
    }

    fn triplet_margin(
        &self,
        x: &Array,
        triplets: Triplets<'_>,
        margin: f64,
        weight: f64,
    ) -> Result<(Array, Array)> {
        let (value, gradient) = self.device.triplet_margin(x, triplets, margin, weight)?;
        let theirs = self.cpu.triplet_margin(&self.host(x)?, triplets, margin, weight)?;
        self.compare_arrays("triplet loss", &value, &theirs.0, 0)?;
        self.compare_arrays("gradient of the triplet loss", &gradient, &theirs.1, 0)?;
        Ok((value, gradient))
    }

    fn sum_over_devices(&self, flat: &mut Flat) -> Result<bool> {
        self.device.sum_over_devices(flat)
    }

    fn squared_distances(&self, x: &Array) -> Result<Vec<f32>> {
        self.device.squared_distances(x)
    }

    fn euclidean_norm(&self, flat: &Flat, places: &[Range<usize>]) -> Result<f64> {
        self.device.euclidean_norm(flat, places)
    }

    fn adam(&self, state: AdamState<'_>, ranges: &[AdamRange], update: &AdamUpdate) -> Result<f64> {
        self.device.adam(state, ranges, update)
    }

    fn average(&self, average: &mut Flat, values: &Flat, decay: f64) -> Result<()> {
        self.device.average(average, values, decay)
    }
}
