//! Synthetic songs: chords, bass and a melody, in any key, tempo and timbre.

use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{RATE, checkpoint, wav, with_network};

/// Duration of a beat at tempo 1, in seconds.
const BEAT_S: f64 = 0.5;

/// How a song is played.
#[derive(Clone, Copy)]
pub struct Performance {
    /// Factor of the speed: 2 is twice as fast.
    pub tempo: f64,
    /// Transposition, in semitones.
    pub key: i32,
    /// The first beat, and the beat after the last one.
    pub beats: (usize, usize),
    /// Loudness of each partial relative to the one below it.
    pub brightness: f64,
}

impl Default for Performance {
    fn default() -> Self {
        Self { tempo: 1.0, key: 0, beats: (0, 96), brightness: 0.5 }
    }
}

/// The notes of each beat of the song of a seed, as MIDI numbers: bass, three notes of a chord, melody.
fn beats(seed: u64, count: usize) -> Vec<[i32; 5]> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let scale = [0, 2, 4, 5, 7, 9, 11];
    let tonic: i32 = random.random_range(45..57);
    let pitch = |degree: usize, octave: i32| tonic + 12 * (octave + degree as i32 / 7) + scale[degree % 7];
    let (mut beats, mut root, mut beats_left) = (Vec::new(), 0, 0);
    while beats.len() < count {
        if beats_left == 0 {
            (root, beats_left) = (random.random_range(0..7usize), 2 * random.random_range(1..=2usize));
        }
        beats_left -= 1;
        let melody = pitch(random.random_range(0..9), 1);
        beats.push([pitch(root, -1), pitch(root, 0), pitch(root + 2, 0), pitch(root + 4, 0), melody]);
    }
    beats
}

/// Writes the song of `seed` as WAV.
pub fn song(path: &Path, seed: u64, performance: Performance) {
    let notes = beats(seed, performance.beats.1);
    let beat = (f64::from(RATE) * BEAT_S / performance.tempo) as usize;
    let samples = notes[performance.beats.0..performance.beats.1].iter().flat_map(|sounding| {
        let hertz: Vec<f64> = sounding
            .iter()
            .map(|note| 440.0 * 2f64.powf(f64::from(note + performance.key - 69) / 12.0))
            .collect();
        (0..beat).map(move |n| {
            let seconds = n as f64 / f64::from(RATE);
            let envelope = (seconds / 0.01).min(1.0) * (-2.0 * seconds).exp();
            let tone = |hertz: &f64| -> f64 {
                (1..=4)
                    .map(|partial| {
                        let loudness = performance.brightness.powi(partial - 1);
                        loudness * (std::f64::consts::TAU * hertz * f64::from(partial) * seconds).sin()
                    })
                    .sum()
            };
            (3000.0 * envelope * hertz.iter().map(tone).sum::<f64>()).clamp(-32000.0, 32000.0) as i16
        })
    });
    wav(path, samples);
}

/// A folder with a network, three songs of 48 s (`one`, `two`, `three`) and an index of them.
pub fn indexed_songs() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(&folder.path().join("network.safetensors"), 7);
    std::fs::create_dir(folder.path().join("songs")).unwrap();
    for (name, seed) in [("one", 1), ("two", 2), ("three", 3)] {
        song(&folder.path().join(format!("songs/{name}.wav")), seed, Performance::default());
    }
    with_network(folder.path(), &["add", "songs", "--index", "index"]);
    folder
}
