//! The metrics of embeddings, by split, with intervals and what chance would give.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use bc_formats::embeddings::Embeddings;
use bc_formats::provenance::Provenance;
use bc_retrieval::{Chance, Error, Interval, Labelled, Metrics, Policy, QueryResult, Vectors};
use comfy_table::Table;
use serde::Serialize;

use bc_embed::origin::Origin;
use bc_embed::windows::Windows;

/// How often cliques are drawn anew for the intervals.
const SAMPLES: u32 = 1000;

/// The figures of one set of queries.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// The means.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// 95 % bootstrap intervals over cliques, by figure.
    pub intervals: BTreeMap<&'static str, Interval>,
    /// What a random order would give under the same rules.
    pub chance: Chance,
}

/// What `metrics.json` holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// The rules.
    pub policy: Policy,
    /// The rules in words.
    pub rules: String,
    /// Figures by split; `all` where the input has no splits.
    pub splits: BTreeMap<String, Figures>,
    /// Origin of the embeddings, where the file says it.
    pub provenance: Option<Provenance>,
}

/// Every split of an embeddings file against itself or, with `candidates`, against these.
///
/// # Errors
/// When a file cannot be read, the two do not come from the same network, or nothing can be
/// measured.
pub fn of_embeddings(
    queries: &Path,
    candidates: Option<&Path>,
    policy: &Policy,
    seed: u64,
) -> Result<Measured> {
    of(queries, &Embeddings::read(queries)?, candidates, policy, seed)
}

/// The same of embeddings that were read from `queries`.
///
/// # Errors
/// As [`of_embeddings`].
pub fn of(
    queries: &Path,
    embeddings: &Embeddings,
    candidates: Option<&Path>,
    policy: &Policy,
    seed: u64,
) -> Result<Measured> {
    whole_tracks(queries, embeddings)?;
    let mut names = HashMap::new();
    let mut number = |name: &str| {
        let next = names.len() as u32;
        *names.entry(name.to_owned()).or_insert(next)
    };
    let against = match candidates {
        None => None,
        Some(path) => {
            let other = Embeddings::read(path)?;
            whole_tracks(path, &other)?;
            Origin::of(&embeddings.provenance).expect(queries, &Origin::of(&other.provenance), path)?;
            Some(Numbered::new(&other, &mut number, |_| true))
        }
    };
    let mut splits: Vec<_> = embeddings.labels.iter().map(|label| label.split.as_str()).collect();
    splits.sort_unstable();
    splits.dedup();
    let mut measured = BTreeMap::new();
    for split in splits {
        let own = Numbered::new(embeddings, &mut number, |label| label.split.as_str() == split);
        let pool = against.as_ref().unwrap_or(&own);
        let ranked = bc_retrieval::rank_against(&own.versions(), &pool.versions(), policy);
        match ranked.and_then(|results| figures(&results, &own.cliques, policy, seed)) {
            Ok(figures) => drop(measured.insert(split.to_owned(), figures)),
            Err(Error::NothingToMeasure) => {}
            Err(error) => return Err(error).with_context(|| format!("{}, split {split}", queries.display())),
        }
    }
    if measured.is_empty() {
        bail!("{}: {}", queries.display(), Error::NothingToMeasure);
    }
    Ok(finish(policy, measured, Some(embeddings.provenance.clone())))
}

/// Vectors without labels, and a text file with one clique per line.
///
/// # Errors
/// When a file cannot be read, the numbers of rows differ, or nothing can be measured.
pub fn of_array(npy: &Path, cliques: &Path, policy: &Policy, seed: u64) -> Result<Measured> {
    let matrix = bc_formats::array::read(npy)?;
    let vectors = Vectors { vectors: &matrix.values, dim: matrix.columns };
    let cliques = read_cliques(cliques, vectors.rows(), npy)?;
    let results = bc_retrieval::rank_all(&vectors, &cliques, policy);
    let figures = results.and_then(|results| figures(&results, &cliques, policy, seed));
    let figures = figures.with_context(|| npy.display().to_string())?;
    Ok(finish(policy, BTreeMap::from([("all".to_owned(), figures)]), None))
}

/// A square matrix of distances, and a text file with one clique per line.
///
/// # Errors
/// As [`of_array`].
pub fn of_distances(npy: &Path, cliques: &Path, policy: &Policy, seed: u64) -> Result<Measured> {
    let matrix = bc_formats::array::read(npy)?;
    let cliques = read_cliques(cliques, matrix.columns, npy)?;
    let results = bc_retrieval::rank_matrix(&matrix.values, &cliques, policy);
    let figures = results.and_then(|results| figures(&results, &cliques, policy, seed));
    let figures = figures.with_context(|| npy.display().to_string())?;
    Ok(finish(policy, BTreeMap::from([("all".to_owned(), figures)]), None))
}

fn finish(policy: &Policy, splits: BTreeMap<String, Figures>, provenance: Option<Provenance>) -> Measured {
    Measured { policy: policy.clone(), rules: policy.statement(), splits, provenance }
}

/// The figures of ranked queries; `cliques` are those of the queries.
pub(crate) fn figures(
    results: &[QueryResult],
    cliques: &[u32],
    policy: &Policy,
    seed: u64,
) -> Result<Figures, Error> {
    let metrics = Metrics::of(results, policy)?;
    let intervals = bc_retrieval::intervals(results, cliques, policy, SAMPLES, seed)?;
    let intervals = Metrics::NAMES.into_iter().zip(intervals).collect();
    Ok(Figures { metrics, intervals, chance: Chance::of(results, policy) })
}

fn read_cliques(path: &Path, rows: usize, vectors: &Path) -> Result<Vec<u32>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut names = HashMap::new();
    let mut cliques = Vec::with_capacity(rows);
    for line in text.lines() {
        let next = names.len() as u32;
        cliques.push(*names.entry(line).or_insert(next));
    }
    ensure!(
        cliques.len() == rows,
        "{} has {} lines, but {} has {rows} rows; there must be one clique per row",
        path.display(),
        cliques.len(),
        vectors.display()
    );
    Ok(cliques)
}

fn whole_tracks(path: &Path, embeddings: &Embeddings) -> Result<()> {
    ensure!(
        Windows::of_file(&embeddings.provenance).with_context(|| path.display().to_string())?.is_none(),
        "{} holds windows of tracks, but the metrics are of whole tracks; embed them without --window",
        path.display()
    );
    Ok(())
}

/// Versions with numbers in place of names.
struct Numbered {
    vectors: Vec<f32>,
    dim: usize,
    cliques: Vec<u32>,
    ids: Vec<u32>,
}

impl Numbered {
    fn new(
        embeddings: &Embeddings,
        number: &mut impl FnMut(&str) -> u32,
        keep: impl Fn(&bc_formats::embeddings::Label) -> bool,
    ) -> Self {
        let dim = embeddings.dim;
        let mut kept = Self { vectors: Vec::new(), dim, cliques: Vec::new(), ids: Vec::new() };
        for (label, vector) in embeddings.labels.iter().zip(embeddings.vectors.chunks_exact(dim.max(1))) {
            if keep(label) {
                kept.vectors.extend_from_slice(vector);
                kept.cliques.push(number(&format!("clique {}", label.clique_id)));
                kept.ids.push(number(&format!("version {}", label.version_id)));
            }
        }
        kept
    }

    fn versions(&self) -> Labelled<'_> {
        Labelled {
            vectors: Vectors { vectors: &self.vectors, dim: self.dim },
            cliques: &self.cliques,
            ids: &self.ids,
        }
    }
}

/// The figures for people: one row per figure and split, with interval and chance.
#[must_use]
pub fn table(measured: &Measured) -> Table {
    let mut table = Table::new();
    let head = ["split", "queries", "figure", "value", "95 % interval", "random ranking"];
    table.set_header(head);
    for (split, figures) in &measured.splits {
        for (name, value) in Metrics::NAMES.into_iter().zip(figures.metrics.values()) {
            let interval = figures.intervals[name];
            let chance = match name {
                "mAP" => format!("{:.4}", figures.chance.map),
                "MR1" => format!("{:.2}", figures.chance.mr1),
                "hit@1" => format!("{:.4}", figures.chance.hit_at_1),
                _ => String::new(),
            };
            let queries = figures.metrics.queries.to_string();
            let interval = format!("{:.4} to {:.4}", interval.low, interval.high);
            table.add_row([split, &queries, name, &format!("{value:.4}"), &interval, &chance]);
        }
    }
    table
}
