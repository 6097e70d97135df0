//! The module `bytecover` for Python.
//!
//! **In**: paths and NumPy arrays. **Out**: NumPy arrays, dictionaries and small objects. All results come from the
//! code of the stages: `cqt` corresponds to `bc-features cqt`, `features` to `bc-features extract`, `Network` to `bc-eval embed`,
//! `Index` to `bc-search search`, `metrics` to `bc-eval metrics`, and `align` to [`bc_align`].
//!
//! Arrays are passed by way of `bytes` and `numpy.frombuffer`: with Python's stable interface (one wheel for all versions from 3.9
//! on) there is no access to an array's memory before 3.11. Other Python threads run while Rust calculates.
//!
//! Arguments and results of each function, with shapes and units, are in `bytecover.pyi` and in the docstrings below.

mod arrays;
mod audio;
mod errors;
mod metrics;
mod network;
mod search;

use pyo3::pymodule;

/// Cover song identification: transform, features, networks, search, metrics, alignment. Shapes and units are in each docstring.
#[pymodule]
mod bytecover {
    #[pymodule_export]
    use crate::audio::{Alignment, align, cqt, features};
    #[pymodule_export]
    use crate::metrics::metrics;
    #[pymodule_export]
    use crate::network::Network;
    #[pymodule_export]
    use crate::search::Index;
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
