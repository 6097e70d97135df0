//! Settings of an alignment and of matched sections.

use crate::qmax::Costs;

/// As Qmax, but a change of tempo costs: the second recording is brought to the first's tempo beforehand, and a path that may
/// turn for nothing also runs through the unrelated part between two sections.
pub(super) const COSTS: Costs = Costs { aside: 0.5, ..Costs::QMAX };

/// How an alignment is looked for.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Settings {
    /// Length of a cell of the first recording in seconds.
    pub cell_s: f64,
    /// Cells of a moment, the unit of comparison: this many consecutive cells.
    pub depth: usize,
    /// Share of a row, and of a column, of the cross recurrence plot that counts as near.
    pub kappa: f64,
    /// Number of keys in which the second recording is tried, the likeliest first.
    pub keys: usize,
    /// The greatest tempo ratio that is tried; the smallest is its inverse.
    pub tempo: f64,
    /// A section is at least so long in the first recording, in seconds.
    pub least_section_s: f64,
    /// Maximum number of sections.
    pub most_sections: usize,
    /// A longer recording is refused.
    pub longest_s: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cell_s: 0.4,
            depth: 9,
            kappa: 0.095,
            keys: 3,
            tempo: 1.43,
            least_section_s: 10.0,
            most_sections: 16,
            longest_s: 1800.0,
        }
    }
}

/// A part of one recording beside the part of the other that it matches. Seconds.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Section {
    /// Where the section begins in the first recording, in seconds.
    pub start_a: f64,
    /// Where the section ends in the first recording, in seconds.
    pub end_a: f64,
    /// Where the section begins in the second recording, in seconds.
    pub start_b: f64,
    /// Where the section ends in the second recording, in seconds.
    pub end_b: f64,
}
