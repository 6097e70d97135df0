//! Building blocks of voices; each adds its samples to `out`.

use std::f64::consts::TAU;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Adds noise or a wave that decays within about `seconds`; `wave` gives its value at a time in seconds.
pub(super) fn decaying(
    out: &mut [f32],
    rate: f64,
    seconds: f64,
    mut wave: impl FnMut(f64) -> f64,
    gain: f32,
) {
    for (n, out) in out.iter_mut().take((seconds * 4.0 * rate) as usize).enumerate() {
        let t = n as f64 / rate;
        *out += gain * ((-t / seconds).exp() * wave(t)) as f32;
    }
}

/// A sine by rotation: one complex product per sample.
pub(super) struct Sine {
    re: f64,
    im: f64,
    step: (f64, f64),
}

impl Sine {
    /// Creates a sine of `frequency` Hz at `rate` samples per second that begins at `phase` (in radians).
    pub(super) fn new(frequency: f64, rate: f64, phase: f64) -> Self {
        let (im, re) = phase.sin_cos();
        let (step_im, step_re) = (TAU * frequency / rate).sin_cos();
        Self { re, im, step: (step_re, step_im) }
    }

    /// Returns the next sample.
    pub(super) fn next(&mut self) -> f64 {
        let value = self.im;
        (self.re, self.im) =
            (self.re * self.step.0 - self.im * self.step.1, self.re * self.step.1 + self.im * self.step.0);
        value
    }
}

/// Adds partials with these levels. `decay` is the rate per second at which they decay (faster for high ones), and `stretch`
/// raises them above the harmonics, like those of a string.
pub(super) fn partials(
    out: &mut [f32],
    rate: f64,
    frequency: f64,
    levels: &[f64],
    decay: f64,
    stretch: f64,
    mut envelope: impl FnMut(usize) -> f32,
) {
    let mut sines: Vec<(Sine, f64, f64)> = levels
        .iter()
        .enumerate()
        .filter_map(|(number, level)| {
            let harmonic = (number + 1) as f64;
            let f = frequency * harmonic * (1.0 + stretch * harmonic * harmonic).sqrt();
            let fall = (-decay * harmonic.sqrt() / rate).exp();
            (f < rate * 0.47).then(|| (Sine::new(f, rate, number as f64), *level, fall))
        })
        .collect();
    for (n, out) in out.iter_mut().enumerate() {
        let mut value = 0.0;
        for (sine, level, fall) in &mut sines {
            value += sine.next() * *level;
            *level *= *fall;
        }
        *out += envelope(n) * 0.5 * value as f32;
    }
}

/// Adds a plucked string (Karplus and Strong 1983): a noise burst circulates in a delay line as long as the period.
pub(super) fn pluck(
    out: &mut [f32],
    rate: f64,
    frequency: f64,
    rng: &mut ChaCha8Rng,
    envelope: impl Fn(usize) -> f32,
) {
    // The averaging delays by half a sample. The fraction of the remaining delay is interpolated between two samples.
    let delay = (rate / frequency - 0.5).max(2.0);
    let length = delay as usize;
    let share = delay - length as f64;
    let mut line: Vec<f64> = (0..=length).map(|_| rng.random_range(-1.0..1.0)).collect();
    let size = line.len();
    let mut n = 0;
    let mut last = 0.0;
    for (sample, out) in out.iter_mut().enumerate() {
        let older = line[n];
        let newer = line[(n + 1) % size];
        let value = older * share + newer * (1.0 - share);
        line[n] = 0.996 * f64::midpoint(value, last);
        last = value;
        n = (n + 1) % size;
        *out += envelope(sample) * value as f32;
    }
}

/// Returns a saw whose jump is rounded over two samples (PolyBLEP), so that little aliases.
pub(super) fn saw(phase: f64, step: f64) -> f64 {
    let naive = 2.0 * phase - 1.0;
    if phase < step {
        let t = phase / step;
        naive - (2.0 * t - t * t - 1.0)
    } else if phase > 1.0 - step {
        let t = (phase - 1.0) / step;
        naive - (t * t + 2.0 * t + 1.0)
    } else {
        naive
    }
}
