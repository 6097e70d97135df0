//! In which key, and at which tempo, is the second recording most like the first?

use rayon::prelude::*;

use super::Settings;
use crate::chroma::Chroma;
use crate::qmax::{self, Plot};

/// Tempo ratios are tried this factor apart. A moment of 3.6 s is then at most 3 % too long, a fraction of a cell.
const TEMPO_STEP: f64 = 1.06;

/// The second recording as it fits the first best.
pub struct Best {
    /// Semitones that it sounds above the first.
    pub key_shift: i32,
    /// See [`super::Alignment::score`].
    pub score: f64,
    /// In the first's key, in cells that hold the same music at the tempo ratio tried.
    pub second: Chroma,
}

/// The best of all; none where the second recording is too short at every tempo.
pub fn best(first: &Chroma, b: &Chroma, settings: &Settings) -> Option<Best> {
    let steps = (settings.tempo.max(1.0).ln() / TEMPO_STEP.ln()).round() as i32;
    let keys = first.transpositions(&b.means(settings.cell_s));
    let keys = &keys[..settings.keys.clamp(1, keys.len())];
    let tried: Vec<(i32, i32)> =
        (-steps..=steps).flat_map(|tempo| keys.iter().map(move |key| (tempo, *key))).collect();
    let second = |tempo: i32, key: i32| b.means(first.column_s / TEMPO_STEP.powi(tempo)).transposed(key);
    let scores: Vec<Option<f64>> = tried
        .par_iter()
        .map(|(tempo, key)| {
            let second = second(*tempo, *key);
            let plot = Plot::of(&first.columns, &second.columns, settings.depth, settings.kappa)?;
            let cells = (first.columns.len() as f64 * second.columns.len() as f64).powf(0.25);
            Some(f64::from(qmax::longest(&plot)) / cells)
        })
        .collect();
    let scored = tried.iter().zip(scores).filter_map(|(tried, score)| Some((*tried, score?)));
    // Of equal scores the tempo nearest to none, and the likelier key.
    let better = |one: &((i32, i32), f64), other: &((i32, i32), f64)| {
        one.1.total_cmp(&other.1).then(other.0.0.abs().cmp(&one.0.0.abs()))
    };
    let ((tempo, key), score) = scored.rev().max_by(better)?;
    Some(Best { key_shift: above(-key), score, second: second(tempo, key) })
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
