//! Computes the metrics of embeddings by split, with intervals and chance level.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use bc_formats::config::{EvalConfig, Rerank};
use bc_formats::embeddings::{Embeddings, Label};
use bc_formats::index::Split;
use bc_formats::provenance::Provenance;
use bc_retrieval::{
    Chance, Error, Interval, Labelled, Metrics, Policy, QueryResult, Reciprocal, Sides, Vectors,
    WindowSearch, WindowSets,
};
use comfy_table::Table;
use serde::Serialize;

use crate::analysis::{Analysis, split_to_analyse};
use crate::embed::{WindowEmbeddings, WindowsAtTempo};
use bc_calibration::versions::Versions;
use bc_embed::origin::Origin;
use bc_embed::windows::Windows;

/// Number of bootstrap samples of cliques for the intervals.
const SAMPLES: u32 = 1000;

/// The figures of one set of queries.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// The means.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// 95 % bootstrap intervals over cliques, by figure.
    pub intervals: BTreeMap<&'static str, Interval>,
    /// The expected figures of a random order under the same rules.
    pub chance: Chance,
}

/// The content of `metrics.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvaluationResults {
    /// The rules.
    pub policy: Policy,
    /// The rules as a sentence.
    pub rules: String,
    /// What makes the figures doubtful, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Figures by split; `all` where the input has no splits.
    pub splits: BTreeMap<String, Figures>,
    /// How recordings were compared, if not as whole recordings: windows and their tempi.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared: Option<String>,
    /// The figures of whole recordings, if `splits` holds those of windows.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub whole_tracks: BTreeMap<String, Figures>,
    /// Provenance of the embeddings, if the input has one.
    pub provenance: Option<Provenance>,
    /// The pairs, groups and hardest queries of one split, if `compared` says how; else they follow from the embeddings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,
}

/// The figures of a comparison by a matrix of distances, and the analysis of one of its splits.
#[derive(Debug, Default)]
pub struct MatrixResults {
    /// Figures by split.
    pub figures: BTreeMap<String, Figures>,
    /// The analysis of the test split, or of the largest one.
    pub analysis: Option<Analysis>,
}

impl MatrixResults {
    /// Adds the figures of a split, if it has any, and its analysis if it is the one that is `analysed`.
    fn add_split(
        &mut self,
        split: Split,
        analysed: Option<Split>,
        labels: &[&Label],
        distances: &[f32],
        policy: &Policy,
        seed: u64,
    ) -> Result<()> {
        let versions = Versions::of_scores(labels, distances);
        let ranked = bc_retrieval::rank_matrix(distances, &versions.cliques, policy);
        let measured =
            ranked.and_then(|results| Ok((figures(&results, &versions.cliques, policy, seed)?, results)));
        let Some((figures, results)) = if_measured(measured)? else { return Ok(()) };
        self.figures.insert(split.to_string(), figures);
        if analysed == Some(split) {
            self.analysis = Some(Analysis::of_distances(split, &versions, distances, &results, policy)?);
        }
        Ok(())
    }
}

/// Measures every split of an embeddings file against itself or, with `candidates`, against these.
///
/// # Errors
/// When a file cannot be read, the two do not come from the same network, or nothing can be
/// measured.
pub fn of_embeddings(
    queries: &Path,
    candidates: Option<&Path>,
    policy: &Policy,
    seed: u64,
) -> Result<EvaluationResults> {
    of_read(queries, &Embeddings::read(queries)?, candidates, policy, seed)
}

/// Measures embeddings like [`of_embeddings`], after they were read from `queries`.
///
/// # Errors
/// The errors of [`of_embeddings`].
pub fn of_read(
    queries: &Path,
    embeddings: &Embeddings,
    candidates: Option<&Path>,
    policy: &Policy,
    seed: u64,
) -> Result<EvaluationResults> {
    require_whole_tracks(queries, embeddings)?;
    let mut numbers = IdTable::default();
    let candidates = match candidates {
        None => None,
        Some(path) => {
            let candidate_embeddings = Embeddings::read(path)?;
            require_whole_tracks(path, &candidate_embeddings)?;
            Origin::from_provenance(&embeddings.provenance).require_same(
                queries,
                &Origin::from_provenance(&candidate_embeddings.provenance),
                path,
            )?;
            Some(NumberedVersions::new(&candidate_embeddings, &mut numbers, |_| true))
        }
    };
    let mut measured = BTreeMap::new();
    for split in splits_of(embeddings) {
        let own = NumberedVersions::new(embeddings, &mut numbers, |label| label.split == split);
        let pool = candidates.as_ref().unwrap_or(&own);
        let ranked = bc_retrieval::rank_against(&own.versions(), &pool.versions(), policy);
        let figures = ranked.and_then(|results| figures(&results, &own.cliques, policy, seed));
        let figures =
            if_measured(figures).with_context(|| format!("{}, split {split}", queries.display()))?;
        measured.extend(figures.map(|figures| (split.to_string(), figures)));
    }
    if measured.is_empty() {
        bail!("{}: {}", queries.display(), Error::NothingToMeasure);
    }
    Ok(finish(policy, measured, Some(embeddings.provenance.clone())))
}

/// The distances of the versions of one split, compared window by window.
pub struct WindowDistances<'a> {
    /// The split.
    pub split: Split,
    /// The label of each version.
    pub labels: Vec<&'a Label>,
    /// 1 - the similarity of the windows of a version (row), at its best tempo, to those of another at its own tempo:
    /// the distance of a search, which stretches the query.
    pub one_way: Vec<f32>,
}

/// Compares the windows of every split with each other. Memory: one number for each pair of versions.
///
/// # Errors
/// Files that do not hold the same versions.
pub fn distances(windowed: &WindowEmbeddings) -> Result<Vec<WindowDistances<'_>>> {
    let by_tempo = &windowed.by_tempo;
    let WindowsAtTempo { path: own_path, embeddings: own, .. } =
        by_tempo.first().context("no tempo to compare at")?;
    let of_split = |split| {
        let sets: Vec<Recordings<'_>> =
            by_tempo.iter().map(|at| Recordings::of_split(&at.embeddings, split)).collect();
        let labels = sets[0].labels.clone();
        for (set, at) in sets.iter().zip(by_tempo) {
            ensure!(
                set.versions().eq(sets[0].versions()),
                "{} does not hold the windows of the same versions as {}; remove both and run again",
                at.path.display(),
                own_path.display()
            );
        }
        let windows: Vec<WindowSets<'_>> = sets.iter().map(Recordings::windows).collect();
        let search = WindowSearch::new(&windows, windows[0])
            .with_context(|| format!("windows of {} and those at other tempi", own_path.display()))?;
        let one_way = search.matrix();
        Ok(WindowDistances { split, labels, one_way })
    };
    splits_of(own).into_iter().map(of_split).collect()
}

/// Computes the figures of each split. The distance of two recordings is the mean of both directions: from the
/// windows of the one, at its best tempo, to those of the other at its own, and vice versa. Distances are scaled
/// locally by `neighbours`, and re-ranked if `rerank` is given.
///
/// # Errors
/// Nothing to measure.
pub fn of_windows(
    splits: Vec<WindowDistances<'_>>,
    neighbours: usize,
    rerank: Option<&Reciprocal>,
    policy: &Policy,
    seed: u64,
) -> Result<MatrixResults> {
    let mut results = MatrixResults::default();
    let analysed = split_to_analyse(splits.iter().flat_map(|distances| distances.labels.iter().copied()));
    for WindowDistances { split, labels, one_way } in splits {
        let mut distances = one_way;
        symmetrise(&mut distances, labels.len());
        bc_retrieval::scale_locally(&mut distances, labels.len(), neighbours);
        if let Some(settings) = rerank {
            bc_retrieval::rerank_reciprocal(&mut distances, labels.len(), settings);
        }
        let added = results.add_split(split, analysed, &labels, &distances, policy, seed);
        added.with_context(|| format!("windows of split {split}"))?;
    }
    Ok(results)
}

/// Measures every split of whole recordings against itself, re-ranked. Memory: one number for each pair of versions.
///
/// # Errors
/// Nothing to measure.
pub fn of_reranked(
    embeddings: &Embeddings,
    rerank: &Reciprocal,
    policy: &Policy,
    seed: u64,
) -> Result<MatrixResults> {
    let mut results = MatrixResults::default();
    let analysed = split_to_analyse(&embeddings.labels);
    for split in splits_of(embeddings) {
        let own = Versions::of_split(embeddings, split);
        let mut distances = Vec::with_capacity(own.len().pow(2));
        bc_retrieval::each_row(&own.rows(), &own.rows(), policy.distance, |_, row| {
            distances.extend_from_slice(row)
        })?;
        bc_retrieval::rerank_reciprocal(&mut distances, own.len(), rerank);
        let added = results.add_split(split, analysed, &own.labels, &distances, policy, seed);
        added.with_context(|| format!("whole recordings of split {split}"))?;
    }
    Ok(results)
}

/// Measures excerpts of every version (`queries`, their windows at each tempo of `windowed`) against the windows of all other
/// versions of their split: the mean over the excerpt's windows of the best cosine, at the best tempo.
///
/// # Errors
/// A version that has windows and whose excerpt has none, or nothing to measure.
pub fn of_excerpts(
    queries: &[Embeddings],
    windowed: &WindowEmbeddings,
    policy: &Policy,
    seed: u64,
) -> Result<BTreeMap<String, Figures>> {
    let own = &windowed.by_tempo.first().context("no tempo to compare at")?.embeddings;
    let mut measured = BTreeMap::new();
    for split in splits_of(own) {
        let candidates = Recordings::of_split(own, split);
        let sets: Vec<Recordings<'_>> = queries.iter().map(|set| Recordings::of_split(set, split)).collect();
        for set in &sets {
            let embedded: HashSet<&str> = set.versions().collect();
            if let Some(version) = candidates.versions().find(|version| !embedded.contains(version)) {
                bail!("the excerpt of version {version} is silent; draw others with another [eval] seed");
            }
        }
        let windows: Vec<WindowSets<'_>> = sets.iter().map(Recordings::windows).collect();
        let search = WindowSearch::new(&windows, candidates.windows())?.sides(Sides::First);
        let mut numbers = IdTable::default();
        let cliques: Vec<u32> =
            candidates.labels.iter().map(|label| numbers.number_of(&label.clique_id)).collect();
        let ranked = bc_retrieval::rank_matrix(&search.matrix(), &cliques, policy);
        let figures = if_measured(ranked.and_then(|results| figures(&results, &cliques, policy, seed)));
        let figures = figures.with_context(|| format!("excerpts of split {split}"))?;
        measured.extend(figures.map(|figures| (split.to_string(), figures)));
    }
    Ok(measured)
}

/// Returns the re-ranking that a configuration asks for, if any.
pub fn rerank_of(config: &EvalConfig) -> Option<Reciprocal> {
    (config.rerank == Rerank::KReciprocal).then_some(Reciprocal {
        neighbours: config.rerank_k1,
        averaged: config.rerank_k2,
        weight: config.rerank_weight as f32,
        keep_nearest: true,
    })
}

/// Returns the splits of embeddings, each once, sorted by name.
fn splits_of(embeddings: &Embeddings) -> Vec<Split> {
    let mut splits: Vec<Split> = embeddings.labels.iter().map(|label| label.split).collect();
    splits.sort_unstable_by_key(|split| split.as_str());
    splits.dedup();
    splits
}

/// Returns `None` instead of the error that there is nothing to measure, because another split may have figures.
fn if_measured<T>(measured: Result<T, Error>) -> Result<Option<T>, Error> {
    match measured {
        Err(Error::NothingToMeasure) => Ok(None),
        measured => measured.map(Some),
    }
}

/// Replaces a square matrix by the mean of itself and its transpose, so that each of two recordings is the query once.
fn symmetrise(distances: &mut [f32], width: usize) {
    for row in 0..width {
        for column in 0..row {
            let (upper, lower) = (row * width + column, column * width + row);
            let mean = 0.5 * (distances[upper] + distances[lower]);
            (distances[upper], distances[lower]) = (mean, mean);
        }
    }
}

/// The windows of one split, version after version.
struct Recordings<'a> {
    vectors: Vec<f32>,
    dim: usize,
    offsets: Vec<usize>,
    labels: Vec<&'a Label>,
}

impl<'a> Recordings<'a> {
    fn of_split(embeddings: &'a Embeddings, split: Split) -> Self {
        let dim = embeddings.dim;
        let mut recordings = Self { vectors: Vec::new(), dim, offsets: vec![0], labels: Vec::new() };
        for (label, vector) in embeddings.labels.iter().zip(embeddings.vectors.chunks_exact(dim.max(1))) {
            if label.split != split {
                continue;
            }
            if recordings.labels.last().map(|last| &last.version_id) != Some(&label.version_id) {
                recordings.labels.push(label);
                recordings.offsets.push(*recordings.offsets.last().unwrap_or(&0));
            }
            recordings.vectors.extend_from_slice(vector);
            if let Some(end) = recordings.offsets.last_mut() {
                *end += 1;
            }
        }
        recordings
    }

    fn versions(&self) -> impl Iterator<Item = &str> {
        self.labels.iter().map(|label| label.version_id.as_str())
    }

    fn windows(&self) -> WindowSets<'_> {
        WindowSets { vectors: Vectors { vectors: &self.vectors, dim: self.dim }, offsets: &self.offsets }
    }
}

/// Measures vectors without labels, with a text file of one clique per line.
///
/// # Errors
/// When a file cannot be read, the numbers of rows differ, or nothing can be measured.
pub fn of_array(npy: &Path, cliques: &Path, policy: &Policy, seed: u64) -> Result<EvaluationResults> {
    let matrix = bc_formats::array::read(npy)?;
    let vectors = Vectors { vectors: &matrix.values, dim: matrix.columns };
    let cliques = read_cliques(cliques, vectors.rows(), npy)?;
    let results = bc_retrieval::rank_all(&vectors, &cliques, policy);
    let figures = results.and_then(|results| figures(&results, &cliques, policy, seed));
    let figures = figures.with_context(|| npy.display().to_string())?;
    Ok(finish(policy, BTreeMap::from([("all".to_owned(), figures)]), None))
}

/// Measures a square matrix of distances, with a text file of one clique per line.
///
/// # Errors
/// The errors of [`of_array`].
pub fn of_distances(npy: &Path, cliques: &Path, policy: &Policy, seed: u64) -> Result<EvaluationResults> {
    let matrix = bc_formats::array::read(npy)?;
    let cliques = read_cliques(cliques, matrix.columns, npy)?;
    let results = bc_retrieval::rank_matrix(&matrix.values, &cliques, policy);
    let figures = results.and_then(|results| figures(&results, &cliques, policy, seed));
    let figures = figures.with_context(|| npy.display().to_string())?;
    Ok(finish(policy, BTreeMap::from([("all".to_owned(), figures)]), None))
}

fn finish(
    policy: &Policy,
    splits: BTreeMap<String, Figures>,
    provenance: Option<Provenance>,
) -> EvaluationResults {
    EvaluationResults {
        policy: policy.clone(),
        rules: policy.statement(),
        warnings: Vec::new(),
        splits,
        compared: None,
        whole_tracks: BTreeMap::new(),
        provenance,
        analysis: None,
    }
}

/// Computes the figures of ranked queries; `cliques` are those of the queries.
pub(crate) fn figures(
    results: &[QueryResult],
    cliques: &[u32],
    policy: &Policy,
    seed: u64,
) -> Result<Figures, Error> {
    let metrics = Metrics::from_results(results, policy)?;
    let intervals = bc_retrieval::intervals(results, cliques, policy, SAMPLES, seed)?;
    let intervals = Metrics::NAMES.into_iter().zip(intervals).collect();
    Ok(Figures { metrics, intervals, chance: Chance::of(results, policy) })
}

fn read_cliques(path: &Path, rows: usize, vectors: &Path) -> Result<Vec<u32>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    // Windows editors write a byte order mark, which is no part of the first clique.
    let lines = text.strip_prefix('\u{feff}').unwrap_or(&text).lines().map(str::trim_end);
    let mut numbers = IdTable::default();
    let mut cliques = Vec::new();
    for (number, line) in lines.enumerate() {
        ensure!(
            !line.is_empty(),
            "{}:{}: the line is empty; give each row its clique, and a row without one a name of its own",
            path.display(),
            number + 1
        );
        cliques.push(numbers.number_of(line));
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

/// Refuses embeddings of windows.
fn require_whole_tracks(path: &Path, embeddings: &Embeddings) -> Result<()> {
    ensure!(
        Windows::from_provenance(&embeddings.provenance)
            .with_context(|| path.display().to_string())?
            .is_none(),
        "{} holds windows of tracks, but the metrics are of whole tracks; embed them without --window",
        path.display()
    );
    Ok(())
}

/// Indices for names, in the order in which the names first occur.
#[derive(Default)]
struct IdTable(HashMap<String, u32>);

impl IdTable {
    fn number_of(&mut self, name: &str) -> u32 {
        let next = self.0.len() as u32;
        *self.0.entry(name.to_owned()).or_insert(next)
    }
}

/// Vectors of versions, with numbers instead of clique and version ids.
struct NumberedVersions {
    vectors: Vec<f32>,
    dim: usize,
    cliques: Vec<u32>,
    ids: Vec<u32>,
}

impl NumberedVersions {
    fn new(embeddings: &Embeddings, numbers: &mut IdTable, keep: impl Fn(&Label) -> bool) -> Self {
        let dim = embeddings.dim;
        let mut kept = Self { vectors: Vec::new(), dim, cliques: Vec::new(), ids: Vec::new() };
        for (label, vector) in embeddings.labels.iter().zip(embeddings.vectors.chunks_exact(dim.max(1))) {
            if keep(label) {
                kept.vectors.extend_from_slice(vector);
                kept.cliques.push(numbers.number_of(&format!("clique {}", label.clique_id)));
                kept.ids.push(numbers.number_of(&format!("version {}", label.version_id)));
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

/// Returns the figures as a table: one row per figure and split, with interval and chance.
#[must_use]
pub fn table(measured: &EvaluationResults) -> Table {
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
