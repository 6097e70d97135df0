//! A trained network, ready to embed whole tracks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use bc_formats::config::{EvalConfig, Layer};
use bc_formats::features::CqtSettings;
use bc_formats::fingerprint::Fingerprint;
use bc_formats::run::{COMPARE_KEY, INPUT_KEY, NetworkInput, WindowComparison};
use bc_nn::backend::Precision;
use bc_nn::{Backend, Network};
use candle_core::{Device, Tensor};

/// A network with the settings of its input.
pub struct Embedder {
    network: Network,
    /// How stored features are converted to the network's input.
    pub input: NetworkInput,
    /// Path of the network's file.
    pub path: PathBuf,
    /// Fingerprint of the network's weights, which does not depend on the file format.
    pub fingerprint: String,
    /// How recordings should be compared, as the network's file recommends.
    pub recommended: Option<WindowComparison>,
    layer: Layer,
}

impl Embedder {
    /// Opens a checkpoint. A checkpoint of this project records how its input was made; for a public PyTorch one, which does
    /// not, `assumed` is used.
    ///
    /// # Errors
    /// There is no such file, or no network in it.
    pub fn open(path: &Path, layer: Layer, assumed: &NetworkInput) -> Result<Self> {
        Self::open_with_backend(&Backend::cpu(), path, layer, assumed)
    }

    /// Returns the backend that `[eval]` names.
    ///
    /// # Errors
    /// The device is not available in this build or on this machine.
    pub fn backend(config: &EvalConfig) -> Result<Backend> {
        Backend::open(&config.device, Precision::named(&config.precision)?).context("[eval]")
    }

    /// Opens a checkpoint like [`Embedder::open`], on the given backend.
    ///
    /// # Errors
    /// The errors of [`Embedder::open`]; a device without memory for the network.
    pub fn open_with_backend(
        backend: &Backend,
        path: &Path,
        layer: Layer,
        assumed: &NetworkInput,
    ) -> Result<Self> {
        if !path.exists() {
            bail!(
                "there is no checkpoint at {}; train one with `bc-train`, correct [eval] checkpoint or [train] run, or give \
                 --network configs/networks/default",
                path.display()
            );
        }
        let loaded = Network::load(path, backend)?;
        let input = match loaded.metadata.get(INPUT_KEY) {
            Some(value) => NetworkInput::from_key_value(value).with_context(|| path.display().to_string())?,
            None => assumed.clone(),
        };
        let recommended =
            loaded.metadata.get(COMPARE_KEY).map(|value| WindowComparison::from_key_value(value));
        let recommended = recommended.transpose().with_context(|| path.display().to_string())?;
        let bins = loaded.network.settings().bins();
        ensure!(
            bins == input.rows(),
            "{} is a network for {bins} rows, its input has {}; correct [features] bins or [model] scale",
            path.display(),
            input.rows()
        );
        let fingerprint = identity(&loaded.network)?;
        Ok(Self { network: loaded.network, input, path: path.to_owned(), fingerprint, recommended, layer })
    }

    /// Returns the number of values of an embedding.
    pub fn dim(&self) -> usize {
        let settings = self.network.settings();
        if self.layer == Layer::Logits { settings.classes() } else { settings.embedding() }
    }

    /// Returns the settings of the network that a file of embeddings records.
    pub fn settings(&self) -> serde_json::Value {
        serde_json::json!({ "layer": self.layer, "input": self.input, "network": self.network.settings() })
    }

    /// Returns the network itself.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Returns how stored features of `settings` are converted to the network's input. Features that were pooled in one step or
    /// in several are treated alike.
    ///
    /// # Errors
    /// Features of another CQT than the network was trained on, or pooled more coarsely than its input; the error names both
    /// values of every setting that differs, and the remedy.
    pub fn input_of(&self, folder: &Path, settings: &CqtSettings) -> Result<NetworkInput> {
        let input = NetworkInput { cqt: *settings, ..self.input.clone() };
        let differences = self.input.differences(&input);
        ensure!(
            differences.is_empty(),
            "the network in {} was trained on other features than those in {}: {}\n  \
             (first the network's value); extract features with the network's settings, or choose another checkpoint",
            self.path.display(),
            folder.display(),
            differences.join("; ")
        );
        input.group()?;
        Ok(input)
    }

    /// Embeds tracks of equal length: each of `inputs` has the shape rows of the input x `columns`. An embedding does not
    /// depend on its neighbours in the batch.
    ///
    /// # Errors
    /// Inputs of another shape.
    pub fn embed(&self, inputs: &[Vec<f32>], columns: usize) -> Result<Vec<Vec<f32>>> {
        let shape = (inputs.len(), self.input.rows(), columns);
        let x = Tensor::from_vec(inputs.concat(), shape, &Device::Cpu)?;
        let chosen = match self.layer {
            Layer::Fc => self.network.embed(&x)?.1,
            Layer::Ft => self.network.embed(&x)?.0,
            Layer::Logits => self.network.forward(&x)?.logits()?.clone(),
        };
        Ok(chosen.to_vec2()?)
    }
}

/// Returns a fingerprint of all weights and running statistics by name; `export` does not change it.
fn identity(network: &Network) -> Result<String> {
    let mut fingerprint = Fingerprint::of("network");
    fingerprint.add_json(&network.settings().bins());
    let named: BTreeMap<_, _> = network.tensors()?.into_iter().collect();
    for (name, tensor) in named {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        fingerprint.add(name).add_json(&tensor.dims()).add(bytes);
    }
    Ok(fingerprint.finish())
}
