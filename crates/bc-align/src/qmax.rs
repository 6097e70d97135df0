//! Qmax: the length of the longest local alignment of two recordings, with gaps and changes of tempo (Serrà, Serra & Andrzejak 2009,
//! section 2.3).
//!
//! Both recordings are divided into cells of equal length, and the second one is transposed to the key in which it is most similar
//! to the first. Then the longest path through their cross recurrence plot is found, with steps (1, 1), (2, 1) or (1, 2) and a
//! penalty for every cell that is not set.

use crate::chroma::{Chroma, PITCH_CLASSES};
pub(crate) use crate::recurrence::Plot;
use crate::vectors::wide;

/// Penalties that are subtracted from the length of a path.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Costs {
    /// Cost of the first unset cell of a gap (gamma_o).
    pub gap_opening: f32,
    /// Cost of each further unset cell of a gap (gamma_e).
    pub gap_extension: f32,
    /// Cost of a step by (2, 1) or (1, 2), which changes the tempo.
    pub tempo_change: f32,
}

impl Costs {
    /// The costs of the paper (section 3.2), with free changes of tempo.
    pub const QMAX: Self = Self { gap_opening: 0.5, gap_extension: 0.7, tempo_change: 0.0 };

    /// Returns the steps that lead to a cell, each as (rows, columns) to go back and its cost.
    pub fn steps(&self) -> [((usize, usize), f32); 3] {
        [((1, 1), 0.0), ((2, 1), self.tempo_change), ((1, 2), self.tempo_change)]
    }

    /// Returns the penalty of an unset cell after a cell with the value `hit_before` in the plot.
    #[inline(always)]
    pub fn gap(&self, hit_before: f32) -> f32 {
        self.gap_extension - (self.gap_extension - self.gap_opening) * hit_before
    }
}

/// How two recordings are compared.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Settings {
    /// Length of a cell in seconds; a cell is the median of its columns.
    pub cell_s: f64,
    /// Number of cells of a moment.
    pub depth: usize,
    /// Share of the moments in a row, and in a column, of the plot that count as near.
    pub kappa: f64,
    /// Maximum number of cells of a recording that are compared, from its beginning; it bounds the memory of a pair.
    #[serde(rename = "longest")]
    pub max_cells: usize,
}

impl Default for Settings {
    /// Returns the paper's depth of 9 and kappa of 0.095 (m = 9 of 10, section 3.2), and at most 3,600 cells, half an hour.
    fn default() -> Self {
        Self { cell_s: 0.5, depth: 9, kappa: 0.095, max_cells: 3600 }
    }
}

/// A recording ready to be compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    cells: Chroma,
}

impl Prepared {
    /// Divides a recording into cells of `settings.cell_s`.
    #[must_use]
    pub fn new(chroma: &Chroma, settings: &Settings) -> Self {
        Self { cells: chroma.medians(settings.cell_s).first(settings.max_cells) }
    }
}

/// Computes Qmax divided by the square root of the number of moments of `b`, the paper's normalisation, so that longer recordings
/// are not more similar to everything. The result is 0 if a recording is shorter than a moment.
#[must_use]
pub fn similarity(a: &Prepared, b: &Prepared, settings: &Settings) -> f64 {
    let b = b.cells.transposed(a.cells.transpositions(&b.cells)[0]);
    cell_similarity(&a.cells.columns, &b.columns, settings)
}

/// Computes the Qmax similarity of cells that are already in one key, each of length 1.
#[must_use]
pub fn cell_similarity(a: &[[f32; PITCH_CLASSES]], b: &[[f32; PITCH_CLASSES]], settings: &Settings) -> f64 {
    let Some(plot) = Plot::new(a, b, settings.depth, settings.kappa) else { return 0.0 };
    f64::from(longest(&plot, &Costs::QMAX)) / (plot.columns as f64).sqrt()
}

/// Computes the greatest value of the recursion: the length of the longest path.
pub(crate) fn longest(plot: &Plot, costs: &Costs) -> f32 {
    recursion(plot, costs, &mut [])
}

/// Computes the whole matrix of the recursion, rows x columns, for tracing paths back.
pub(crate) fn matrix(plot: &Plot, costs: &Costs) -> Vec<f32> {
    let mut all = vec![0f32; plot.rows * plot.columns];
    recursion(plot, costs, &mut all);
    all
}

wide! {
    /// Returns the greatest value, and writes all values to `all` unless it is empty.
    fn recursion(plot: &Plot, costs: &Costs, all: &mut [f32]) -> f32 {
        let mut scores = Scores::new(plot.columns);
        let mut max = 0f32;
        for row in 2..plot.rows {
            max = max.max(scores.next(plot, costs, row));
            if let Some(values) = all.get_mut(row * plot.columns..(row + 1) * plot.columns) {
                values.copy_from_slice(&scores.last);
            }
        }
        max
    }
}

/// The last rows of the recursion. A row depends only on the two before it, so its cells can be computed with vector instructions.
struct Scores {
    before: Vec<f32>,
    last: Vec<f32>,
    next: Vec<f32>,
}

impl Scores {
    fn new(columns: usize) -> Self {
        Self { before: vec![0.0; columns], last: vec![0.0; columns], next: vec![0.0; columns] }
    }

    /// Computes row `row`, which becomes `last`, and returns its greatest value.
    #[inline(always)]
    fn next(&mut self, plot: &Plot, costs: &Costs, row: usize) -> f32 {
        let width = plot.columns;
        let count = width.saturating_sub(2);
        let hits = |row: usize| &plot.hits[row * width..][..width];
        let (here, last_hits, before_hits) = (&hits(row)[width - count..], hits(row - 1), hits(row - 2));
        let [(_, straight), (_, down), (_, right)] = costs.steps();
        let steps = [
            (&self.last[1..][..count], &last_hits[1..][..count], straight),
            (&self.before[1..][..count], &before_hits[1..][..count], down),
            (&self.last[..count], &last_hits[..count], right),
        ];
        let [(s1, h1, c1), (s2, h2, c2), (s3, h3, c3)] = steps;
        let unset = |score: f32, hit: f32| score - costs.gap(hit);
        let next = &mut self.next[width - count..];
        let predecessors = s1.iter().zip(h1).zip(s2.iter().zip(h2)).zip(s3.iter().zip(h3));
        for ((next, hit), (((s1, h1), (s2, h2)), (s3, h3))) in next.iter_mut().zip(here).zip(predecessors) {
            let (s1, s2, s3) = (s1 - c1, s2 - c2, s3 - c3);
            let if_hit = larger(larger(s1, s2), larger(s3, 0.0)) + 1.0;
            let if_unset = larger(larger(unset(s1, *h1), unset(s2, *h2)), larger(unset(s3, *h3), 0.0));
            *next = if *hit > 0.0 { if_hit } else { if_unset };
        }
        let max = next.iter().copied().fold(0.0, larger);
        std::mem::swap(&mut self.before, &mut self.last);
        std::mem::swap(&mut self.last, &mut self.next);
        max
    }
}

/// Returns the larger number. NaN is not handled, so that this compiles to a single instruction.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(rows: usize, columns: usize, hit: impl Fn(usize, usize) -> bool) -> Plot {
        let cells = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        let hits = cells.map(|(row, column)| f32::from(u8::from(hit(row, column)))).collect();
        Plot { rows, columns, hits }
    }

    fn longest(plot: &Plot) -> f32 {
        super::longest(plot, &Costs::QMAX)
    }

    #[test]
    fn diagonal_scores_its_cells_minus_gap_costs() {
        assert_eq!(longest(&plot(20, 30, |row, column| column == row + 5)), 18.0);
        let with_gap = longest(&plot(20, 30, |row, column| column == row + 5 && row != 10 && row != 11));
        // Two rows without hits are crossed by a step of two rows and, back to the diagonal, one of two columns.
        assert_eq!(with_gap, 16.0 - 0.5);
        let twice_as_fast = longest(&plot(20, 40, |row, column| column == 2 * row));
        assert_eq!(twice_as_fast, 18.0);
        assert_eq!(longest(&plot(20, 30, |_, _| false)), 0.0);
        assert_eq!(longest(&plot(1, 1, |_, _| true)), 0.0);
        assert_eq!(longest(&plot(2, 2, |_, _| true)), 0.0);
    }

    #[test]
    fn the_matrix_holds_the_same_maximum() {
        let plot = plot(31, 23, |row, column| (row * 7 + column * 13) % 5 < 2);
        let matrix = matrix(&plot, &Costs::QMAX);
        assert_eq!(matrix.iter().copied().fold(0.0, f32::max), longest(&plot));
    }

    #[test]
    fn transposed_copy_has_the_maximum_similarity() {
        let mut state = 7u32;
        let columns: Vec<[f32; 12]> = (0..100)
            .map(|_| {
                std::array::from_fn(|class| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 8) as f32 / 16_777_216.0 + if class == 3 { 1.0 } else { 0.0 }
                })
            })
            .collect();
        let chroma = Chroma { columns, column_s: 0.5 };
        let settings = Settings::default();
        let prepare = |chroma: &Chroma| Prepared::new(chroma, &settings);
        let own = similarity(&prepare(&chroma), &prepare(&chroma.transposed(4)), &settings);
        assert!((own - 90.0 / 92f64.sqrt()).abs() < 1e-5, "{own}");
        let short = Chroma { columns: chroma.columns[..8].to_vec(), column_s: 0.5 };
        assert_eq!(similarity(&prepare(&chroma), &prepare(&short), &settings), 0.0);
    }
}
