//! Settings of an alignment, and the sections that it finds.

use crate::qmax::Costs;

/// The costs of Qmax with a cost for changes of tempo: the second recording is already stretched to the first's tempo, and with
/// free changes a path would also run through the unrelated part between two sections.
pub(super) const COSTS: Costs = Costs { tempo_change: 0.5, ..Costs::QMAX };

/// Settings of the search for an alignment.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Settings {
    /// Length of a cell of the first recording in seconds.
    pub cell_s: f64,
    /// Number of consecutive cells of a moment, the unit of comparison.
    pub depth: usize,
    /// Share of the moments in a row, and in a column, of the cross recurrence plot that count as near.
    pub kappa: f64,
    /// Number of transpositions of the second recording that are tried, the likeliest first.
    pub keys: usize,
    /// Maximum tempo ratio that is tried; the minimum is its inverse.
    pub tempo: f64,
    /// Minimum length of a section in the first recording, in seconds.
    #[serde(rename = "least_section_s")]
    pub min_section_s: f64,
    /// Maximum number of sections.
    #[serde(rename = "most_sections")]
    pub max_sections: usize,
    /// Maximum length of a recording in seconds; a longer one is an error.
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
            min_section_s: 10.0,
            max_sections: 16,
            longest_s: 1800.0,
        }
    }
}

/// A part of one recording and the part of the other that it matches.
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
