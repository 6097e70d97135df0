//! Estimates the peak memory of a training step from the sizes of a network.
//!
//! A network is a sequence of parts (the front, the residual blocks). In the forward pass, each part saves its output and what
//! its backward pass needs, or only its output if activations are recomputed. The backward pass visits the parts in reverse
//! order, and holds everything of the part that it is in, and gradients. [`NetworkSettings::memory`] returns the peak of the
//! two passes. It counts arrays, but not the working memory of libraries. `tests/step_memory.rs` compares it with the memory
//! that the operators of the CPU take, `tests/device` with that of a device.

use crate::backend::Precision;
use crate::settings::{ByteCoverSettings, EXPANSION, NetworkSettings, PITCH_CLASSES, RingSettings, half};

/// How a step stores its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryOptions {
    /// Bytes of one value of an activation.
    pub activation: usize,
    /// Bytes of the copy of each weight that convolutions read; 0 if they read the weights themselves.
    pub copy: usize,
    /// Whether only the inputs of parts are saved ([`crate::Network::recompute_activations`]).
    pub recompute: bool,
}

impl MemoryOptions {
    /// Returns the options of a step on the CPU.
    pub fn on_cpu(recompute: bool) -> Self {
        Self { activation: size_of::<f32>(), copy: 0, recompute }
    }

    /// Returns the options of a step on a GPU, where weights have a copy in the precision and layout of the convolutions.
    pub fn on_gpu(precision: Precision, recompute: bool) -> Self {
        let bytes = if precision == Precision::Bf16 { 2 } else { size_of::<f32>() };
        Self { activation: bytes, copy: bytes, recompute }
    }
}

/// The peak memory of a training step, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Bytes for any batch: weights, their gradients, two moments of 32 bits, and copies of the weights.
    pub fixed: usize,
    /// Bytes for each sample of the batch.
    pub sample: usize,
}

/// The size of arrays of one sample: their values, and additional bytes (the positions of maxima).
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    values: usize,
    bytes: usize,
}

impl Size {
    fn of(values: usize) -> Self {
        Self { values, bytes: 0 }
    }

    fn in_bytes(self, of_value: usize) -> usize {
        self.values * of_value + self.bytes
    }
}

/// A part of a network that can be recomputed, on one sample.
#[derive(Debug, Clone, Copy)]
struct Part {
    /// What the backward pass needs besides input and output.
    inside: Size,
    output: usize,
    /// Maximum that the forward pass holds besides the input.
    forward: Size,
    /// Maximum that the backward pass holds besides the input, including gradients.
    backward: Size,
}

impl NetworkSettings {
    /// Returns the peak memory of a training step on samples of `bins x frames`.
    pub fn memory(&self, bins: usize, frames: usize, options: MemoryOptions) -> Memory {
        const FLOAT: usize = size_of::<f32>();
        let parts = match self {
            Self::ByteCover(settings) => bytecover_parts(settings, bins, frames),
            Self::Ring(settings) => ring_parts(settings, bins, frames),
        };
        let input = bins * frames * options.activation;
        // The head's matrices have 32 bits: pooled values; f_t, f_c and their gradients; logits and theirs.
        let head = FLOAT * (2 * self.pooled() + 6 * self.embedding() + 4 * self.classes());
        Memory {
            fixed: self.parameters() * (4 * FLOAT + options.copy),
            sample: input + head + peak(&parts, options),
        }
    }
}

/// Returns the maximum that all parts hold at the same time, in bytes.
fn peak(parts: &[Part], options: MemoryOptions) -> usize {
    let bytes = |size: Size| size.in_bytes(options.activation);
    let (mut before, mut most) = (0, 0);
    for part in parts {
        let output = bytes(Size::of(part.output));
        // A forward pass that comes again has the gradient of its output beside it.
        let again = if options.recompute { output } else { 0 };
        most = most.max(before + bytes(part.backward).max(bytes(part.forward) + again));
        before += output + if options.recompute { 0 } else { bytes(part.inside) };
    }
    // What is pooled has a gradient before the last part's backward pass begins.
    most.max(before + parts.last().map_or(0, |part| bytes(Size::of(part.output))))
}

/// Returns the part of a residual block, from the sizes of its inner arrays, of its output, and of a temporary array of its
/// shortcut's branch.
fn block(inside: usize, output: usize, shortcut: usize) -> Part {
    Part {
        inside: Size::of(inside),
        output,
        forward: Size::of(inside + output + shortcut),
        // At the last normalisation: the gradients of its input and of the shortcut. What comes later needs less.
        backward: Size::of(inside + 3 * output),
    }
}

fn bytecover_parts(settings: &ByteCoverSettings, bins: usize, frames: usize) -> Vec<Part> {
    let (mut height, mut width) = (half(bins), half(frames));
    let stem = settings.width * height * width;
    (height, width) = (half(height), half(width));
    let pooled = settings.width * height * width;
    // The stem's result is pooled to a quarter, and one byte per value remembers from where.
    let both = Size { values: 2 * stem + pooled, bytes: pooled };
    let inside = Size { values: stem, bytes: pooled };
    let mut parts = vec![Part { inside, output: pooled, forward: both, backward: both }];
    for stage in settings.stages() {
        for number in 0..stage.blocks {
            let before = height * width;
            if number == 0 && stage.stride == 2 {
                (height, width) = (half(height), half(width));
            }
            let after = height * width;
            let output = stage.planes * EXPANSION * after;
            // Of each convolution the result and what its normalisation gives, which the next one reads; of the last,
            // and of the shortcut's, the result alone.
            let inside = 2 * stage.planes * (before + after) + output;
            parts.push(match number {
                0 => block(inside + output, output, output),
                _ => block(inside, output, 0),
            });
        }
    }
    parts
}

fn ring_parts(settings: &RingSettings, bins: usize, frames: usize) -> Vec<Part> {
    let ring = settings.width * PITCH_CLASSES * frames;
    let (kernel, geometry) = settings.stem();
    let stem = ring * ((bins + 1 + 2 * geometry.padding[0] - kernel[0]) / PITCH_CLASSES);
    // Maxima and means of the octaves, with a byte per maximum; a chromagram has none, and the stem's result is mixed.
    let chroma = bins == PITCH_CLASSES;
    let (mixed, bytes) = if chroma { (ring, 0) } else { (2 * ring, ring) };
    let inside = Size { values: stem + mixed + ring, bytes };
    let merging = if chroma { 0 } else { 2 * stem + mixed };
    let moment = |own: usize| Size { values: own.max(merging), bytes };
    let mut parts = vec![Part {
        inside,
        output: ring,
        forward: moment(stem + mixed + 2 * ring),
        backward: moment(stem + 2 * mixed + 2 * ring),
    }];
    let mut columns = frames;
    for residual in settings.residual_blocks() {
        let strides = residual.stride == 2;
        if strides {
            columns = half(columns);
        }
        let positions = PITCH_CLASSES * columns;
        let output = residual.outputs * positions;
        parts.push(match strides || residual.inputs != residual.outputs {
            // The shortcut reads means of columns.
            true => block(4 * output + residual.inputs * positions, output, output),
            false => block(3 * output, output, 0),
        });
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_sample_holds_as_much_more() {
        let settings = NetworkSettings::resnet_ibn_50(84, 100);
        for recompute in [false, true] {
            let memory = |frames| settings.memory(84, frames, MemoryOptions::on_cpu(recompute));
            let (one, two) = (memory(200), memory(400));
            assert_eq!(one.fixed, two.fixed);
            assert!((two.sample as f64 / one.sample as f64 - 2.0).abs() < 0.05);
        }
    }

    #[test]
    fn recomputed_activations_and_bf16_hold_about_half_each() {
        let settings = NetworkSettings::resnet_ibn_50(84, 100);
        let sample = |options| settings.memory(84, 400, options).sample as f64;
        let whole = sample(MemoryOptions::on_cpu(false));
        assert!(sample(MemoryOptions::on_cpu(true)) < 0.55 * whole);
        let bf16 = sample(MemoryOptions::on_gpu(Precision::Bf16, false));
        assert!((bf16 / whole - 0.5).abs() < 0.01, "{bf16} of {whole}");
    }
}
