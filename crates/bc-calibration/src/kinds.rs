//! Classifies pairs of recordings as same audio, near-identical audio, same work, or neither.
//!
//! A calibration's line is fitted where there are pairs of one work and of two. The scores of copies are above those of covers
//! and other works, so copies have a separate component: they are assumed to be uniformly distributed between
//! [`COPY_FROM`] and 1 (on the spread scale), and the density of other works there is extrapolated from their highest scores.

use serde::{Deserialize, Serialize};

use crate::cohort::MAX_SPREAD;

/// Minimum spread score of a pair that may be a copy: that of a cosine of 0.98. With the project's network, MP3 copies at
/// 64 kbit/s have cosines of 0.99 and more, and recordings of two works at most 0.94 (docs/notes-eval.md).
pub const COPY_FROM: f64 = 2.297_559_925_067_295;
/// Prior share of copies among pairs of recordings of one work.
pub const COPY_SHARE: f64 = 0.1;
/// Minimum probability of a kind for a pair to count as of that kind.
pub const SURE_PROBABILITY: f64 = 0.9;

/// The upper tail of a distribution: above `from` is a `share` of all values, and their density decays exponentially.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tail {
    /// The spread score at which the tail begins.
    pub from: f64,
    /// Rate of the exponential decay: one over the mean excess above `from`.
    pub rate: f64,
    /// Share of the values that are in the tail.
    pub share: f64,
}

impl Tail {
    /// Fits a tail to the highest `share` of `values`, which are at least one.
    #[must_use]
    pub fn fit(values: &[f64], share: f64) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        let count = ((share * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len().max(1));
        let from = sorted.get(count).or(sorted.last()).copied().unwrap_or(0.0);
        let excess = sorted.iter().take(count).map(|value| value - from).sum::<f64>() / count as f64;
        Self { from, rate: 1.0 / excess.max(1e-3), share: count as f64 / sorted.len().max(1) as f64 }
    }

    /// Returns the logarithm of the density at `value`; below the tail, the one at the tail's beginning.
    #[must_use]
    pub fn ln_density(&self, value: f64) -> f64 {
        (self.share * self.rate).ln() - self.rate * (value - self.from).max(0.0)
    }
}

/// Returns the logarithm of the density of copies at a transformed score; `None` where there are no copies.
pub(crate) fn ln_copy_density(spread: f64) -> Option<f64> {
    (spread >= COPY_FROM).then(|| -(MAX_SPREAD - COPY_FROM).ln())
}

/// The probability of each kind of pair; they add up to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct KindProbabilities {
    /// Probability of the same recording, possibly encoded differently (near-identical audio).
    pub same_audio: f64,
    /// Probability of two recordings of one work.
    pub same_work: f64,
    /// Probability of recordings of two works.
    pub other: f64,
}

/// The kind that a pair is classified as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PairKind {
    /// The same recording for certain: the bytes of both files are equal.
    SameAudio,
    /// The same recording by the score, such as another encoding of it.
    NearIdentical,
    /// Two recordings of one work.
    SameWork,
    /// No kind is probable enough.
    Unsure,
    /// Recordings of two works.
    Other,
}

impl PairKind {
    /// Returns the kind of a pair; without probabilities, only equal bytes have one.
    #[must_use]
    pub fn of(kinds: Option<KindProbabilities>, same_file: bool) -> Option<Self> {
        kinds.map(|kinds| kinds.kind(same_file)).or(same_file.then_some(Self::SameAudio))
    }

    /// Returns the name in tables and files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SameAudio => "same audio",
            Self::NearIdentical => "near-identical audio",
            Self::SameWork => "same work",
            Self::Unsure => "unsure",
            Self::Other => "other works",
        }
    }
}

impl KindProbabilities {
    /// Returns the kind whose probability is at least [`SURE_PROBABILITY`]. A pair that is certain to be of one work, the same
    /// recording or not, is classified as same work. Only equal bytes (`same_file`) prove that the audio is the same; a score can
    /// say that it is near-identical.
    #[must_use]
    pub fn kind(&self, same_file: bool) -> PairKind {
        if same_file {
            PairKind::SameAudio
        } else if self.same_audio >= SURE_PROBABILITY {
            PairKind::NearIdentical
        } else if self.same_audio + self.same_work >= SURE_PROBABILITY {
            PairKind::SameWork
        } else if self.other >= SURE_PROBABILITY {
            PairKind::Other
        } else {
            PairKind::Unsure
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_fit_recovers_share_and_rate() {
        // Quantiles of an exponential distribution of rate 5.
        let values: Vec<f64> = (0..10_000).map(|i| -((f64::from(i) + 0.5) / 10_000.0).ln() / 5.0).collect();
        let tail = Tail::fit(&values, 0.01);
        assert!((tail.rate - 5.0).abs() < 0.3 && (tail.share - 0.01).abs() < 1e-9, "{tail:?}");
        assert!((tail.ln_density(1.5) - (5.0f64.ln() - 7.5)).abs() < 0.3);
        let single = Tail::fit(&[0.3], 0.01);
        assert!(single.ln_density(0.2).is_finite() && single.ln_density(9.0).is_finite());
    }
}
