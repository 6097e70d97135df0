//! Evaluates classical methods on the features of an experiment by the same rules, as baselines for a network.
//!
//! **In**: `[features]` index and output, `[eval]` splits and policy. **Out**: `baselines.json` in the folder of the metrics. No network
//! is used. Every version of a split is a query against all others of the split, as in `metrics.json`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use bc_align::{Chroma, Folding, align, qmax, two_dfm};
use bc_cli::{Interrupted, interrupt, progress};
use bc_formats::config::Config;
use bc_formats::features::{FeatureRow, FeatureSet};
use bc_formats::fingerprint::Fingerprint;
use bc_formats::index::{Index, Split, Version};
use bc_formats::provenance::Provenance;
use bc_retrieval::Policy;
use clap::ValueEnum;
use comfy_table::Table;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::metrics::{self, Figures};
use bc_cli::saving;

/// Kind and schema version of the file.
pub const FORMAT: &str = "baselines/1";

/// Rows of features that are prepared at a time, in parallel.
const BATCH: usize = 64;

/// A classical method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// 2-D Fourier magnitude of chroma, without the DC coefficient (Bertin-Mahieux & Ellis 2012).
    #[value(name = "2dfm")]
    #[serde(rename = "2dfm")]
    TwoDfm,
    /// [`Method::TwoDfm`] with the DC coefficient.
    #[value(name = "2dfm-dc")]
    #[serde(rename = "2dfm-dc")]
    TwoDfmDc,
    /// Longest alignment in the cross recurrence plot (Serrà et al. 2009).
    Qmax,
    /// The score of `bc_align::align`, which tries keys and tempi; about forty times as slow as qmax.
    Alignment,
}

impl Method {
    /// The default methods.
    pub const DEFAULT: [Self; 3] = [Self::TwoDfm, Self::TwoDfmDc, Self::Qmax];

    /// Returns the name in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::TwoDfm => "2dfm",
            Self::TwoDfmDc => "2dfm-dc",
            Self::Qmax => "qmax",
            Self::Alignment => "alignment",
        }
    }
}

/// The content of `baselines.json`.
#[derive(Debug, Serialize)]
pub struct BaselineResults {
    /// The rules as a sentence.
    pub rules: String,
    /// Figures by split and method, each with the value of a random order.
    pub splits: BTreeMap<String, BTreeMap<&'static str, Figures>>,
    /// Time that each method took for all splits.
    pub cost: Cost,
    /// Settings of the methods; fingerprints of features and index.
    pub provenance: Provenance,
}

/// Time of the evaluation; not part of the comparison.
#[derive(Debug, Serialize)]
pub struct Cost {
    /// Number of threads.
    pub threads: usize,
    /// Wall time in seconds, by method.
    pub seconds: BTreeMap<&'static str, f64>,
}

/// How a run ended.
pub enum Outcome {
    /// The file already exists, with these features, methods and rules.
    UpToDate,
    /// The results were written.
    Written(Box<BaselineResults>),
}

/// Returns the path of the figures.
pub fn path_of(config: &Config) -> PathBuf {
    config.eval.output.join("baselines.json")
}

/// Measures `methods` and writes `baselines.json`, unless it is up to date.
///
/// # Errors
/// Features or an index that are missing or do not match, nothing to measure, an interrupt, a file that cannot be written.
pub fn run(config: &Config, methods: &[Method]) -> Result<Outcome> {
    let policy = Policy::named(&config.eval.policy)?;
    let index = Index::read(&config.features.index)?;
    let set = FeatureSet::open(&config.features.output)?;
    set.require_sources(&config.features.output, &index, &config.features.index)?;
    let mut methods = methods.to_vec();
    methods.sort_unstable();
    methods.dedup();
    let provenance = provenance(config, &set, &index, &methods);
    let path = path_of(config);
    if is_up_to_date(&path, &provenance) {
        return Ok(Outcome::UpToDate);
    }
    interrupt::install("stopping; nothing is written; run the same command again to start over")?;
    let evaluation = Evaluation { methods: &methods, policy: &policy, seed: config.eval.seed };
    let mut cost = Cost { threads: rayon::current_num_threads(), seconds: BTreeMap::new() };
    let mut splits = BTreeMap::new();
    for split in splits_of(config, &index) {
        let versions = Versions::read(&index, &set, split, &methods)
            .with_context(|| format!("{}, split {split}", config.features.output.display()))?;
        if versions.has_a_pair() {
            splits.insert(split.as_str().to_owned(), evaluation.measure(&versions, &mut cost)?);
        }
    }
    ensure!(
        !splits.is_empty(),
        "no split of {:?} in {} has two versions of a clique with features; extract them with `bc-features extract`, or \
         correct [eval] splits",
        config.eval.splits.iter().map(|split| split.as_str()).collect::<Vec<_>>(),
        config.features.index.display()
    );
    let results = BaselineResults { rules: rules_of(&policy), splits, cost, provenance };
    saving::write_json(&path, &results)?;
    Ok(Outcome::Written(Box::new(results)))
}

/// Returns the rules of the figures as a sentence; each method has its own distance.
fn rules_of(policy: &Policy) -> String {
    let statement = policy.statement();
    let after_distance = statement.split_once("; ").map_or(statement.as_str(), |(_, rules)| rules);
    format!("distances of each method; {after_distance}")
}

/// Returns the splits that are measured: those of `[eval]`, or all that the index has.
fn splits_of(config: &Config, index: &Index) -> Vec<Split> {
    let named = &config.eval.splits;
    let is_named = |split: &&Split| named.is_empty() || named.contains(split);
    let is_present = |split: &&Split| index.versions.iter().any(|version| version.split == **split);
    Split::ALL.iter().filter(is_named).filter(is_present).copied().collect()
}

fn provenance(config: &Config, set: &FeatureSet, index: &Index, methods: &[Method]) -> Provenance {
    let settings = serde_json::json!({
        "methods": methods,
        "splits": config.eval.splits,
        "policy": config.eval.policy,
        "seed": config.eval.seed,
        "folding": Folding::default(),
        "2dfm": two_dfm::Settings::default(),
        "qmax": qmax::Settings::default(),
        "alignment": align::Settings::default(),
    });
    let inputs = BTreeMap::from([
        ("features".to_owned(), set.fingerprint()),
        ("index".to_owned(), index.provenance.fingerprint.clone()),
    ]);
    let mut fingerprint = Fingerprint::of("baselines");
    fingerprint.add_json(&settings).add_json(&inputs);
    Provenance {
        format: FORMAT.to_owned(),
        tool: bc_cli::tool!().to_owned(),
        settings,
        fingerprint: fingerprint.finish(),
        inputs,
    }
}

/// Returns whether the file at `path` was made from the same inputs, methods and rules, by the same version of the program.
fn is_up_to_date(path: &Path, provenance: &Provenance) -> bool {
    let read = || -> Option<Provenance> {
        let results: serde_json::Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        serde_json::from_value(results.get("provenance")?.clone()).ok()
    };
    read().is_some_and(|stored| stored == *provenance)
}

/// The inputs of the methods for one version.
struct Prepared {
    two_dfm: Option<Vec<f32>>,
    two_dfm_dc: Option<Vec<f32>>,
    qmax: Option<qmax::Prepared>,
    chroma: Option<Chroma>,
}

/// The usable versions of a split that have features.
struct Versions {
    cliques: Vec<u32>,
    prepared: Vec<Prepared>,
}

impl Versions {
    fn read(index: &Index, set: &FeatureSet, split: Split, methods: &[Method]) -> Result<Self> {
        let usable = index.versions.iter().filter(|version| version.split == split && version.usable());
        let usable: Vec<&Version> = usable.collect();
        let positions: HashMap<&str, usize> = usable
            .iter()
            .enumerate()
            .map(|(position, version)| (version.version_id.as_str(), position))
            .collect();
        let bar = progress::bar(usable.len() as u64, split.as_str(), "chromas");
        let mut slots: Vec<Option<Prepared>> = usable.iter().map(|_| None).collect();
        let mut batch: Vec<(usize, FeatureRow)> = Vec::new();
        let mut prepare_batch = |batch: &mut Vec<(usize, FeatureRow)>| -> Result<()> {
            let prepared: Vec<(usize, Result<Prepared>)> = std::mem::take(batch)
                .into_par_iter()
                .map(|(position, row)| (position, prepare(&row, set, methods)))
                .collect();
            for (position, prepared) in prepared {
                slots[position] = Some(prepared?);
                bar.inc(1);
            }
            check_interrupt()
        };
        set.for_each(|row| {
            let Some(&position) = positions.get(row.version_id.as_str()) else { return Ok(()) };
            batch.push((position, row));
            if batch.len() == BATCH { prepare_batch(&mut batch) } else { Ok(()) }
        })?;
        prepare_batch(&mut batch)?;
        bar.finish_and_clear();
        let missing = slots.iter().filter(|slot| slot.is_none()).count();
        if missing > 0 {
            tracing::warn!(
                "{missing} of {} usable versions of split {split} have no features and are left out",
                usable.len()
            );
        }
        let mut numbers: HashMap<&str, u32> = HashMap::new();
        let mut versions = Self { cliques: Vec::new(), prepared: Vec::new() };
        for (version, slot) in usable.iter().zip(slots) {
            let Some(prepared) = slot else { continue };
            let next = numbers.len() as u32;
            versions.cliques.push(*numbers.entry(&version.clique_id).or_insert(next));
            versions.prepared.push(prepared);
        }
        Ok(versions)
    }

    /// Returns whether some clique has two versions.
    fn has_a_pair(&self) -> bool {
        let mut seen = std::collections::HashSet::new();
        self.cliques.iter().any(|clique| !seen.insert(clique))
    }
}

/// Computes the inputs of the methods from the features of a version.
fn prepare(row: &FeatureRow, set: &FeatureSet, methods: &[Method]) -> Result<Prepared> {
    let magnitudes: Vec<f32> = row.magnitude.iter().map(|value| value.to_f32()).collect();
    let chroma = Chroma::fold(&magnitudes, row.frames as usize, &set.settings, &Folding::default())
        .with_context(|| format!("version {}", row.version_id))?;
    let is_chosen = |method| methods.contains(&method);
    let fourier = |keep_dc| {
        let settings = two_dfm::Settings { keep_dc, ..two_dfm::Settings::default() };
        two_dfm::vector(&chroma, &settings)
    };
    Ok(Prepared {
        two_dfm: is_chosen(Method::TwoDfm).then(|| fourier(false)),
        two_dfm_dc: is_chosen(Method::TwoDfmDc).then(|| fourier(true)),
        qmax: is_chosen(Method::Qmax).then(|| qmax::Prepared::new(&chroma, &qmax::Settings::default())),
        chroma: is_chosen(Method::Alignment).then_some(chroma),
    })
}

fn check_interrupt() -> Result<()> {
    if interrupt::requested() {
        return Err(
            Interrupted("nothing was written; run the same command again to start over".to_owned()).into()
        );
    }
    Ok(())
}

/// An evaluation: the methods, and the rules.
struct Evaluation<'a> {
    methods: &'a [Method],
    policy: &'a Policy,
    seed: u64,
}

impl Evaluation<'_> {
    /// Computes the figures of every method on one split; adds the time to `cost`.
    fn measure(&self, versions: &Versions, cost: &mut Cost) -> Result<BTreeMap<&'static str, Figures>> {
        let mut figures = BTreeMap::new();
        for method in self.methods {
            let started = Instant::now();
            let distances = distances(*method, &versions.prepared)?;
            *cost.seconds.entry(method.name()).or_default() += started.elapsed().as_secs_f64();
            let ranked = bc_retrieval::rank_matrix(&distances, &versions.cliques, self.policy)?;
            figures
                .insert(method.name(), metrics::figures(&ranked, &versions.cliques, self.policy, self.seed)?);
        }
        Ok(figures)
    }
}

/// Returns the distances of all pairs, n x n: the negated similarities. The distance of a version to itself is the smallest, for
/// rules that drop the nearest candidate.
fn distances(method: Method, versions: &[Prepared]) -> Result<Vec<f32>> {
    let fourier = |vector: fn(&Prepared) -> &Option<Vec<f32>>| -> Vec<f32> {
        let vectors: Vec<Vec<f32>> = versions.iter().filter_map(|version| vector(version).clone()).collect();
        two_dfm::similarities(&vectors)
    };
    let mut matrix = match method {
        Method::TwoDfm => fourier(|version| &version.two_dfm),
        Method::TwoDfmDc => fourier(|version| &version.two_dfm_dc),
        Method::Qmax => {
            let settings = qmax::Settings::default();
            pairs(method, versions, |a, b| match (&a.qmax, &b.qmax) {
                (Some(a), Some(b)) => qmax::similarity(a, b, &settings) as f32,
                _ => 0.0,
            })?
        }
        Method::Alignment => {
            let settings = align::Settings::default();
            // A version that is too short or too long to be aligned is similar to none.
            pairs(method, versions, |a, b| match (&a.chroma, &b.chroma) {
                (Some(a), Some(b)) => {
                    bc_align::align(a, b, &settings).map_or(0.0, |alignment| alignment.score as f32)
                }
                _ => 0.0,
            })?
        }
    };
    let nearest = matrix.iter().copied().fold(0.0, f32::max) + 1.0;
    let n = versions.len();
    for (index, value) in matrix.iter_mut().enumerate() {
        *value = if index / n == index % n { -nearest } else { -*value };
    }
    Ok(matrix)
}

/// Computes the similarity of each pair, n x n and symmetric, by comparing the later version with the earlier one.
fn pairs(
    method: Method,
    versions: &[Prepared],
    similarity: impl Fn(&Prepared, &Prepared) -> f32 + Sync,
) -> Result<Vec<f32>> {
    let n = versions.len();
    let bar = progress::bar((n * n.saturating_sub(1) / 2) as u64, method.name(), "pairs");
    // The longest rows first, so that no thread begins a long row at the end.
    let rows: Vec<(usize, Vec<f32>)> = (0..n)
        .into_par_iter()
        .rev()
        .with_max_len(1)
        .map(|later| {
            check_interrupt()?;
            let row = versions[..later].iter().map(|earlier| similarity(&versions[later], earlier)).collect();
            bar.inc(later as u64);
            Ok((later, row))
        })
        .collect::<Result<_>>()?;
    bar.finish_and_clear();
    let mut matrix = vec![0f32; n * n];
    for (later, row) in rows {
        for (earlier, score) in row.into_iter().enumerate() {
            (matrix[later * n + earlier], matrix[earlier * n + later]) = (score, score);
        }
    }
    Ok(matrix)
}

/// Returns the figures as a table: chance, each method, and the network if `metrics.json` is of the same features.
///
/// # Errors
/// A `baselines.json` that cannot be read.
pub fn table(config: &Config) -> Result<Table> {
    let path = path_of(config);
    let read = |path: &Path| -> Result<serde_json::Value> {
        let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", path.display()))
    };
    let baselines = read(&path)?;
    let network = read(&config.eval.output.join("metrics.json"))
        .ok()
        .filter(|network| same_inputs(&network["provenance"], &baselines["provenance"]));
    let mut table = Table::new();
    table.set_header(["split", "method", "queries", "mAP", "95 % interval", "MR1", "hit@1", "hit@10"]);
    let Some(splits) = baselines["splits"].as_object() else {
        bail!("{} has no figures by split; remove it and run the command again", path.display());
    };
    for (split, methods) in splits {
        let methods = methods.as_object().into_iter().flatten();
        let mut rows: Vec<(&str, &serde_json::Value)> =
            methods.map(|(name, figures)| (name.as_str(), figures)).collect();
        if let Some((_, first)) = rows.first() {
            let chance = &first["chance"];
            table.add_row([
                split.clone(),
                "chance".to_owned(),
                first["queries"].to_string(),
                number(chance, "mAP", 4),
                String::new(),
                number(chance, "MR1", 2),
                number(chance, "hit@1", 4),
                String::new(),
            ]);
        }
        if let Some(network) = &network {
            rows.push(("network", &network["splits"][split]));
        }
        for (name, figures) in rows {
            let interval = &figures["intervals"]["mAP"];
            table.add_row([
                split.clone(),
                name.to_owned(),
                figures["queries"].to_string(),
                number(figures, "mAP", 4),
                format!("{} to {}", number(interval, "low", 3), number(interval, "high", 3)),
                number(figures, "MR1", 2),
                number(figures, "hit@1", 4),
                number(figures, "hit@10", 4),
            ]);
        }
    }
    Ok(table)
}

/// Returns whether two files were made from the same features of the same index.
pub fn same_inputs(one: &serde_json::Value, other: &serde_json::Value) -> bool {
    ["features", "index"].iter().all(|name| {
        let input = |provenance: &serde_json::Value| provenance["inputs"][name].as_str().map(str::to_owned);
        input(one).is_some() && input(one) == input(other)
    })
}

fn number(figures: &serde_json::Value, name: &str, digits: usize) -> String {
    figures[name].as_f64().map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}
