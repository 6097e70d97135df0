//! The Python class `Network`.

use std::path::PathBuf;

use bc_audio::Limits;
use bc_embed::embedder::Embedder;
use bc_embed::recording::AudioEmbedder;
use bc_formats::config::Layer;
use bc_formats::features::CqtSettings;
use bc_formats::run::{NetworkInput, Scale};
use half::f16;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::{array_of_floats, floats};
use crate::errors::{require_file, to_py_error};

/// A trained network. Load one with `Network.load`.
#[pyclass(frozen, module = "bytecover")]
pub struct Network(AudioEmbedder);

#[pymethods]
impl Network {
    /// Loads a checkpoint of bc-train, or a public .pt, whose input is assumed to be magnitudes averaged over 20 frames, unscaled.
    ///
    /// layer: "f_c" (after the BNNeck, compared in retrieval), "f_t" (before it) or "logits".
    #[staticmethod]
    #[pyo3(signature = (path, layer = "f_c"))]
    fn load(path: PathBuf, layer: &str) -> PyResult<Self> {
        require_file(&path)?;
        let layer = match layer {
            "f_c" => Layer::Fc,
            "f_t" => Layer::Ft,
            "logits" => Layer::Logits,
            _ => return Err(PyValueError::new_err(format!("layer must be f_c, f_t or logits, not {layer}"))),
        };
        let assumed = NetworkInput { cqt: CqtSettings::default(), pool: 20, scale: Scale::None };
        let embedder = Embedder::open(&path, layer, &assumed).map_err(to_py_error)?;
        AudioEmbedder::new(embedder, Limits::default()).map(Self).map_err(to_py_error)
    }

    /// Length of an embedding.
    #[getter]
    fn dim(&self) -> usize {
        self.0.embedder.dim()
    }

    /// Frames averaged into one column of the network's input.
    #[getter]
    fn pool(&self) -> u32 {
        self.0.embedder.input.pool
    }

    /// How a clip is scaled before it passes the network: "none", "max", "sqrt", "log", "log-centred" or "chroma".
    #[getter]
    fn scale(&self) -> String {
        self.0.embedder.input.scale.to_string()
    }

    /// 16 hex digits of the weights: the same network has the same digits, whatever file it is in.
    #[getter]
    fn fingerprint(&self) -> String {
        self.0.embedder.fingerprint.clone()
    }

    /// The embedding of a whole recording, float32 of shape (dim,), not scaled to any length.
    ///
    /// source: path of an audio file, or magnitudes of shape (bins, frames) averaged over pool frames, as `features` returns
    /// them; without pool, over as many as the network's input. They are pooled further and scaled as the network requires.
    #[pyo3(signature = (source, pool = None))]
    fn embed<'py>(
        &self,
        py: Python<'py>,
        source: &Bound<'py, PyAny>,
        pool: Option<u32>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let vector = match source.extract::<PathBuf>() {
            Ok(path) => {
                require_file(&path)?;
                let embedded = py.detach(|| self.0.embed(&path, None)).map_err(to_py_error)?;
                embedded.excerpts.into_iter().next().map(|excerpt| excerpt.vector).unwrap_or_default()
            }
            Err(_) => {
                let magnitudes = floats(source, 2, "an array of magnitudes (bins, frames)")?;
                py.detach(|| self.embed_features(&magnitudes.values, magnitudes.shape[1], pool))
                    .map_err(to_py_error)?
            }
        };
        array_of_floats(py, &vector, &[vector.len()])
    }

    fn __repr__(&self) -> String {
        format!(
            "Network({}, dim={}, pool={}, scale={})",
            self.0.embedder.network().settings().in_words(),
            self.dim(),
            self.pool(),
            self.scale()
        )
    }
}

impl Network {
    /// Embeds magnitudes (bins x `frames`), rounded to 16 bits as stored features are.
    fn embed_features(&self, values: &[f32], frames: usize, pool: Option<u32>) -> anyhow::Result<Vec<f32>> {
        anyhow::ensure!(
            frames > 0 && values.iter().all(|value| value.is_finite()),
            "the features are empty, or hold a value that is not a finite number"
        );
        let own = &self.0.embedder.input;
        let cqt = CqtSettings { pool: pool.unwrap_or(own.pool), ..own.cqt };
        let input = NetworkInput { cqt, ..own.clone() };
        let values: Vec<f16> = values.iter().map(|value| f16::from_f32(*value)).collect();
        let (clip, columns) = input.whole_track(&values, frames)?;
        let mut vectors = self.0.embedder.embed(&[clip], columns)?;
        Ok(vectors.pop().unwrap_or_default())
    }
}
