//! Converts magnitudes to chroma: twelve pitch classes per column, on a uniform time grid (not aligned to beats).

use bc_formats::features::CqtSettings;

use crate::Error;

/// Number of pitch classes of a column; class 0 is that of the transform's lowest bin (C by default).
pub const PITCH_CLASSES: usize = 12;

/// Minimum divisor when a column is scaled to length 1, so that silence stays near zero.
const MIN_LENGTH: f32 = 1e-6;

/// Compression of magnitudes before octaves are added.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// No compression, as in `librosa.feature.chroma_cqt`.
    Linear,
    /// Magnitudes are raised to this power.
    Power(f32),
    /// Magnitudes are replaced by ln(1 + factor * magnitude / the recording's largest magnitude), with this factor.
    Log(f32),
}

/// Settings by which bins are folded into pitch classes.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Folding {
    /// Compression of magnitudes.
    pub compression: Compression,
    /// Share of the magnitudes of both neighbouring bins that is subtracted from a bin, for transforms with one bin per semitone.
    /// The window is a Hann window of Q = 1 / (2^(1/12) - 1) periods, so a tone shows with half its magnitude in the two bins next
    /// to its own; 0.5 removes that. It is not applied to transforms with more bins per octave.
    pub leakage: f32,
    /// Weights of the octaves, lowest first; octaves beyond the list have weight 1. `librosa.feature.chroma_cqt` weights all by 1.
    pub octave_weights: Vec<f32>,
}

impl Default for Folding {
    fn default() -> Self {
        Self { compression: Compression::Linear, leakage: 0.5, octave_weights: Vec::new() }
    }
}

/// Pitch classes over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Chroma {
    /// One entry per column.
    pub columns: Vec<[f32; PITCH_CLASSES]>,
    /// Seconds from one column to the next.
    pub column_s: f64,
}

impl Chroma {
    /// Folds `magnitudes` (bins x `frames`, row-major, of the transform `cqt`) into pitch classes. If there are several bins per
    /// semitone, those nearest to its centre are added, as in `librosa.filters.cq_to_chroma`.
    ///
    /// # Errors
    /// Another number of values, a transform without semitones, magnitudes that are negative or not finite.
    pub fn fold(
        magnitudes: &[f32],
        frames: usize,
        cqt: &CqtSettings,
        folding: &Folding,
    ) -> Result<Self, Error> {
        let (bins, per_octave) = (cqt.bins as usize, cqt.bins_per_octave as usize);
        if per_octave == 0 || !per_octave.is_multiple_of(PITCH_CLASSES) || bins < per_octave {
            return Err(Error::NoPitchClasses { bins_per_octave: cqt.bins_per_octave, bins: cqt.bins });
        }
        if magnitudes.len() != bins * frames {
            return Err(Error::Shape { values: magnitudes.len(), bins, frames });
        }
        if magnitudes.iter().any(|value| !value.is_finite() || *value < 0.0) {
            return Err(Error::NotFinite);
        }
        let max = magnitudes.iter().fold(0f32, |max, value| max.max(*value));
        let leakage = if per_octave == PITCH_CLASSES { folding.leakage } else { 0.0 };
        let per_class = per_octave / PITCH_CLASSES;
        let mut columns = vec![[0f32; PITCH_CLASSES]; frames];
        let row = |bin: usize| &magnitudes[bin * frames..][..frames];
        for bin in 0..bins {
            let class = (bin + per_class / 2) / per_class;
            let weight = folding.octave_weights.get(class / PITCH_CLASSES).copied().unwrap_or(1.0);
            let below = (bin > 0 && leakage > 0.0).then(|| row(bin - 1));
            let above = (bin + 1 < bins && leakage > 0.0).then(|| row(bin + 1));
            for (frame, column) in columns.iter_mut().enumerate() {
                let neighbours = below.map_or(0.0, |row| row[frame]) + above.map_or(0.0, |row| row[frame]);
                let value = (row(bin)[frame] - leakage * neighbours).max(0.0);
                column[class % PITCH_CLASSES] += weight * compressed(value, max, folding.compression);
            }
        }
        Ok(Self { columns, column_s: cqt.column_seconds() })
    }

    /// Returns the duration of all columns in seconds.
    #[must_use]
    pub fn duration_s(&self) -> f64 {
        self.columns.len() as f64 * self.column_s
    }

    /// Computes medians over cells of about `seconds` (a whole number of columns), each scaled to length 1. Columns at the end
    /// that do not fill a cell are dropped.
    #[must_use]
    pub fn medians(&self, seconds: f64) -> Self {
        let size = (seconds / self.column_s).round().max(1.0) as usize;
        let mut sorted = vec![0f32; size];
        let cell = |cell: &[[f32; PITCH_CLASSES]]| {
            unit(std::array::from_fn(|class| {
                sorted.iter_mut().zip(cell).for_each(|(value, column)| *value = column[class]);
                median(&mut sorted)
            }))
        };
        let columns = self.columns.chunks_exact(size).map(cell).collect();
        Self { columns, column_s: self.column_s * size as f64 }
    }

    /// Computes means over cells of exactly `seconds`, each scaled to length 1. A column that overlaps two cells is divided
    /// between them by time, and a cell shorter than a column has the column's values. Columns at the end that do not fill a
    /// cell are dropped.
    #[must_use]
    pub fn means(&self, seconds: f64) -> Self {
        let ratio = seconds / self.column_s;
        let count = (self.columns.len() as f64 / ratio + 1e-9).floor() as usize;
        let cell = |cell: usize| {
            let (start, end) = (cell as f64 * ratio, (cell + 1) as f64 * ratio);
            let mut sum = [0f32; PITCH_CLASSES];
            let last = (end.ceil() as usize).min(self.columns.len());
            for (index, column) in self.columns[..last].iter().enumerate().skip(start as usize) {
                let share = (end.min(index as f64 + 1.0) - start.max(index as f64)).max(0.0) as f32;
                sum.iter_mut().zip(column).for_each(|(sum, value)| *sum += share * value);
            }
            unit(sum)
        };
        Self { columns: (0..count).map(cell).collect(), column_s: seconds }
    }

    /// Returns the first `count` columns, or all where there are fewer.
    #[must_use]
    pub fn first(mut self, count: usize) -> Self {
        self.columns.truncate(count);
        self
    }

    /// Returns the chroma transposed up by any number of `semitones`.
    #[must_use]
    pub fn transposed(&self, semitones: i32) -> Self {
        let by = semitones.rem_euclid(PITCH_CLASSES as i32) as usize;
        let mut moved = self.clone();
        moved.columns.iter_mut().for_each(|column| column.rotate_right(by));
        moved
    }

    /// Computes the mean column.
    #[must_use]
    pub fn mean(&self) -> [f32; PITCH_CLASSES] {
        let count = self.columns.len().max(1) as f32;
        std::array::from_fn(|class| self.columns.iter().map(|column| column[class]).sum::<f32>() / count)
    }

    /// Returns the upward shifts of `other` from 0 to 11 semitones, ordered by how similar its mean column is to
    /// that of `self`: the optimal transposition index (Serrà, Gómez & Herrera 2008) first.
    #[must_use]
    pub fn transpositions(&self, other: &Self) -> [i32; PITCH_CLASSES] {
        let (own, theirs) = (self.mean(), other.mean());
        let similarity = |shift: i32| -> f32 {
            (0..PITCH_CLASSES)
                .map(|class| own[class] * theirs[(class + PITCH_CLASSES - shift as usize) % PITCH_CLASSES])
                .sum()
        };
        let mut shifts: [i32; PITCH_CLASSES] = std::array::from_fn(|shift| shift as i32);
        shifts.sort_by(|a, b| similarity(*b).total_cmp(&similarity(*a)));
        shifts
    }
}

fn compressed(value: f32, max: f32, compression: Compression) -> f32 {
    match compression {
        Compression::Linear => value,
        Compression::Power(power) => value.powf(power),
        Compression::Log(steepness) if max > 0.0 => (steepness * value / max).ln_1p(),
        Compression::Log(_) => 0.0,
    }
}

/// Scales a column to length 1.
pub(crate) fn unit(mut column: [f32; PITCH_CLASSES]) -> [f32; PITCH_CLASSES] {
    let length = column.iter().map(|value| value * value).sum::<f32>().sqrt().max(MIN_LENGTH);
    column.iter_mut().for_each(|value| *value /= length);
    column
}

/// Computes the median as in NumPy: the mean of the two middle values if their number is even; 0 if there are no
/// values. Reorders the values.
pub(crate) fn median(values: &mut [f32]) -> f32 {
    let middle = values.len() / 2;
    if values.is_empty() {
        return 0.0;
    }
    let even = values.len().is_multiple_of(2);
    let (below, upper, _) = values.select_nth_unstable_by(middle, f32::total_cmp);
    let upper = *upper;
    if !even {
        return upper;
    }
    let lower = below.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    0.5 * (lower + upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(bins_per_octave: u32) -> CqtSettings {
        CqtSettings { bins: 7 * bins_per_octave, bins_per_octave, ..CqtSettings::default() }
    }

    #[test]
    fn tone_with_its_leakage_is_one_pitch_class_in_every_octave() {
        for bin in [1, 14, 40, 82] {
            let mut magnitudes = vec![0f32; 84];
            (magnitudes[bin - 1], magnitudes[bin], magnitudes[bin + 1]) = (0.5, 1.0, 0.5);
            let chroma = Chroma::fold(&magnitudes, 1, &settings(12), &Folding::default()).unwrap();
            let mut expected = [0f32; 12];
            expected[bin % 12] = 0.5;
            assert_eq!(chroma.columns[0], expected, "bin {bin}");
        }
    }

    #[test]
    fn three_bins_per_semitone_are_added_around_its_centre() {
        let mut magnitudes = vec![0f32; 252];
        // C1 a third of a semitone low has no bin; C2: 35, 36, 37.
        for bin in [35, 36, 37] {
            magnitudes[bin] = 1.0;
        }
        let chroma = Chroma::fold(&magnitudes, 1, &settings(36), &Folding::default()).unwrap();
        assert_eq!(chroma.columns[0][0], 3.0);
        assert_eq!(chroma.columns[0].iter().sum::<f32>(), 3.0);
    }

    #[test]
    fn octaves_are_weighted_as_configured() {
        let magnitudes = vec![1f32; 84];
        let folding = Folding { leakage: 0.0, octave_weights: vec![0.0, 0.5], ..Folding::default() };
        let chroma = Chroma::fold(&magnitudes, 1, &settings(12), &folding).unwrap();
        assert_eq!(chroma.columns[0], [5.5; 12]);
    }

    #[test]
    fn magnitudes_without_pitch_classes_or_not_finite_are_refused() {
        let fold = |magnitudes: &[f32], bins_per_octave| {
            Chroma::fold(magnitudes, 1, &settings(bins_per_octave), &Folding::default())
        };
        assert!(matches!(fold(&[0.0; 3], 12), Err(Error::Shape { .. })));
        assert!(matches!(fold(&[0.0; 70], 10), Err(Error::NoPitchClasses { .. })));
        assert_eq!(fold(&[f32::NAN; 84], 12), Err(Error::NotFinite));
        assert_eq!(fold(&[-1.0; 84], 12), Err(Error::NotFinite));
    }

    #[test]
    fn resampled_columns_keep_their_content_at_any_ratio() {
        let columns =
            (0..100).map(|column| std::array::from_fn(|class| ((column / 10 + class) % 12) as f32)).collect();
        let chroma = Chroma { columns, column_s: 0.1 };
        let same = chroma.means(0.1);
        assert_eq!(same.columns.len(), 100);
        let assert_equal = |found: &[f32; 12], expected: &[f32; 12]| {
            let difference =
                found.iter().zip(unit(*expected)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(difference < 1e-6, "{found:?} is not {expected:?}");
        };
        assert_equal(&same.columns[57], &chroma.columns[57]);
        let longer = chroma.means(0.25);
        assert_eq!(longer.columns.len(), 40);
        assert_equal(&longer.columns[1], &chroma.columns[3]);
        let shorter = chroma.means(0.03);
        assert_eq!(shorter.columns.len(), 333);
        assert_equal(&shorter.columns[40], &chroma.columns[12]);
    }

    #[test]
    fn medians_match_numpy() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 9.0]), 3.0);
        assert_eq!(median(&mut []), 0.0);
    }

    #[test]
    fn the_best_transposition_undoes_a_known_one() {
        let mut column = [0f32; 12];
        (column[0], column[4], column[7], column[9]) = (1.0, 0.5, 0.7, 0.2);
        let chroma = Chroma { columns: vec![column; 5], column_s: 0.5 };
        for shift in 0..12 {
            assert_eq!(chroma.transpositions(&chroma.transposed(-shift))[0], shift);
        }
    }
}
