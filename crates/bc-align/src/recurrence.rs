//! Computes the cross recurrence plot of two recordings: which moments of one are among the nearest to each moment of the other.
//!
//! A moment is `depth` consecutive columns (delay embedding). A cell of the plot is set if the two moments are mutual neighbours:
//! their distance is among the smallest share `kappa` of its row and of its column (Serrà et al. 2009, section 2.2).
//!
//! The squared distance of two moments is the sum of `depth` distances of columns along a diagonal, so no vector of
//! 12 x depth numbers is ever made. All inner loops run over a row and are compiled for the widest vectors at hand.

use crate::chroma::PITCH_CLASSES;
use crate::vectors::wide;

/// Number of partial sums in a vectorised loop.
const LANES: usize = 16;
/// Maximum number of counting passes to find a threshold; after that it is found by selection in a copy.
const MAX_ATTEMPTS: usize = 24;
/// Density of the standard normal distribution at its 0.1 quantile.
const NORMAL_DENSITY: f32 = 0.17;

/// A cross recurrence plot.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// Number of moments of the first recording.
    pub rows: usize,
    /// Number of moments of the second recording.
    pub columns: usize,
    /// `rows` x `columns`, row-major: 1 for mutual neighbours and 0 elsewhere. The values are 32-bit floats and not bits, because
    /// [`crate::qmax`] calculates with them in vector instructions.
    pub hits: Vec<f32>,
}

impl Plot {
    /// Computes the plot of two recordings, whose columns must have length 1 (or near 0 where they are silent); `None` if a
    /// recording is shorter than a moment.
    pub fn new(
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
        // The transposed distances, so that a column is contiguous; computing them is cheaper than transposing.
        let mut transposed = vec![0f32; rows * columns];
        embedded_distances(a, b, depth, &mut distances);
        embedded_distances(b, a, depth, &mut transposed);
        let (of_row, of_column) = ((kappa * columns as f64) as usize, (kappa * rows as f64) as usize);
        let by_row = limits(&distances, columns, of_row);
        let by_column = limits(&transposed, rows, of_column);
        mark(&mut distances, &by_row, &by_column);
        Some(Self { rows, columns, hits: distances })
    }
}

wide! {
    /// Writes the squared distances of all pairs of moments to `out` (moments of `a` x moments of `b`).
    fn embedded_distances(a: &[[f32; PITCH_CLASSES]], b: &[[f32; PITCH_CLASSES]], depth: usize, out: &mut [f32]) {
        let columns = b.len() + 1 - depth;
        // Lanes of columns, each pitch class in a row; the padding at the end is never read.
        let lanes: Vec<Lanes> = b.chunks(LANES).map(Lanes::new).collect();
        let width = lanes.len() * LANES;
        // The last `depth` rows of distances of columns, one after the other in a ring, and room to read beyond.
        let mut ring = vec![0f32; depth * width + depth + LANES];
        let mut starts = vec![0; depth];
        for (row, column) in a.iter().enumerate() {
            let own = square(column);
            let distances = &mut ring[row % depth * width..][..width];
            for (distances, lanes) in distances.as_chunks_mut::<LANES>().0.iter_mut().zip(&lanes) {
                *distances = lanes.distances(column, own);
            }
            let Some(first) = (row + 1).checked_sub(depth) else { continue };
            let out = &mut out[first * columns..][..columns];
            for (ahead, start) in starts.iter_mut().enumerate() {
                *start = (first + ahead) % depth * width + ahead;
            }
            for (chunk, out) in out.chunks_mut(LANES).enumerate() {
                let mut sums = [0f32; LANES];
                for start in &starts {
                    let distances = ring[start + chunk * LANES..].first_chunk::<LANES>();
                    let distances = distances.unwrap_or(&[0.0; LANES]);
                    for lane in 0..LANES {
                        sums[lane] += distances[lane];
                    }
                }
                // Rounding may give negative values; non-negative floats have the order of their bits.
                out.iter_mut().zip(sums).for_each(|(out, sum)| *out = if sum > 0.0 { sum } else { 0.0 });
            }
        }
    }
}

/// [`LANES`] columns that are processed together.
struct Lanes {
    pitches: [[f32; LANES]; PITCH_CLASSES],
    squares: [f32; LANES],
}

impl Lanes {
    fn new(columns: &[[f32; PITCH_CLASSES]]) -> Self {
        let mut lanes = Self { pitches: [[0.0; LANES]; PITCH_CLASSES], squares: [0.0; LANES] };
        for (lane, column) in columns.iter().enumerate() {
            column.iter().zip(&mut lanes.pitches).for_each(|(value, pitches)| pitches[lane] = *value);
            lanes.squares[lane] = square(column);
        }
        lanes
    }

    /// Computes the squared distances of the columns from `column`, whose squared length is `own`.
    #[inline(always)]
    fn distances(&self, column: &[f32; PITCH_CLASSES], own: f32) -> [f32; LANES] {
        let mut products = [0f32; LANES];
        for (value, pitches) in column.iter().zip(&self.pitches) {
            products.iter_mut().zip(pitches).for_each(|(sum, pitch)| *sum += value * pitch);
        }
        let mut distances = self.squares;
        distances.iter_mut().zip(products).for_each(|(distance, product)| *distance += own - 2.0 * product);
        distances
    }
}

#[inline(always)]
fn square(column: &[f32; PITCH_CLASSES]) -> f32 {
    column.iter().map(|value| value * value).sum()
}

wide! {
    /// Replaces each distance by 1 if it is within the limits of its row and its column, else by 0.
    fn mark(distances: &mut [f32], by_row: &[f32], by_column: &[f32]) {
        for (row, own) in distances.chunks_exact_mut(by_column.len()).zip(by_row) {
            for (value, other) in row.iter_mut().zip(by_column) {
                *value = if *value <= own.min(*other) { 1.0 } else { 0.0 };
            }
        }
    }
}

wide! {
    /// Computes for each row of `width` distances a limit that `rank` + 1 of them do not exceed (more if several are equal).
    fn limits(distances: &[f32], width: usize, rank: usize) -> Vec<f32> {
        let rank = rank.min(width - 1);
        let mut scratch = vec![0u32; width];
        let mut limits = Vec::with_capacity(distances.len() / width);
        // Consecutive moments have nearly the same distances.
        let mut before = None;
        for row in distances.chunks_exact(width) {
            let found = limit(row, rank + 1, before).unwrap_or_else(|| {
                scratch.iter_mut().zip(row).for_each(|(bits, value)| *bits = value.to_bits());
                // The bits of numbers that are not negative are in the order of the numbers, and integers compare faster.
                f32::from_bits(*scratch.select_nth_unstable(rank).1)
            });
            before = Some(found);
            limits.push(found);
        }
        limits
    }
}

/// Finds a limit that exactly `count` of the values do not exceed, by interpolation between limits whose values were counted:
/// counting is vectorised, as no values are moved. `None` if that takes too long, for example if values are equal.
#[inline(always)]
fn limit(values: &[f32], count: usize, guess: Option<f32>) -> Option<f32> {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let (mut sum, mut squares, mut max) = ([0f32; LANES], [0f32; LANES], [0f32; LANES]);
    for chunk in chunks {
        for lane in 0..LANES {
            sum[lane] += chunk[lane];
            squares[lane] += chunk[lane] * chunk[lane];
            max[lane] = if chunk[lane] > max[lane] { chunk[lane] } else { max[lane] };
        }
    }
    for value in rest {
        sum[0] += value;
        squares[0] += value * value;
        max[0] = max[0].max(*value);
    }
    let share = 1.0 / values.len() as f32;
    let mean = sum.iter().sum::<f32>() * share;
    let spread = (squares.iter().sum::<f32>() * share - mean * mean).max(0.0).sqrt();
    // Too few values are up to `low`, too many up to `high`.
    let (mut low, mut high) = (0f32, max.iter().copied().fold(0.0, f32::max));
    if values.len() == count {
        return Some(high);
    }
    // Values per unit near the limit, if they are normally distributed and a tenth of them is below it.
    let density = NORMAL_DENSITY * values.len() as f32 / spread;
    let mut candidate = guess.unwrap_or(mean - 1.3 * spread);
    for attempt in 0..MAX_ATTEMPTS {
        if !(low < candidate && candidate < high) || attempt % 8 == 7 {
            candidate = 0.5 * (low + high);
        }
        let found = count_up_to(values, candidate);
        match found.cmp(&count) {
            std::cmp::Ordering::Equal => return Some(candidate),
            std::cmp::Ordering::Less => low = candidate,
            std::cmp::Ordering::Greater => high = candidate,
        }
        candidate += (count as f32 - found as f32) / density;
    }
    None
}

#[inline(always)]
fn count_up_to(values: &[f32], limit: f32) -> usize {
    let (chunks, rest) = values.as_chunks::<LANES>();
    // In 32-bit floats, because checked additions keep a loop from being vectorised; exact up to 2^24 per lane.
    let mut counts = [0f32; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            counts[lane] += if chunk[lane] <= limit { 1.0 } else { 0.0 };
        }
    }
    let rest = rest.iter().filter(|value| **value <= limit).count();
    rest + counts.iter().sum::<f32>() as usize
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

    /// The plot by its definition, with vectors of 12 x depth numbers and sorted rows and columns.
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
    fn the_recurrence_plot_follows_its_definition() {
        for (n, m, depth) in [(60, 85, 9), (9, 40, 9), (33, 17, 1), (50, 50, 4)] {
            let (a, b) = (random(n, 1), random(m, 2));
            assert_eq!(
                Plot::new(&a, &b, depth, 0.095).unwrap(),
                plain(&a, &b, depth, 0.095),
                "{n} {m} {depth}"
            );
        }
    }

    #[test]
    fn limits_are_order_statistics_with_and_without_ties() {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(5);
        for width in [1, 2, 15, 16, 17, 100, 481] {
            for levels in [3u32, 1000, 1 << 24] {
                let values: Vec<f32> =
                    (0..width).map(|_| random.random_range(0..levels) as f32 / levels as f32).collect();
                for rank in [0, width / 10, width / 2, width - 1] {
                    let mut sorted = values.clone();
                    sorted.sort_by(f32::total_cmp);
                    let expected = sorted.iter().filter(|value| **value <= sorted[rank]).count();
                    let found = limits(&values, width, rank)[0];
                    assert_eq!(count_up_to(&values, found), expected, "{width} {levels} {rank}");
                }
            }
        }
    }

    #[test]
    fn a_recording_shorter_than_a_moment_has_no_plot() {
        assert_eq!(Plot::new(&random(8, 1), &random(20, 2), 9, 0.1), None);
        assert_eq!(Plot::new(&[], &random(20, 2), 1, 0.1), None);
        let silence = vec![[0f32; 12]; 20];
        assert!(Plot::new(&silence, &silence, 9, 0.1).unwrap().hits.iter().all(|hit| *hit == 1.0));
    }
}
