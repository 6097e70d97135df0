//! Operators on flat memory: the norm of the gradients, a step of Adam, and the moving average of the weights.

use std::ops::Range;

use rayon::prelude::*;

use super::super::{AdamRange, AdamUpdate};
use crate::optim::AdamCoefficients;
use crate::simd::vectorized;

/// Number of values that a thread works on at once.
const BLOCK: usize = 1 << 14;

/// Computes the sum of squares of some ranges. Blocks are added in order, range by range, so that the sum does not
/// depend on the number of threads.
pub(super) fn sum_of_squares(x: &[f32], all: &[Range<usize>]) -> f64 {
    let cut = |range: &Range<usize>| x[range.clone()].chunks(BLOCK).collect::<Vec<_>>();
    let ranges: Vec<Vec<&[f32]>> = all.iter().map(cut).collect();
    let blocks: Vec<&[f32]> = ranges.iter().flatten().copied().collect();
    let mut sums = blocks.par_iter().map(|block| squares(block)).collect::<Vec<f64>>().into_iter();
    ranges.iter().map(|blocks| sums.by_ref().take(blocks.len()).sum::<f64>()).sum()
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

/// The weights of one block, with their moments, gradients and the coefficients of the step.
struct Block<'a> {
    weights: &'a mut [f32],
    moments: [&'a mut [f32]; 2],
    gradient: &'a [f32],
    update: AdamCoefficients,
}

/// Splits mutable ranges off flat memory, in ascending order.
struct Remaining<'a> {
    /// The memory after the last range.
    values: &'a mut [f32],
    /// Offset of `values` in the flat memory.
    from: usize,
}

impl<'a> Remaining<'a> {
    fn new(values: &'a mut [f32]) -> Self {
        Self { values, from: 0 }
    }

    fn take(&mut self, range: &Range<usize>) -> &'a mut [f32] {
        let rest = std::mem::take(&mut self.values);
        let (taken, rest) = rest.split_at_mut(range.end - self.from);
        let skipped = range.start - self.from;
        (self.values, self.from) = (rest, range.end);
        &mut taken[skipped..]
    }
}

/// Makes one step of Adam with the gradients times `factor`; the ranges are in ascending order.
pub(super) fn adam(
    weights: &mut [f32],
    [first, second]: [&mut [f32]; 2],
    gradients: &[f32],
    ranges: &[AdamRange],
    update: &AdamUpdate,
    factor: f32,
) {
    let decaying = AdamCoefficients::of(update);
    let undecayed = AdamCoefficients { gradient_decay: 0.0, weight_factor: 1.0, ..decaying };
    let (mut weights, mut first, mut second) =
        (Remaining::new(weights), Remaining::new(first), Remaining::new(second));
    let mut blocks = Vec::new();
    for AdamRange { range, decayed, .. } in ranges.iter().filter(|range| range.written) {
        let update = if *decayed { decaying } else { undecayed };
        let parts = weights.take(range).chunks_mut(BLOCK);
        let moments = first.take(range).chunks_mut(BLOCK).zip(second.take(range).chunks_mut(BLOCK));
        let gradients = gradients[range.clone()].chunks(BLOCK);
        blocks.extend(parts.zip(moments).zip(gradients).map(|((weights, (first, second)), gradient)| {
            Block { weights, moments: [first, second], gradient, update }
        }));
    }
    blocks.into_par_iter().for_each(|block| {
        let Block { weights, moments: [first, second], gradient, update } = block;
        update_block(weights, first, second, gradient, update, factor);
    });
}

vectorized! {
    fn update_block(
        weights: &mut [f32],
        first: &mut [f32],
        second: &mut [f32],
        gradient: &[f32],
        update: AdamCoefficients,
        factor: f32,
    ) {
        let AdamCoefficients { betas: [beta1, beta2], step, second_moment_correction, epsilon, gradient_decay, weight_factor } = update;
        for (((w, m), v), g) in weights.iter_mut().zip(first).zip(second).zip(gradient) {
            let g = g * factor + gradient_decay * *w;
            *m += (1.0 - beta1) * (g - *m);
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            *w = *w * weight_factor - step * *m / (v.sqrt() * second_moment_correction + epsilon);
        }
    }
}

/// Replaces `average` by `average * decay + values * (1 - decay)`. Adding 0 turns negative zeros into positive ones.
pub(super) fn average(average: &mut [f32], values: &[f32], decay: f64) {
    let (old, new) = (decay as f32, (1.0 - decay) as f32);
    average.par_chunks_mut(BLOCK).zip(values.par_chunks(BLOCK)).for_each(|(average, values)| {
        for (average, value) in average.iter_mut().zip(values) {
            *average = *average * old + value * new + 0.0;
        }
    });
}
