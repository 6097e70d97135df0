//! Finds the key and the tempo at which the second recording is most similar to the first.

use rayon::prelude::*;

use super::settings::{COSTS, Settings};
use crate::chroma::Chroma;
use crate::qmax::{self, Plot};

/// Factor between consecutive tempo ratios that are tried. A moment of 3.6 s is then at most 3 % too long, a fraction of a cell.
const TEMPO_STEP: f64 = 1.06;

/// A tempo ratio and a transposition at which two recordings are compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Tempo of the second recording over that of the first.
    pub tempo: f64,
    /// Semitones by which the second recording is transposed up.
    pub transposition: i32,
}

impl Candidate {
    /// Returns the second recording `b` transposed to the key of `first` and divided into cells that correspond to those of
    /// `first` at this tempo ratio.
    pub fn apply(&self, first: &Chroma, b: &Chroma) -> Chroma {
        b.means(first.column_s / self.tempo).transposed(self.transposition)
    }

    /// Returns by how many semitones the second recording sounds above the first, from -5 to 6.
    pub fn key_shift(&self) -> i32 {
        nearest_shift(-self.transposition)
    }

    /// Returns candidates in the same key whose tempo ratios differ by up to `steps` steps of `factor` in both directions, the
    /// nearest first.
    pub fn neighbours(&self, factor: f64, steps: i32) -> Vec<Self> {
        let steps = std::iter::once(0).chain((1..=steps).flat_map(|step| [step, -step]));
        steps.map(|step| Self { tempo: self.tempo * factor.powi(step), ..*self }).collect()
    }
}

/// Returns the score of an alignment from the value of its path ([`super::Alignment::score`]).
pub fn score(value: f32, first: &Chroma, second: &Chroma) -> f64 {
    f64::from(value) / (first.columns.len() as f64 * second.columns.len() as f64).powf(0.25)
}

/// Returns the candidates in the best key at the `count` tempi with the greatest scores; empty if the second
/// recording is too short at every tempo.
pub fn best(first: &Chroma, b: &Chroma, settings: &Settings, count: usize) -> Vec<Candidate> {
    let steps = (settings.tempo.max(1.0).ln() / TEMPO_STEP.ln()).round() as i32;
    let keys = first.transpositions(&b.means(settings.cell_s));
    let keys = &keys[..settings.keys.clamp(1, keys.len())];
    let tried: Vec<Candidate> = keys
        .iter()
        .flat_map(|key| Candidate { tempo: 1.0, transposition: *key }.neighbours(TEMPO_STEP, steps))
        .collect();
    let scored = tried.par_iter().filter_map(|candidate| {
        let second = candidate.apply(first, b);
        let plot = Plot::new(&first.columns, &second.columns, settings.depth, settings.kappa)?;
        Some((*candidate, score(qmax::longest(&plot, &COSTS), first, &second)))
    });
    let mut scored: Vec<(Candidate, f64)> = scored.collect();
    // The sort is stable: of equal scores, the likelier key and the tempo nearest to 1 come first.
    scored.sort_by(|a, b| b.1.total_cmp(&a.1));
    let key = scored.first().map(|best| best.0.transposition);
    scored
        .into_iter()
        .map(|scored| scored.0)
        .filter(|candidate| Some(candidate.transposition) == key)
        .take(count)
        .collect()
}

/// Returns the equivalent shift in semitones from -5 to 6.
fn nearest_shift(semitones: i32) -> i32 {
    (semitones + 5).rem_euclid(12) - 5
}

#[cfg(test)]
mod tests {
    use super::nearest_shift;

    #[test]
    fn shifts_are_between_minus_five_and_six() {
        let all: Vec<i32> = (-6..=6).map(nearest_shift).collect();
        assert_eq!(all, [6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(nearest_shift(-11), 1);
    }
}
