//! Converts NumPy arrays to and from Rust.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict};

/// An array of 32-bit floats in C order.
pub struct Floats {
    /// Lengths of the axes.
    pub shape: Vec<usize>,
    /// Row-major values.
    pub values: Vec<f32>,
}

/// Converts anything that NumPy accepts as an array of `axes` axes to 32-bit floats; `what` names it in the error.
pub fn floats(array: &Bound<'_, PyAny>, axes: usize, what: &str) -> PyResult<Floats> {
    let numpy = array.py().import("numpy")?;
    let options = PyDict::new(array.py());
    options.set_item("dtype", numpy.getattr("float32")?)?;
    let array = numpy.call_method("asarray", (array,), Some(&options))?;
    let shape: Vec<usize> = array.getattr("shape")?.extract()?;
    if shape.len() != axes {
        return Err(PyValueError::new_err(format!("{what} must have {axes} axes, not the shape {shape:?}")));
    }
    // In C order, whatever the order of the array.
    let bytes = array.call_method0("tobytes")?;
    let bytes = bytes.cast::<PyBytes>()?.as_bytes();
    let values = bytes.as_chunks::<4>().0.iter().map(|value| f32::from_ne_bytes(*value)).collect();
    Ok(Floats { shape, values })
}

/// A writable array of `dtype` from the bytes of its values in C order.
pub fn array<'py>(
    py: Python<'py>,
    bytes: &[u8],
    dtype: &str,
    shape: &[usize],
) -> PyResult<Bound<'py, PyAny>> {
    let flat = py.import("numpy")?.call_method1("frombuffer", (PyByteArray::new(py, bytes), dtype))?;
    flat.call_method1("reshape", (shape.to_vec(),))
}

/// A writable array of 32-bit floats from values in C order.
pub fn array_of_floats<'py>(py: Python<'py>, values: &[f32], shape: &[usize]) -> PyResult<Bound<'py, PyAny>> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
    array(py, &bytes, "float32", shape)
}
