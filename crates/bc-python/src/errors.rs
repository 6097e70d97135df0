//! Converts errors to Python exceptions.

use std::path::Path;

use pyo3::PyErr;
use pyo3::exceptions::{PyFileNotFoundError, PyValueError};

/// The Python exception for an error, with its causes: `FileNotFoundError` or `ValueError`.
pub fn to_py_error(error: impl Into<anyhow::Error>) -> PyErr {
    let error = error.into();
    if bc_formats::retry::is_absent(&error) {
        return PyFileNotFoundError::new_err(format!("{error:#}"));
    }
    PyValueError::new_err(format!("{error:#}"))
}

/// Refuses a path that does not exist.
///
/// # Errors
/// `FileNotFoundError`.
pub fn require_file(path: &Path) -> Result<(), PyErr> {
    if path.exists() {
        return Ok(());
    }
    Err(PyFileNotFoundError::new_err(format!("there is no file {}", path.display())))
}
