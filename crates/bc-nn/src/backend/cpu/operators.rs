//! The operators of the CPU backend; each calls the function of its module.

use std::ops::Range;

use anyhow::{Result, ensure};

use super::super::{
    AdamRange, AdamState, AdamUpdate, Array, BackwardPass, Conv, Epilogue, Flat, Norm, Operators, Saved,
    Shape, TrainPass, Upload, Weights,
};
use super::conv2d::{Kernel, conv2d, conv2d_affine, conv2d_input_gradient, conv2d_weight_gradient};
use super::norm::{NormGradients, Source, Statistics, fold_statistics, norm, norm_gradient};
use super::{adam, array, gem, in_place, max_mean, max_pool, rows, time_mean, values};
use crate::loss::{Rows, Triplets, cross_entropy_smoothed, squared_distances, triplet_margin};
use crate::optim::clipping as factor_of;
use crate::parameters::{Parameter, Parameters};

/// Share of a batch in the running statistics, as in PyTorch.
const MOMENTUM: f64 = 0.1;

/// The CPU backend.
pub struct Cpu;

/// Returns the values of one parameter, without a copy.
fn values_of(parameters: &Parameters, parameter: Parameter) -> Result<&[f32]> {
    Ok(&parameters.flat().data::<Vec<f32>>()?[parameters.entry(parameter).range.clone()])
}

/// Returns the values of one parameter for overwriting.
fn values_of_mut(parameters: &mut Parameters, parameter: Parameter) -> Result<&mut [f32]> {
    let places = parameters.entry(parameter).range.clone();
    Ok(&mut parameters.flat_mut().data_mut::<Vec<f32>>()?[places])
}

/// Returns the weights of a convolution, or of a linear layer as a 1x1 kernel.
fn kernel<'a>(parameters: &'a Parameters, conv: &Conv) -> Result<Kernel<'a>> {
    let shape = kernel_shape(&parameters.entry(conv.weight).shape)?;
    Ok(Kernel { values: values_of(parameters, conv.weight)?, shape })
}

fn kernel_shape(shape: &[usize]) -> Result<Shape> {
    match *shape {
        [outputs, inputs] => Ok([outputs, inputs, 1, 1]),
        [outputs, inputs, height, width] => Ok([outputs, inputs, height, width]),
        _ => anyhow::bail!("{shape:?} is not the shape of a convolution's weights"),
    }
}

/// Returns the rows of scale, shift and (if there is one) the convolution's bias; in each row the channels of the instance norm
/// come first.
fn table(parameters: &Parameters, norm: &Norm) -> Result<Vec<f32>> {
    let mut table = Vec::new();
    for row in 0..2 {
        if let Some(instance_affine) = norm.instance_affine {
            table.extend_from_slice(values_of(parameters, instance_affine[row])?);
        }
        table.extend_from_slice(values_of(parameters, norm.batch_affine[row])?);
    }
    if let Some(bias) = norm.bias {
        table.extend_from_slice(values_of(parameters, bias)?);
    }
    Ok(table)
}

/// Returns the running statistics of a norm.
fn running(weights: Weights<'_>, norm: &Norm) -> Result<Statistics> {
    let [mean, variance] = norm.running;
    let values = |parameter| Ok::<_, anyhow::Error>(values_of(weights.running, parameter)?.to_vec());
    Ok(Statistics { mean: values(mean)?, variance: values(variance)?, count: 0 })
}

/// Moves running statistics towards those of a batch, which are multiplied by `factor`.
fn move_running(running: &mut [f32], batch: &[f32], factor: f64) {
    let (old, new) = ((1.0 - MOMENTUM) as f32, (MOMENTUM * factor) as f32);
    for (running, batch) in running.iter_mut().zip(batch) {
        *running = *running * old + batch * new + 0.0;
    }
}

/// Converts a loss of the first `count` samples of x to arrays: its value, and `weight` times its gradient, which is zero for
/// the other samples.
fn loss_of(x: &Array, count: usize, loss: crate::loss::Loss, weight: f64) -> Result<(Array, Array)> {
    let crate::loss::Loss { value, mut gradient } = loss;
    let [channels, batch, _, _] = x.shape();
    ensure!(gradient.len() == channels * count, "a gradient of {} values", gradient.len());
    gradient.iter_mut().for_each(|slope| *slope *= weight as f32);
    gradient.resize(channels * batch, 0.0);
    Ok((array(vec![value], [1; 4]), rows::matrix(&gradient, channels)?))
}

impl Operators for Cpu {
    fn describe(&self) -> String {
        format!("the processor ({})", crate::simd::instruction_set())
    }

    fn free_memory(&self) -> Result<Option<usize>> {
        Ok(crate::memory::available())
    }

    fn send(&self, values: &[f32], size: [usize; 3]) -> Result<Upload> {
        ensure!(values.len() == size.iter().product::<usize>(), "{} values for images", values.len());
        Ok(Upload::new((values.to_vec(), size)))
    }

    fn receive(&self, upload: Upload, parts: usize) -> Result<Vec<Array>> {
        let (values, [batch, height, width]) = upload.into_data::<(Vec<f32>, [usize; 3])>()?;
        if parts == 1 {
            return Ok(vec![array(values, [1, batch, height, width])]);
        }
        ensure!(parts > 0 && batch.is_multiple_of(parts), "{batch} images in {parts} parts");
        let shape = [1, batch / parts, height, width];
        let part =
            |number| array(values[number * values.len() / parts..][..values.len() / parts].to_vec(), shape);
        Ok((0..parts).map(part).collect())
    }

    fn matrix(&self, rows: &[f32], channels: usize) -> Result<Array> {
        super::rows::matrix(rows, channels)
    }

    fn rows(&self, x: &Array) -> Result<Vec<f32>> {
        rows::rows(x)
    }

    fn join(&self, parts: &[&Array]) -> Result<Array> {
        rows::join(parts)
    }

    fn part(&self, x: &Array, first: usize, count: usize) -> Result<Array> {
        rows::part(x, first, count)
    }

    fn flat(&self, values: Vec<f32>) -> Result<Flat> {
        Ok(Flat::new(values))
    }

    fn read(&self, flat: &Flat, places: Range<usize>) -> Result<Vec<f32>> {
        Ok(flat.data::<Vec<f32>>()?[places].to_vec())
    }

    fn write(&self, flat: &mut Flat, from: usize, values: &[f32], add: bool) -> Result<()> {
        let places = &mut flat.data_mut::<Vec<f32>>()?[from..][..values.len()];
        for (place, value) in places.iter_mut().zip(values) {
            *place = if add { *place + value } else { *value };
        }
        Ok(())
    }

    fn discard_gradients(&self, _gradients: &mut Flat) -> Result<()> {
        // Nothing to do: the first write after this overwrites them.
        Ok(())
    }

    fn host<'a>(&self, flat: &'a Flat) -> Option<&'a [f32]> {
        flat.data::<Vec<f32>>().ok().map(Vec::as_slice)
    }

    fn refresh(&self, _weights: &mut Parameters) -> Result<()> {
        Ok(())
    }

    fn sum_over_devices(&self, _flat: &mut Flat) -> Result<bool> {
        Ok(false)
    }

    fn conv(&self, x: &Array, parameters: &Parameters, conv: &Conv) -> Result<Array> {
        conv2d(x, kernel(parameters, conv)?, conv.geometry)
    }

    fn conv_input_gradient(
        &self,
        dy: &Array,
        parameters: &Parameters,
        conv: &Conv,
        x: Shape,
        add_to: Option<Array>,
    ) -> Result<Array> {
        conv2d_input_gradient(dy, kernel(parameters, conv)?, x, conv.geometry, add_to)
    }

    fn conv_weight_gradient(
        &self,
        x: &Array,
        dy: &Array,
        conv: &Conv,
        pass: &mut BackwardPass<'_>,
    ) -> Result<()> {
        let shape = kernel_shape(&pass.parameters.entry(conv.weight).shape)?;
        pass.gradients.write(conv.weight, |flat, places, add| {
            let dw = &mut flat.data_mut::<Vec<f32>>()?[places];
            conv2d_weight_gradient(dw, shape, x, dy, conv.geometry, add)
        })
    }

    fn conv_norm(
        &self,
        x: &Array,
        weights: Weights<'_>,
        conv: &Conv,
        norm: &Norm,
        epilogue: Epilogue<'_>,
    ) -> Result<Array> {
        if norm.instance > 0 {
            return self.norm(&self.conv(x, weights.parameters, conv)?, weights, norm, epilogue);
        }
        let affine = fold_statistics(&running(weights, norm)?, &table(weights.parameters, norm)?);
        let (kernel, floor) = (kernel(weights.parameters, conv)?, epilogue.activation.floor());
        conv2d_affine(x, kernel, conv.geometry, &affine, floor, epilogue.shortcut)
    }

    fn norm(&self, x: &Array, weights: Weights<'_>, of: &Norm, epilogue: Epilogue<'_>) -> Result<Array> {
        let running = running(weights, of)?;
        let table = table(weights.parameters, of)?;
        Ok(norm(x, table, of.instance, Source::Running(&running), epilogue)?.0)
    }

    fn norm_train(
        &self,
        x: &Array,
        pass: &mut TrainPass<'_>,
        of: &Norm,
        epilogue: Epilogue<'_>,
    ) -> Result<(Array, Saved)> {
        let source = pass.peers.map_or(Source::Batch, Source::Shared);
        let (y, saved, batch) = norm(x, table(pass.parameters, of)?, of.instance, source, epilogue)?;
        ensure!(
            batch.count > 1,
            "batch norm needs more than one value per channel in training; use larger batches"
        );
        // Running variances are unbiased, as in PyTorch.
        let unbiased = batch.count as f64 / (batch.count - 1) as f64;
        let [mean, variance] = of.running;
        move_running(values_of_mut(pass.running, mean)?, &batch.mean, 1.0);
        move_running(values_of_mut(pass.running, variance)?, &batch.variance, unbiased);
        Ok((y, Saved::new(saved)))
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
        let NormGradients { dx, shortcut, rows } = norm_gradient(saved.get()?, x, dy, y, pass.peers)?;
        for (row, values) in rows.chunks(rows.len() / 2).enumerate() {
            let (own, rest) = values.split_at(norm.instance);
            if let Some(instance_affine) = norm.instance_affine {
                pass.gradients.add(instance_affine[row], own)?;
            }
            pass.gradients.add(norm.batch_affine[row], rest)?;
        }
        if let Some(bias) = norm.bias {
            // Normalisation cancels a constant.
            pass.gradients.add(bias, &vec![0.0; x.shape()[0]])?;
        }
        Ok((dx, shortcut))
    }

    fn max_pool(&self, x: &Array) -> Result<(Array, Saved)> {
        max_pool::max_pool(x).map(|(y, argmax)| (y, Saved::new(argmax)))
    }

    fn max_pool_backward(&self, dy: &Array, saved: &Saved) -> Result<Array> {
        max_pool::max_pool_gradient(dy, saved.get()?)
    }

    fn gem(&self, x: &Array, parameters: &Parameters, p: Parameter) -> Result<Array> {
        gem::gem(x, values_of(parameters, p)?[0])
    }

    fn gem_backward(
        &self,
        x: &Array,
        y: &Array,
        dy: &Array,
        p: Parameter,
        pass: &mut BackwardPass<'_>,
    ) -> Result<Array> {
        let (dx, dp) = gem::gem_gradient(x, values_of(pass.parameters, p)?[0], y, dy)?;
        pass.gradients.add(p, &[dp])?;
        Ok(dx)
    }

    fn max_mean(&self, x: &Array, groups: usize) -> Result<(Array, Saved)> {
        max_mean::max_mean(x, groups).map(|(y, argmax)| (y, Saved::new(argmax)))
    }

    fn max_mean_backward(&self, dy: &Array, saved: &Saved) -> Result<Array> {
        max_mean::max_mean_gradient(dy, saved.get()?)
    }

    fn time_mean(&self, x: &Array, stride: usize) -> Result<Array> {
        time_mean::time_mean(x, stride)
    }

    fn time_mean_backward(&self, dy: &Array, x: Shape, stride: usize) -> Result<Array> {
        time_mean::time_mean_gradient(dy, x, stride)
    }

    fn add(&self, mut a: Array, b: &Array) -> Result<Array> {
        ensure!(a.shape() == b.shape(), "a sum of {:?} and {:?}", a.shape(), b.shape());
        let b = values(b)?;
        in_place(&mut a)?.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        Ok(a)
    }

    fn cross_entropy(
        &self,
        logits: &Array,
        labels: &[u32],
        smoothing: f64,
        weight: f64,
    ) -> Result<(Array, Array)> {
        let classes = logits.shape()[0];
        let rows = rows::rows(&rows::part(logits, 0, labels.len())?)?;
        let loss = cross_entropy_smoothed(Rows::new(&rows, classes), labels, smoothing)?;
        loss_of(logits, labels.len(), loss, weight)
    }

    fn triplet_margin(
        &self,
        x: &Array,
        triplets: Triplets<'_>,
        margin: f64,
        weight: f64,
    ) -> Result<(Array, Array)> {
        let [dim, batch, _, _] = x.shape();
        let rows = rows::rows(x)?;
        loss_of(x, batch, triplet_margin(Rows::new(&rows, dim), triplets, margin)?, weight)
    }

    fn squared_distances(&self, x: &Array) -> Result<Vec<f32>> {
        Ok(squared_distances(Rows::new(&rows::rows(x)?, x.shape()[0])))
    }

    fn euclidean_norm(&self, flat: &Flat, places: &[Range<usize>]) -> Result<f64> {
        Ok(adam::sum_of_squares(flat.data::<Vec<f32>>()?, places).sqrt())
    }

    fn adam(&self, state: AdamState<'_>, ranges: &[AdamRange], update: &AdamUpdate) -> Result<f64> {
        let clipping = update.clipping;
        let gradients = state.gradients.data::<Vec<f32>>()?;
        let written = ranges.iter().filter(|range| range.written);
        let places: Vec<Range<usize>> = written.map(|range| range.range.clone()).collect();
        let norm = adam::sum_of_squares(gradients, &places).sqrt() * clipping.gradient_scale;
        if norm.is_finite() {
            let factor = (clipping.gradient_scale * factor_of(norm, clipping.max_norm)) as f32;
            let [first, second] = state.moments;
            let moments = [first.data_mut::<Vec<f32>>()?.as_mut_slice(), second.data_mut::<Vec<f32>>()?];
            adam::adam(state.weights.data_mut::<Vec<f32>>()?, moments, gradients, ranges, update, factor);
        }
        Ok(norm)
    }

    fn average(&self, average: &mut Flat, values: &Flat, decay: f64) -> Result<()> {
        adam::average(average.data_mut::<Vec<f32>>()?, values.data::<Vec<f32>>()?, decay);
        Ok(())
    }
}
