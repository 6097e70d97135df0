//! Weights on disk: safetensors and PyTorch's `.pt`, under the names of the public PyTorch
//! re-implementation, so that networks travel both ways.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use bc_formats::config::Bottleneck;
use bc_formats::provenance::Provenance;
use bc_formats::run::CHECKPOINT_FORMAT;
use candle_core::pickle::PthTensors;
use candle_core::{DType, Device, Tensor};

use crate::network::Network;
use crate::settings::{ByteCoverSettings, Kind, NetworkSettings, RingSettings};

/// Rows of the input if a file says nothing: the paper's.
const BINS: usize = 84;

/// The key of the metadata that holds the settings as JSON.
const SETTINGS: &str = "network";

/// A network from a file.
pub struct Loaded {
    /// The network.
    pub network: Network,
    /// The metadata of a safetensors file; empty for `.pt`.
    pub metadata: HashMap<String, String>,
}

impl Network {
    /// Reads a network from `.safetensors`, `.pt` or `.pth`. Its variant and sizes are told
    /// from the tensors: no configuration is needed.
    ///
    /// # Errors
    /// A file that is no checkpoint, or one error with all tensors that are missing or of another shape.
    pub fn load(path: &Path, device: &Device) -> Result<Loaded> {
        let (tensors, metadata) = state_dict(path)?;
        let bins = metadata
            .get(SETTINGS)
            .and_then(|json| serde_json::from_str::<NetworkSettings>(json).ok())
            .map_or(BINS, |settings| settings.bins());
        let settings = told_from(&tensors, bins)
            .with_context(|| format!("{} holds no network that is known here", path.display()))?;
        refuse_larger_than_file(&settings, &tensors)
            .with_context(|| format!("cannot load the network in {}", path.display()))?;
        let network = Self::new(&settings, 0, device)?;
        network.assign(&tensors).with_context(|| format!("cannot load the network in {}", path.display()))?;
        Ok(Loaded { network, metadata })
    }

    /// Takes the weights of a file into this network.
    ///
    /// # Errors
    /// As [`Network::load`]; also weights of a network of other sizes.
    pub fn restore(&mut self, path: &Path) -> Result<()> {
        let (tensors, _) = state_dict(path)?;
        self.assign(&tensors).with_context(|| format!("cannot load the network in {}", path.display()))
    }

    /// Begins with the weights of a file instead of drawn ones (fine-tuning). The classifier stays as it was
    /// drawn unless `with_classifier`, and where the file's has another size; returns whether the file's was taken.
    ///
    /// # Errors
    /// As [`Network::restore`], the classifier's size apart; one error names all sizes that differ.
    pub fn begin_from(&mut self, path: &Path, with_classifier: bool) -> Result<bool> {
        const CLASSIFIER: &str = "fc.weight";
        let (mut tensors, _) = state_dict(path)?;
        let own = self.parameters().into_iter().find(|(name, _)| name == CLASSIFIER);
        let own = own.map(|(_, own)| own.as_detached_tensor().copy()).transpose()?;
        let fits = match (tensors.get(CLASSIFIER), &own) {
            (Some(found), Some(own)) => with_classifier && found.dims() == own.dims(),
            (found, own) => found.is_none() && own.is_none(),
        };
        if !fits {
            tensors.remove(CLASSIFIER);
            tensors.extend(own.map(|own| (CLASSIFIER.to_owned(), own)));
        }
        let settings = told_from(&tensors, self.settings().bins())
            .with_context(|| format!("{} holds no network that is known here", path.display()))?;
        let differences = settings.differences(self.settings());
        ensure!(
            differences.is_empty(),
            "{} holds a network of other sizes: {} (first the file's, then those of [model])",
            path.display(),
            differences.join(", ")
        );
        self.assign(&tensors)
            .with_context(|| format!("cannot begin with the network in {}", path.display()))?;
        Ok(fits)
    }

    /// Writes all weights as safetensors that PyTorch takes with `load_state_dict`.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, path: &Path, mut metadata: HashMap<String, String>) -> Result<()> {
        metadata.insert(SETTINGS.to_owned(), serde_json::to_string(self.settings())?);
        let mut named = HashMap::new();
        for (name, variable) in self.parameters().into_iter().chain(self.buffers()) {
            if let Some(norm) = name.strip_suffix(".running_var") {
                // PyTorch counts batches, and uses the count only without a momentum.
                named.insert(format!("{norm}.num_batches_tracked"), Tensor::new(0i64, &Device::Cpu)?);
            }
            named.insert(name, variable.as_detached_tensor().to_device(&Device::Cpu)?);
        }
        write(path, &named, metadata)
    }

    fn assign(&self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let mut wrong = Vec::new();
        let mut variables = BTreeMap::from_iter(self.parameters().into_iter().chain(self.buffers()));
        for (name, variable) in &variables {
            match tensors.get(name) {
                None => wrong.push(format!("{name} is missing")),
                Some(tensor) if tensor.dims() != variable.dims() => {
                    wrong.push(format!(
                        "{name} has the shape {:?} and not {:?}",
                        tensor.dims(),
                        variable.dims()
                    ));
                }
                Some(_) => {}
            }
        }
        wrong.extend(
            tensors
                .keys()
                .filter(|name| !variables.contains_key(*name))
                .map(|name| format!("{name} is unknown")),
        );
        if !wrong.is_empty() {
            bail!("{} tensors do not fit:\n  {}", wrong.len(), wrong.join("\n  "));
        }
        for (name, variable) in &mut variables {
            variable.set(&tensors[name].to_dtype(DType::F32)?.to_device(variable.device())?)?;
        }
        Ok(())
    }
}

/// The metadata of a safetensors file; none for PyTorch's files.
///
/// # Errors
/// A file that cannot be read, or that is another output of bytecover than a checkpoint.
pub fn metadata(path: &Path) -> Result<HashMap<String, String>> {
    if is_pytorch(path) {
        return Ok(HashMap::new());
    }
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let unreadable = || format!("{} is no safetensors file, or a damaged one", path.display());
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).with_context(unreadable)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    expect_checkpoint(path, &metadata)?;
    Ok(metadata)
}

/// Refuses a file of bytecover's that says that it is no checkpoint, or one of another schema. Files of others
/// say nothing.
fn expect_checkpoint(path: &Path, metadata: &HashMap<String, String>) -> Result<()> {
    match Provenance::from_header(path, |key| metadata.get(key).map(String::as_str))? {
        Some(provenance) => provenance.expect_format(path, CHECKPOINT_FORMAT),
        None => Ok(()),
    }
}

fn is_pytorch(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    matches!(extension.as_str(), "pt" | "pth" | "ckpt" | "bin")
}

/// The sizes that the tensors of a file have.
fn told_from(tensors: &BTreeMap<String, Tensor>, bins: usize) -> Result<NetworkSettings> {
    let rows = |name: &str| -> Result<usize> {
        let tensor = tensors.get(name).with_context(|| format!("the tensor {name} is missing"))?;
        let rows = tensor.dims().first().copied();
        let rows = rows.with_context(|| format!("the tensor {name} has no rows"))?;
        ensure!(tensor.elem_count() >= rows, "the tensor {name} has {rows} rows and no values");
        Ok(rows)
    };
    let rows_or_none = |name: &str| if tensors.contains_key(name) { rows(name) } else { Ok(0) };
    let (classes, projection) = (rows_or_none("fc.weight")?, rows_or_none("projection.weight")?);
    let ring = tensors.contains_key("stem.weight");
    let width = rows(if ring { "stem.weight" } else { "conv1.weight" })?;
    ensure!(width >= 2 && width.is_multiple_of(2), "the stem has {width} channels");
    let blocks = [1, 2, 3, 4].map(|stage| {
        (0..).take_while(|block| tensors.contains_key(&format!("layer{stage}.{block}.conv1.weight"))).count()
    });
    if ring {
        return Ok(NetworkSettings::Ring(RingSettings {
            kind: Kind::Ring,
            bins,
            classes,
            width,
            blocks,
            projection,
        }));
    }
    let biased = tensors.contains_key("layer1.0.conv1.bias");
    Ok(NetworkSettings::ByteCover(ByteCoverSettings {
        bins,
        classes,
        variant: if biased { Bottleneck::Orfium } else { Bottleneck::Plain },
        width,
        blocks,
        projection,
    }))
}

/// Refuses a file whose few numbers ask for a network of many: it would be made before the error is found.
fn refuse_larger_than_file(settings: &NetworkSettings, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    const SLACK: usize = 1 << 20;
    let held: usize = tensors.values().map(Tensor::elem_count).sum();
    let needed = settings.parameters();
    ensure!(
        needed <= 4 * held + SLACK,
        "it holds {held} numbers, but its tensors name a network of {needed}: the file is damaged"
    );
    Ok(())
}

/// The tensors that a network has, by the names of a bare module.
fn state_dict(path: &Path) -> Result<(BTreeMap<String, Tensor>, HashMap<String, String>)> {
    let (found, metadata) =
        if is_pytorch(path) { (read_pytorch(path)?, HashMap::new()) } else { read(path)? };
    expect_checkpoint(path, &metadata)?;
    let named = found
        .into_iter()
        .map(|(name, tensor)| (name.strip_prefix("module.").unwrap_or(&name).to_owned(), tensor));
    let kept = named.filter(|(name, _)| {
        // Buffers of the public code's input stage, and counters.
        !name.starts_with("cqt.")
            && !name.starts_with("time_strech.")
            && !name.ends_with("num_batches_tracked")
    });
    Ok((kept.collect(), metadata))
}

/// The flat state dict of a `.pt` file, or the one under a usual key.
fn read_pytorch(path: &Path) -> Result<HashMap<String, Tensor>> {
    for key in [None, Some("state_dict"), Some("model_state_dict"), Some("model")] {
        // A key that is not there is an error of its own; the last word is said below.
        let tensors = match (PthTensors::new(path, key), key) {
            (Ok(tensors), _) => tensors,
            (Err(error), None) => {
                return Err(error).with_context(|| {
                    format!(
                        "{} cannot be read as a PyTorch checkpoint (torch.save of a state dict)",
                        path.display()
                    )
                });
            }
            (Err(_), Some(_)) => continue,
        };
        let names: Vec<String> = tensors.tensor_infos().keys().cloned().collect();
        if names.is_empty() {
            continue;
        }
        let mut found = HashMap::new();
        for name in names {
            let tensor =
                tensors.get(&name).with_context(|| format!("{}: the tensor {name}", path.display()))?;
            found.extend(tensor.map(|tensor| (name, tensor)));
        }
        return Ok(found);
    }
    bail!(
        "{} holds no state dict that could be found; save one with torch.save(model.state_dict(), ...)",
        path.display()
    )
}

/// Tensors and metadata of a safetensors file.
pub(crate) fn read(path: &Path) -> Result<(HashMap<String, Tensor>, HashMap<String, String>)> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let unreadable = || format!("{} is no safetensors file, or a damaged one", path.display());
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).with_context(unreadable)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).with_context(unreadable)?;
    Ok((tensors, metadata))
}

/// Writes tensors and metadata as a safetensors file, atomically.
///
/// # Errors
/// A file that cannot be written.
pub fn write(
    path: &Path,
    tensors: &HashMap<String, Tensor>,
    metadata: HashMap<String, String>,
) -> Result<()> {
    let sorted: BTreeMap<&String, &Tensor> = tensors.iter().collect();
    let bytes = safetensors::serialize(sorted, Some(metadata))?;
    bc_formats::atomic::write(path, &bytes)
}
