//! Scales distances by how near the neighbours of both recordings are.
//!
//! Some recordings are near to everything ("hubs"), others to nothing. Cross-domain similarity local scaling (Conneau et al.
//! 2018, "Word translation without parallel data", section 2.3) judges a distance by how near the nearest others of both are;
//! it needs no labels, only the collection that is searched.

use rayon::prelude::*;

/// Replaces every distance d of a square matrix by `2 d - m(row) - m(column)`, where m is the mean distance of a recording
/// from its `neighbours` nearest others (all others where they are fewer). The results may be negative; only their order is meaningful.
///
/// # Panics
/// When the matrix is not `width` x `width`.
pub fn scale_locally(distances: &mut [f32], width: usize, neighbours: usize) {
    assert_eq!(distances.len(), width * width, "a square matrix");
    let count = neighbours.min(width.saturating_sub(1));
    if count == 0 {
        return;
    }
    let nearest = |(recording, row): (usize, &[f32])| {
        let mut others: Vec<f32> =
            row.iter().enumerate().filter(|(other, _)| *other != recording).map(|(_, d)| *d).collect();
        others.select_nth_unstable_by(count - 1, f32::total_cmp);
        others.truncate(count);
        // In order, so that the sum does not depend on how they were partitioned.
        others.sort_unstable_by(f32::total_cmp);
        others.iter().sum::<f32>() / count as f32
    };
    let means: Vec<f32> = distances.par_chunks(width).enumerate().map(nearest).collect();
    distances.par_chunks_mut(width).zip(&means).for_each(|(row, own)| {
        row.iter_mut().zip(&means).for_each(|(distance, other)| *distance = 2.0 * *distance - own - other);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_scaling_increases_the_distances_of_a_hub() {
        // 0 and 1 are versions, 2 and 3 are, and 4 is a hub: nearer to all than their versions are.
        let pairs = [(0, 1, 0.5), (2, 3, 0.5), (0, 4, 0.4), (1, 4, 0.4), (2, 4, 0.4), (3, 4, 0.4)];
        let mut matrix = vec![0.9f32; 25];
        for (a, b, distance) in pairs {
            (matrix[a * 5 + b], matrix[b * 5 + a]) = (distance, distance);
        }
        (0..5).for_each(|n| matrix[n * 5 + n] = 0.0);
        scale_locally(&mut matrix, 5, 2);
        // By hand: means of the two nearest are 0.45 for 0 to 3 and 0.4 for the hub.
        assert!((matrix[1] - 0.1).abs() < 1e-6, "{}", matrix[1]);
        assert!((matrix[4] - (0.8 - 0.85)).abs() < 1e-6, "{}", matrix[4]);
        scale_locally(&mut [0.0], 1, 10);
    }

    #[test]
    fn too_many_neighbours_use_all_others() {
        let matrix = [0.0f32, 1.0, 3.0, 1.0, 0.0, 2.0, 3.0, 2.0, 0.0];
        let (mut two, mut many) = (matrix, matrix);
        scale_locally(&mut two, 3, 2);
        scale_locally(&mut many, 3, 50);
        assert_eq!(two, many);
        assert_eq!(two[1], 2.0 - 2.0 - 1.5);
        let mut none = matrix;
        scale_locally(&mut none, 3, 0);
        assert_eq!(none, matrix);
    }
}
