//! Renders an arrangement to samples.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::arrange::Arrangement;
use super::instruments::play;

/// Renders mono samples from -1 to 1 at `rate` Hz.
pub fn samples(arrangement: &Arrangement, rate: u32, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut out = vec![0f32; length(arrangement, rate)];
    let rate = f64::from(rate);
    for event in &arrangement.events {
        play(event, rate, rng, &mut out);
    }
    reverberate(&mut out, rate, arrangement.room);
    dull(&mut out, arrangement.dullness);
    let max = out.iter().fold(1e-9f32, |max, sample| max.max(sample.abs()));
    let gain = arrangement.level / max;
    for sample in &mut out {
        let noise = arrangement.noise * arrangement.level * rng.random_range(-1.0..1.0f32);
        *sample = (*sample * gain + noise).clamp(-1.0, 1.0);
    }
    out
}

/// Returns the number of samples of an arrangement at `rate` Hz.
pub fn length(arrangement: &Arrangement, rate: u32) -> usize {
    (arrangement.seconds * f64::from(rate)) as usize
}

/// Adds the reverberation of a small room: four comb filters (Schroeder 1962).
fn reverberate(samples: &mut [f32], rate: f64, wet: f32) {
    if wet <= 0.01 {
        return;
    }
    let mut room = vec![0f32; samples.len()];
    for seconds in [0.0297, 0.0371, 0.0411, 0.0437] {
        let mut line = vec![0f32; (seconds * rate) as usize];
        let size = line.len();
        for (n, (sample, room)) in samples.iter().zip(&mut room).enumerate() {
            let back = line[n % size];
            *room += back;
            line[n % size] = sample + 0.72 * back;
        }
    }
    for (sample, room) in samples.iter_mut().zip(room) {
        *sample = (1.0 - wet) * *sample + wet * 0.25 * room;
    }
}

/// Replaces a `share` of the sound by a low-passed copy.
fn dull(samples: &mut [f32], share: f32) {
    let mut low = 0f32;
    for sample in samples {
        low += 0.25 * (*sample - low);
        *sample += share * (low - *sample);
    }
}
