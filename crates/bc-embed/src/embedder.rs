//! A trained network, ready to embed whole tracks.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use bc_formats::config::{EvalConfig, Layer};
use bc_formats::features::CqtSettings;
use bc_formats::fingerprint::Fingerprint;
use bc_formats::provenance::Provenance;
use bc_formats::run::{CLIQUES_KEY, COMPARE_KEY, INPUT_KEY, NetworkInput, WindowComparison};
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
    /// What the network was trained on, as its file records it.
    pub trained_on: TrainingData,
    layer: Layer,
}

/// What a network was trained on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrainingData {
    /// Fingerprint of the cliques ([`CLIQUES_KEY`]); `None` where the file does not record it.
    pub cliques: Option<String>,
    /// Fingerprints of what was trained on, by name (`features`, `works`).
    pub inputs: BTreeMap<String, String>,
}

impl TrainingData {
    fn of_header(path: &Path, header: &HashMap<String, String>) -> Self {
        let provenance = Provenance::from_header(path, |key| header.get(key).map(String::as_str));
        let inputs = provenance.ok().flatten().map(|provenance| provenance.inputs);
        Self { cliques: header.get(CLIQUES_KEY).cloned(), inputs: inputs.unwrap_or_default() }
    }
}

impl Embedder {
    /// Opens a checkpoint. A checkpoint of this project records how its input was made; for a public PyTorch one, which does
    /// not, `assumed` is used.
    ///
    /// # Errors
    /// There is no such file, or no network in it, or one with weights that are not finite.
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
        let fingerprint = identity(&loaded.network).with_context(|| path.display().to_string())?;
        let trained_on = TrainingData::of_header(path, &loaded.metadata);
        let (network, path) = (loaded.network, path.to_owned());
        Ok(Self { network, input, path, fingerprint, recommended, trained_on, layer })
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

/// Returns the fingerprint of the network in a file ([`Embedder::fingerprint`]).
///
/// # Errors
/// The errors of [`Embedder::open`].
pub fn fingerprint_of(path: &Path) -> Result<String> {
    identity(&Network::load(path, &Backend::cpu())?.network).with_context(|| path.display().to_string())
}

/// Returns a fingerprint of all weights and running statistics by name; `export` does not change it.
///
/// # Errors
/// A weight that is not finite: the embeddings would not be, either.
fn identity(network: &Network) -> Result<String> {
    let mut fingerprint = Fingerprint::of("network");
    fingerprint.add_json(&network.settings().bins());
    let named: BTreeMap<_, _> = network.tensors()?.into_iter().collect();
    for (name, tensor) in named {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        ensure!(
            values.iter().all(|value| value.is_finite()),
            "the network's `{name}` holds a value that is not a finite number, so its training failed or the file is damaged; \
             use another checkpoint, or train again with a lower [train] learning_rate"
        );
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        fingerprint.add(name).add_json(&tensor.dims()).add(bytes);
    }
    Ok(fingerprint.finish())
}
