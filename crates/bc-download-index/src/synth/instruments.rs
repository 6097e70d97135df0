//! Voices by different methods of synthesis, so that versions differ in timbre as real ones do.

use std::f64::consts::TAU;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::event::{Event, Sound, Voice};
use super::oscillators::{Sine, decaying, partials, pluck, saw};

/// Adds an event to `out`, mono samples at `rate` Hz.
pub fn play(event: &Event, rate: f64, rng: &mut ChaCha8Rng, out: &mut [f32]) {
    let first = (event.start * rate).max(0.0) as usize;
    let Some(out) = out.get_mut(first..) else { return };
    let gain = event.loudness * 0.25;
    match event.sound {
        Sound::Tone(voice, frequency) => tone(voice, frequency, event.length, gain, rate, rng, out),
        Sound::Kick => decaying(
            out,
            rate,
            0.18,
            |t| (TAU * (50.0 * t + 6.0 * (1.0 - (-t * 30.0).exp()))).sin(),
            gain * 2.0,
        ),
        Sound::Snare => {
            let mut noise = || rng.random_range(-1.0..1.0);
            decaying(out, rate, 0.12, |t| 0.6 * noise() + 0.4 * (TAU * 190.0 * t).sin(), gain);
        }
        Sound::Hat => {
            let mut last = 0.0;
            let mut high = || {
                let now = rng.random_range(-1.0..1.0);
                let difference = now - last;
                last = now;
                difference
            };
            decaying(out, rate, 0.04, |_| high(), gain * 0.6);
        }
    }
}

/// Adds a tone of an instrument to `out`.
// Long: one arm per instrument.
fn tone(
    voice: Voice,
    frequency: f64,
    seconds: f64,
    gain: f32,
    rate: f64,
    rng: &mut ChaCha8Rng,
    out: &mut [f32],
) {
    let release = match voice {
        Voice::Piano | Voice::Pluck | Voice::Bell => 0.25,
        _ => 0.08,
    };
    let count = (((seconds + release) * rate) as usize).min(out.len());
    let out = &mut out[..count];
    let envelope = |n: usize, attack: f64| {
        let t = n as f64 / rate;
        let rise = (t / attack).min(1.0);
        let fall = ((seconds + release - t) / release).clamp(0.0, 1.0);
        (rise * fall) as f32
    };
    match voice {
        Voice::Organ => partials(out, rate, frequency, &[1.0, 0.7, 0.5, 0.35, 0.1, 0.2], 0.0, 0.0, |p| {
            gain * envelope(p, 0.01)
        }),
        Voice::Piano => {
            let levels = [1.0, 0.6, 0.45, 0.3, 0.2, 0.12, 0.08];
            partials(out, rate, frequency, &levels, 1.3, 0.0004, |p| gain * 1.4 * envelope(p, 0.004));
        }
        Voice::Bell => {
            let ratio = [1.0, 2.0, 3.0][rng.random_range(0..3)];
            let mut modulator = Sine::new(frequency * ratio, rate, 0.0);
            let mut phase = 0f64;
            for (n, out) in out.iter_mut().enumerate() {
                let t = n as f64 / rate;
                phase += frequency / rate;
                let index = 2.5 * (-t * 3.0).exp();
                let value = (TAU * phase + index * modulator.next()).sin() * (-t * 1.2).exp();
                *out += gain * 1.3 * envelope(n, 0.004) * value as f32;
            }
        }
        Voice::Pluck => pluck(out, rate, frequency, rng, |p| gain * 1.8 * envelope(p, 0.002)),
        Voice::Strings => {
            let cutoff = (frequency * 6.0).clamp(600.0, rate * 0.4);
            let (mut phase, mut low, mut lower) = (rng.random_range(0.0..1.0), 0f64, 0f64);
            for (n, out) in out.iter_mut().enumerate() {
                let t = n as f64 / rate;
                let vibrato = 1.0 + 0.003 * (TAU * 5.2 * t).sin();
                let step = frequency * vibrato / rate;
                phase = (phase + step) % 1.0;
                let factor = 1.0 - (-TAU * cutoff * (0.4 + 0.6 * (-t * 1.5).exp()) / rate).exp();
                low += factor * (saw(phase, step) - low);
                lower += factor * (low - lower);
                *out += gain * 0.9 * envelope(n, 0.09) * lower as f32;
            }
        }
        Voice::Reed => {
            let levels = [1.0, 0.05, 0.4, 0.04, 0.25, 0.03, 0.12];
            let mut vibrato = Sine::new(5.8, rate, 0.0);
            partials(out, rate, frequency, &levels, 0.0, 0.0, |p| {
                gain * envelope(p, 0.03) * (1.0 + 0.15 * vibrato.next()) as f32
            });
        }
        Voice::Choir => {
            let formants = [(620.0, 120.0), (1100.0, 160.0), (2500.0, 300.0)];
            let level = |harmonic: f64| -> f64 {
                let f = frequency * harmonic;
                let peaks = formants.iter().map(|(centre, width)| (-((f - centre) / width).powi(2)).exp());
                (0.25 / harmonic) + 0.5 * peaks.sum::<f64>()
            };
            let count = ((rate * 0.45 / frequency) as usize).clamp(1, 12);
            let levels: Vec<f64> = (1..=count).map(|harmonic| level(harmonic as f64)).collect();
            let mut breath = Sine::new(4.9, rate, 1.0);
            partials(out, rate, frequency, &levels, 0.0, 0.0, |p| {
                gain * 0.9 * envelope(p, 0.07) * (1.0 + 0.1 * breath.next()) as f32
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    /// Strength of a frequency in a signal.
    fn strength(samples: &[f32], frequency: f64, rate: f64) -> f64 {
        let (mut re, mut im) = (0.0, 0.0);
        for (n, sample) in samples.iter().enumerate() {
            let (s, c) = (TAU * frequency * n as f64 / rate).sin_cos();
            re += f64::from(*sample) * c;
            im += f64::from(*sample) * s;
        }
        re.hypot(im)
    }

    #[test]
    fn all_voices_sound_at_their_pitch() {
        for voice in Voice::ALL {
            let mut out = vec![0f32; 22_050];
            let event = Event { start: 0.0, length: 0.9, sound: Sound::Tone(voice, 440.0), loudness: 1.0 };
            play(&event, 22_050.0, &mut ChaCha8Rng::seed_from_u64(1), &mut out);
            let at = |semitones: f64| strength(&out, 440.0 * 2f64.powf(semitones / 12.0), 22_050.0);
            assert!(
                at(0.0) > 4.0 * at(1.0) && at(0.0) > 4.0 * at(-1.0),
                "{voice:?}: {} {} {}",
                at(-1.0),
                at(0.0),
                at(1.0)
            );
            assert!(out.iter().all(|sample| sample.is_finite() && sample.abs() < 2.0), "{voice:?}");
        }
    }
}
