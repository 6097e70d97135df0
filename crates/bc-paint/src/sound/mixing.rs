//! Mixes the instruments' powers with the effects of a recording and converts them to magnitudes: balance, reverberation,
//! equaliser, compression, noise, fades.

use crate::random_stream::RandomStream;

use super::grid::Grid;
use super::picture::Picture;

/// Sums the powers of the lead, the accompaniment (`rest`) and the drums at a random balance.
pub fn balance(
    grid: &Grid,
    lead: Picture,
    rest: Picture,
    drums: Picture,
    random: &mut RandomStream,
) -> Picture {
    let [of_lead, of_rest, of_drums] = [&lead, &rest, &drums].map(|picture| loudness(grid, picture));
    let lead_db = random.uniform(-5.0, 8.0);
    let drums_db = random.uniform(-20.0, -3.0);
    let mut sum = rest;
    let pitched = if of_rest > 0.0 { of_rest } else { of_lead };
    if of_lead > 0.0 {
        let factor = if of_rest > 0.0 { 10f32.powf(lead_db / 10.0) * of_rest / of_lead } else { 1.0 };
        sum.values.iter_mut().zip(&lead.values).for_each(|(sum, value)| *sum += factor * value);
    }
    if of_drums > 0.0 && pitched > 0.0 {
        let factor = 10f32.powf(drums_db / 10.0) * pitched / of_drums;
        sum.values.iter_mut().zip(&drums.values).for_each(|(sum, value)| *sum += factor * value);
    }
    sum
}

/// Estimates the power of the sound: the sum over bins of power divided by the power that a tone of power 1 gives in the bin.
fn loudness(grid: &Grid, picture: &Picture) -> f32 {
    let sum: f32 = (0..grid.bins).map(|bin| picture.row(bin).iter().sum::<f32>() / grid.height[bin]).sum();
    sum / picture.columns.max(1) as f32
}

/// Adds reverberation, equaliser, compression and noise, and converts powers to magnitudes.
pub fn finish(grid: &Grid, picture: &mut Picture, random: &mut RandomStream) {
    if random.chance(0.85) {
        reverberate(grid, picture, random);
    }
    equalise(grid, picture, random);
    if random.chance(0.5) {
        compress(grid, picture, random.uniform(0.05, 0.6));
    }
    let power = loudness(grid, picture) / 3.0;
    let noise = noise(grid, power, random);
    let flutter = if random.chance(0.8) { random.uniform(0.0, 0.3) } else { 0.0 };
    to_magnitudes(grid, picture, &noise, flutter, random);
    smear(grid, picture);
    fade_ends(grid, picture, random);
    let max = picture.values.iter().fold(0f32, |max, value| max.max(*value));
    let factor = random.log_uniform(0.5, 20.0) / max.max(1e-9);
    picture.values.iter_mut().for_each(|value| *value *= factor);
}

/// Adds reverberation: a tail that decays exponentially, faster in high bins.
fn reverberate(grid: &Grid, picture: &mut Picture, random: &mut RandomStream) {
    let (fall_s, damp) = (random.log_uniform(0.25, 4.0), random.uniform(0.0, 0.8));
    let level = 10f32.powf(random.uniform(-2.3, -0.1));
    let bins = grid.bins as f32;
    for bin in 0..grid.bins {
        // Powers fall by 60 dB in fall_s.
        let q = (-13.8 * grid.column_s / (fall_s * (1.0 - damp * bin as f32 / bins))).exp();
        let feed = level * (1.0 - q);
        let mut tail = 0.0;
        for value in picture.row_mut(bin) {
            let direct = *value;
            *value += tail;
            tail = q * tail + feed * direct;
        }
    }
}

/// Multiplies bins by a random equaliser curve: a smooth curve, a tilt, and sometimes a low or a high cut.
fn equalise(grid: &Grid, picture: &mut Picture, random: &mut RandomStream) {
    let curve = random.curve(grid.bins, 8, 1.0, 0.0);
    let tilt_db = if random.chance(0.7) { random.uniform(-2.5, 2.0) } else { 0.0 };
    let low_cut = if random.chance(0.3) { random.log_uniform(60.0, 400.0) } else { 1.0 };
    let high_cut = if random.chance(0.3) { random.log_uniform(1500.0, 9000.0) } else { 1e6 };
    for (bin, curve) in curve.iter().enumerate() {
        let octaves = (bin as f32 - grid.bin_of(1000.0)) / grid.octave;
        let hz = grid.lowest_hz * 2f32.powf(bin as f32 / grid.octave);
        let high = 1.0 / (1.0 + (hz / high_cut).powi(8));
        let low = 1.0 / (1.0 + (low_cut / hz).powi(8));
        let factor = curve * 10f32.powf((tilt_db * octaves).clamp(-18.0, 18.0) / 10.0) * high * low;
        picture.row_mut(bin).iter_mut().for_each(|value| *value *= factor);
    }
}

/// Compresses the dynamic range: differences of levels between columns, in dB, are multiplied by `1 - strength`.
fn compress(grid: &Grid, picture: &mut Picture, strength: f32) {
    let mut levels = vec![0.0f32; picture.columns];
    for bin in 0..grid.bins {
        let share = 1.0 / grid.height[bin];
        levels.iter_mut().zip(picture.row(bin)).for_each(|(level, value)| *level += share * value);
    }
    let mean = levels.iter().sum::<f32>() / levels.len().max(1) as f32;
    if mean <= 0.0 {
        return;
    }
    let gains: Vec<f32> = levels.iter().map(|level| (level / mean).max(0.03).powf(-strength)).collect();
    for bin in 0..grid.bins {
        picture.row_mut(bin).iter_mut().zip(&gains).for_each(|(value, gain)| *value *= gain);
    }
}

/// Computes the power in each bin of steady noise, at a random level below music of power `power`.
///
/// Noise of power 1 in the band up to half the sample rate has power 1.5 in every bin, so noise with power `n_b` in bin b has a
/// total power of the sum of `n_b / 1.5` times the bin's share of that band, about `f_b / 17 / 11,025`.
fn noise(grid: &Grid, power: f32, random: &mut RandomStream) -> Vec<f32> {
    let below_db = if random.chance(0.75) { random.uniform(10.0, 45.0) } else { 60.0 };
    let colour = random.pick(&[0.0, 0.0, -1.5, -3.0]);
    let mut powers = random.curve(grid.bins, 6, 0.5, 0.0);
    let width = std::f32::consts::LN_2 / grid.octave;
    let mut sum = 0.0;
    for (bin, value) in powers.iter_mut().enumerate() {
        let octaves = (bin as f32 - grid.bin_of(500.0)) / grid.octave;
        *value *= 10f32.powf(colour * octaves / 10.0);
        let hz = grid.lowest_hz * 2f32.powf(bin as f32 / grid.octave);
        sum += *value / 1.5 * hz * width / 11_025.0;
    }
    let factor = power * 10f32.powf(-below_db / 10.0) / sum.max(1e-9);
    powers.iter_mut().for_each(|value| *value *= factor);
    powers
}

/// Converts powers to magnitudes: takes square roots and adds the random fluctuation that noise and beats between tones cause. It is
/// smaller in bins whose columns average more independent values ([`Grid::effective_samples`]).
fn to_magnitudes(grid: &Grid, picture: &mut Picture, noise: &[f32], flutter: f32, random: &mut RandomStream) {
    for (bin, level) in noise.iter().enumerate() {
        let steady = grid.effective_samples[bin].sqrt().recip();
        // A Rayleigh number deviates by 0.52 of its mean.
        let (of_noise, of_tones) = (0.52 * steady, flutter * (0.4 + 0.6 * steady));
        for value in picture.row_mut(bin) {
            let bits = random.bits();
            let (first, second) = (approx_normal(bits as u32), approx_normal((bits >> 32) as u32));
            let hiss = (1.0 + of_noise * first).max(0.05);
            let power = *value + level * hiss * hiss;
            *value = power.sqrt() * (1.0 + of_tones * second).max(0.05);
        }
    }
}

/// Draws an approximately normal number from 32 random bits: the scaled sum of four bytes.
fn approx_normal(bits: u32) -> f32 {
    let sum: u32 = bits.to_le_bytes().iter().map(|byte| u32::from(*byte)).sum();
    (sum as f32 - 510.0) / 147.8
}

/// Smears each bin over time, because the transform's long windows reach beyond their column. A filter with one tap to either side
/// is applied as often as needed for the standard deviation of a Hann window (0.181 of its length).
pub(super) fn smear(grid: &Grid, picture: &mut Picture) {
    for bin in 0..grid.bins {
        let deviation = 0.181 * grid.window_s[bin] / grid.column_s;
        let variance = deviation * deviation;
        if variance < 1e-3 {
            continue;
        }
        let times = (variance / 0.5).ceil();
        let side = 0.5 * variance / times;
        let row = picture.row_mut(bin);
        for _ in 0..times as usize {
            let mut before = row[0];
            for column in 0..row.len() {
                let here = row[column];
                let after = row.get(column + 1).copied().unwrap_or(here);
                row[column] = (1.0 - 2.0 * side) * here + side * (before + after);
                before = here;
            }
        }
    }
}

/// Fades the beginning or the end, with some probability.
fn fade_ends(grid: &Grid, picture: &mut Picture, random: &mut RandomStream) {
    let mut fade = |p: f32, longest_s: f32| {
        if random.chance(p) { (random.uniform(0.3, longest_s) / grid.column_s) as usize } else { 0 }
    };
    let (into, out) = (fade(0.1, 4.0).min(picture.columns / 4), fade(0.3, 5.0).min(picture.columns / 4));
    for bin in 0..grid.bins {
        let row = picture.row_mut(bin);
        for (n, value) in row.iter_mut().take(into).enumerate() {
            *value *= (n as f32 + 0.5) / into as f32;
        }
        for (n, value) in row.iter_mut().rev().take(out).enumerate() {
            *value *= (n as f32 + 0.5) / out as f32;
        }
    }
}
