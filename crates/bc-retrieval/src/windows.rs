//! Compares recordings as sets of windows.
//!
//! A cover leaves sections out, repeats and moves them, so one vector per recording also compares sections that the other
//! recording lacks. Here every window is matched with the most similar window of the other recording, in both
//! directions: the Chamfer similarity (Barrow et al. 1977), with the cosine in place of the distance. A query may
//! be given at several tempi; the best tempo counts.

use rayon::prelude::*;

use crate::distances::{Distance, Prepared};
use crate::{Error, Vectors};

/// The windows of several recordings, one row per window; the rows of recording `i` are `offsets[i]..offsets[i + 1]`.
#[derive(Debug, Clone, Copy)]
pub struct WindowSets<'a> {
    /// The vectors of all windows, recording after recording.
    pub vectors: Vectors<'a>,
    /// The first row of each recording, and the number of rows. Each recording has at least one row.
    pub offsets: &'a [usize],
}

impl WindowSets<'_> {
    /// Returns the number of recordings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Returns whether there is no recording.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn check(&self) -> Result<(), Error> {
        self.vectors.check()?;
        let expected = self.vectors.rows();
        let found = self.offsets.last().copied().unwrap_or(0);
        let ascending = self.offsets.first().is_none_or(|first| *first == 0)
            && self.offsets.windows(2).all(|pair| pair[0] < pair[1]);
        if ascending && expected == found {
            return Ok(());
        }
        Err(Error::Shape { what: "windows of the recordings", expected, found })
    }
}

/// A comparison of queries, each at several tempi, with candidates at their own tempo.
pub struct WindowSearch<'a> {
    sides: Sides,
    tempi: Vec<(WindowSets<'a>, Prepared)>,
    candidates: (WindowSets<'a>, Prepared),
}

impl<'a> WindowSearch<'a> {
    /// Prepares a search; `queries` holds the same recordings once for each tempo.
    ///
    /// # Errors
    /// When lengths or dimensions differ, a recording has no window, or a value is not finite.
    pub fn new(queries: &[WindowSets<'a>], candidates: WindowSets<'a>) -> Result<Self, Error> {
        candidates.check()?;
        let count = queries.first().map_or(0, WindowSets::len);
        for set in queries {
            set.check()?;
            let (expected, found) = (candidates.vectors.dim, set.vectors.dim);
            if expected != found {
                return Err(Error::Shape { what: "dimensions of the windows", expected, found });
            }
            if set.len() != count {
                return Err(Error::Shape {
                    what: "queries at each tempo",
                    expected: count,
                    found: set.len(),
                });
            }
        }
        let prepare = |set: &WindowSets<'a>| Prepared::new(&set.vectors, Distance::Cosine, &[]);
        Ok(Self {
            sides: Sides::Both,
            tempi: queries.iter().map(|set| (*set, prepare(set))).collect(),
            candidates: (candidates, prepare(&candidates)),
        })
    }

    /// Sets the recordings whose windows must be found in the other one; [`Sides::Both`] is the default.
    #[must_use]
    pub fn sides(self, sides: Sides) -> Self {
        Self { sides, ..self }
    }

    /// Returns the number of queries.
    fn queries(&self) -> usize {
        self.tempi.first().map_or(0, |(set, _)| set.len())
    }

    /// Returns the number of candidates.
    fn candidates(&self) -> usize {
        self.candidates.0.len()
    }

    /// Fills `row` with the distance of the query from every candidate: 1 - the similarity (see [`chamfer`])
    /// at the best tempo, from 0 to 2.
    fn distances(&self, query: usize, row: &mut [f32]) {
        row.fill(2.0);
        let (candidates, prepared) = &self.candidates;
        let (mut products, mut best_of_rows) = (Vec::new(), Vec::new());
        for (set, windows) in &self.tempi {
            let rows = set.offsets[query]..set.offsets[query + 1];
            products.resize(rows.len() * candidates.vectors.rows(), 0.0);
            best_of_rows.resize(rows.len(), 0.0);
            windows.products_of(rows, prepared, &mut products);
            for (distance, span) in row.iter_mut().zip(candidates.offsets.windows(2)) {
                let similarity = chamfer(
                    &products,
                    candidates.vectors.rows(),
                    span[0]..span[1],
                    &mut best_of_rows,
                    self.sides,
                );
                *distance = distance.min((1.0 - similarity).clamp(0.0, 2.0));
            }
        }
    }

    /// Computes all distances, queries x candidates, row-major.
    #[must_use]
    pub fn matrix(&self) -> Vec<f32> {
        let width = self.candidates();
        let mut all = vec![0.0; self.queries() * width];
        if width > 0 {
            all.par_chunks_mut(width).enumerate().for_each(|(query, row)| self.distances(query, row));
        }
        all
    }
}

/// The recording whose windows must be found in the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sides {
    /// All windows of both recordings.
    Both,
    /// All windows of the first recording: it may be an excerpt of the second.
    First,
    /// All windows of the second recording: it may be an excerpt of the first.
    Second,
}

/// Computes the Chamfer similarity of two recordings from the cosines of their windows: the mean over the first
/// recording's windows (rows) of the best cosine among the second's (columns), the mean over the columns of the
/// best among the rows, or the mean of both. `cosines` has rows of `width` numbers, of which the columns `span` are
/// the second recording's. `best_of_rows` is scratch space of one number per row. There must be at least one row
/// and one column.
#[must_use]
pub fn chamfer(
    cosines: &[f32],
    width: usize,
    span: std::ops::Range<usize>,
    best_of_rows: &mut [f32],
    sides: Sides,
) -> f32 {
    best_of_rows.fill(f32::MIN);
    let mut best_of_columns = [f32::MIN; 64];
    let mut column_sum = 0.0;
    let count = span.len();
    // Columns in groups that fit on the stack; the best of each row is kept over the groups.
    for from in span.clone().step_by(best_of_columns.len()) {
        let to = span.end.min(from + best_of_columns.len());
        let columns = &mut best_of_columns[..to - from];
        columns.fill(f32::MIN);
        for (row, best) in best_of_rows.iter_mut().enumerate() {
            let cosines = &cosines[row * width + from..row * width + to];
            for (column, cosine) in columns.iter_mut().zip(cosines) {
                *column = column.max(*cosine);
                *best = best.max(*cosine);
            }
        }
        column_sum += columns.iter().sum::<f32>();
    }
    let row_mean = best_of_rows.iter().sum::<f32>() / best_of_rows.len() as f32;
    let column_mean = column_sum / count as f32;
    match sides {
        Sides::Both => 0.5 * (row_mean + column_mean),
        Sides::First => row_mean,
        Sides::Second => column_mean,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cosine;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        (0..count as u32)
            .map(|i| ((i + 977 * seed).wrapping_mul(2_654_435_761) >> 20) as f32 / 4096.0 - 0.5)
            .collect()
    }

    /// The similarity by its definition, pair after pair.
    fn plain(a: &[f32], b: &[f32], dim: usize) -> f32 {
        let side = |x: &[f32], y: &[f32]| {
            let best = |row: &[f32]| y.chunks(dim).map(|other| cosine(row, other)).fold(f32::MIN, f32::max);
            x.chunks(dim).map(best).sum::<f32>() / (x.len() / dim) as f32
        };
        0.5 * (side(a, b) + side(b, a))
    }

    #[test]
    fn distances_follow_the_definition_at_the_best_tempo() {
        let dim = 5;
        // More windows than a group of columns holds.
        let (a, b) = ([0usize, 3, 4, 84], [0usize, 70, 71, 73, 143]);
        let (slow, fast, other) = (numbers(84 * dim, 1), numbers(84 * dim, 2), numbers(143 * dim, 3));
        let sets = |vectors, offsets| WindowSets { vectors: Vectors { vectors, dim }, offsets };
        let search =
            WindowSearch::new(&[sets(&slow, &a[..]), sets(&fast, &a[..])], sets(&other, &b[..])).unwrap();
        let matrix = search.matrix();
        assert_eq!(matrix.len(), 3 * 4);
        for query in 0..3 {
            for candidate in 0..4 {
                let y = &other[b[candidate] * dim..b[candidate + 1] * dim];
                let of = |x: &[f32]| plain(&x[a[query] * dim..a[query + 1] * dim], y, dim);
                let expected = 1.0 - of(&slow).max(of(&fast));
                let found = matrix[query * 4 + candidate];
                assert!((found - expected).abs() < 1e-5, "{query} {candidate}: {found} {expected}");
            }
        }
    }

    #[test]
    fn an_excerpt_has_similarity_one_to_its_recording_from_its_own_side() {
        let dim = 6;
        let (whole, unlike) = (numbers(7 * dim, 3), numbers(2 * dim, 9));
        let excerpt = &whole[2 * dim..5 * dim];
        let cosines = |queries: &[f32]| -> Vec<f32> {
            let of = |row: &[f32]| queries.chunks(dim).map(|query| cosine(row, query)).collect::<Vec<_>>();
            whole.chunks(dim).flat_map(of).collect()
        };
        let score = |queries: &[f32], sides| {
            let width = queries.len() / dim;
            chamfer(&cosines(queries), width, 0..width, &mut [0.0; 7], sides)
        };
        assert!((score(excerpt, Sides::Second) - 1.0).abs() < 1e-6);
        assert!(score(excerpt, Sides::Both) < 0.95 && score(&unlike, Sides::Second) < 0.95);
    }

    #[test]
    fn the_order_of_windows_does_not_change_the_distance() {
        let dim = 8;
        let own = numbers(6 * dim, 5);
        let mut turned = own.clone();
        turned.rotate_left(2 * dim);
        let offsets = [0usize, 6];
        let sets = |vectors| WindowSets { vectors: Vectors { vectors, dim }, offsets: &offsets };
        let matrix = WindowSearch::new(&[sets(&own)], sets(&turned)).unwrap().matrix();
        assert!(matrix[0].abs() < 1e-5, "{}", matrix[0]);
    }

    #[test]
    fn an_excerpt_has_distance_zero_from_its_recording() {
        let dim = 4;
        let whole = numbers(9 * dim, 7);
        let (of_excerpt, of_whole) = ([0usize, 2], [0usize, 9]);
        let excerpt = whole[3 * dim..5 * dim].to_vec();
        let query = WindowSets { vectors: Vectors { vectors: &excerpt, dim }, offsets: &of_excerpt };
        let candidate = WindowSets { vectors: Vectors { vectors: &whole, dim }, offsets: &of_whole };
        let distance = |sides| WindowSearch::new(&[query], candidate).unwrap().sides(sides).matrix()[0];
        assert!(distance(Sides::First).abs() < 1e-5, "{}", distance(Sides::First));
        assert!(distance(Sides::Both) > 0.05, "{}", distance(Sides::Both));
    }

    #[test]
    fn inconsistent_offsets_and_counts_are_refused() {
        let vectors = numbers(12, 1);
        let sets = |offsets| WindowSets { vectors: Vectors { vectors: &vectors, dim: 3 }, offsets };
        assert!(WindowSearch::new(&[sets(&[0, 4])], sets(&[0, 2, 4])).is_ok());
        for wrong in [&[0usize, 3][..], &[0, 2, 2, 4], &[1, 4], &[]] {
            assert!(WindowSearch::new(&[sets(&[0, 4])], sets(wrong)).is_err(), "{wrong:?}");
        }
        assert!(WindowSearch::new(&[sets(&[0, 4]), sets(&[0, 2, 4])], sets(&[0, 4])).is_err());
    }
}
