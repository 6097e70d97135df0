//! Finds the key and the tempo at which the second recording is most similar to the first.

use rayon::prelude::*;

use super::settings::{COSTS, Settings};
use crate::chroma::Chroma;
use crate::qmax::{self, Plot};

/// Tempo ratios are tried this factor apart. A moment of 3.6 s is then at most 3 % too long, which is a fraction of a cell.
const TEMPO_STEP: f64 = 1.06;

/// A tempo ratio and a key in which two recordings are compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Tempo of the second recording over that of the first.
    pub tempo: f64,
    /// Semitones that the second recording is moved up by.
    pub up: i32,
}

impl Candidate {
    /// `b` in the key of `first`, in cells that hold the same music as those of `first`.
    pub fn brought(&self, first: &Chroma, b: &Chroma) -> Chroma {
        b.means(first.column_s / self.tempo).transposed(self.up)
    }

    /// Semitones that the second recording sounds above the first, -5 to 6.
    pub fn key_shift(&self) -> i32 {
        above(-self.up)
    }

    /// Tempi `factor` apart, up to `steps` either way, the nearest first.
    pub fn around(&self, factor: f64, steps: i32) -> Vec<Self> {
        let steps = std::iter::once(0).chain((1..=steps).flat_map(|step| [step, -step]));
        steps.map(|step| Self { tempo: self.tempo * factor.powi(step), ..*self }).collect()
    }
}

/// A path's value as a score: see the score of an alignment.
pub fn score(value: f32, first: &Chroma, second: &Chroma) -> f64 {
    f64::from(value) / (first.columns.len() as f64 * second.columns.len() as f64).powf(0.25)
}

/// The best key, at the `count` tempi with the greatest scores; none where the second recording is too short at every tempo.
pub fn best(first: &Chroma, b: &Chroma, settings: &Settings, count: usize) -> Vec<Candidate> {
    let steps = (settings.tempo.max(1.0).ln() / TEMPO_STEP.ln()).round() as i32;
    let keys = first.transpositions(&b.means(settings.cell_s));
    let keys = &keys[..settings.keys.clamp(1, keys.len())];
    let tried: Vec<Candidate> =
        keys.iter().flat_map(|up| Candidate { tempo: 1.0, up: *up }.around(TEMPO_STEP, steps)).collect();
    let scored = tried.par_iter().filter_map(|candidate| {
        let second = candidate.brought(first, b);
        let plot = Plot::of(&first.columns, &second.columns, settings.depth, settings.kappa)?;
        Some((*candidate, score(qmax::longest(&plot, &COSTS), first, &second)))
    });
    let mut scored: Vec<(Candidate, f64)> = scored.collect();
    // Of equal scores the first: the likelier key, the tempo nearest to 1.
    scored.sort_by(|a, b| b.1.total_cmp(&a.1));
    let up = scored.first().map(|best| best.0.up);
    scored
        .into_iter()
        .map(|scored| scored.0)
        .filter(|candidate| Some(candidate.up) == up)
        .take(count)
        .collect()
}

/// Semitones as -5 to 6.
fn above(semitones: i32) -> i32 {
    (semitones + 5).rem_euclid(12) - 5
}

#[cfg(test)]
mod tests {
    use super::above;

    #[test]
    fn shifts_are_the_nearest_ones() {
        let all: Vec<i32> = (-6..=6).map(above).collect();
        assert_eq!(all, [6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(above(-11), 1);
    }
}
