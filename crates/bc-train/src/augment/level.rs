//! Augmentations that change levels: gain, spectral tilt, gain per octave, noise. Decibels are of amplitude (20 log10).

use rand::Rng;

use crate::data::Patch;
use crate::randomness::normal;

/// Multiplies every magnitude by `db` decibels.
pub fn gain(patch: &mut Patch, db: f64) {
    let factor = amplitude(db);
    patch.data.iter_mut().for_each(|v| *v *= factor);
}

/// Tilts the spectrum around its middle bin by `db_per_octave`: positive is brighter.
pub fn tilt(patch: &mut Patch, db_per_octave: f64, bins_per_octave: u32) {
    let middle = (patch.bins as f64 - 1.0) / 2.0;
    for bin in 0..patch.bins {
        let octaves = (bin as f64 - middle) / f64::from(bins_per_octave);
        let factor = amplitude(db_per_octave * octaves);
        patch.row_mut(bin).iter_mut().for_each(|v| *v *= factor);
    }
}

/// Multiplies every octave by its own random gain, normal with a deviation of `db` decibels.
pub fn octaves(patch: &mut Patch, db: f64, bins_per_octave: u32, rng: &mut impl Rng) {
    for first in (0..patch.bins).step_by(bins_per_octave.max(1) as usize) {
        let factor = amplitude(db * f64::from(normal(rng)));
        for bin in first..patch.bins.min(first + bins_per_octave as usize) {
            patch.row_mut(bin).iter_mut().for_each(|v| *v *= factor);
        }
    }
}

/// Raises magnitudes, as shares of the patch's maximum, to a power; the maximum stays.
pub fn power(patch: &mut Patch, exponent: f64) {
    let max = patch.data.iter().fold(0f32, |max, &v| max.max(v));
    if max > 0.0 {
        let exponent = exponent as f32;
        patch.data.iter_mut().for_each(|v| *v = max * (v.max(0.0) / max).powf(exponent));
    }
}

/// Adds the magnitude of normal noise, `db` relative to the patch's root mean square.
/// A silent patch stays silent.
pub fn noise(patch: &mut Patch, db: f64, rng: &mut impl Rng) {
    let energy: f64 = patch.data.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    let deviation = (energy / patch.data.len().max(1) as f64).sqrt() as f32 * amplitude(db);
    if deviation > 0.0 {
        patch.data.iter_mut().for_each(|v| *v += deviation * normal(rng).abs());
    }
}

/// Converts decibels to a factor on magnitudes.
fn amplitude(db: f64) -> f32 {
    10f64.powf(db / 20.0) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::randomness::generator;

    fn rms(p: &Patch) -> f64 {
        (p.data.iter().map(|&v| f64::from(v * v)).sum::<f64>() / p.data.len() as f64).sqrt()
    }

    #[test]
    fn gain_of_20_db_multiplies_magnitudes_by_ten() {
        let mut p = Patch { bins: 1, frames: 2, data: vec![1.0, 0.5] };
        gain(&mut p, 20.0);
        assert_eq!(p.data, vec![10.0, 5.0]);
    }

    #[test]
    fn tilt_changes_each_octave_by_its_decibels_and_keeps_the_middle_bin() {
        let mut p = Patch { bins: 25, frames: 1, data: vec![1.0; 25] };
        tilt(&mut p, 6.0, 12);
        assert_eq!(p.data[12], 1.0);
        assert!((20.0 * p.data[24].log10() - 6.0).abs() < 1e-4);
        assert!((20.0 * p.data[0].log10() + 6.0).abs() < 1e-4);
    }

    #[test]
    fn each_octave_gets_one_factor_and_power_keeps_the_maximum() {
        let mut p = Patch { bins: 30, frames: 2, data: vec![1.0; 60] };
        octaves(&mut p, 6.0, 12, &mut generator(0, "test", &[]));
        let rows: Vec<f32> = (0..30).map(|bin| p.row(bin)[1]).collect();
        for octave in rows.chunks(12) {
            assert!(octave.iter().all(|v| *v == octave[0] && *v > 0.0));
        }
        assert!(rows[0] != rows[12] && rows[12] != rows[24]);
        let mut p = Patch { bins: 1, frames: 3, data: vec![0.0, 2.0, 4.0] };
        power(&mut p, 2.0);
        assert_eq!(p.data, vec![0.0, 1.0, 4.0]);
        let mut silent = Patch::zeros(1, 2);
        power(&mut silent, 0.5);
        assert_eq!(silent.data, vec![0.0; 2]);
    }

    #[test]
    fn noise_has_the_requested_level_below_the_music() {
        let mut p = Patch { bins: 50, frames: 400, data: vec![0.3; 20_000] };
        let clean = p.clone();
        noise(&mut p, -20.0, &mut generator(1, "test", &[]));
        let added =
            Patch { data: p.data.iter().zip(&clean.data).map(|(a, b)| a - b).collect(), ..clean.clone() };
        let db = 20.0 * (rms(&added) / rms(&clean)).log10();
        assert!((db + 20.0).abs() < 0.2, "{db}");
        assert!(added.data.iter().all(|&v| v >= 0.0));
    }

    #[test]
    fn silence_stays_silent() {
        let mut p = Patch::zeros(4, 4);
        noise(&mut p, 0.0, &mut generator(1, "test", &[]));
        assert_eq!(p, Patch::zeros(4, 4));
    }
}
