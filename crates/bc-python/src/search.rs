//! The Python class `Index`, for indexes of bc-search.

use std::path::PathBuf;

use bc_embed::bundle;
use bc_embed::recording::{Embedded, Excerpt};
use bc_formats::config::{Compare, Config};
use bc_search::answer::{Answer, Options, Query, Searcher};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::arrays::floats;
use crate::errors::{require_file, to_py_error};

/// An index of recordings, open to be searched. Open one with `Index.open`.
#[pyclass(frozen, module = "bytecover")]
pub struct Index(Searcher);

#[pymethods]
impl Index {
    /// Opens an index that `bc-search add` made, or a file of embeddings of bc-eval. Later additions are not seen.
    ///
    /// network: its network, a file or the folder of a bundle; needed to search for audio files, and, as a bundle, for probabilities.
    /// calibration: a file of `bc-eval calibrate` that replaces the bundle's. prior: the probability, before the scores are known, that the
    /// index holds a query's work. whole: compare whole recordings only, even if the index has short windows.
    #[staticmethod]
    #[pyo3(signature = (path, network = None, calibration = None, prior = bc_calibration::SEARCH_PRIOR, whole = false))]
    fn open(
        py: Python<'_>,
        path: PathBuf,
        network: Option<PathBuf>,
        calibration: Option<PathBuf>,
        prior: f64,
        whole: bool,
    ) -> PyResult<Self> {
        require_file(&path)?;
        let mut config = Config::default();
        // Without the argument no network is used, even if the working directory holds one.
        config.eval.checkpoint = PathBuf::from("(no network: give Index.open one)");
        if let Some(network) = network {
            require_file(&network)?;
            config.eval.checkpoint = bundle::network_of(&network);
        }
        if whole {
            config.eval.compare = Compare::Whole;
        }
        let prior = bc_calibration::check_prior(prior).map_err(to_py_error)?;
        let options = Options { k: 10, windows: None, prior, calibration, approximate: false };
        py.detach(|| Searcher::open(&config, &path, options)).map(Self).map_err(to_py_error)
    }

    /// Length of an embedding.
    #[getter]
    fn dim(&self) -> usize {
        self.0.index.dim()
    }

    /// Number of recordings.
    fn __len__(&self) -> usize {
        self.0.index.len()
    }

    /// The works that queries may be versions of, one dictionary per query: `query`, `hits` (the k likeliest works, each with `rank`, `score`,
    /// `probability`, `kind`, `path`, `title`, `performer`, `work`, `versions` and other fields of the index), and
    /// `probability_of_none`, the probability that the index holds no version of it. Probabilities need a calibration.
    ///
    /// queries: path of an audio file or of a recording of the index (which is left out of its answer), a list of paths, or embeddings of
    /// shape (dim,) or (queries, dim), which are compared with whole recordings.
    #[pyo3(signature = (queries, k = 10))]
    fn search<'py>(
        &self,
        py: Python<'py>,
        queries: &Bound<'py, PyAny>,
        k: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        if k == 0 {
            return Err(PyValueError::new_err("k must be at least 1"));
        }
        let paths = match queries.extract::<PathBuf>() {
            Ok(path) => Some(vec![path]),
            Err(_) => match queries.cast::<PyList>() {
                Ok(list) if !list.is_empty() => list.extract::<Vec<PathBuf>>().ok(),
                _ => None,
            },
        };
        let answers = match paths {
            Some(paths) => py.detach(|| self.search_paths(&paths, k)),
            None => {
                let queries = self.queries_from_vectors(queries)?;
                py.detach(|| self.0.answer_best(&queries, k))
            }
        };
        let json = serde_json::to_string(&answers.map_err(to_py_error)?).map_err(to_py_error)?;
        py.import("json")?.call_method1("loads", (json,))
    }

    fn __repr__(&self) -> String {
        format!("Index({}, {} recordings, dim={})", self.0.index.path.display(), self.__len__(), self.dim())
    }
}

impl Index {
    fn search_paths(&self, paths: &[PathBuf], k: usize) -> anyhow::Result<Vec<Answer>> {
        let name = |path: &PathBuf| path.to_string_lossy().into_owned();
        let names: Vec<String> = paths.iter().map(name).collect();
        let queries: anyhow::Result<Vec<Query>> = self.0.queries(&names)?.into_iter().collect();
        self.0.answer_best(&queries?, k)
    }

    fn queries_from_vectors(&self, queries: &Bound<'_, PyAny>) -> PyResult<Vec<Query>> {
        let rows = match floats(queries, 1, "an embedding") {
            Ok(one) => {
                let width = one.values.len();
                (one.values, width)
            }
            Err(_) => {
                let many =
                    floats(queries, 2, "queries: a path, a list of paths, or an array of embeddings,")?;
                (many.values, many.shape[1])
            }
        };
        let (values, width) = rows;
        if width != self.dim() || values.iter().any(|value| !value.is_finite()) {
            let error =
                format!("embeddings of this index must be {} finite numbers each, not {width}", self.dim());
            return Err(PyValueError::new_err(error));
        }
        let query = |(number, vector): (usize, &[f32])| {
            let excerpts = vec![Excerpt { start_s: 0.0, vector: vector.to_vec() }];
            Query::from_embedded(
                &number.to_string(),
                Embedded { duration_s: 0.0, declared_s: None, excerpts },
                String::new(),
            )
        };
        Ok(values.chunks_exact(width.max(1)).enumerate().map(query).collect())
    }
}
