//! Reads and writes networks. The sizes of a network follow from the tensors of its file, so that no configuration is needed
//! to read one.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use bc_formats::config::Bottleneck;
use candle_core::{Device, Tensor};

use crate::backend::Backend;
use crate::network::{Network, Snapshot};
use crate::parameters::{Entry, tensor, tensors};
use crate::settings::{ByteCoverSettings, Kind, NetworkSettings, RingSettings};
use crate::weights::{state_dict, write};

/// Number of rows of the input if a file does not record it, as in the paper.
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
    /// Reads a network from `.safetensors`, `.pt` or `.pth`. Its variant and sizes follow
    /// from the tensors: no configuration is needed.
    ///
    /// # Errors
    /// A file that is no checkpoint, or one error with all tensors that are missing or of another shape.
    pub fn load(path: &Path, backend: &Backend) -> Result<Loaded> {
        let (tensors, metadata) = state_dict(path)?;
        let bins = metadata
            .get(SETTINGS)
            .and_then(|json| serde_json::from_str::<NetworkSettings>(json).ok())
            .map_or(BINS, |settings| settings.bins());
        let settings = settings_of(&tensors, bins)
            .with_context(|| format!("{} does not hold a known kind of network", path.display()))?;
        refuse_larger_than_file(&settings, &tensors)
            .with_context(|| format!("cannot load the network in {}", path.display()))?;
        let mut network = Self::new(&settings, 0, backend)?;
        network.assign(&tensors).with_context(|| format!("cannot load the network in {}", path.display()))?;
        Ok(Loaded { network, metadata })
    }

    /// Loads the weights of a file into this network.
    ///
    /// # Errors
    /// The errors of [`Network::load`]; weights of a network of other sizes.
    pub fn restore(&mut self, path: &Path) -> Result<()> {
        let (tensors, _) = state_dict(path)?;
        self.assign(&tensors).with_context(|| format!("cannot load the network in {}", path.display()))
    }

    /// Loads the weights of a file instead of random ones (fine-tuning). The classifier stays as it was
    /// initialised unless `with_classifier` is set and the file's has the same size; returns whether the file's was loaded.
    ///
    /// # Errors
    /// The errors of [`Network::restore`], except for another size of the classifier; one error names all sizes that differ.
    pub fn init_from(&mut self, path: &Path, with_classifier: bool) -> Result<bool> {
        const CLASSIFIER: &str = "fc.weight";
        let (mut tensors, _) = state_dict(path)?;
        let parameters = self.parameters();
        let own = self
            .classifier()
            .map(|classifier| tensor(parameters.backend(), parameters.flat(), parameters.entry(classifier)));
        let own = own.transpose()?;
        let fits = match (tensors.get(CLASSIFIER), &own) {
            (Some(found), Some(own)) => with_classifier && found.dims() == own.dims(),
            (found, own) => found.is_none() && own.is_none(),
        };
        if !fits {
            tensors.remove(CLASSIFIER);
            tensors.extend(own.map(|own| (CLASSIFIER.to_owned(), own)));
        }
        let settings = settings_of(&tensors, self.settings().bins())
            .with_context(|| format!("{} does not hold a known kind of network", path.display()))?;
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
        for (name, tensor) in self.tensors()? {
            if let Some(norm) = name.strip_suffix(".running_var") {
                // PyTorch counts batches, and uses the count only without a momentum.
                named.insert(format!("{norm}.num_batches_tracked"), Tensor::new(0i64, &Device::Cpu)?);
            }
            named.insert(name, tensor);
        }
        write(path, &named, metadata)
    }

    fn assign(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let entries = self.parameters().layout().entries().iter().chain(self.running().layout().entries());
        let own: BTreeMap<&str, &Entry> = entries.map(|entry| (entry.name.as_str(), entry)).collect();
        let mut wrong = Vec::new();
        for (name, entry) in &own {
            match tensors.get(*name) {
                None => wrong.push(format!("{name} is missing")),
                Some(tensor) if tensor.dims() != entry.shape => {
                    wrong.push(format!("{name} has the shape {:?} and not {:?}", tensor.dims(), entry.shape));
                }
                Some(_) => {}
            }
        }
        wrong.extend(
            tensors
                .keys()
                .filter(|name| !own.contains_key(name.as_str()))
                .map(|name| format!("{name} is unknown")),
        );
        if !wrong.is_empty() {
            bail!("{} tensors do not fit:\n  {}", wrong.len(), wrong.join("\n  "));
        }
        self.parameters_mut().assign(tensors)?;
        self.running_mut().assign(tensors)
    }

    /// Writes other weights of this network as safetensors, each under its number: parameters, then running statistics.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save_snapshot(&self, snapshot: &Snapshot, path: &Path) -> Result<()> {
        let [parameters, running] = snapshot.parts();
        let mut all = tensors(self.backend(), self.parameters().layout(), parameters)?;
        all.extend(tensors(self.backend(), self.running().layout(), running)?);
        let named = all.into_iter().enumerate().map(|(number, (_, tensor))| (number.to_string(), tensor));
        write(path, &named.collect(), HashMap::new())
    }

    /// Reads what [`Network::save_snapshot`] wrote.
    ///
    /// # Errors
    /// A file that cannot be read, or of another network.
    pub fn load_snapshot(&self, path: &Path) -> Result<Snapshot> {
        let failed = || format!("cannot read {}", path.display());
        let bytes = std::fs::read(path).with_context(failed)?;
        let named = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).with_context(failed)?;
        let other = || format!("{} holds another network", path.display());
        let mut snapshot = self.snapshot()?;
        let layouts = [self.parameters().layout(), self.running().layout()];
        ensure!(
            named.len() == layouts.iter().map(|layout| layout.entries().len()).sum::<usize>(),
            "{}",
            other()
        );
        let mut number = 0..;
        for (layout, flat) in layouts.into_iter().zip(snapshot.parts_mut()) {
            for (entry, number) in layout.entries().iter().zip(number.by_ref()) {
                let tensor = named.get(&number.to_string()).with_context(other)?;
                ensure!(tensor.dims() == entry.shape, "{}", other());
                let values = tensor.flatten_all()?.to_vec1::<f32>().with_context(failed)?;
                self.backend().write(flat, entry.range.start, &values, false)?;
            }
        }
        Ok(snapshot)
    }
}

/// Refuses a file with few values that declares a much larger network: that network would be allocated before the error is
/// found.
fn refuse_larger_than_file(settings: &NetworkSettings, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    const SLACK: usize = 1 << 20;
    let held: usize = tensors.values().map(Tensor::elem_count).sum();
    let needed = settings.parameters();
    ensure!(
        needed <= 4 * held + SLACK,
        "it holds {held} values, but its tensors name a network of {needed}: the file is damaged"
    );
    Ok(())
}

/// Returns the sizes that the tensors of a file have.
fn settings_of(tensors: &BTreeMap<String, Tensor>, bins: usize) -> Result<NetworkSettings> {
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
