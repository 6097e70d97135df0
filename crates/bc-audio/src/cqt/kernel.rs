//! The kernel of a bin: the relevant band of its spectrum, in closed form.

use std::f64::consts::PI;

use bc_formats::features::CqtSettings;

/// Half the width of a kernel's band, in units of `sample rate / l_b`. A Hann spectrum falls with the third power: its part
/// beyond k = 20 has less than 7e-5 of the kernel's norm (0.116 k^-2.5).
pub(super) const HALF_BAND: f64 = 20.0;

/// The kernel of one bin as it acts on the spectrum of a block.
pub(super) struct Kernel {
    /// First point of the band in the block's spectrum.
    pub first: usize,
    /// Real weights from `first` on; scaled for an inverse FFT without scaling.
    pub weights: Vec<f32>,
    /// Whether the window has an odd length: its centre is then half a sample early.
    pub odd: bool,
}

/// Returns the length of the window of `bin` in samples: `ceil(Q * rate / frequency)`.
pub(super) fn window_length(settings: &CqtSettings, bin: u32) -> usize {
    let q = 1.0 / (2f64.powf(1.0 / f64::from(settings.bins_per_octave)) - 1.0);
    (q * f64::from(settings.sample_rate) / settings.frequency(bin)).ceil() as usize
}

impl Kernel {
    /// Creates the kernel of `bin` for blocks of `block` samples.
    pub(super) fn new(settings: &CqtSettings, bin: u32, block: usize) -> Self {
        let length = window_length(settings, bin);
        let points = block as f64;
        let centre = settings.frequency(bin) / f64::from(settings.sample_rate) * points;
        let half = (HALF_BAND * points / length as f64).ceil();
        let first = (centre - half).max(0.0) as usize;
        let last = ((centre + half) as usize).min(block / 2);
        let l = length as f64;
        // Unit sum of magnitudes: a Hann window sums to l / 2.
        let scale = l.sqrt() / (l / 2.0) / points;
        let weights = (first..=last)
            .map(|point| (hann_spectrum(2.0 * PI * (point as f64 - centre) / points, l) * scale) as f32)
            .collect();
        Self { first, weights, odd: length % 2 == 1 }
    }
}

/// Computes the spectrum of a periodic Hann window of length `l`, with its centre `l / 2` as the origin, at `angle` radians per
/// sample. It is real because the window is symmetric about its centre.
///
/// It is the sum of three spectra of rectangular windows, sin(l a / 2) / tan(a / 2) each (their imaginary parts cancel), shifted
/// by 2 pi / l. The sine of all three is the same up to its sign, and the three tangents are computed from one.
fn hann_spectrum(angle: f64, l: f64) -> f64 {
    let (half, step) = (angle / 2.0, PI / l);
    let (here, step_tangent) = (half.tan(), step.tan());
    let [left, right] = [here - step_tangent, here + step_tangent];
    if [here, left, right].iter().any(|tangent| tangent.abs() < 1e-9) {
        return 0.5 * ones(half, l) + 0.25 * (ones(half + step, l) + ones(half - step, l));
    }
    let product = here * step_tangent;
    (half * l).sin() * (0.5 / here - 0.25 * ((1.0 - product) / right + (1.0 + product) / left))
}

/// Computes the spectrum of a rectangular window of length `l` at `2 * half` radians per sample, also near its pole.
fn ones(half: f64, l: f64) -> f64 {
    // tan(0): the sum of l ones.
    if half.tan().abs() < 1e-12 { l * (half * l).cos() } else { (half * l).sin() / half.tan() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_form_of_the_kernel_equals_the_sum() {
        for l in [9usize, 10, 93, 1000] {
            for angle in [0.0, 0.001, 0.1, -0.3, 2.0 * PI / l as f64, 1.7] {
                let sum: f64 = (0..l)
                    .map(|n| {
                        let window = 0.5 - 0.5 * (2.0 * PI * n as f64 / l as f64).cos();
                        window * (angle * (n as f64 - l as f64 / 2.0)).cos()
                    })
                    .sum();
                let closed = hann_spectrum(angle, l as f64);
                assert!((sum - closed).abs() < 1e-7 * l as f64, "l {l}, angle {angle}: {sum} {closed}");
            }
        }
    }

    #[test]
    fn windows_have_the_published_lengths() {
        let settings = CqtSettings::default();
        assert_eq!(window_length(&settings, 0), 11_339);
        assert_eq!(window_length(&settings, 83), 94);
    }
}
