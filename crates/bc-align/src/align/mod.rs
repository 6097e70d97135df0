//! Aligns two recordings: key shift, tempo ratio, matched sections.
//!
//! 1. *Key and tempo* ([`candidates`]): the second recording is divided into cells of several lengths (one per tempo ratio)
//!    and transposed to the keys in which it is most similar to the first; the longest local alignment ([`crate::qmax`]) decides.
//! 2. *Finer tempo*: step 3 runs at tempi near that one, and the tempo at which sections fit straight lines best is used.
//! 3. *Sections* ([`sections`]): the alignment is traced back from its end (Smith & Waterman 1981) and cut where it jumps; this
//!    repeats on the rest of both recordings, so that cut, repeated and moved parts are separate sections.
//! 4. *Tempo*: the common slope of all sections, by least squares.

mod candidates;
mod sections;
mod settings;

use rayon::prelude::*;

use self::candidates::Candidate;
use self::sections::FoundSections;
pub use self::settings::{Section, Settings};
use crate::Error;
use crate::chroma::Chroma;

/// Number of tempi of the first step around which the second step searches.
const COARSE_TEMPI: usize = 3;
/// In the second step, a tempo is varied by up to this many steps of factor [`FINE_STEP`] in both directions.
const FINE_STEPS: i32 = 4;
const FINE_STEP: f64 = 1.012;

/// How two recordings match: key shift, tempo ratio and sections.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Alignment {
    /// By how many semitones the second recording sounds above the first, from -5 to 6.
    pub key_shift: i32,
    /// Tempo of the second recording over that of the first: above 1 the second is faster.
    pub tempo_ratio: f64,
    /// Length of the best local alignment in cells over the fourth root of the product of both recordings' lengths in
    /// cells. Unlike [`crate::qmax::similarity`], it is symmetric in the recordings. It is not a probability; compare it with the
    /// scores of known pairs.
    pub score: f64,
    /// Matched sections in order of the first recording. They do not overlap in either recording.
    pub sections: Vec<Section>,
    /// The alignment within the sections: pairs of times (first recording, second recording) in seconds, in order of the first.
    pub path: Vec<(f64, f64)>,
}

/// Aligns `b` to `a`. If nothing matches, the result has no sections, and its key and tempo are the best ones found.
///
/// # Errors
/// A recording shorter than two moments, or longer than the settings allow.
pub fn align(a: &Chroma, b: &Chroma, settings: &Settings) -> Result<Alignment, Error> {
    let min_s = 2.0 * settings.cell_s * settings.depth as f64;
    for seconds in [a.duration_s(), b.duration_s()] {
        if seconds < min_s {
            return Err(Error::TooShort { seconds, min_s });
        }
        if seconds > settings.longest_s {
            return Err(Error::TooLong { seconds, max_s: settings.longest_s });
        }
    }
    let first = a.means(settings.cell_s);
    let coarse: Vec<TriedCandidate> = candidates::best(&first, b, settings, COARSE_TEMPI)
        .into_par_iter()
        .map(|candidate| TriedCandidate::new(candidate, &first, b, settings))
        .collect();
    let too_short = Error::TooShort { seconds: b.duration_s(), min_s };
    let near = straightest(&coarse).ok_or(too_short.clone())?.candidate.neighbours(FINE_STEP, FINE_STEPS);
    let fine: Vec<TriedCandidate> =
        near.into_par_iter().map(|candidate| TriedCandidate::new(candidate, &first, b, settings)).collect();
    let score = coarse.iter().chain(&fine).map(|tried| tried.score).fold(0.0, f64::max);
    let TriedCandidate { candidate, second, found, .. } = straightest(&fine).ok_or(too_short)?;
    // The second recording was stretched to nearly the first's tempo; the slope is the remaining ratio.
    let stretch = second.column_s / first.column_s;
    Ok(Alignment {
        key_shift: candidate.key_shift(),
        tempo_ratio: 1.0 / (stretch * found.slope),
        score,
        sections: found.sections.clone(),
        path: found.path.clone(),
    })
}

/// A candidate with the sections found for it and their score.
struct TriedCandidate {
    candidate: Candidate,
    second: Chroma,
    found: FoundSections,
    score: f64,
}

impl TriedCandidate {
    fn new(candidate: Candidate, first: &Chroma, b: &Chroma, settings: &Settings) -> Self {
        let second = candidate.apply(first, b);
        let found = sections::all(first, &second, settings);
        let score = candidates::score(found.longest, first, &second);
        Self { candidate, second, found, score }
    }
}

/// Returns the candidate whose sections fit straight lines best; of equal ones the first.
fn straightest(tried: &[TriedCandidate]) -> Option<&TriedCandidate> {
    tried
        .iter()
        .reduce(|best, next| if next.found.straightness > best.found.straightness { next } else { best })
}
