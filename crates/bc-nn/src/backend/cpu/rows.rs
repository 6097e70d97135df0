//! Matrices (channels, batch) as rows, one for each sample, and back.

use anyhow::{Result, ensure};

use super::super::Array;
use super::{array, values};

/// Returns channels and batch of a matrix.
fn size(x: &Array) -> Result<[usize; 2]> {
    let [channels, batch, height, width] = x.shape();
    ensure!(height == 1 && width == 1, "{:?} is not a matrix", x.shape());
    Ok([channels, batch])
}

/// Returns the transpose of `rows x columns` values.
fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    let mut all = Vec::with_capacity(values.len());
    for column in 0..columns {
        all.extend(values.iter().skip(column).step_by(columns));
    }
    all
}

/// Returns the rows of a matrix: the channels of each sample.
pub(super) fn rows(x: &Array) -> Result<Vec<f32>> {
    let [_, batch] = size(x)?;
    Ok(transposed(values(x)?, batch))
}

/// Creates a matrix from one row for each sample.
pub(super) fn matrix(rows: &[f32], channels: usize) -> Result<Array> {
    ensure!(
        channels > 0 && rows.len().is_multiple_of(channels),
        "{} values in rows of {channels}",
        rows.len()
    );
    Ok(array(transposed(rows, channels), [channels, rows.len() / channels, 1, 1]))
}

/// Concatenates matrices along the batch.
pub(super) fn join(parts: &[&Array]) -> Result<Array> {
    if let [one] = parts {
        return Ok((*one).clone());
    }
    let sizes = parts.iter().map(|part| size(part)).collect::<Result<Vec<_>>>()?;
    let channels = sizes.first().map_or(0, |size| size[0]);
    ensure!(channels > 0 && sizes.iter().all(|size| size[0] == channels), "matrices of different channels");
    let batch = sizes.iter().map(|size| size[1]).sum();
    let parts = parts.iter().map(|part| values(part)).collect::<Result<Vec<_>>>()?;
    let mut joined = Vec::with_capacity(channels * batch);
    for channel in 0..channels {
        for (part, [_, batch]) in parts.iter().zip(&sizes) {
            joined.extend_from_slice(&part[channel * batch..][..*batch]);
        }
    }
    Ok(array(joined, [channels, batch, 1, 1]))
}

/// Returns `count` samples from `first` on.
pub(super) fn part(x: &Array, first: usize, count: usize) -> Result<Array> {
    let [channels, batch] = size(x)?;
    ensure!(first + count <= batch, "samples {first} to {} of {batch}", first + count);
    if count == batch {
        return Ok(x.clone());
    }
    let rows = values(x)?.chunks(batch.max(1)).flat_map(|row| &row[first..first + count]);
    Ok(array(rows.copied().collect(), [channels, count, 1, 1]))
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::flat;
    use super::*;

    #[test]
    fn rows_are_joined_and_parted() {
        let x = matrix(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3).unwrap();
        assert_eq!((x.shape(), flat(&x)), ([3, 2, 1, 1], vec![1.0, 4.0, 2.0, 5.0, 3.0, 6.0]));
        let y = matrix(&[7.0, 8.0, 9.0], 3).unwrap();
        let all = join(&[&x, &y]).unwrap();
        assert_eq!(rows(&all).unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
        assert_eq!(rows(&part(&all, 1, 2).unwrap()).unwrap(), [4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
        assert!(part(&all, 2, 2).is_err() && matrix(&[1.0, 2.0], 3).is_err());
    }
}
