//! Batch and instance normalisation, fused with the operations that follow them: a ReLU, or the shortcut and ReLU at the end
//! of a bottleneck.
//!
//! One operator serves batch norm, instance norm and their mixture IBN (Pan et al. 2018): the first `instance` channels are
//! normalised over each sample, the others over the batch. Because channels come first, the values that are normalised
//! together are contiguous in memory; they are called a *group*. The bias of the preceding convolution is added here, where
//! it costs nothing.

use anyhow::{Result, bail};
use rayon::prelude::*;

use super::super::{Activation, Array, Epilogue, Shape};
use super::normalise::{
    self, Affine, affine_add_relu, gradient, gradient_in_place, gradient_sums, mask_in_place, moments,
};
use super::{Uninit, array, assume_init, in_place, values, vec_filled_by};
use crate::peers::Peers;

/// Added to the variance, as in PyTorch.
const EPSILON: f64 = 1e-5;

/// Mean and (biased) variance of each channel that is normalised over the batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Statistics {
    /// Means.
    pub mean: Vec<f32>,
    /// Variances.
    pub variance: Vec<f32>,
    /// Number of values that each mean was taken over.
    pub count: usize,
}

impl Activation {
    /// Returns the minimum to which normalised values are clamped: 0 for a ReLU.
    pub(crate) fn floor(self) -> f32 {
        if self == Activation::Relu { 0.0 } else { f32::NEG_INFINITY }
    }
}

/// Which values are normalised together. Groups are numbered channel by channel, and sample by sample within a channel that is
/// normalised over each sample.
#[derive(Debug, Clone, Copy)]
struct Groups {
    batch: usize,
    /// Height times width.
    positions: usize,
    /// Number of channels that are normalised over each sample.
    instance: usize,
}

impl Groups {
    fn new(shape: Shape, instance: usize) -> Self {
        let [channels, batch, height, width] = shape;
        Self { batch, positions: height * width, instance: instance.min(channels) }
    }

    /// Returns the number of values of a channel.
    fn channel_len(&self) -> usize {
        self.batch * self.positions
    }

    /// Returns the number of values of each group of a channel.
    fn group_len(&self, channel: usize) -> usize {
        if channel < self.instance { self.positions } else { self.channel_len() }
    }

    /// Returns the number of a channel's first group.
    fn first_group(&self, channel: usize) -> usize {
        if channel <= self.instance {
            channel * self.batch
        } else {
            self.instance * (self.batch - 1) + channel
        }
    }
}

/// Mean, and inverse of the standard deviation, of a group.
#[derive(Debug, Clone, Copy)]
struct GroupMoments {
    mean: f32,
    inverse: f32,
}

impl GroupMoments {
    fn new(mean: f32, variance: f64) -> Self {
        Self { mean, inverse: (1.0 / (variance + EPSILON).sqrt()) as f32 }
    }
}

/// Splits the table of parameters into its rows: scale, shift, and the bias of the convolution (empty if it has none).
fn rows(table: &[f32], channels: usize) -> [&[f32]; 3] {
    let bias = table.get(2 * channels..).unwrap_or(&[]);
    [&table[..channels], &table[channels..2 * channels], bias]
}

/// What the backward pass needs besides the input.
pub struct Saved {
    instance: usize,
    floor: f32,
    channels: usize,
    /// The moments of each group.
    scales: Vec<GroupMoments>,
    table: Vec<f32>,
    /// Number of values of a channel that is normalised over the batch, including those of all peers.
    count: usize,
}

/// Folds running statistics and parameters into one factor and offset per channel.
pub(crate) fn fold_statistics(statistics: &Statistics, table: &[f32]) -> Vec<Affine> {
    let [gamma, beta, bias] = rows(table, statistics.mean.len());
    (0..statistics.mean.len())
        .map(|channel| {
            let inverse = (1.0 / (f64::from(statistics.variance[channel]) + EPSILON).sqrt()) as f32;
            let mean = statistics.mean[channel] - bias.get(channel).copied().unwrap_or(0.0);
            Affine::new(mean, inverse, gamma[channel], beta[channel])
        })
        .collect()
}

/// The settings of a forward pass.
struct Forward<'a> {
    /// Minimum to which normalised values are clamped: zero for a ReLU.
    floor: f32,
    table: &'a [f32],
    source: Source<'a>,
}

/// The results of a forward pass: y, the moments of each group, the statistics of the batch.
type Normalised = (Vec<f32>, Vec<GroupMoments>, Statistics);

impl Forward<'_> {
    /// Returns the moments of a channel that is normalised by running statistics; `None` for other channels. (Only with
    /// running statistics the bias of the convolution does not cancel.)
    fn running(&self, channel: usize, groups: &Groups, bias: f32) -> Option<GroupMoments> {
        let Source::Running(running) = self.source else { return None };
        let index = channel.checked_sub(groups.instance)?;
        Some(GroupMoments::new(running.mean[index] - bias, f64::from(running.variance[index])))
    }

    /// Normalises x; `shortcut` is added to the results.
    fn run(&self, x: &[f32], groups: &Groups, shortcut: Option<&[f32]>) -> Result<Normalised> {
        let channel_len = groups.channel_len();
        let channels = x.len() / channel_len.max(1);
        let whole = match self.source {
            Source::Shared(peers) => Some(BatchMoments::measure(x, groups, peers)?),
            _ => None,
        };
        let [gamma, beta, bias] = rows(self.table, channels);
        let bias = |channel: usize| bias.get(channel).copied().unwrap_or(0.0);
        let mut measured = Vec::new();
        let y = vec_filled_by(x.len(), |out| {
            let y = &mut *out;
            y.par_chunks_mut(channel_len)
                .zip(x.par_chunks(channel_len))
                .enumerate()
                .map(|(channel, (y, x))| {
                    let size = groups.group_len(channel);
                    let mut last = (0.0, 0.0);
                    let mut scales = Vec::with_capacity(channel_len / size);
                    for (group, (y, x)) in y.chunks_mut(size).zip(x.chunks(size)).enumerate() {
                        let scale = match self.running(channel, groups, bias(channel)) {
                            Some(scale) => scale,
                            None => {
                                let of_all =
                                    whole.as_ref().and_then(|whole| whole.of_channel(channel, groups));
                                let (mean, variance) = of_all.unwrap_or_else(|| moments(x));
                                last = (mean as f32, variance as f32);
                                GroupMoments::new(last.0, variance)
                            }
                        };
                        let affine = Affine::new(scale.mean, scale.inverse, gamma[channel], beta[channel]);
                        match shortcut {
                            None => normalise::affine(y, x, affine, self.floor),
                            Some(shortcut) => {
                                let from = channel * channel_len + group * size;
                                affine_add_relu(y, x, affine, self.floor, &shortcut[from..from + size]);
                            }
                        }
                        scales.push(scale);
                    }
                    (scales, last)
                })
                .collect_into_vec(&mut measured);
            // SAFETY: x is as long as `out` and cut in the same way, so every group of `out` was written; a shorter shortcut
            // would have panicked.
            unsafe { assume_init(out) }
        });
        let batch_affine = &measured[groups.instance..];
        let statistics = Statistics {
            mean: batch_affine.iter().enumerate().map(|(i, m)| m.1.0 + bias(groups.instance + i)).collect(),
            variance: batch_affine.iter().map(|(_, last)| last.1).collect(),
            count: whole.map_or(channel_len, |whole| whole.count),
        };
        Ok((y, measured.into_iter().flat_map(|(scales, _)| scales).collect(), statistics))
    }
}

/// Mean and variance of each channel over the batch of all processes.
struct BatchMoments {
    /// Number of values of a channel.
    count: usize,
    /// Mean and variance of each channel that is normalised over the batch.
    moments: Vec<(f64, f64)>,
}

impl BatchMoments {
    /// Returns mean and variance of a channel, if it is normalised over the batch.
    fn of_channel(&self, channel: usize, groups: &Groups) -> Option<(f64, f64)> {
        channel.checked_sub(groups.instance).map(|index| self.moments[index])
    }

    /// Combines count, means and sums of squared differences of all processes (Chan, Golub and LeVeque 1979), in the order of
    /// the processes.
    fn measure(x: &[f32], groups: &Groups, peers: &dyn Peers) -> Result<Self> {
        let channel_len = groups.channel_len();
        let own: Vec<(f64, f64)> = x.par_chunks(channel_len).skip(groups.instance).map(moments).collect();
        let mut values = vec![channel_len as f64];
        values.extend(own.iter().map(|(mean, _)| mean));
        values.extend(own.iter().map(|(_, variance)| variance * channel_len as f64));
        let all = peers.gather(&values)?;
        let parts: Vec<&[f64]> = all.chunks_exact(values.len()).collect();
        let count: f64 = parts.iter().map(|part| part[0]).sum();
        let channel = |index: usize| {
            let (mean_at, squares_at) = (1 + index, 1 + own.len() + index);
            let mean = parts.iter().map(|part| part[0] * part[mean_at]).sum::<f64>() / count;
            let squares = |part: &&[f64]| part[squares_at] + part[0] * (part[mean_at] - mean).powi(2);
            (mean, parts.iter().map(squares).sum::<f64>() / count)
        };
        Ok(Self { count: count as usize, moments: (0..own.len()).map(channel).collect() })
    }
}

/// The backward pass of a normalisation.
struct BackwardPass<'a> {
    saved: &'a Saved,
    peers: Option<&'a dyn Peers>,
}

/// Sums over a group that its gradient depends on.
#[derive(Debug, Clone, Copy)]
struct GroupSums {
    /// Sum of g, the gradient before the activation.
    sum: f64,
    /// Sum of g times the normalised input.
    product: f64,
}

/// Sums of a channel that is normalised over the batch.
#[derive(Debug, Clone, Copy)]
struct ChannelSums {
    /// Sums over this process's part of the batch.
    own: GroupSums,
    /// Sums over the whole batch.
    all: GroupSums,
}

impl BackwardPass<'_> {
    /// Returns the moments of a group, and its normalisation as a factor and an offset.
    fn scale(&self, channel: usize, group: usize) -> (GroupMoments, Affine) {
        let [gamma, beta, _] = rows(&self.saved.table, self.saved.channels);
        let scale = self.saved.scales[group];
        (scale, Affine::new(scale.mean, scale.inverse, gamma[channel], beta[channel]))
    }

    /// Computes the sums over one group.
    fn sums(&self, channel: usize, group: usize, x: &[f32], dy: &[f32]) -> GroupSums {
        let (scale, affine) = self.scale(channel, group);
        let (sum, product) = gradient_sums(x, dy, affine, self.saved.floor, scale.mean);
        GroupSums { sum, product: product * f64::from(scale.inverse) }
    }

    /// Computes the sums of every channel that is normalised over the batch, together with the peers; `None` without peers.
    /// With `y`, first sets dy to zero where y is not positive (the ReLU after the shortcut).
    fn shared_sums(
        &self,
        groups: &Groups,
        dy: &mut [f32],
        x: &[f32],
        y: Option<&[f32]>,
    ) -> Result<Option<Vec<ChannelSums>>> {
        let Some(peers) = self.peers else { return Ok(None) };
        let channel_len = groups.channel_len();
        let channel = |(channel, (dy, x)): (usize, (&mut [f32], &[f32]))| {
            if let Some(y) = y {
                mask_in_place(dy, &y[channel * channel_len..(channel + 1) * channel_len]);
            }
            self.sums(channel, groups.first_group(channel), x, dy)
        };
        let own: Vec<GroupSums> = dy
            .par_chunks_mut(channel_len)
            .zip(x.par_chunks(channel_len))
            .enumerate()
            .skip(groups.instance)
            .map(channel)
            .collect();
        let mut all: Vec<f64> = own.iter().flat_map(|sums| [sums.sum, sums.product]).collect();
        peers.sum(&mut all)?;
        let both = |(own, all): (GroupSums, &[f64])| ChannelSums {
            own,
            all: GroupSums { sum: all[0], product: all[1] },
        };
        Ok(Some(own.into_iter().zip(all.chunks_exact(2)).map(both).collect()))
    }

    /// Computes one channel of the input's gradient, and returns the gradients of scale and shift over this process's part
    /// of the batch. Without `end`, dx overwrites dy. After a shortcut, `end` is y and the memory for dx, and dy becomes the
    /// gradient of the shortcut. `known` are the sums of [`BackwardPass::shared_sums`].
    fn channel(
        &self,
        channel: usize,
        groups: &Groups,
        dy: &mut [f32],
        x: &[f32],
        mut end: Option<(&[f32], &mut [Uninit])>,
        known: Option<&[ChannelSums]>,
    ) -> [f32; 2] {
        let floor = self.saved.floor;
        let size = groups.group_len(channel);
        let known =
            known.filter(|_| channel >= groups.instance).map(|known| known[channel - groups.instance]);
        let (mut shift, mut scale_sum) = (0f64, 0f64);
        for (group, (dy, x)) in dy.chunks_mut(size).zip(x.chunks(size)).enumerate() {
            let part = group * size..(group + 1) * size;
            if let (Some((y, _)), None) = (&end, known) {
                mask_in_place(dy, &y[part.clone()]);
            }
            let number = groups.first_group(channel) + group;
            let (scale, affine) = self.scale(channel, number);
            let (own, all, count) = match known {
                Some(ChannelSums { own, all }) => (own, all, self.saved.count),
                None => {
                    let own = self.sums(channel, number, x, dy);
                    (own, own, size)
                }
            };
            shift += own.sum;
            scale_sum += own.product;
            // dx = a (g - mean(g) - x^ mean(g x^)), x^ the normalised input.
            let a = f64::from(affine.factor);
            let slope = -a * f64::from(scale.inverse) * all.product / count as f64;
            let constant = (-a * all.sum / count as f64 - slope * f64::from(scale.mean)) as f32;
            match &mut end {
                None => gradient_in_place(dy, x, affine, floor, slope as f32, constant),
                Some((_, dx)) => gradient(&mut dx[part], x, dy, affine, floor, slope as f32, constant),
            }
        }
        [scale_sum as f32, shift as f32]
    }

    /// Overwrites dy with dx, and returns the gradients of scale and shift of each channel.
    fn in_place(&self, dy: &mut [f32], x: &[f32], groups: &Groups) -> Result<Vec<[f32; 2]>> {
        let known = self.shared_sums(groups, dy, x, None)?;
        let channel_len = groups.channel_len();
        Ok(dy
            .par_chunks_mut(channel_len)
            .zip(x.par_chunks(channel_len))
            .enumerate()
            .map(|(channel, (dy, x))| self.channel(channel, groups, dy, x, None, known.as_deref()))
            .collect())
    }

    /// Computes the backward pass after a shortcut: overwrites dy with the part of it that passes the ReLU (the gradient of
    /// the shortcut), and returns dx and the gradients of scale and shift of each channel.
    fn after_shortcut(
        &self,
        dy: &mut [f32],
        x: &[f32],
        y: &[f32],
        groups: &Groups,
    ) -> Result<(Vec<f32>, Vec<[f32; 2]>)> {
        let known = self.shared_sums(groups, dy, x, Some(y))?;
        let (channel_len, mut sums) = (groups.channel_len(), Vec::new());
        let dx = vec_filled_by(x.len(), |dx| {
            assert!(dy.len() == dx.len() && y.len() == dx.len());
            dy.par_chunks_mut(channel_len)
                .zip(x.par_chunks(channel_len))
                .zip(y.par_chunks(channel_len).zip(dx.par_chunks_mut(channel_len)))
                .enumerate()
                .map(|(channel, ((dy, x), end))| {
                    self.channel(channel, groups, dy, x, Some(end), known.as_deref())
                })
                .collect_into_vec(&mut sums);
            // SAFETY: all four are of one length and cut the same way, and `channel` writes its part of dx.
            unsafe { assume_init(dx) }
        });
        Ok((dx, sums))
    }
}

/// Where a normalisation takes its means and variances from.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// The batch.
    Batch,
    /// The batch of which this process and its peers each have a part.
    Shared(&'a dyn Peers),
    /// Running statistics; there is no backward pass.
    Running(&'a Statistics),
}

/// Normalises x (C, B, H, W): the first `instance` channels over each sample, the others over the batch or by running
/// statistics. `table` (2 or 3 rows of C values) holds scale, shift, and the bias of the preceding convolution. With a
/// shortcut of x's shape, the result is `relu(activation(normalised) + shortcut)`. Also returns what [`norm_gradient`]
/// needs, and the statistics of the batch.
///
/// # Errors
/// Shapes that do not fit.
pub fn norm(
    x: &Array,
    table: Vec<f32>,
    instance: usize,
    source: Source<'_>,
    epilogue: Epilogue<'_>,
) -> Result<(Array, Saved, Statistics)> {
    let Epilogue { activation, shortcut } = epilogue;
    let channels = x.shape()[0];
    let expected = channels - instance.min(channels);
    if let Source::Running(running) = source
        && (running.mean.len() != expected || running.variance.len() != expected)
    {
        bail!("statistics of {} channels for {expected}", running.mean.len());
    }
    if ![2 * channels, 3 * channels].contains(&table.len())
        || shortcut.is_some_and(|s| s.shape() != x.shape())
    {
        bail!("a normalisation of {:?} by {} parameters", x.shape(), table.len());
    }
    let floor = activation.floor();
    let shortcut = shortcut.map(values).transpose()?;
    let forward = Forward { floor, table: &table, source };
    let (y, scales, statistics) = forward.run(values(x)?, &Groups::new(x.shape(), instance), shortcut)?;
    let count = statistics.count;
    Ok((array(y, x.shape()), Saved { instance, floor, channels, scales, table, count }, statistics))
}

/// The gradients that [`norm_gradient`] returns.
pub struct NormGradients {
    /// Gradient of x.
    pub dx: Array,
    /// Gradient of the shortcut, if there was one.
    pub shortcut: Option<Array>,
    /// Gradients of scale and shift, one row after the other. (That of the bias of a preceding convolution is zero, because
    /// normalisation cancels a constant.)
    pub rows: Vec<f32>,
}

/// Computes the backward pass of a normalisation of x by the batch, shared with `peers` if it was; `y` is what came out if
/// there was a shortcut. Overwrites dy. The rows of the parameters are of this process's part of the batch.
///
/// # Errors
/// Shapes that do not fit.
pub fn norm_gradient(
    saved: &Saved,
    x: &Array,
    mut dy: Array,
    y: Option<&Array>,
    peers: Option<&dyn Peers>,
) -> Result<NormGradients> {
    let shape = x.shape();
    if dy.shape() != shape || y.is_some_and(|y| y.shape() != shape) || saved.channels != shape[0] {
        bail!("a gradient of {:?} for a normalisation of {shape:?}", dy.shape());
    }
    let backward = BackwardPass { saved, peers };
    let (groups, x) = (Groups::new(shape, saved.instance), values(x)?);
    let (dx, sums) = match y {
        None => (None, backward.in_place(in_place(&mut dy)?, x, &groups)?),
        Some(y) => {
            let (dx, sums) = backward.after_shortcut(in_place(&mut dy)?, x, values(y)?, &groups)?;
            (Some(array(dx, shape)), sums)
        }
    };
    let rows = (0..2).flat_map(|row| sums.iter().map(move |sums| sums[row])).collect();
    Ok(match dx {
        None => NormGradients { dx: dy, shortcut: None, rows },
        Some(dx) => NormGradients { dx, shortcut: Some(dy), rows },
    })
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::{self, flat, test_array};
    use super::*;
    use std::sync::Mutex;

    const IDENTITY: Epilogue<'_> = Epilogue { activation: Activation::Identity, shortcut: None };

    fn locked<T>(cell: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
        cell.lock().unwrap()
    }

    #[test]
    fn gradients_are_differences_for_every_mixture_and_ending() {
        let inputs = [test_array([4, 3, 5, 7], 1), test_array([2, 4, 1, 1], 2), test_array([4, 3, 5, 7], 5)];
        for activation in [Activation::Identity, Activation::Relu] {
            for (instance, ends) in [(0, 2), (2, 2), (4, 2), (0, 3), (2, 3), (4, 3)] {
                let pass = |inputs: &[Array]| {
                    let epilogue = Epilogue { activation, shortcut: inputs.get(2) };
                    norm(&inputs[0], flat(&inputs[1]), instance, Source::Batch, epilogue)
                };
                let backward = |inputs: &[Array], dy: &Array| {
                    let (y, saved, _) = pass(inputs)?;
                    let y = inputs.get(2).map(|_| &y);
                    let NormGradients { dx, shortcut, rows } =
                        norm_gradient(&saved, &inputs[0], dy.clone(), y, None)?;
                    let rows = array(rows, [2, 4, 1, 1]);
                    Ok([Some(dx), Some(rows), shortcut].into_iter().flatten().collect())
                };
                let forward = |inputs: &[Array]| Ok(pass(inputs)?.0);
                gradient_check::check(&inputs[..ends], forward, backward, 1e-3, 2e-2);
            }
        }
    }

    #[test]
    fn statistics_are_those_of_the_batch_with_the_convolutions_bias() {
        let x = array(vec![1f32, 2.0, 3.0, 6.0], [1, 2, 1, 2]);
        let table = vec![1.0, 0.0, 10.0];
        let (y, _, batch) = norm(&x, table.clone(), 0, Source::Batch, IDENTITY).unwrap();
        assert_eq!((batch.mean[0], batch.variance[0], batch.count), (13.0, 3.5, 4));
        let y = flat(&y);
        assert!((y[3] - 3.0 / 3.50001f32.sqrt()).abs() < 1e-5);
        // The same by running statistics, where the bias counts.
        let (again, _, _) = norm(&x, table.clone(), 0, Source::Running(&batch), IDENTITY).unwrap();
        assert!(y.iter().zip(&flat(&again)).all(|(a, b)| (a - b).abs() < 1e-6));
        let affine = fold_statistics(&batch, &table)[0];
        let by_hand = flat(&x).into_iter().map(|x| x * affine.factor + affine.offset);
        assert!(y.iter().zip(by_hand).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    /// Two processes in one thread: the first asked remembers, so that each part is computed twice.
    struct Part {
        others: Mutex<Vec<Vec<f64>>>,
        first: bool,
    }

    impl Part {
        fn new(first: bool) -> Self {
            Self { others: Mutex::default(), first }
        }
    }

    /// Gives back what the other part was recorded to ask, question after question.
    struct Both<'a> {
        own: &'a Part,
        other: &'a Part,
        question: Mutex<usize>,
    }

    impl Both<'_> {
        fn answer(&self, own: &[f64]) -> Vec<f64> {
            let mut question = locked(&self.question);
            let mut asked = locked(&self.own.others);
            if asked.len() <= *question {
                asked.push(own.to_vec());
            } else {
                asked[*question] = own.to_vec();
            }
            drop(asked);
            let other = locked(&self.other.others).get(*question).cloned().unwrap_or(vec![0.0; own.len()]);
            *question += 1;
            if self.own.first { [own, &other].concat() } else { [&other, own].concat() }
        }
    }

    impl Peers for Both<'_> {
        fn gather(&self, own: &[f64]) -> Result<Vec<f64>> {
            Ok(self.answer(own))
        }

        fn is_idle(&self) -> bool {
            false
        }

        fn sum(&self, values: &mut [f64]) -> Result<()> {
            let all = self.answer(values);
            let (one, other) = all.split_at(values.len());
            values.iter_mut().zip(one.iter().zip(other)).for_each(|(sum, (a, b))| *sum = a + b);
            Ok(())
        }
    }

    /// Some samples of x.
    fn samples(x: &Array, from: usize, count: usize) -> Array {
        let [channels, batch, height, width] = x.shape();
        let plane = height * width;
        let rows = flat(x);
        let cut = rows.chunks(batch * plane).flat_map(|row| &row[from * plane..(from + count) * plane]);
        array(cut.copied().collect(), [channels, count, height, width])
    }

    /// The samples of a and behind them those of b.
    fn behind(a: &Array, b: &Array) -> Array {
        let ([channels, one, height, width], two) = (a.shape(), b.shape()[1]);
        let plane = height * width;
        let (a, b) = (flat(a), flat(b));
        let rows = a.chunks(one * plane).zip(b.chunks(two * plane)).flat_map(|(a, b)| [a, b].concat());
        array(rows.collect(), [channels, one + two, height, width])
    }

    /// y, dx, the shortcut's gradient and the parameters' rows, concatenated over samples 0..at and at..
    fn in_two_parts(inputs: &[Array], dy: &Array, at: usize) -> (Vec<Array>, Vec<f32>) {
        let batch = dy.shape()[1];
        let parts = [Part::new(true), Part::new(false)];
        let cut = |x: &Array, part: usize| {
            let (from, count) = if part == 0 { (0, at) } else { (at, batch - at) };
            samples(x, from, count)
        };
        let mut outputs = Vec::new();
        // Forward and backward ask once each: after two rounds every answer is of the right question.
        for _ in 0..3 {
            outputs.clear();
            for part in 0..2 {
                let question = Mutex::default();
                let both = Both { own: &parts[part], other: &parts[1 - part], question };
                let [x, shortcut, dy] = [&inputs[0], &inputs[2], dy].map(|x| cut(x, part));
                let table = flat(&inputs[1]);
                let source = Source::Shared(&both);
                let epilogue = Epilogue { activation: Activation::Relu, shortcut: Some(&shortcut) };
                let (y, saved, _) = norm(&x, table, 2, source, epilogue).unwrap();
                let NormGradients { dx, shortcut, rows } =
                    norm_gradient(&saved, &x, dy.clone(), Some(&y), Some(&both)).unwrap();
                outputs.push(([y, dx, shortcut.unwrap()], rows));
            }
        }
        let (second, first) = (outputs.pop().unwrap(), outputs.pop().unwrap());
        let joined = first.0.iter().zip(&second.0).map(|(a, b)| behind(a, b));
        (joined.collect(), first.1.iter().zip(&second.1).map(|(a, b)| a + b).collect())
    }

    #[test]
    fn a_batch_that_is_shared_is_normalised_as_a_whole() {
        let inputs = [test_array([5, 7, 3, 4], 1), test_array([2, 5, 1, 1], 2), test_array([5, 7, 3, 4], 5)];
        let dy = test_array([5, 7, 3, 4], 9);
        let epilogue = Epilogue { activation: Activation::Relu, shortcut: Some(&inputs[2]) };
        let (y, saved, _) = norm(&inputs[0], flat(&inputs[1]), 2, Source::Batch, epilogue).unwrap();
        let alone = norm_gradient(&saved, &inputs[0], dy.clone(), Some(&y), None).unwrap();
        let whole = [&y, &alone.dx, alone.shortcut.as_ref().unwrap()];
        let close = |a: &[f32], b: &[f32]| {
            assert_eq!(a.len(), b.len());
            let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 2e-6, "{worst}");
        };
        for at in [1, 3, 6] {
            let (joined, rows) = in_two_parts(&inputs, &dy, at);
            joined.iter().zip(whole).for_each(|(joined, whole)| close(&flat(joined), &flat(whole)));
            close(&rows, &alone.rows);
        }
    }
}
