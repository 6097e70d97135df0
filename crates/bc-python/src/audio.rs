//! The Python functions for audio: transform, features, alignment.

use std::path::{Path, PathBuf};

use anyhow::Context;
use bc_align::{Chroma, Folding};
use bc_audio::{Extractor, Limits};
use bc_formats::features::CqtSettings;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::{array, array_of_floats, floats};
use crate::errors::{require_file, to_py_error};

/// The default transform, pooled over `pool` frames.
fn settings(pool: u32) -> PyResult<CqtSettings> {
    if pool == 0 {
        return Err(PyValueError::new_err(
            "pool, the number of frames averaged into a column, must be at least 1",
        ));
    }
    Ok(CqtSettings { pool, ..CqtSettings::default() })
}

/// Magnitudes of an audio file (bins x frames), and the number of frames.
fn file_magnitudes(path: &Path, settings: CqtSettings) -> PyResult<(Vec<f32>, usize)> {
    require_file(path)?;
    let features = Extractor::new(settings, Limits::default()).file_exact(path);
    let features = features.with_context(|| format!("cannot use {}", path.display())).map_err(to_py_error)?;
    Ok((features.magnitude, features.frames))
}

/// Constant-Q magnitudes, float32 of shape (84, frames): 84 semitones from C1 (32.7 Hz), one column per 512 * pool samples at
/// 22,050 Hz (23.2 ms * pool). The same as `bc-features cqt` writes.
///
/// source: path of an audio file, or mono samples (1-D, full scale is 1) at sample_rate Hz. pool: frames averaged into a column.
/// Raises FileNotFoundError, or ValueError for a file that does not decode.
#[pyfunction]
#[pyo3(signature = (source, sample_rate = 22_050, pool = 1))]
pub fn cqt<'py>(
    py: Python<'py>,
    source: &Bound<'py, PyAny>,
    sample_rate: u32,
    pool: u32,
) -> PyResult<Bound<'py, PyAny>> {
    let settings = settings(pool)?;
    let (values, frames) = match source.extract::<PathBuf>() {
        Ok(path) => py.detach(|| file_magnitudes(&path, settings))?,
        Err(_) => {
            let samples = floats(source, 1, "an array of mono samples")?.values;
            if samples.iter().any(|sample| !sample.is_finite()) {
                return Err(PyValueError::new_err("a sample is not a finite number"));
            }
            let extractor = Extractor::new(settings, Limits::default());
            py.detach(|| extractor.samples_exact(&samples, sample_rate)).map_err(PyValueError::new_err)?
        }
    };
    array_of_floats(py, &values, &[settings.bins as usize, frames])
}

/// A file's features, float16 of shape (84, frames): magnitudes averaged over pool frames (116 ms for 5). The same as
/// `bc-features extract` stores.
#[pyfunction]
#[pyo3(signature = (path, pool = 5))]
pub fn features(py: Python<'_>, path: PathBuf, pool: u32) -> PyResult<Bound<'_, PyAny>> {
    let settings = settings(pool)?;
    require_file(&path)?;
    let features = py.detach(|| Extractor::new(settings, Limits::default()).file(&path));
    let features = features.with_context(|| format!("cannot use {}", path.display())).map_err(to_py_error)?;
    let bytes: Vec<u8> = features.magnitude.iter().flat_map(|value| value.to_ne_bytes()).collect();
    array(py, &bytes, "float16", &[settings.bins as usize, features.frames])
}

/// How two recordings match.
#[pyclass(frozen, module = "bytecover")]
pub struct Alignment(bc_align::Alignment);

#[pymethods]
impl Alignment {
    /// Semitones that the second recording sounds above the first, -5 to 6.
    #[getter]
    fn key_shift(&self) -> i32 {
        self.0.key_shift
    }

    /// Tempo of the second recording over that of the first.
    #[getter]
    fn tempo_ratio(&self) -> f64 {
        self.0.tempo_ratio
    }

    /// Higher the longer they match; not a probability.
    #[getter]
    fn score(&self) -> f64 {
        self.0.score
    }

    /// Matched sections as (start_a, end_a, start_b, end_b) in seconds, in order of the first recording.
    #[getter]
    fn sections(&self) -> Vec<(f64, f64, f64, f64)> {
        self.0.sections.iter().map(|s| (s.start_a, s.end_a, s.start_b, s.end_b)).collect()
    }

    /// The alignment within the sections, float64 of shape (points, 2): times in seconds in the first and the second recording.
    #[getter]
    fn path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let bytes: Vec<u8> =
            self.0.path.iter().flat_map(|(a, b)| [a.to_ne_bytes(), b.to_ne_bytes()].concat()).collect();
        array(py, &bytes, "float64", &[self.0.path.len(), 2])
    }

    fn __repr__(&self) -> String {
        format!(
            "Alignment(key_shift={}, tempo_ratio={:.3}, score={:.2}, sections={})",
            self.0.key_shift,
            self.0.tempo_ratio,
            self.0.score,
            self.0.sections.len()
        )
    }
}

/// Key shift, tempo ratio and matched sections of two recordings, from their chroma.
///
/// a, b: paths of audio files, or magnitudes of shape (84, frames) averaged over pool frames, as `features` returns them (for
/// arrays of `cqt`, pool=1). Raises ValueError for a recording shorter than 7.2 s or longer than half an hour.
#[pyfunction]
#[pyo3(signature = (a, b, pool = 5))]
pub fn align(py: Python<'_>, a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>, pool: u32) -> PyResult<Alignment> {
    let (a, b) = (chroma(py, a, pool)?, chroma(py, b, pool)?);
    let alignment = py.detach(|| bc_align::align(&a, &b, &bc_align::align::Settings::default()));
    alignment.map(Alignment).map_err(to_py_error)
}

fn chroma(py: Python<'_>, source: &Bound<'_, PyAny>, pool: u32) -> PyResult<Chroma> {
    let settings = settings(pool)?;
    let (values, frames) = match source.extract::<PathBuf>() {
        Ok(path) => py.detach(|| file_magnitudes(&path, settings))?,
        Err(_) => {
            let magnitudes = floats(source, 2, "an array of magnitudes (84, frames)")?;
            (magnitudes.values, magnitudes.shape[1])
        }
    };
    Chroma::fold(&values, frames, &settings, &Folding::default()).map_err(to_py_error)
}
