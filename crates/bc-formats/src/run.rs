//! The input of a network, as its checkpoint records it, and the conversion of stored features to that input.
//!
//! The safetensors header of a checkpoint has a [`crate::provenance::Provenance`] of the format [`CHECKPOINT_FORMAT`], a
//! [`NetworkInput`] as JSON under [`INPUT_KEY`], and the fingerprint of the classifier's cliques under [`CLIQUES_KEY`].

use std::collections::BTreeSet;

use anyhow::{Context, Result, anyhow, ensure};
use half::f16;
use serde::{Deserialize, Serialize};

use crate::config::{Compare, EvalConfig, NEIGHBOURS, WINDOW_S, WINDOW_STEP_S, require_tempi};
use crate::features::CqtSettings;
use crate::fingerprint::Fingerprint;

/// Kind and schema version of a checkpoint.
pub const CHECKPOINT_FORMAT: &str = "checkpoint/1";

/// The header key under which a checkpoint keeps its [`NetworkInput`].
pub const INPUT_KEY: &str = "bytecover.input";

/// The header key under which a checkpoint keeps the fingerprint of the clique ids of its classifier's outputs, in their order.
pub const CLIQUES_KEY: &str = "bytecover.cliques";

/// Returns the value of [`CLIQUES_KEY`]: the fingerprint of the different clique ids in ascending order.
pub fn fingerprint_of_cliques(ids: impl IntoIterator<Item = impl AsRef<str> + Ord>) -> String {
    let mut fingerprint = Fingerprint::of("cliques");
    for id in ids.into_iter().collect::<BTreeSet<_>>() {
        fingerprint.add(id.as_ref());
    }
    fingerprint.finish()
}

/// How the magnitudes of a clip (a crop in training, a whole track later) are scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// Magnitudes are used as they are.
    None,
    /// Magnitudes are divided by the clip's maximum + 1e-6.
    Max,
    /// The square root of the result of `max`: quiet partials count more.
    Sqrt,
    /// ln(1 + 100 x) / ln(101) of the result of `max`.
    Log,
    /// ln(1 + 1000 x) / ln(1001) of the result of `max`, minus the clip's mean.
    #[serde(rename = "log-centred")]
    LogCentred,
    /// Twelve pitch classes instead of the bins: the sum over the octaves, every column divided by its maximum, minus
    /// the clip's mean.
    Chroma,
}

/// Number of rows after [`Scale::Chroma`].
const PITCH_CLASSES: usize = 12;

impl Scale {
    /// Returns whether a magnitude of zero stays zero in every clip.
    pub fn keeps_zero(self) -> bool {
        !self.centres()
    }

    /// Returns whether the clip's mean is subtracted.
    fn centres(self) -> bool {
        matches!(self, Scale::LogCentred | Scale::Chroma)
    }

    /// Returns the number of rows that [`NetworkInput::scaled`] gives for a clip of `bins` rows.
    fn rows(self, bins: usize) -> usize {
        if self == Scale::Chroma { PITCH_CLASSES } else { bins }
    }

    /// Scales one clip in place. For [`Scale::Chroma`], the rows must be pitch classes already, and only the mean is subtracted.
    pub fn apply(self, values: &mut [f32]) {
        if self == Scale::None {
            return;
        }
        if self != Scale::Chroma {
            self.by_maximum(values);
        }
        if self.centres() {
            let sum: f64 = values.iter().map(|value| f64::from(*value)).sum();
            let mean = (sum / values.len().max(1) as f64) as f32;
            values.iter_mut().for_each(|value| *value -= mean);
        }
    }

    /// Applies the part of the scale that is a function of each value relative to the clip's maximum.
    fn by_maximum(self, values: &mut [f32]) {
        let max = values.iter().fold(0f32, |max, &value| max.max(value));
        let factor = 1.0 / (max + 1e-6);
        let log = 1.0 / 101f32.ln();
        let steep = 1.0 / 1001f32.ln();
        for value in &mut *values {
            let share = *value * factor;
            *value = match self {
                Scale::None | Scale::Chroma | Scale::Max => share,
                Scale::Sqrt => share.max(0.0).sqrt(),
                Scale::Log => (100.0 * share.max(0.0)).ln_1p() * log,
                Scale::LogCentred => (1000.0 * share.max(0.0)).ln_1p() * steep,
            };
        }
    }
}

/// Sums magnitudes (bins x `columns`, row-major, bin 0 first) over the octaves to pitch classes, and divides every column by its
/// maximum, as is usual for chroma and HPCP. A silent column stays silent.
fn pitch_classes(magnitudes: &[f32], columns: usize) -> Vec<f32> {
    let mut classes = vec![0f32; PITCH_CLASSES * columns];
    for (bin, row) in magnitudes.chunks_exact(columns.max(1)).enumerate() {
        let class = bin % PITCH_CLASSES;
        let sums = &mut classes[class * columns..(class + 1) * columns];
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    for column in 0..columns {
        let own = || (column..PITCH_CLASSES * columns).step_by(columns);
        let max = own().fold(0f32, |max, at| max.max(classes[at]));
        if max > 0.0 {
            own().for_each(|at| classes[at] /= max);
        }
    }
    classes
}

impl std::fmt::Display for Scale {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Scale::None => "none",
            Scale::Max => "max",
            Scale::Sqrt => "sqrt",
            Scale::Log => "log",
            Scale::LogCentred => "log-centred",
            Scale::Chroma => "chroma",
        })
    }
}

/// The key of a network's header that recommends how recordings are compared by it ([`WindowComparison`]).
pub const COMPARE_KEY: &str = "bytecover.compare";

/// What to do about a recommendation that cannot be followed.
const COMPARE_REMEDY: &str = "export the network again, or use another one";

/// A comparison of recordings by their windows, those of the query at several tempi.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WindowComparison {
    /// Length of a window in seconds.
    pub window_s: f64,
    /// Time from the beginning of one window to that of the next, in seconds.
    pub step_s: f64,
    /// Tempi at which the query is compared, as factors of its own tempo.
    pub tempi: Vec<f64>,
    /// Number of nearest neighbours by which distances are scaled; 0 for no scaling.
    #[serde(default)]
    pub neighbours: usize,
}

impl WindowComparison {
    /// Returns the comparison that a configuration asks for; `recommended` is that of the network's file.
    pub fn of(config: &EvalConfig, recommended: Option<&Self>) -> Option<Self> {
        match config.compare {
            Compare::Whole => None,
            Compare::Auto => recommended.cloned(),
            Compare::Windows => Some(Self {
                window_s: config.window_s,
                step_s: config.window_step_s,
                tempi: config.tempi.clone(),
                neighbours: config.neighbours,
            }),
        }
    }

    /// Returns the pair for a safetensors header.
    pub fn to_key_value(&self) -> (String, String) {
        (COMPARE_KEY.to_owned(), serde_json::to_string(self).expect("plain settings are JSON"))
    }

    /// Reads what [`WindowComparison::to_key_value`] wrote.
    ///
    /// # Errors
    /// A value that is no such JSON, or by which nothing can be compared.
    pub fn from_key_value(value: &str) -> Result<Self> {
        let read: Self = serde_json::from_str(value)
            .with_context(|| format!("the header's {COMPARE_KEY} is unreadable"))?;
        let Self { window_s, step_s, tempi, neighbours } = &read;
        let checked = [("window_s", *window_s, &WINDOW_S), ("step_s", *step_s, &WINDOW_STEP_S)];
        for (name, value, possible) in checked {
            ensure!(
                possible.contains(&value),
                "the header's {COMPARE_KEY} has {name} = {value}, but it must be from {} to {}; {COMPARE_REMEDY}",
                possible.start(),
                possible.end()
            );
        }
        ensure!(
            NEIGHBOURS.contains(neighbours),
            "the header's {COMPARE_KEY} has neighbours = {neighbours}, but at most {} are possible; {COMPARE_REMEDY}",
            NEIGHBOURS.end()
        );
        require_tempi(tempi).map_err(|problem| {
            anyhow!("the tempi of the header's {COMPARE_KEY} {problem}; {COMPARE_REMEDY}")
        })?;
        Ok(read)
    }
}

/// All settings by which audio is converted to the network's input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkInput {
    /// The stored features.
    pub cqt: CqtSettings,
    /// Hop frames averaged into one column of the input.
    pub pool: u32,
    /// How a clip is scaled.
    pub scale: Scale,
}

impl NetworkInput {
    /// Returns the number of stored columns that are averaged into one column of the input.
    ///
    /// # Errors
    /// `pool` is not a multiple of the features' `pool`, or pitch classes are requested from features without them.
    pub fn group(&self) -> Result<usize> {
        ensure!(
            self.pool > 0 && self.cqt.pool > 0 && self.pool.is_multiple_of(self.cqt.pool),
            "[model] pool = {} is no multiple of the features' pool = {}: choose a multiple, or extract features \
             with another [features] pool",
            self.pool,
            self.cqt.pool
        );
        ensure!(
            self.scale != Scale::Chroma || self.cqt.bins_per_octave as usize == PITCH_CLASSES,
            "[model] scale = \"chroma\" sums octaves of {PITCH_CLASSES} bins, but these features have {} bins per octave",
            self.cqt.bins_per_octave
        );
        Ok((self.pool / self.cqt.pool) as usize)
    }

    /// Returns the number of rows of the network's input.
    pub fn rows(&self) -> usize {
        self.scale.rows(self.cqt.bins as usize)
    }

    /// Scales a clip of pooled magnitudes (bins x `columns`) as the network takes it: [`Self::rows`] x `columns`.
    pub fn scaled(&self, magnitudes: Vec<f32>, columns: usize) -> Vec<f32> {
        let mut values = match self.scale {
            Scale::Chroma => pitch_classes(&magnitudes, columns),
            _ => magnitudes,
        };
        self.scale.apply(&mut values);
        values
    }

    /// Returns the differences to `other`, as `name: ours against theirs`, for error messages. The pool of the stored features does
    /// not matter, only that of the input.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        if self.pool != other.pool {
            found.push(format!("pool: {} against {}", self.pool, other.pool));
        }
        if self.scale != other.scale {
            found.push(format!("scale: {} against {}", self.scale, other.scale));
        }
        found.extend(self.cqt.differences(&CqtSettings { pool: self.cqt.pool, ..other.cqt }));
        found
    }

    /// Returns the input of a whole track, [`Self::rows`] x columns, row-major, and the number of columns. `magnitudes` are the
    /// stored features, bins x `frames`. A remainder that fills no column is dropped; a track shorter than one column is padded
    /// with silence.
    pub fn whole_track(&self, magnitudes: &[f16], frames: usize) -> Result<(Vec<f32>, usize)> {
        let group = self.group()?;
        let bins = self.cqt.bins as usize;
        ensure!(
            magnitudes.len() == bins * frames,
            "{} values are not {bins} bins x {frames} frames",
            magnitudes.len()
        );
        let columns = (frames / group).max(1);
        let mut values = vec![0f32; bins * columns];
        let share = 1.0 / group as f32;
        for bin in 0..bins {
            let source = &magnitudes[bin * frames..(bin + 1) * frames];
            let row = &mut values[bin * columns..(bin + 1) * columns];
            for (out, group) in row.iter_mut().zip(source.chunks(group)) {
                *out = group.iter().map(|value| value.to_f32()).sum::<f32>() * share;
            }
        }
        Ok((self.scaled(values, columns), columns))
    }

    /// Returns the pair for a safetensors header.
    pub fn to_key_value(&self) -> (String, String) {
        (INPUT_KEY.to_owned(), serde_json::to_string(self).expect("plain settings are JSON"))
    }

    /// Reads what [`NetworkInput::to_key_value`] wrote.
    pub fn from_key_value(value: &str) -> Result<Self> {
        serde_json::from_str(value).with_context(|| format!("the header's {INPUT_KEY} is unreadable"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(pool: u32, scale: Scale) -> NetworkInput {
        NetworkInput { cqt: CqtSettings { bins: 2, ..CqtSettings::default() }, pool, scale }
    }

    #[test]
    fn pooling_averages_columns_and_drops_the_remainder() {
        let values: Vec<f16> = (0..18).map(|i| f16::from_f32(i as f32)).collect();
        let (columns, count) = input(20, Scale::None).whole_track(&values, 9).unwrap();
        assert_eq!(count, 2);
        assert_eq!(columns, [1.5, 5.5, 10.5, 14.5]);
        let (columns, count) = input(50, Scale::None).whole_track(&values, 9).unwrap();
        assert_eq!(count, 1);
        // The sum is scaled in 32 bits, so the mean may be off by one unit in the last place.
        assert!((columns[0] - 3.6).abs() < 1e-6 && (columns[1] - 11.7).abs() < 2e-6, "{columns:?}");
    }

    #[test]
    fn scales_keep_order_and_have_maximum_one() {
        for scale in [Scale::Max, Scale::Sqrt, Scale::Log] {
            let mut values = [0.0, 1.0, 4.0];
            scale.apply(&mut values);
            assert_eq!(values[0], 0.0);
            assert!(values[1] > 0.0 && values[1] < values[2] && (values[2] - 1.0).abs() < 1e-5, "{scale}");
        }
        let mut values = [0.0, 1.0, 4.0];
        Scale::Sqrt.apply(&mut values);
        assert!((values[1] - 0.5).abs() < 1e-5);
        let mut silent = [0.0; 3];
        Scale::Log.apply(&mut silent);
        assert_eq!(silent, [0.0; 3]);
    }

    #[test]
    fn chroma_sums_octaves_per_column_and_is_centred() {
        let mut chroma = input(20, Scale::Chroma);
        chroma.cqt.bins = 24;
        // Two columns: a note of pitch class 2 in both octaves and one of class 7 in the lower; silence.
        let mut magnitudes = vec![0f32; 24 * 2];
        (magnitudes[2 * 2], magnitudes[14 * 2], magnitudes[7 * 2]) = (1.0, 3.0, 2.0);
        let values = chroma.scaled(magnitudes, 2);
        assert_eq!((chroma.rows(), values.len()), (12, 24));
        // Before the mean is taken away: 4/4, 2/4 and zeros.
        let mean = 1.5 / 24.0;
        for (at, value) in values.iter().enumerate() {
            let expected = match at {
                4 => 1.0 - mean,
                14 => 0.5 - mean,
                _ => -mean,
            };
            assert!((value - expected).abs() < 1e-6, "{at}: {value} {expected}");
        }
        assert_eq!(input(20, Scale::Log).rows(), 2);
        chroma.cqt.bins_per_octave = 36;
        assert!(chroma.group().unwrap_err().to_string().contains("36 bins per octave"));
    }

    #[test]
    fn pool_that_does_not_divide_is_refused() {
        assert!(input(12, Scale::None).group().unwrap_err().to_string().contains("no multiple"));
        assert_eq!(input(20, Scale::None).group().unwrap(), 4);
    }

    #[test]
    fn differences_list_only_what_changes_the_input() {
        let input_of_max = input(20, Scale::Max);
        let pooled_by_ten =
            NetworkInput { cqt: CqtSettings { pool: 10, ..input_of_max.cqt }, ..input_of_max.clone() };
        assert!(input_of_max.differences(&pooled_by_ten).is_empty());
        let other =
            NetworkInput { cqt: CqtSettings { bins: 3, ..input_of_max.cqt }, ..input(10, Scale::Log) };
        assert_eq!(
            input_of_max.differences(&other),
            ["pool: 20 against 10", "scale: max against log", "bins: 2 against 3"]
        );
    }

    #[test]
    fn recommended_comparison_that_is_not_possible_is_refused() {
        let good = WindowComparison { window_s: 10.0, step_s: 2.5, tempi: vec![1.0, 0.84], neighbours: 10 };
        let (key, value) = good.to_key_value();
        assert_eq!(key, COMPARE_KEY);
        assert_eq!(WindowComparison::from_key_value(&value).unwrap(), good);
        let bad = [
            (WindowComparison { window_s: -1.0, ..good.clone() }, "window_s = -1"),
            (WindowComparison { step_s: 1e-300, ..good.clone() }, "step_s = 0.000"),
            (WindowComparison { tempi: vec![0.0, -1.0], ..good.clone() }, "tempi"),
            (WindowComparison { tempi: vec![1.0, 1.0003], ..good.clone() }, "tempi"),
            (WindowComparison { neighbours: usize::MAX, ..good.clone() }, "neighbours"),
        ];
        for (comparison, expected) in bad {
            let error =
                WindowComparison::from_key_value(&comparison.to_key_value().1).unwrap_err().to_string();
            assert!(error.contains(COMPARE_KEY) && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn network_input_round_trips_through_a_header() {
        let input_of_max = input(20, Scale::Max);
        let (key, value) = input_of_max.to_key_value();
        assert_eq!(key, INPUT_KEY);
        assert_eq!(NetworkInput::from_key_value(&value).unwrap(), input_of_max);
    }
}
