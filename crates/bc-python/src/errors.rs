//! Errors as Python has them.

use std::path::Path;

use pyo3::PyErr;
use pyo3::exceptions::{PyFileNotFoundError, PyValueError};

/// An error with its causes.
pub fn failed(error: impl Into<anyhow::Error>) -> PyErr {
    let error = error.into();
    if bc_formats::retry::is_absent(&error) {
        return PyFileNotFoundError::new_err(format!("{error:#}"));
    }
    PyValueError::new_err(format!("{error:#}"))
}

/// Refuses a path where nothing is.
///
/// # Errors
/// `FileNotFoundError`.
pub fn expect_file(path: &Path) -> Result<(), PyErr> {
    if path.exists() {
        return Ok(());
    }
    Err(PyFileNotFoundError::new_err(format!("there is no file {}", path.display())))
}
