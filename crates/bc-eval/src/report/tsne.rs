//! A two-dimensional map by exact t-SNE (van der Maaten & Hinton 2008), deterministic: it
//! begins with the two principal directions.

use rayon::prelude::*;

/// Effective number of neighbours of a point.
const PERPLEXITY: f64 = 12.0;
/// Number of steps of gradient descent.
const STEPS: usize = 400;
/// Number of first steps in which attraction is exaggerated.
const EXAGGERATED_STEPS: usize = 100;

/// Maps each vector (of length one) to a position from -1 to 1 in x and y.
pub fn map(vectors: &[&[f32]]) -> Vec<[f32; 2]> {
    let count = vectors.len();
    if count < 3 {
        return (0..count).map(|number| [number as f32 - 0.5, 0.0]).collect();
    }
    let affinities = affinities(vectors);
    let mut positions = principal(vectors);
    let mut velocities = vec![[0f64; 2]; count];
    let rate = (count as f64 / 4.0).max(20.0);
    for step in 0..STEPS {
        let factor = if step < EXAGGERATED_STEPS { 8.0 } else { 1.0 };
        let momentum = if step < EXAGGERATED_STEPS { 0.5 } else { 0.8 };
        let kernel = |a: [f64; 2], b: [f64; 2]| 1.0 / (1.0 + (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2));
        let totals: Vec<f64> = positions
            .par_iter()
            .map(|a| positions.iter().map(|b| kernel(*a, *b)).sum::<f64>() - 1.0)
            .collect();
        let total: f64 = totals.iter().sum::<f64>().max(1e-12);
        let gradients: Vec<[f64; 2]> = positions
            .par_iter()
            .zip(affinities.par_chunks(count))
            .map(|(a, affinities)| {
                let mut gradient = [0f64; 2];
                for (b, p) in positions.iter().zip(affinities) {
                    let near = kernel(*a, *b);
                    let pull = 4.0 * (factor * p - near / total) * near;
                    gradient[0] += pull * (a[0] - b[0]);
                    gradient[1] += pull * (a[1] - b[1]);
                }
                gradient
            })
            .collect();
        for ((position, velocity), gradient) in positions.iter_mut().zip(&mut velocities).zip(gradients) {
            for axis in 0..2 {
                velocity[axis] = momentum * velocity[axis] - rate * gradient[axis];
                position[axis] += velocity[axis];
            }
        }
    }
    scaled(&positions)
}

/// Computes the symmetric affinities of all points, count x count, whose sum is one.
fn affinities(vectors: &[&[f32]]) -> Vec<f64> {
    let count = vectors.len();
    let perplexity = PERPLEXITY.min((count - 1) as f64 / 3.0).max(1.0);
    let rows: Vec<Vec<f64>> = (0..count)
        .into_par_iter()
        .map(|a| {
            let squares: Vec<f64> = (0..count)
                .map(|b| vectors[a].iter().zip(vectors[b]).map(|(x, y)| f64::from(x - y).powi(2)).sum())
                .collect();
            row(&squares, a, perplexity.ln())
        })
        .collect();
    let mut all = vec![0f64; count * count];
    for a in 0..count {
        for b in 0..count {
            all[a * count + b] = (rows[a][b] + rows[b][a]) / (2 * count) as f64;
        }
    }
    all
}

/// Computes the Gaussian affinities of one point; their width is found by bisection, so that they have this entropy.
fn row(squares: &[f64], own: usize, entropy: f64) -> Vec<f64> {
    let (mut low, mut high, mut sharpness) = (0f64, f64::INFINITY, 1f64);
    let mut values = Vec::new();
    for _ in 0..60 {
        values = squares.iter().map(|square| (-square * sharpness).exp()).collect::<Vec<f64>>();
        values[own] = 0.0;
        let sum: f64 = values.iter().sum::<f64>().max(1e-300);
        let mean: f64 = values.iter().zip(squares).map(|(v, s)| v * s).sum::<f64>() / sum;
        values.iter_mut().for_each(|value| *value /= sum);
        if sum.ln() + sharpness * mean > entropy {
            low = sharpness;
            sharpness = if high.is_finite() { f64::midpoint(low, high) } else { sharpness * 2.0 };
        } else {
            high = sharpness;
            sharpness = f64::midpoint(low, high);
        }
    }
    values
}

/// Computes the first two principal components by power iteration, scaled down as a start for t-SNE.
fn principal(vectors: &[&[f32]]) -> Vec<[f64; 2]> {
    let dim = vectors[0].len();
    let mut mean = vec![0f64; dim];
    for vector in vectors {
        mean.iter_mut().zip(*vector).for_each(|(mean, v)| *mean += f64::from(*v) / vectors.len() as f64);
    }
    let project = |vector: &[f32], axis: &[f64]| -> f64 {
        vector.iter().zip(&mean).zip(axis).map(|((v, mean), axis)| (f64::from(*v) - mean) * axis).sum()
    };
    let mut axes: Vec<Vec<f64>> = Vec::new();
    for number in 0..2usize {
        let mut axis: Vec<f64> = (0..dim).map(|index| ((index * 7 + number * 3) % 11) as f64 - 5.0).collect();
        for _ in 0..50 {
            let mut next = vec![0f64; dim];
            for vector in vectors {
                let component = project(vector, &axis);
                next.iter_mut()
                    .zip(*vector)
                    .zip(&mean)
                    .for_each(|((n, v), m)| *n += component * (f64::from(*v) - m));
            }
            for other in &axes {
                let component: f64 = next.iter().zip(other).map(|(a, b)| a * b).sum();
                next.iter_mut().zip(other).for_each(|(n, o)| *n -= component * o);
            }
            let norm = next.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-300);
            axis = next.into_iter().map(|v| v / norm).collect();
        }
        axes.push(axis);
    }
    vectors
        .iter()
        .map(|vector| [1e-2 * project(vector, &axes[0]), 1e-2 * project(vector, &axes[1])])
        .collect()
}

/// Scales positions to -1 to 1.
fn scaled(positions: &[[f64; 2]]) -> Vec<[f32; 2]> {
    let max = positions.iter().flatten().fold(1e-12f64, |max, value| max.max(value.abs()));
    positions.iter().map(|[x, y]| [(x / max) as f32, (y / max) as f32]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_a_group_are_mapped_near_each_other() {
        let vectors: Vec<Vec<f32>> = (0..30)
            .map(|number| {
                let mut vector = [0.05 * (number % 7) as f32; 8];
                vector[number / 10] += 1.0;
                let norm = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
                vector.iter().map(|v| v / norm).collect()
            })
            .collect();
        let positions = map(&vectors.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let distance =
            |a: usize, b: usize| (positions[a][0] - positions[b][0]).hypot(positions[a][1] - positions[b][1]);
        let right = (0..30)
            .filter(|&a| {
                let nearest =
                    (0..30).filter(|b| *b != a).min_by(|b, c| distance(a, *b).total_cmp(&distance(a, *c)));
                nearest.is_some_and(|b| b / 10 == a / 10)
            })
            .count();
        assert!(right >= 28, "{right} of 30 are nearest to their own group");
        assert!(positions.iter().flatten().all(|value| value.abs() <= 1.0));
    }
}
