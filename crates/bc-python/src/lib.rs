//! The module `bytecover` for Python.
//!
//! **In**: paths and NumPy arrays. **Out**: NumPy arrays, dictionaries and small objects. Nothing is computed here that the
//! stages do not compute by the same code: `cqt` is `bc-features cqt`, `features` what `bc-features extract` stores, `Network`
//! what `bc-eval embed` runs, `Index` what `bc-search search` answers, `metrics` what `bc-eval metrics` prints, `align` what [`bc_align`] does.
//!
//! Arrays cross by way of `bytes` and `numpy.frombuffer`: with Python's stable interface (one wheel for all versions from 3.9
//! on) there is no access to an array's memory before 3.11. Python runs on while Rust calculates.
//!
//! Arguments and results of each function, with shapes and units, are in `bytecover.pyi` and in the docstrings below.

mod arrays;
mod errors;
mod measuring;
mod network;
mod searching;
mod sound;

use pyo3::pymodule;

/// Cover song identification: transform, features, networks, search, metrics, alignment. Shapes and units are in each docstring.
#[pymodule]
mod bytecover {
    #[pymodule_export]
    use crate::measuring::metrics;
    #[pymodule_export]
    use crate::network::Network;
    #[pymodule_export]
    use crate::searching::Index;
    #[pymodule_export]
    use crate::sound::{Alignment, align, cqt, features};
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
