//! Embeds the features of the index's usable versions as whole tracks, resumably and in shards.

mod excerpt;
mod partial;
mod search_index;
mod status;
mod training_data;
mod windowed;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use bc_cli::{Interrupted, Shard, interrupt, progress};
use bc_formats::config::Config;
use bc_formats::embeddings::{Embeddings, FORMAT, Label};
use bc_formats::features::{FeatureRow, FeatureSet, RowInfo};
use bc_formats::fingerprint::Fingerprint;
use bc_formats::index::{Index, Split, Version};
use bc_formats::provenance::Provenance;
use bc_formats::run::NetworkInput;

use bc_cli::saving::SaveTimer;
use bc_embed::embedder::Embedder;
use bc_embed::lengths::ByLength;
use bc_embed::origin;
use bc_embed::windows::{self, Windows};
pub use excerpt::Excerpt;
use partial::Partial;
pub use search_index::search_index;
pub use status::Status;
pub use windowed::{WindowEmbeddings, WindowsAtTempo};

/// Embeds the usable versions of `[eval] splits` that have features and writes `<[eval] output>/embeddings.parquet`.
///
/// # Errors
/// Features, index or checkpoint that are missing or do not match; nothing to embed; an interrupt.
pub fn run(config: &Config, shard: Shard) -> Result<Status> {
    Inputs::open(config)?.whole_recordings(config, shard)
}

/// Returns the path of the embeddings that a configuration measures.
pub fn path_of(config: &Config) -> PathBuf {
    config.eval.output.join("embeddings.parquet")
}

/// Refuses a configuration's own embeddings if its features, index or network have changed since. Missing files are
/// not compared.
///
/// # Errors
/// One of them has changed; the error names both values and the remedy.
pub fn require_current(config: &Config) -> Result<()> {
    let path = path_of(config);
    if !path.exists() {
        return Ok(());
    }
    let recorded = Embeddings::read_provenance(&path)?;
    let mut current: Vec<(&str, &Path, String)> = Vec::new();
    if let Some(set) = FeatureSet::open_if_any(&config.features.output)? {
        current.push(("features", &config.features.output, set.fingerprint()));
    }
    if config.features.index.exists() {
        let index = Index::read_provenance(&config.features.index)?;
        current.push(("index", &config.features.index, index.fingerprint));
    }
    let checkpoint = config.eval.checkpoint_of(&config.train.run);
    if checkpoint.exists() {
        current.push(("checkpoint", &checkpoint, origin::embedder(config)?.fingerprint));
    }
    for (name, current_path, current) in current {
        let Some(recorded) = recorded.inputs.get(name) else { continue };
        ensure!(
            *recorded == current,
            "{} was made from the {name} {recorded}, but {} is now {current}; make it again with `bc-eval embed` (or `run`), or \
             give the file's path to use it anyway",
            path.display(),
            current_path.display()
        );
    }
    Ok(())
}

/// The versions of the index that are embedded, and the windows that they are cut into.
struct Selection<'a> {
    /// The splits whose versions are embedded; all if empty.
    splits: &'a [Split],
    /// Windows and the factor of the tempo; `None` for whole tracks.
    windows: Option<(Windows, f64)>,
}

/// The inputs that embeddings are made from.
pub struct Inputs {
    index_path: PathBuf,
    index: Index,
    folder: PathBuf,
    set: FeatureSet,
    embedder: Embedder,
    /// How rows of `set` become the network's input.
    input: NetworkInput,
    /// What makes the figures doubtful.
    pub warnings: Vec<String>,
}

impl Inputs {
    /// Opens the inputs that a configuration names.
    ///
    /// # Errors
    /// Features, index or checkpoint that are missing or do not match.
    pub fn open(config: &Config) -> Result<Self> {
        let folder = config.features.output.clone();
        let index_path = config.features.index.clone();
        let index = Index::read(&index_path)?;
        let set = FeatureSet::open(&folder)?;
        set.require_sources(&folder, &index, &index_path)?;
        let checkpoint = config.eval.checkpoint_of(&config.train.run);
        let assumed = NetworkInput { cqt: set.settings, pool: config.model.pool, scale: config.model.scale };
        let embedder = Embedder::open_with_backend(
            &Embedder::backend(&config.eval)?,
            &checkpoint,
            config.eval.layer,
            &assumed,
        )?;
        let input = embedder.input_of(&folder, &set.settings)?;
        let measured = &config.eval.splits;
        let of_splits =
            training_data::warning_of_other_splits(&embedder, &set, (&index_path, &index), measured);
        let warnings: Vec<String> = of_splits.into_iter().collect();
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        Ok(Self { index_path, index, folder, set, embedder, input, warnings })
    }

    /// Embeds whole recordings, like [`run`].
    ///
    /// # Errors
    /// Nothing to embed; an interrupt.
    pub fn whole_recordings(&self, config: &Config, shard: Shard) -> Result<Status> {
        self.embed(&path_of(config), &config.eval.splits, &[], shard)
    }

    /// Writes the embeddings of the usable versions of `splits` (all if empty) to `out`. Vectors of the same network and features
    /// are copied from the files `known`.
    fn embed(&self, out: &Path, splits: &[Split], known: &[PathBuf], shard: Shard) -> Result<Status> {
        let labels = self.labels(splits)?;
        let provenance = self.provenance(&Selection { splits, windows: None });
        let mut partial = Partial::new(out, &provenance, &labels, self.embedder.dim());
        if partial.is_finished()? {
            return Ok(Status::UpToDate);
        }
        interrupt::install("finishing the batch; run the same command again to continue")?;
        partial.read()?;
        partial.copy_from(known)?;
        let mut own_numbers: HashMap<&str, usize> = HashMap::new();
        for (number, label) in labels.iter().enumerate() {
            if shard.takes(number) && !partial.done.contains(&label.version_id) {
                own_numbers.insert(&label.version_id, number);
            }
        }
        self.embed_rows(&own_numbers, &mut partial)?;
        if interrupt::requested() {
            let done = format!(
                "{} of {} versions are saved; run the same command again to continue",
                partial.done.len(),
                labels.len()
            );
            return Err(Interrupted(done).into());
        }
        partial.assemble()
    }

    /// Returns the usable versions of `splits` that have features, in the order of the index.
    fn labels(&self, splits: &[Split]) -> Result<Vec<Label>> {
        let rows: HashMap<&str, &RowInfo> =
            self.set.rows.iter().map(|row| (row.version_id.as_str(), row)).collect();
        let in_splits = |version: &&Version| splits.is_empty() || splits.contains(&version.split);
        let in_splits: Vec<&Version> = self.index.versions.iter().filter(in_splits).collect();
        if in_splits.is_empty() {
            bail!(
                "{} has no version in the splits {:?}; correct [eval] splits",
                self.index_path.display(),
                splits.iter().map(|split| split.as_str()).collect::<Vec<_>>()
            );
        }
        let usable: Vec<&Version> = in_splits.into_iter().filter(|version| version.usable()).collect();
        ensure!(
            !usable.is_empty(),
            "no version of the splits to embed in {} is usable (see its `status`); see `bc-download-index verify`",
            self.index_path.display()
        );
        let with_features = |version: &&Version| {
            let row = rows.get(version.version_id.as_str())?;
            Some(label(version, row, &self.set))
        };
        let labels: Vec<Label> = usable.iter().filter_map(with_features).collect();
        if labels.is_empty() {
            bail!(
                "{} holds features of none of the versions to embed; run `bc-features extract` with this configuration",
                self.folder.display()
            );
        }
        if labels.len() < usable.len() {
            tracing::warn!(
                "{} of {} usable versions have no features and are left out",
                usable.len() - labels.len(),
                usable.len()
            );
        }
        Ok(labels)
    }

    fn provenance(&self, selection: &Selection<'_>) -> Provenance {
        let (features, index) = (self.set.fingerprint(), &self.index.provenance.fingerprint);
        let mut fingerprint = Fingerprint::of("embeddings");
        fingerprint.add(&self.embedder.fingerprint).add(&features).add(index);
        let mut settings = self.embedder.settings();
        settings["splits"] = serde_json::json!(selection.splits);
        settings[windows::KEY] = serde_json::json!(selection.windows.map(|(windows, _)| windows));
        if let Some((_, tempo)) = selection.windows {
            settings["tempo"] = serde_json::json!(tempo);
        }
        fingerprint.add_json(&settings);
        Provenance {
            format: FORMAT.to_owned(),
            tool: bc_cli::tool!().to_owned(),
            settings,
            fingerprint: fingerprint.finish(),
            inputs: BTreeMap::from([
                ("checkpoint".to_owned(), self.embedder.fingerprint.clone()),
                ("features".to_owned(), features),
                ("index".to_owned(), index.clone()),
            ]),
        }
    }

    /// Refuses values that are not finite: the network's ReLUs would silently turn them into zeros.
    fn require_finite(&self, row: &FeatureRow) -> Result<()> {
        ensure!(
            row.magnitude.iter().all(|value| value.is_finite()),
            "the features of version {} in {} hold a value that is not a finite number; extract them again",
            row.version_id,
            self.folder.display()
        );
        Ok(())
    }

    /// Refuses embeddings that are not finite. Features and weights are finite, so the network is at fault.
    fn require_finite_vectors(&self, embedded: Vec<(usize, Vec<f32>)>) -> Result<Vec<(usize, Vec<f32>)>> {
        ensure!(
            embedded.iter().all(|(_, vector)| vector.iter().all(|value| value.is_finite())),
            "the network in {} gives values that are not finite numbers for features that are; its training failed, or its \
             file is damaged; use another checkpoint, or train again with a lower [train] learning_rate",
            self.embedder.path.display()
        );
        Ok(embedded)
    }

    /// Embeds the rows of the versions in `numbers` (version id to index into the labels of `partial`), and saves them from
    /// time to time.
    fn embed_rows(&self, numbers: &HashMap<&str, usize>, partial: &mut Partial) -> Result<()> {
        if numbers.is_empty() {
            return Ok(());
        }
        let bar = progress::bar(numbers.len() as u64, "embedding", "versions");
        let mut groups = ByLength::new(&self.embedder);
        let mut finished: Vec<(usize, Vec<f32>)> = Vec::new();
        let mut save_timer = SaveTimer::new();
        self.set.for_each(|row| {
            let Some(&number) = numbers.get(row.version_id.as_str()) else { return Ok(()) };
            if interrupt::requested() {
                return Ok(());
            }
            self.require_finite(&row)?;
            let (input, columns) = self
                .input
                .whole_track(&row.magnitude, row.frames as usize)
                .with_context(|| format!("version {}", row.version_id))?;
            let done = self.require_finite_vectors(groups.add(number, input, columns)?)?;
            bar.inc(done.len() as u64);
            finished.extend(done);
            if save_timer.is_due() {
                partial.save(std::mem::take(&mut finished))?;
            }
            Ok(())
        })?;
        if !interrupt::requested() {
            finished.extend(self.require_finite_vectors(groups.finish()?)?);
        }
        bar.finish_and_clear();
        partial.save(finished)
    }
}

/// Returns the label of a vector; the duration of a version that was not verified is that of its features.
fn label(version: &Version, row: &RowInfo, set: &FeatureSet) -> Label {
    let features_s = f64::from(row.frames) * set.settings.column_seconds();
    Label {
        version_id: version.version_id.clone(),
        clique_id: version.clique_id.clone(),
        title: version.title.clone(),
        performer: version.performer.clone(),
        split: version.split,
        duration_s: version.duration_s.unwrap_or(features_s) as f32,
        start_s: 0.0,
        source_hash: row.source_hash.clone(),
    }
}
