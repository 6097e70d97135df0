//! What the report shows of one split in addition to the means: distances of pairs, groups of queries, the hardest queries.
//!
//! In: the versions of a split, with the distances that the figures are computed from. Out: [`Analysis`], which the page
//! shows and `metrics.json` holds where the distances cannot be computed from `embeddings.parquet` alone.

use std::collections::HashMap;

use anyhow::Result;
use bc_calibration::versions::{PairCounts, Versions};
use bc_formats::embeddings::{Embeddings, Label};
use bc_formats::index::Split;
use bc_retrieval::{Metrics, Neighbour, Policy, QueryResult, Vectors, nearest, rank_all};
use serde::{Deserialize, Serialize};

/// Number of bars of the histograms.
const BARS: usize = 40;
/// Number of queries listed as the hardest.
const MAX_HARDEST: usize = 12;
/// Number of wrong candidates shown for each of the hardest queries.
const MAX_WRONG_ABOVE: usize = 3;

/// Distances of pairs as a histogram, cut to the values that occur.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PairDistances {
    /// Left edge of the first bar and right edge of the last.
    pub range: (f32, f32),
    /// Share of the pairs of two versions of one clique, for each bar.
    pub same: Vec<f64>,
    /// Share of the pairs of two versions of different cliques, for each bar.
    pub other: Vec<f64>,
}

/// How a version is named to people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionName {
    /// Title and performer, or the id if there is no title.
    pub name: String,
    /// Id in the index.
    pub version_id: String,
    /// Clique in the index.
    pub clique_id: String,
}

impl From<&Label> for VersionName {
    fn from(label: &Label) -> Self {
        let Label { version_id, clique_id, title, performer, .. } = label;
        let name = match (title.is_empty(), performer.is_empty()) {
            (true, _) => version_id.clone(),
            (false, true) => format!("{title} ({version_id})"),
            (false, false) => format!("{title} – {performer}"),
        };
        Self { name, version_id: version_id.clone(), clique_id: clique_id.clone() }
    }
}

/// A query with a low average precision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HardQuery {
    /// The query.
    pub query: VersionName,
    /// The query's average precision.
    pub average_precision: f64,
    /// Rank of the query's first match.
    pub first_match_rank: u32,
    /// The match at that rank.
    pub first_match: Option<VersionName>,
    /// The wrong candidates ranked highest, with their distances.
    pub wrong_above: Vec<(VersionName, f32)>,
}

/// The mean over a group of queries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueryGroup {
    /// Bounds of the group, for people.
    pub name: String,
    /// Number of queries with a match.
    pub queries: usize,
    /// Their mean average precision.
    pub map: f64,
}

/// The analysis of one split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Analysis {
    /// The split that is analysed.
    pub split: Split,
    /// Number of versions in the split.
    pub versions: usize,
    /// Number of cliques in the split.
    pub cliques: usize,
    /// Distances of pairs; of large splits, of a sample of the cliques.
    pub distances: PairDistances,
    /// Recall and precision over all pairs of the split, by threshold.
    pub precision_recall: Vec<(f64, f64)>,
    /// Queries by the number of versions in their clique.
    pub by_clique_size: Vec<QueryGroup>,
    /// Queries by their length.
    pub by_duration: Vec<QueryGroup>,
    /// The queries with the lowest average precision, worst first.
    pub hardest: Vec<HardQuery>,
}

/// Returns the split to analyse: test if there is one, else the largest; `None` without versions.
pub fn split_to_analyse<'a>(labels: impl IntoIterator<Item = &'a Label>) -> Option<Split> {
    let mut sizes: HashMap<Split, usize> = HashMap::new();
    for label in labels {
        *sizes.entry(label.split).or_default() += 1;
    }
    let largest = sizes.iter().max_by_key(|(split, size)| (**size, **split)).map(|(split, _)| *split);
    if sizes.contains_key(&Split::Test) { Some(Split::Test) } else { largest }
}

impl Analysis {
    /// Analyses a split compared by one vector per recording, by the rules of the figures.
    ///
    /// # Errors
    /// A vector that is not finite.
    pub fn of_embeddings(embeddings: &Embeddings, split: Split, policy: &Policy) -> Result<Self> {
        let versions = Versions::of_split(embeddings, split);
        let results = rank_all(&versions.rows(), &versions.cliques, policy)?;
        let candidates = |query: usize, count: usize| {
            let query = Vectors { vectors: versions.vector(query), dim: versions.dim };
            Ok(nearest(&query, &versions.rows(), policy.distance, count)?.into_iter().flatten().collect())
        };
        let cosines = versions.sample().pairs()?.into_iter();
        let pairs = Pairs::new(cosines.map(|(cosine, same)| (1.0 - cosine, same)).collect());
        Self::new(split, &versions, &pairs, &results, policy, candidates)
    }

    /// Analyses a split compared by a square matrix of `distances`, which also are the scores of `versions`; `results` are the ranks
    /// that the figures were computed from.
    ///
    /// # Errors
    /// A distance that is not finite.
    pub fn of_distances(
        split: Split,
        versions: &Versions<'_>,
        distances: &[f32],
        results: &[QueryResult],
        policy: &Policy,
    ) -> Result<Self> {
        let candidates = |query: usize, count: usize| {
            let row = distances[query * versions.len()..][..versions.len()].iter();
            let mut all: Vec<Neighbour> =
                row.enumerate().map(|(row, &distance)| Neighbour { row, distance }).collect();
            // Stable, so that ties go to the candidate first in the file, as in the figures.
            all.sort_by(|a, b| a.distance.total_cmp(&b.distance));
            all.truncate(count);
            Ok(all)
        };
        let pairs = Pairs::new(versions.sample().pairs()?);
        Self::new(split, versions, &pairs, results, policy, candidates)
    }

    /// `candidates(query, count)` returns the nearest versions of a query, perhaps with the query itself.
    fn new(
        split: Split,
        versions: &Versions<'_>,
        pairs: &Pairs,
        results: &[QueryResult],
        policy: &Policy,
        candidates: impl Fn(usize, usize) -> Result<Vec<Neighbour>>,
    ) -> Result<Self> {
        Ok(Self {
            split,
            versions: versions.len(),
            cliques: versions.clique_count(),
            precision_recall: pairs.precision_recall(versions.pair_counts()),
            distances: pairs.histograms(),
            by_clique_size: by_clique_size(versions, results, policy),
            by_duration: by_duration(versions, results, policy),
            hardest: hardest(versions, results, candidates)?,
        })
    }
}

/// The distances of all pairs of a sample, ascending, each with whether the pair is of one clique.
struct Pairs(Vec<(f32, bool)>);

impl Pairs {
    /// Sorts distances of pairs.
    fn new(mut pairs: Vec<(f32, bool)>) -> Self {
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        Self(pairs)
    }

    fn histograms(&self) -> PairDistances {
        let (Some(first), Some(last)) = (self.0.first(), self.0.last()) else {
            return PairDistances::default();
        };
        let range = (first.0.min(0.0), last.0.max(first.0 + 1e-3));
        let share = |of_one: bool| {
            let mut bars = vec![0f64; BARS];
            let mut count = 0;
            for (distance, same) in &self.0 {
                if *same == of_one {
                    let bar = (distance - range.0) / (range.1 - range.0) * BARS as f32;
                    bars[(bar as usize).min(BARS - 1)] += 1.0;
                    count += 1;
                }
            }
            bars.iter().map(|bar| bar / f64::from(count.max(1))).collect()
        };
        PairDistances { range, same: share(true), other: share(false) }
    }

    /// Computes recall and precision at up to about 200 thresholds. `all` counts the pairs of the whole split, of which these may be a sample.
    fn precision_recall(&self, all: PairCounts) -> Vec<(f64, f64)> {
        let total = self.0.iter().filter(|pair| pair.1).count();
        let others = (self.0.len() - total).max(1) as f64;
        let mut points = Vec::new();
        let mut matches = 0usize;
        for (position, (_, same)) in self.0.iter().enumerate() {
            matches += usize::from(*same);
            if *same && (points.len() < 200 || matches.is_multiple_of((total / 200).max(1))) {
                let recall = matches as f64 / total as f64;
                points.push((recall, all.precision(recall, (position + 1 - matches) as f64 / others)));
            }
        }
        points
    }
}

/// Computes the mean over a group of queries, by the rules of the figures; `None` if no query counts.
fn query_group(name: String, results: Vec<QueryResult>, policy: &Policy) -> Option<QueryGroup> {
    let metrics = Metrics::from_results(&results, policy).ok()?;
    Some(QueryGroup { name, queries: metrics.queries, map: metrics.map })
}

fn by_clique_size(versions: &Versions<'_>, results: &[QueryResult], policy: &Policy) -> Vec<QueryGroup> {
    let mut sizes: HashMap<u32, usize> = HashMap::new();
    for clique in &versions.cliques {
        *sizes.entry(*clique).or_default() += 1;
    }
    let bounds = [(2, 2), (3, 3), (4, 5), (6, 9), (10, 19), (20, usize::MAX)];
    let groups = bounds.into_iter().filter_map(|(low, high)| {
        let is_inside =
            |result: &&QueryResult| (low..=high).contains(&sizes[&versions.cliques[result.query]]);
        let inside: Vec<QueryResult> = results.iter().filter(is_inside).cloned().collect();
        let name = match (low, high) {
            (low, usize::MAX) => format!("{low} and more"),
            (low, high) if low == high => low.to_string(),
            (low, high) => format!("{low} to {high}"),
        };
        query_group(name, inside, policy)
    });
    groups.collect()
}

fn by_duration(versions: &Versions<'_>, results: &[QueryResult], policy: &Policy) -> Vec<QueryGroup> {
    let bounds = [
        (0.0, 30.0),
        (30.0, 60.0),
        (60.0, 120.0),
        (120.0, 180.0),
        (180.0, 240.0),
        (240.0, 360.0),
        (360.0, f32::INFINITY),
    ];
    let groups = bounds.into_iter().filter_map(|(low, high): (f32, f32)| {
        let is_inside = |result: &&QueryResult| {
            let duration = versions.labels[result.query].duration_s;
            duration >= low && duration < high
        };
        let inside: Vec<QueryResult> = results.iter().filter(is_inside).cloned().collect();
        let name = if high.is_finite() { format!("{low} to {high} s") } else { format!("over {low} s") };
        query_group(name, inside, policy)
    });
    groups.collect()
}

/// Returns the results of queries that have a match.
fn with_matches(results: &[QueryResult]) -> impl Iterator<Item = &QueryResult> {
    results.iter().filter(|result| !result.ranks.is_empty())
}

fn hardest(
    versions: &Versions<'_>,
    results: &[QueryResult],
    candidates: impl Fn(usize, usize) -> Result<Vec<Neighbour>>,
) -> Result<Vec<HardQuery>> {
    let mut worst: Vec<&QueryResult> = with_matches(results).filter(|result| result.ranks[0] > 1).collect();
    worst.sort_by(|a, b| a.average_precision().total_cmp(&b.average_precision()).then(a.query.cmp(&b.query)));
    let name = |row: usize| VersionName::from(versions.labels[row]);
    let mut hardest = Vec::new();
    for result in worst.into_iter().take(MAX_HARDEST) {
        // One more for the query itself, and one where the rules drop the nearest.
        let mut others = candidates(result.query, result.ranks[0] as usize + 2)?;
        others.retain(|other| other.row != result.query);
        let is_match = |other: &&Neighbour| versions.cliques[other.row] == versions.cliques[result.query];
        let wrong = others.iter().filter(|other| !is_match(other)).take(MAX_WRONG_ABOVE);
        hardest.push(HardQuery {
            query: name(result.query),
            average_precision: result.average_precision(),
            first_match_rank: result.ranks[0],
            first_match: others.iter().find(is_match).map(|other| name(other.row)),
            wrong_above: wrong.map(|other| (name(other.row), other.distance)).collect(),
        });
    }
    Ok(hardest)
}
