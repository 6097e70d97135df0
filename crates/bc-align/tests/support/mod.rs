//! Synthetic music with a known alignment, and the covers mini set.

#![allow(dead_code, reason = "not every test file uses all of it")]

use std::path::{Path, PathBuf};

use bc_align::{Chroma, Folding};
use bc_audio::{Extractor, Limits};
use bc_formats::features::CqtSettings;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Duration of a beat in seconds at tempo ratio 1.
pub const BEAT_S: f64 = 0.5;

/// A song: the pitches that sound in each beat (bins of the transform, so semitones above C1).
pub struct Song {
    pub beats: Vec<Vec<usize>>,
}

impl Song {
    /// Chords of a key that change every second or fourth beat, with a bass and a melody of one or two notes per beat.
    pub fn new(seconds: f64, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let scale = [0, 2, 4, 5, 7, 9, 11];
        let tonic = random.random_range(0..12usize);
        let pitch =
            |degree: usize, octave: usize| 12 * octave + tonic + 12 * (degree / 7) + scale[degree % 7];
        let mut beats = Vec::new();
        let (mut root, mut left) = (0, 0);
        while (beats.len() as f64) * BEAT_S < seconds {
            if left == 0 {
                (root, left) = (random.random_range(0..7usize), 2 * random.random_range(1..=2usize));
            }
            left -= 1;
            let mut sounding = vec![pitch(root, 1)];
            sounding.extend([0, 2, 4].map(|third| pitch(root + third, 2)));
            sounding.push(pitch(random.random_range(0..7), 4));
            beats.push(sounding);
        }
        Self { beats }
    }

    /// Magnitudes, bins x columns of the default transform, of the parts (from, to) in seconds of tempo ratio 1, one after the
    /// other, `tempo` times as fast and `key` semitones up, in a timbre and with noise of `seed`.
    pub fn perform(parts: &[(&Self, f64, f64)], tempo: f64, key: i32, seed: u64) -> Chroma {
        let cqt = CqtSettings::default();
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let partials: Vec<(usize, f32)> = [0, 12, 19, 24, 28]
            .iter()
            .enumerate()
            .map(|(n, up)| (*up, (0.4 + 0.6 * random.random::<f32>()) / (n + 1) as f32))
            .collect();
        let length: f64 = parts.iter().map(|(_, from, to)| to - from).sum();
        let frames = (length / tempo / cqt.column_seconds()) as usize;
        let mut magnitudes = vec![0f32; 84 * frames];
        for frame in 0..frames {
            let mut rest = frame as f64 * cqt.column_seconds() * tempo;
            let (song, time) = parts
                .iter()
                .find_map(|(song, from, to)| {
                    let inside = rest < to - from;
                    let time = from + rest;
                    rest -= to - from;
                    inside.then_some((song, time))
                })
                .unwrap_or((&parts[0].0, 0.0));
            let beat = &song.beats[((time / BEAT_S) as usize).min(song.beats.len() - 1)];
            for (voice, pitch) in beat.iter().enumerate() {
                // The melody leads.
                let loudness = if voice + 1 == beat.len() { 2.0 } else { 1.0 };
                for (up, weight) in &partials {
                    let bin = *pitch as i32 + key + *up as i32;
                    for (offset, leak) in [(-1, 0.5), (0, 1.0), (1, 0.5)] {
                        if let Ok(bin @ 0..84) = usize::try_from(bin + offset) {
                            magnitudes[bin * frames + frame] += loudness * weight * leak;
                        }
                    }
                }
            }
            (0..84).for_each(|bin| magnitudes[bin * frames + frame] += 0.15 * random.random::<f32>());
        }
        Chroma::fold(&magnitudes, frames, &cqt, &Folding::default()).unwrap()
    }
}

/// A version of the covers mini set.
pub struct Version {
    pub clique: String,
    pub chroma: Chroma,
}

/// The folder of the set; `None`, and a recorded skip, where it is absent.
pub fn mini() -> Option<PathBuf> {
    bc_testing::shared("covers/mini")
}

/// The chroma of a split's versions from their audio, by the default transform.
pub fn split(set: &Path, split: &str) -> Vec<Version> {
    let extractor = Extractor::new(CqtSettings::default(), Limits::default());
    let mut reader = csv::Reader::from_path(set.join("data/interim/shs100k.csv")).unwrap();
    let header = reader.headers().unwrap().clone();
    let column_of = |name: &str| header.iter().position(|column| column == name).unwrap();
    let (clique, url, of_split) = (column_of("clique"), column_of("url"), column_of("split"));
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    rows.par_iter()
        .filter(|row| &row[of_split] == split)
        .map(|row| {
            let features = extractor.file(&set.join(&row[url])).unwrap();
            let magnitudes: Vec<f32> = features.magnitude.iter().map(|value| value.to_f32()).collect();
            let chroma =
                Chroma::fold(&magnitudes, features.frames, extractor.settings(), &Folding::default())
                    .unwrap();
            Version { clique: row[clique].to_owned(), chroma }
        })
        .collect()
}

/// Symmetric similarities of all pairs, n x n, computed from the later to the earlier one, as in the Python program.
pub fn pairs<T>(items: &[T], similarity: impl Fn(&T, &T) -> f32) -> Vec<f32> {
    let n = items.len();
    let mut all = vec![0f32; n * n];
    for i in 0..n {
        for j in 0..i {
            let score = similarity(&items[i], &items[j]);
            (all[i * n + j], all[j * n + i]) = (score, score);
        }
    }
    all
}

/// The mAP with every version as a query against all others.
pub fn mean_average_precision(similarities: &[f32], cliques: &[&str]) -> f64 {
    let n = cliques.len();
    let mut precisions = Vec::new();
    for query in 0..n {
        let mut order: Vec<usize> = (0..n).filter(|other| *other != query).collect();
        let row = &similarities[query * n..][..n];
        order.sort_by(|one, other| row[*other].total_cmp(&row[*one]));
        let ranks = order.iter().enumerate().filter(|(_, other)| cliques[**other] == cliques[query]);
        let found: Vec<f64> =
            ranks.enumerate().map(|(number, (rank, _))| (number + 1) as f64 / (rank + 1) as f64).collect();
        if !found.is_empty() {
            precisions.push(found.iter().sum::<f64>() / found.len() as f64);
        }
    }
    precisions.iter().sum::<f64>() / precisions.len() as f64
}
