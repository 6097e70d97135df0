//! NumPy files of 32-bit floats with two axes.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// A matrix: rows x columns, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// Number of columns.
    pub columns: usize,
    /// Row-major values.
    pub values: Vec<f32>,
}

/// Reads a two-dimensional array of 32-bit floats in C order.
///
/// # Errors
/// When the file is absent, no `.npy`, or of another shape, order or type.
pub fn read(path: &Path) -> Result<Matrix> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
    let array = npyz::NpyFile::new(BufReader::with_capacity(1 << 20, file))
        .with_context(|| format!("{shown} is not a NumPy array file"))?;
    let shape = array.shape().to_vec();
    ensure!(shape.len() == 2, "{shown} has {} axes, but versions x dimensions are needed", shape.len());
    ensure!(array.order() == npyz::Order::C, "{shown} is in Fortran order; save numpy.ascontiguousarray(x)");
    let values = array
        .into_vec::<f32>()
        .with_context(|| format!("{shown} does not hold 32-bit floats; save x.astype('float32')"))?;
    Ok(Matrix { columns: shape[1] as usize, values })
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
