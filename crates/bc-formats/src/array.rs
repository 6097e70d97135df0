//! Reads and writes NumPy files of 32-bit floats.

use std::fs::File;
use std::io::{BufReader, Read, Seek, Write};
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
/// When the file is absent, not a `.npy` file, or of another shape, order or type.
pub fn read(path: &Path) -> Result<Matrix> {
    let ([_, columns], values) = read_axes(path, "versions x dimensions")?;
    Ok(Matrix { columns, values })
}

/// Reads a three-dimensional array of 32-bit floats in C order.
///
/// # Errors
/// See [`read`].
pub fn read_cube(path: &Path) -> Result<Cube> {
    let (shape, values) = read_axes(path, "tracks x bins x frames")?;
    Ok(Cube { shape, values })
}

fn read_axes<const AXES: usize>(path: &Path, meaning: &str) -> Result<([usize; AXES], Vec<f32>)> {
    let shown = path.display();
    let mut file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
    let length = file.metadata().map_or(u64::MAX, |about| about.len());
    refuse_odd_header(&mut file).with_context(|| format!("{shown} is not a NumPy array file"))?;
    let array = npyz::NpyFile::new(BufReader::with_capacity(1 << 20, file))
        .with_context(|| format!("{shown} is not a NumPy array file"))?;
    let lengths: Vec<usize> = array.shape().iter().map(|length| *length as usize).collect();
    let Ok(shape) = <[usize; AXES]>::try_from(lengths) else {
        bail!("{shown} has {} axes, but {meaning} are needed", array.shape().len());
    };
    ensure!(array.order() == npyz::Order::C, "{shown} is in Fortran order; save numpy.ascontiguousarray(x)");
    let needed = shape.iter().try_fold(4u64, |bytes, &axis| bytes.checked_mul(axis as u64));
    ensure!(
        needed.is_some_and(|needed| needed <= length),
        "{shown} ends too early: its header says {shape:?}, which are more values than its {length} bytes hold"
    );
    let values = array
        .into_vec::<f32>()
        .with_context(|| format!("{shown} does not hold 32-bit floats; save x.astype('float32')"))?;
    Ok((shape, values))
}

/// Refuses a header that is not that of a numeric array. A header is a Python literal, which may nest deeply and hold numbers of
/// any length, and its parser has no limits. Leaves the file at its beginning.
fn refuse_odd_header(file: &mut File) -> Result<()> {
    const LONGEST: u64 = 4096;
    let mut head = Vec::new();
    file.take(LONGEST).read_to_end(&mut head)?;
    file.rewind()?;
    let (lengths, text) = match head.get(6) {
        Some(1) => (8..10, 10),
        _ => (8..12, 12),
    };
    let bytes = head.get(lengths).context("the file ends in its header")?;
    let length = bytes.iter().rev().fold(0usize, |length, &byte| length << 8 | usize::from(byte));
    let text = head.get(text..).and_then(|rest| rest.get(..length));
    let text = text.context("its header is longer than the file, or than that of any array of numbers")?;
    let count = |of: fn(&u8) -> bool| text.iter().filter(|byte| of(byte)).count();
    ensure!(
        count(|byte| b"([{".contains(byte)) <= 8 && count(u8::is_ascii_digit) <= 48,
        "its header is not that of an array of numbers"
    );
    Ok(())
}

/// Writes rows x columns as `.npy`, completely or not at all.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let length = u16::try_from(header.len()).unwrap().to_le_bytes();
        file.write_all(&[b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()).unwrap();
        file
    }

    #[test]
    fn nested_or_oversized_header_is_refused_without_allocating() {
        let shape = |shape: &str| format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
        let good = file(&shape("(2, 1)"), &[0; 8]);
        assert_eq!(read(good.path()).unwrap(), Matrix { columns: 1, values: vec![0.0; 2] });
        let error = |header: &str| format!("{:#}", read(file(header, &[0; 8]).path()).unwrap_err());
        let long = error(&shape("(4000000000, 4000000000)"));
        assert!(long.contains("ends too early"), "{long}");
        // The parser of the literal calls itself for each bracket.
        let nested = error(&"[".repeat(4000));
        assert!(nested.contains("not that of an array of numbers"), "{nested}");
        let longer = error(&"[".repeat(60_000));
        assert!(longer.contains("is longer than"), "{longer}");
    }
}
