//! From the instruments' powers to the magnitudes of a file.

use crate::dice::Dice;

use super::grid::Grid;
use super::picture::Picture;

/// Sums the lead, the rest and the drums at a drawn balance.
pub fn balance(grid: &Grid, lead: Picture, rest: Picture, drums: Picture, dice: &mut Dice) -> Picture {
    let [of_lead, of_rest, of_drums] = [&lead, &rest, &drums].map(|picture| loudness(grid, picture));
    let lead_db = dice.uniform(-5.0, 8.0);
    let drums_db = dice.uniform(-20.0, -3.0);
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

/// About the power of the sound: what every bin shows, by what it would show of a tone.
fn loudness(grid: &Grid, picture: &Picture) -> f32 {
    let sum: f32 = (0..grid.bins).map(|bin| picture.row(bin).iter().sum::<f32>() / grid.height[bin]).sum();
    sum / picture.columns.max(1) as f32
}

/// Reverberation, equaliser, compression, noise; powers become magnitudes.
pub fn finish(grid: &Grid, picture: &mut Picture, dice: &mut Dice) {
    if dice.chance(0.85) {
        reverberate(grid, picture, dice);
    }
    equalise(grid, picture, dice);
    if dice.chance(0.5) {
        compress(grid, picture, dice.uniform(0.05, 0.6));
    }
    let power = loudness(grid, picture) / 3.0;
    let noise = noise(grid, power, dice);
    let flutter = if dice.chance(0.8) { dice.uniform(0.0, 0.3) } else { 0.0 };
    to_magnitudes(grid, picture, &noise, flutter, dice);
    smear(grid, picture);
    ends(grid, picture, dice);
    let most = picture.values.iter().fold(0f32, |most, value| most.max(*value));
    let factor = dice.log_uniform(0.5, 20.0) / most.max(1e-9);
    picture.values.iter_mut().for_each(|value| *value *= factor);
}

/// Adds a tail that falls exponentially, faster in the high bins.
fn reverberate(grid: &Grid, picture: &mut Picture, dice: &mut Dice) {
    let (fall_s, damp) = (dice.log_uniform(0.25, 4.0), dice.uniform(0.0, 0.8));
    let level = 10f32.powf(dice.uniform(-2.3, -0.1));
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

/// A smooth curve, a tilt, and sometimes a low or a high cut.
fn equalise(grid: &Grid, picture: &mut Picture, dice: &mut Dice) {
    let curve = dice.curve(grid.bins, 8, 1.0, 0.0);
    let tilt_db = if dice.chance(0.7) { dice.uniform(-2.5, 2.0) } else { 0.0 };
    let low_cut = if dice.chance(0.3) { dice.log_uniform(60.0, 400.0) } else { 1.0 };
    let high_cut = if dice.chance(0.3) { dice.log_uniform(1500.0, 9000.0) } else { 1e6 };
    for (bin, curve) in curve.iter().enumerate() {
        let octaves = (bin as f32 - grid.bin_of(1000.0)) / grid.octave;
        let hz = grid.lowest_hz * 2f32.powf(bin as f32 / grid.octave);
        let high = 1.0 / (1.0 + (hz / high_cut).powi(8));
        let low = 1.0 / (1.0 + (low_cut / hz).powi(8));
        let factor = curve * 10f32.powf((tilt_db * octaves).clamp(-18.0, 18.0) / 10.0) * high * low;
        picture.row_mut(bin).iter_mut().for_each(|value| *value *= factor);
    }
}

/// Loud columns get softer: levels differ by `1 - strength` of what they did, in dB.
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

/// Power of each bin of steady noise that is some dB below music of `power`.
///
/// Noise of power 1 in the band up to half the sample rate shows as 1.5 in every bin, so the power of noise
/// that shows as `n_b` is the sum of `n_b / 1.5` times the bins' shares of that band, about `f_b / 17 / 11,025`.
fn noise(grid: &Grid, power: f32, dice: &mut Dice) -> Vec<f32> {
    let below_db = if dice.chance(0.75) { dice.uniform(10.0, 45.0) } else { 60.0 };
    let colour = dice.pick(&[0.0, 0.0, -1.5, -3.0]);
    let mut powers = dice.curve(grid.bins, 6, 0.5, 0.0);
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

/// Roots of powers; noise and beats between tones make them flutter, less where a column holds more looks.
fn to_magnitudes(grid: &Grid, picture: &mut Picture, noise: &[f32], flutter: f32, dice: &mut Dice) {
    for (bin, level) in noise.iter().enumerate() {
        let steady = grid.looks[bin].sqrt().recip();
        // A Rayleigh number deviates by 0.52 of its mean.
        let (of_noise, of_tones) = (0.52 * steady, flutter * (0.4 + 0.6 * steady));
        for value in picture.row_mut(bin) {
            let bits = dice.bits();
            let (first, second) = (bell(bits as u32), bell((bits >> 32) as u32));
            let hiss = (1.0 + of_noise * first).max(0.05);
            let power = *value + level * hiss * hiss;
            *value = power.sqrt() * (1.0 + of_tones * second).max(0.05);
        }
    }
}

/// About normal, from 32 random bits: the sum of four bytes.
fn bell(bits: u32) -> f32 {
    let sum: u32 = bits.to_le_bytes().iter().map(|byte| u32::from(*byte)).sum();
    (sum as f32 - 510.0) / 147.8
}

/// Long windows look beyond their column: a tap to either side that gives the spread of a Hann window
/// (0.181 of its length), as often as it takes.
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
            for place in 0..row.len() {
                let here = row[place];
                let after = row.get(place + 1).copied().unwrap_or(here);
                row[place] = (1.0 - 2.0 * side) * here + side * (before + after);
                before = here;
            }
        }
    }
}

/// Sometimes the beginning or the end is faded.
fn ends(grid: &Grid, picture: &mut Picture, dice: &mut Dice) {
    let mut fade = |p: f32, longest_s: f32| {
        if dice.chance(p) { (dice.uniform(0.3, longest_s) / grid.column_s) as usize } else { 0 }
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
