//! The cross recurrence plot of two recordings: which moments of one are among the most like each moment of the other.
//!
//! A moment is `depth` columns in a row (delay embedding). A cell is set if the two moments are mutual neighbours: the
//! distance is among the nearest share `kappa` of its row and of its column (Serrà et al. 2009, section 2.2).
//!
//! The squared distance of two moments is the sum of `depth` distances of columns along a diagonal, so no vector of
//! 12 x depth numbers is ever made. All inner loops run over a row and are compiled for the widest vectors at hand.

use crate::chroma::PITCH_CLASSES;
use crate::vectors::wide;

/// Columns whose order statistic is looked for at a time: as many 32-bit numbers as a line of the cache holds.
const STRIPE: usize = 16;

/// Which moments recur: rows x columns, row-major, 1 where they do and 0 elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// Moments of the first recording.
    pub rows: usize,
    /// Moments of the second.
    pub columns: usize,
    /// 32-bit floats and not bits, because what reads them ([`crate::qmax`]) calculates with them, a vector at a time.
    pub hits: Vec<f32>,
}

impl Plot {
    /// The plot of two recordings, whose columns are of length 1 (or near 0 where they are silent); none where one of
    /// them is shorter than a moment.
    pub fn of(
        a: &[[f32; PITCH_CLASSES]],
        b: &[[f32; PITCH_CLASSES]],
        depth: usize,
        kappa: f64,
    ) -> Option<Self> {
        let depth = depth.max(1);
        let (rows, columns) = ((a.len() + 1).checked_sub(depth)?, (b.len() + 1).checked_sub(depth)?);
        if rows == 0 || columns == 0 {
            return None;
        }
        let mut distances = vec![0f32; rows * columns];
        wide(|| embedded_distances(a, b, depth, &mut distances));
        let by_row = row_limits(&distances, columns, (kappa * columns as f64) as usize);
        let by_column = column_limits(&distances, columns, (kappa * rows as f64) as usize);
        wide(|| {
            for (row, own) in distances.chunks_exact_mut(columns).zip(&by_row) {
                for (value, other) in row.iter_mut().zip(&by_column) {
                    *value = f32::from(u8::from(*value <= own.min(*other)));
                }
            }
        });
        Some(Self { rows, columns, hits: distances })
    }
}

/// Squared distances of moments.
#[inline(always)]
fn embedded_distances(a: &[[f32; PITCH_CLASSES]], b: &[[f32; PITCH_CLASSES]], depth: usize, out: &mut [f32]) {
    let width = b.len();
    let columns = width + 1 - depth;
    let mut pitches = vec![0f32; PITCH_CLASSES * width];
    for (place, column) in b.iter().enumerate() {
        column.iter().enumerate().for_each(|(class, value)| pitches[class * width + place] = *value);
    }
    let squares: Vec<f32> = b.iter().map(square).collect();
    // The last `depth` rows of distances of columns, one after the other in a ring.
    let mut ring = vec![0f32; depth * width];
    for (row, column) in a.iter().enumerate() {
        let own = square(column);
        let distances = &mut ring[row % depth * width..][..width];
        distances.iter_mut().zip(&squares).for_each(|(distance, other)| *distance = own + other);
        for (value, pitches) in column.iter().zip(pitches.chunks_exact(width)) {
            let twice = 2.0 * value;
            distances.iter_mut().zip(pitches).for_each(|(distance, other)| *distance -= twice * other);
        }
        let Some(first) = (row + 1).checked_sub(depth) else { continue };
        let out = &mut out[first * columns..][..columns];
        for ahead in 0..depth {
            let distances = &ring[(first + ahead) % depth * width + ahead..][..columns];
            out.iter_mut().zip(distances).for_each(|(sum, distance)| *sum += distance);
        }
        // Rounding may leave less than nothing; limits are compared as the bits of numbers that are not negative.
        out.iter_mut().for_each(|sum| *sum = sum.max(0.0));
    }
}

#[inline(always)]
fn square(column: &[f32; PITCH_CLASSES]) -> f32 {
    column.iter().map(|value| value * value).sum()
}

/// The (`rank` + 1)th smallest of each row.
fn row_limits(distances: &[f32], columns: usize, rank: usize) -> Vec<f32> {
    let mut scratch = vec![0u32; columns];
    let limit = |row: &[f32]| {
        scratch.iter_mut().zip(row).for_each(|(bits, value)| *bits = value.to_bits());
        smallest(&mut scratch, rank)
    };
    distances.chunks_exact(columns).map(limit).collect()
}

/// The (`rank` + 1)th smallest of each column.
fn column_limits(distances: &[f32], columns: usize, rank: usize) -> Vec<f32> {
    let rows = distances.len() / columns;
    let mut limits = Vec::with_capacity(columns);
    let mut scratch = vec![0u32; STRIPE * rows];
    for first in (0..columns).step_by(STRIPE) {
        let stripe = STRIPE.min(columns - first);
        for (place, row) in distances.chunks_exact(columns).enumerate() {
            for (column, value) in row[first..first + stripe].iter().enumerate() {
                scratch[column * rows + place] = value.to_bits();
            }
        }
        limits.extend(scratch.chunks_exact_mut(rows).take(stripe).map(|column| smallest(column, rank)));
    }
    limits
}

/// The bits of numbers that are not negative are in the order of the numbers, and integers are told apart faster.
fn smallest(bits: &mut [u32], rank: usize) -> f32 {
    let rank = rank.min(bits.len() - 1);
    f32::from_bits(*bits.select_nth_unstable(rank).1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chroma::unit;
    use rand::{RngExt, SeedableRng};

    fn random(count: usize, seed: u64) -> Vec<[f32; PITCH_CLASSES]> {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        (0..count).map(|_| unit(std::array::from_fn(|_| random.random::<f32>()))).collect()
    }

    /// The definition, with vectors of 12 x depth numbers and sorted rows and columns.
    fn plain(a: &[[f32; 12]], b: &[[f32; 12]], depth: usize, kappa: f64) -> Plot {
        let moments = |x: &[[f32; 12]]| -> Vec<Vec<f64>> {
            x.windows(depth)
                .map(|moment| moment.iter().flatten().map(|value| f64::from(*value)).collect())
                .collect()
        };
        let (a, b) = (moments(a), moments(b));
        let distance = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum::<f64>();
        let all: Vec<Vec<f64>> = a.iter().map(|x| b.iter().map(|y| distance(x, y)).collect()).collect();
        let limit = |mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values[(kappa * values.len() as f64) as usize]
        };
        let rows: Vec<f64> = all.iter().map(|row| limit(row.clone())).collect();
        let columns: Vec<f64> =
            (0..b.len()).map(|column| limit(all.iter().map(|row| row[column]).collect())).collect();
        let hit = |row: usize, column: usize| all[row][column] <= rows[row].min(columns[column]);
        let hits = (0..a.len()).flat_map(|row| (0..b.len()).map(move |column| (row, column)));
        let hits = hits.map(|(row, column)| f32::from(u8::from(hit(row, column)))).collect();
        Plot { rows: a.len(), columns: b.len(), hits }
    }

    #[test]
    fn the_plot_is_that_of_the_definition() {
        for (n, m, depth) in [(60, 85, 9), (9, 40, 9), (33, 17, 1), (50, 50, 4)] {
            let (a, b) = (random(n, 1), random(m, 2));
            assert_eq!(
                Plot::of(&a, &b, depth, 0.095).unwrap(),
                plain(&a, &b, depth, 0.095),
                "{n} {m} {depth}"
            );
        }
    }

    #[test]
    fn shorter_than_a_moment_is_no_plot() {
        assert_eq!(Plot::of(&random(8, 1), &random(20, 2), 9, 0.1), None);
        assert_eq!(Plot::of(&[], &random(20, 2), 1, 0.1), None);
        let silence = vec![[0f32; 12]; 20];
        assert!(Plot::of(&silence, &silence, 9, 0.1).unwrap().hits.iter().all(|hit| *hit == 1.0));
    }
}
