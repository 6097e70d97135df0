//! Models the response of the transform to a tone: position, width and height.
//!
//! Bin b multiplies the signal with a Hann window of `l_b = ceil(Q sr / f_b)` samples that is scaled by
//! `2 / l_b * sqrt(l_b)` (bc-audio's `cqt`), so a steady sine of amplitude A at the bin's centre gives
//! `A sqrt(l_b) / 2`. A sine at frequency f gives this value times the window's spectrum at `x = Q (f / f_b - 1)`,
//! `H(x) = sinc(x) / (1 - x^2)`.

use bc_formats::features::CqtSettings;

/// Number of bins on either side of a tone that are painted: half of the main lobe (2) and two side lobes.
const REACH: f32 = 4.0;
/// Number of steps of the table [`Grid::lobe`] per bin of distance.
const STEPS: f32 = 64.0;

/// The transform's columns and bins.
#[derive(Debug, Clone)]
pub struct Grid {
    /// Number of bins.
    pub bins: usize,
    /// Number of bins per semitone.
    pub step: i32,
    /// Bin of MIDI pitch 0: negative, and in general not an integer.
    pub zero: f32,
    /// Number of bins per octave.
    pub octave: f32,
    /// Centre frequency of the lowest bin in Hz.
    pub lowest_hz: f32,
    /// Duration of a column in seconds.
    pub column_s: f32,
    /// Time in seconds at which column 0 begins: half a frame before the centre of its first frame.
    pub origin_s: f32,
    /// Length of each bin's window in seconds.
    pub window_s: Vec<f32>,
    /// Power of a steady sine of amplitude 1 at each bin's centre: `l_b / 4`.
    pub height: Vec<f32>,
    /// Number of independent noise values that a column averages, for each bin.
    pub effective_samples: Vec<f32>,
    /// Table of the response: entry `n` is the share of a tone's power in a bin whose centre is `n / STEPS - REACH` bins below the
    /// tone.
    lobe: Vec<f32>,
}

impl Grid {
    /// Creates the grid of `settings`, whose number of bins per octave must be a multiple of 12.
    pub fn new(settings: &CqtSettings) -> Self {
        let octave = f64::from(settings.bins_per_octave);
        let q = 1.0 / (2f64.powf(1.0 / octave) - 1.0);
        let rate = f64::from(settings.sample_rate);
        let lengths: Vec<f64> =
            (0..settings.bins).map(|bin| (q * rate / settings.frequency(bin)).ceil()).collect();
        let column_s = settings.column_seconds();
        let zero = octave * (440.0 * 2f64.powf(-69.0 / 12.0) / settings.fmin_hz).log2();
        let lobe = (0..=(2.0 * REACH * STEPS) as usize)
            .map(|n| {
                let distance = n as f64 / f64::from(STEPS) - f64::from(REACH);
                hann_response(q * (2f64.powf(distance / octave) - 1.0)).powi(2) as f32
            })
            .collect();
        let effective_samples = lengths
            .iter()
            .map(|length| (column_s / (0.4 * length / rate)).clamp(1.0, f64::from(settings.pool)) as f32)
            .collect();
        Self {
            bins: settings.bins as usize,
            step: (settings.bins_per_octave / 12) as i32,
            zero: zero as f32,
            octave: octave as f32,
            lowest_hz: settings.fmin_hz as f32,
            column_s: column_s as f32,
            origin_s: (-0.5 * f64::from(settings.hop_length) / rate) as f32,
            window_s: lengths.iter().map(|length| (length / rate) as f32).collect(),
            height: lengths.iter().map(|length| (length / 4.0) as f32).collect(),
            effective_samples,
            lobe,
        }
    }

    /// Returns the column at a time in seconds, as a fraction.
    pub fn column(&self, second: f32) -> f32 {
        (second - self.origin_s) / self.column_s
    }

    /// Returns the bin of a frequency, as a fraction.
    pub fn bin_of(&self, hz: f32) -> f32 {
        self.octave * (hz / self.lowest_hz).log2()
    }

    /// Returns the share of a tone's power in a bin whose centre is `distance` bins below the tone.
    pub fn response(&self, distance: f32) -> f32 {
        let position = (distance + REACH) * STEPS;
        if !(0.0..2.0 * REACH * STEPS).contains(&position) {
            return 0.0;
        }
        let left = position as usize;
        let share = position - left as f32;
        (1.0 - share) * self.lobe[left] + share * self.lobe[left + 1]
    }

    /// Returns the bins around a position and their shares of the power, as (bin, share).
    pub fn lobe_at(&self, position: f32) -> impl Iterator<Item = (i32, f32)> + '_ {
        let first = (position - REACH).ceil() as i32;
        (first..=(position + REACH) as i32 + 1).map(move |bin| (bin, self.response(position - bin as f32)))
    }
}

/// Computes the spectrum of a Hann window `x` Fourier bins from its centre, where it is 1.
fn hann_response(x: f64) -> f64 {
    if x.abs() < 1e-9 {
        return 1.0;
    }
    if (x.abs() - 1.0).abs() < 1e-9 {
        return 0.5;
    }
    let angle = std::f64::consts::PI * x;
    (angle.sin() / angle / (1.0 - x * x)).abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c4_is_bin_36_and_a_semitone_is_a_bin() {
        let grid = Grid::new(&CqtSettings::default());
        assert!((60.0 + grid.zero - 36.0).abs() < 1e-4);
        assert!((grid.bin_of(440.0) - 45.0).abs() < 1e-3);
        assert_eq!(grid.step, 1);
        assert!((grid.response(0.0) - 1.0).abs() < 1e-6);
        // A semitone above a bin is a line of its window above: half the amplitude.
        assert!((grid.response(1.0) - 0.25).abs() < 2e-3);
        assert!(grid.response(2.2) < 1e-3 && grid.response(9.0) == 0.0);
    }
}
