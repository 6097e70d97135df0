//! Features become embeddings: the index's versions, whole tracks, resumable.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bc_cli::{Shard, interrupt, progress};
use bc_formats::config::Config;
use bc_formats::embeddings::{Embeddings, FORMAT, Label};
use bc_formats::features::{FeatureSet, RowInfo};
use bc_formats::fingerprint::Fingerprint;
use bc_formats::index::{Index, Version};
use bc_formats::provenance::Provenance;
use bc_formats::run::NetworkInput;

use crate::embedder::Embedder;
use crate::lengths::ByLength;

/// Finished embeddings are saved this often, so that a killed run loses no more.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// How an embedding run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The file was there and fits.
    UpToDate,
    /// The file was written, with this many versions.
    Written(usize),
    /// This shard is done; others are not.
    ShardDone(usize),
}

/// Embeds the versions of `[eval] splits` that have features and writes `<[eval] output>/embeddings.parquet`.
///
/// # Errors
/// Missing or unfitting features, index or checkpoint; nothing to embed.
pub fn run(config: &Config, shard: Shard) -> Result<Outcome> {
    let out = path_of(config);
    let folder = &config.features.output;
    let index = Index::read(&config.features.index)?;
    let set = FeatureSet::open(folder)?;
    let checkpoint = config.eval.checkpoint_of(&config.train.run);
    let assumed = NetworkInput { cqt: set.settings, pool: config.model.pool, scale: config.model.scale };
    let embedder = Embedder::open(&checkpoint, config.eval.layer, &assumed)?;
    embedder.expect_features(folder, &set.settings)?;
    embedder.input.group()?;

    let wanted = wanted(config, &index, &set)?;
    let provenance = provenance(config, &embedder, &index, &set);
    if read_fitting(&out, &provenance).is_some() {
        return Ok(Outcome::UpToDate);
    }
    interrupt::install("finishing the batch; the same command goes on from here")?;
    let partial = Partial::open(&out, &provenance)?;
    let mut mine: HashMap<&str, usize> = HashMap::new();
    for (number, version) in wanted.iter().enumerate() {
        if shard.takes(number) && !partial.done.contains(&version.version_id) {
            mine.insert(&version.version_id, number);
        }
    }
    embed(&embedder, &set, &wanted, &mine, &partial, shard, &provenance)?;
    if interrupt::requested() {
        bail!("interrupted; the same command goes on from here");
    }
    partial.assemble(&out, &wanted, embedder.dim(), &provenance)
}

/// Where the embeddings of a configuration lie.
pub fn path_of(config: &Config) -> PathBuf {
    config.eval.output.join("embeddings.parquet")
}

/// The versions to embed, in the order of the index.
fn wanted(config: &Config, index: &Index, set: &FeatureSet) -> Result<Vec<Label>> {
    let splits = &config.eval.splits;
    let rows: HashMap<&str, &RowInfo> = set.rows.iter().map(|row| (row.version_id.as_str(), row)).collect();
    let in_splits: Vec<&Version> = index
        .versions
        .iter()
        .filter(|version| splits.is_empty() || splits.contains(&version.split))
        .collect();
    if in_splits.is_empty() {
        bail!(
            "{} has no version in the splits {:?}; correct [eval] splits",
            config.features.index.display(),
            splits.iter().map(|split| split.as_str()).collect::<Vec<_>>()
        );
    }
    let usable = in_splits.iter().filter(|version| version.usable()).count();
    let wanted: Vec<Label> = in_splits
        .into_iter()
        .filter_map(|version| Some(label(version, rows.get(version.version_id.as_str())?, set)))
        .collect();
    if wanted.is_empty() {
        bail!(
            "{} holds features of none of the versions to embed; run `bc-features extract` with this configuration",
            config.features.output.display()
        );
    }
    if wanted.len() < usable {
        tracing::warn!(
            "{} of {usable} usable versions have no features and are left out",
            usable - wanted.len()
        );
    }
    Ok(wanted)
}

fn provenance(config: &Config, embedder: &Embedder, index: &Index, set: &FeatureSet) -> Provenance {
    let mut fingerprint = Fingerprint::of("embeddings");
    fingerprint.add(&embedder.fingerprint).add(set.fingerprint()).add(&index.provenance.fingerprint);
    let mut settings = embedder.settings();
    settings["splits"] = serde_json::json!(config.eval.splits);
    fingerprint.add_json(&settings);
    Provenance {
        format: FORMAT.to_owned(),
        tool: bc_cli::tool!().to_owned(),
        settings,
        fingerprint: fingerprint.finish(),
        inputs: BTreeMap::from([
            ("checkpoint".to_owned(), embedder.fingerprint.clone()),
            ("features".to_owned(), set.fingerprint()),
            ("index".to_owned(), index.provenance.fingerprint.clone()),
        ]),
    }
}

/// Embeddings at `path`, if they were made from the same inputs with the same settings.
fn read_fitting(path: &Path, provenance: &Provenance) -> Option<Embeddings> {
    let found = path.exists().then(|| Embeddings::read(path).ok()).flatten()?;
    (found.provenance.fingerprint == provenance.fingerprint).then_some(found)
}

fn embed(
    embedder: &Embedder,
    set: &FeatureSet,
    wanted: &[Label],
    mine: &HashMap<&str, usize>,
    partial: &Partial,
    shard: Shard,
    provenance: &Provenance,
) -> Result<()> {
    let bar = progress::bar(mine.len() as u64, "embedding", "versions");
    let mut groups = ByLength::new(embedder);
    let mut finished: Vec<(usize, Vec<f32>)> = Vec::new();
    let mut saved = Instant::now();
    let save = |finished: &mut Vec<(usize, Vec<f32>)>| -> Result<()> {
        partial.save(shard, std::mem::take(finished), wanted, embedder.dim(), provenance)
    };
    set.for_each(|row| {
        let Some(&number) = mine.get(row.version_id.as_str()) else { return Ok(()) };
        if interrupt::requested() {
            return Ok(());
        }
        let (input, columns) = embedder
            .input
            .whole_track(&row.magnitude, row.frames as usize)
            .with_context(|| format!("version {}", row.version_id))?;
        let done = groups.add(number, input, columns)?;
        bar.inc(done.len() as u64);
        finished.extend(done);
        if saved.elapsed() > SAVE_EVERY {
            save(&mut finished)?;
            saved = Instant::now();
        }
        Ok(())
    })?;
    if !interrupt::requested() {
        finished.extend(groups.finish()?);
    }
    bar.finish_and_clear();
    save(&mut finished)
}

/// What stands beside a vector; a version that was not verified has its features' duration.
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

/// Embeddings that were finished before, by this run or by other shards.
struct Partial {
    folder: PathBuf,
    done: HashSet<String>,
}

impl Partial {
    fn open(out: &Path, provenance: &Provenance) -> Result<Self> {
        let folder = out.with_extension("partial").join(&provenance.fingerprint);
        let mut partial = Self { folder, done: HashSet::new() };
        for part in partial.parts(provenance)? {
            partial.done.extend(part.labels.into_iter().map(|label| label.version_id));
        }
        Ok(partial)
    }

    fn parts(&self, provenance: &Provenance) -> Result<Vec<Embeddings>> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let listed = std::fs::read_dir(&self.folder)
            .with_context(|| format!("cannot list {}", self.folder.display()))?;
        let mut paths: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        Ok(paths.iter().filter_map(|path| read_fitting(path, provenance)).collect())
    }

    fn save(
        &self,
        shard: Shard,
        finished: Vec<(usize, Vec<f32>)>,
        wanted: &[Label],
        dim: usize,
        provenance: &Provenance,
    ) -> Result<()> {
        if finished.is_empty() {
            return Ok(());
        }
        let name = |number: usize| {
            self.folder.join(format!("part-{}-of-{}-{number:04}.parquet", shard.index + 1, shard.count))
        };
        let free = (0..).find(|number| !name(*number).exists()).unwrap_or_default();
        let part = Embeddings {
            labels: finished.iter().map(|(number, _)| wanted[*number].clone()).collect(),
            dim,
            vectors: finished.into_iter().flat_map(|(_, vector)| vector).collect(),
            provenance: provenance.clone(),
        };
        part.write(&name(free))
    }

    /// Puts all parts together once every wanted version is there.
    fn assemble(&self, out: &Path, wanted: &[Label], dim: usize, provenance: &Provenance) -> Result<Outcome> {
        let parts = self.parts(provenance)?;
        let mut by_id: HashMap<&str, &[f32]> = HashMap::new();
        for part in &parts {
            let ids = part.labels.iter().map(|label| label.version_id.as_str());
            by_id.extend(ids.zip(part.vectors.chunks(dim.max(1))));
        }
        if by_id.len() < wanted.len() {
            return Ok(Outcome::ShardDone(by_id.len()));
        }
        let mut all =
            Embeddings { labels: Vec::new(), dim, vectors: Vec::new(), provenance: provenance.clone() };
        for version in wanted {
            all.vectors.extend_from_slice(by_id[version.version_id.as_str()]);
            all.labels.push(version.clone());
        }
        all.write(out)?;
        let leftovers = out.with_extension("partial");
        std::fs::remove_dir_all(&leftovers)
            .with_context(|| format!("cannot remove {}", leftovers.display()))?;
        Ok(Outcome::Written(wanted.len()))
    }
}
