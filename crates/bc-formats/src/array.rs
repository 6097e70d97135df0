//! NumPy files of 32-bit floats.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// A matrix: rows x columns, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// Number of columns.
    pub columns: usize,
    /// Row-major values.
    pub values: Vec<f32>,
}

/// An array with three axes, the last one densest.
#[derive(Debug, Clone, PartialEq)]
pub struct Cube {
    /// Lengths of the axes.
    pub shape: [usize; 3],
    /// Values, row-major.
    pub values: Vec<f32>,
}

/// Reads a two-dimensional array of 32-bit floats in C order.
///
/// # Errors
/// When the file is absent, no `.npy`, or of another shape, order or type.
pub fn read(path: &Path) -> Result<Matrix> {
    let ([_, columns], values) = read_axes(path, "versions x dimensions")?;
    Ok(Matrix { columns, values })
}

/// Reads a three-dimensional array of 32-bit floats in C order.
///
/// # Errors
/// As [`read`].
pub fn read_cube(path: &Path) -> Result<Cube> {
    let (shape, values) = read_axes(path, "tracks x bins x frames")?;
    Ok(Cube { shape, values })
}

fn read_axes<const AXES: usize>(path: &Path, meaning: &str) -> Result<([usize; AXES], Vec<f32>)> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
    let array = npyz::NpyFile::new(BufReader::with_capacity(1 << 20, file))
        .with_context(|| format!("{shown} is not a NumPy array file"))?;
    let lengths: Vec<usize> = array.shape().iter().map(|length| *length as usize).collect();
    let Ok(shape) = <[usize; AXES]>::try_from(lengths) else {
        bail!("{shown} has {} axes, but {meaning} are needed", array.shape().len());
    };
    ensure!(array.order() == npyz::Order::C, "{shown} is in Fortran order; save numpy.ascontiguousarray(x)");
    let values = array
        .into_vec::<f32>()
        .with_context(|| format!("{shown} does not hold 32-bit floats; save x.astype('float32')"))?;
    Ok((shape, values))
}

/// Writes rows x columns as `.npy`, whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, matrix: &Matrix) -> Result<()> {
    use npyz::WriterBuilder;
    crate::atomic::write_with(path, |out| {
        let rows = matrix.values.len() / matrix.columns.max(1);
        let shape = [rows as u64, matrix.columns as u64];
        let mut writer =
            npyz::WriteOptions::new().default_dtype().shape(&shape).writer(&mut *out).begin_nd()?;
        writer.extend(matrix.values.iter().copied())?;
        writer.finish()?;
        Ok(out.flush()?)
    })
}
