//! The analysis of a set of embeddings that the report shows in addition to the means.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};
use bc_formats::embeddings::{Embeddings, Label};
use bc_formats::index::Split;
use bc_retrieval::{Metrics, Policy, QueryResult, Vectors, nearest, rank_all};

use super::tsne;
use bc_calibration::versions::{PairCounts, Versions};

/// Number of bars of the histograms.
const BARS: usize = 40;
/// Number of queries listed as the hardest.
const MAX_HARDEST: usize = 12;
/// Number of wrong candidates shown for each of the hardest queries.
const MAX_WRONG_ABOVE: usize = 3;

/// Histograms of the cosine distances of pairs: the share of pairs in each bar.
#[derive(Debug, Default)]
pub struct PairDistances {
    /// Left edge of the first bar and right edge of the last.
    pub range: (f32, f32),
    /// Distances of two versions of one clique.
    pub same: Vec<f64>,
    /// Distances of two versions of different cliques.
    pub other: Vec<f64>,
}

/// A query with a low average precision.
#[derive(Debug)]
pub struct HardQuery {
    /// The query.
    pub query: Label,
    /// The query's average precision.
    pub average_precision: f64,
    /// Rank of the query's first match.
    pub first_match_rank: u32,
    /// The match at that rank.
    pub first_match: Option<Label>,
    /// The wrong candidates ranked highest, with their distances.
    pub wrong_above: Vec<(Label, f32)>,
}

/// A version on the map.
#[derive(Debug)]
pub struct Point {
    pub x: f32,
    pub y: f32,
    /// Number of its clique, which gives its colour.
    pub clique: usize,
    pub label: Label,
}

/// The mean over a group of queries.
#[derive(Debug)]
pub struct QueryGroup {
    pub name: String,
    pub queries: usize,
    pub map: f64,
}

/// The analysis of one split.
#[derive(Debug)]
pub struct Analysis {
    /// The split that is analysed: test if there is one.
    pub split: Split,
    pub versions: usize,
    pub cliques: usize,
    pub distances: PairDistances,
    /// Recall and precision over all pairs of the split, by threshold.
    pub precision_recall: Vec<(f64, f64)>,
    pub by_clique_size: Vec<QueryGroup>,
    pub by_duration: Vec<QueryGroup>,
    pub map: Vec<Point>,
    pub hardest: Vec<HardQuery>,
}

impl Analysis {
    /// Analyses the test split, or the largest one if there is none, by the rules of the figures.
    pub fn new(embeddings: &Embeddings, policy: &Policy) -> Result<Self> {
        let mut sizes: BTreeMap<Split, usize> = BTreeMap::new();
        for label in &embeddings.labels {
            *sizes.entry(label.split).or_default() += 1;
        }
        let largest = sizes.iter().max_by_key(|(_, size)| **size).map(|(split, _)| *split);
        let split = if sizes.contains_key(&Split::Test) { Some(Split::Test) } else { largest };
        let split = split.context("there are no embeddings to report on")?;
        let chosen = Versions::of_split(embeddings, split);
        let results = rank_all(&chosen.rows(), &chosen.cliques, policy)?;
        let sample = chosen.sample();
        let pairs = Pairs::new(&sample)?;
        Ok(Self {
            split,
            versions: chosen.len(),
            cliques: chosen.clique_count(),
            precision_recall: pairs.precision_recall(chosen.pair_counts()),
            distances: pairs.histograms(),
            by_clique_size: by_clique_size(&chosen, &results, policy),
            by_duration: by_duration(&chosen, &results, policy),
            map: map(&sample),
            hardest: hardest(&chosen, &results, policy)?,
        })
    }
}

/// Returns the positions of the versions on the map.
fn map(sample: &Versions<'_>) -> Vec<Point> {
    let units: Vec<Vec<f32>> = (0..sample.len()).map(|row| unit(sample.vector(row))).collect();
    let vectors: Vec<&[f32]> = units.iter().map(Vec::as_slice).collect();
    let positions = tsne::map(&vectors).into_iter().zip(&sample.cliques).zip(&sample.labels);
    let points = positions.map(|(([x, y], clique), label)| Point {
        x,
        y,
        clique: *clique as usize,
        label: Label::clone(label),
    });
    points.collect()
}

/// Returns the vector scaled to length 1, for the map.
fn unit(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-12);
    vector.iter().map(|value| value / length).collect()
}

/// The distances of all pairs of a sample, ascending, each with whether the pair is of one clique.
struct Pairs(Vec<(f32, bool)>);

impl Pairs {
    fn new(sample: &Versions<'_>) -> Result<Self> {
        let pairs = sample.pairs()?.into_iter();
        let mut pairs: Vec<_> = pairs.map(|(score, same)| (1.0 - score, same)).collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(Self(pairs))
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

    /// Computes recall and precision at up to about 200 thresholds. `all` counts the pairs of the whole split, of which these may
    /// be a sample.
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

fn by_clique_size(chosen: &Versions<'_>, results: &[QueryResult], policy: &Policy) -> Vec<QueryGroup> {
    let mut sizes: HashMap<u32, usize> = HashMap::new();
    for clique in &chosen.cliques {
        *sizes.entry(*clique).or_default() += 1;
    }
    let bounds = [(2, 2), (3, 3), (4, 5), (6, 9), (10, 19), (20, usize::MAX)];
    let groups = bounds.into_iter().filter_map(|(low, high)| {
        let is_inside = |result: &&QueryResult| (low..=high).contains(&sizes[&chosen.cliques[result.query]]);
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

fn by_duration(chosen: &Versions<'_>, results: &[QueryResult], policy: &Policy) -> Vec<QueryGroup> {
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
            let duration = chosen.labels[result.query].duration_s;
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

fn hardest(chosen: &Versions<'_>, results: &[QueryResult], policy: &Policy) -> Result<Vec<HardQuery>> {
    let mut worst: Vec<&QueryResult> = with_matches(results).filter(|result| result.ranks[0] > 1).collect();
    worst.sort_by(|a, b| a.average_precision().total_cmp(&b.average_precision()).then(a.query.cmp(&b.query)));
    let mut hardest = Vec::new();
    for result in worst.into_iter().take(MAX_HARDEST) {
        let query = Vectors { vectors: chosen.vector(result.query), dim: chosen.dim };
        // One more for the query itself, and one where the rules drop the nearest.
        let neighbours = nearest(&query, &chosen.rows(), policy.distance, result.ranks[0] as usize + 2)?;
        let others: Vec<_> =
            neighbours.into_iter().flatten().filter(|other| other.row != result.query).collect();
        let is_match = |row: usize| chosen.cliques[row] == chosen.cliques[result.query];
        let wrong = others.iter().filter(|other| !is_match(other.row)).take(MAX_WRONG_ABOVE);
        hardest.push(HardQuery {
            query: chosen.labels[result.query].clone(),
            average_precision: result.average_precision(),
            first_match_rank: result.ranks[0],
            first_match: others
                .iter()
                .find(|other| is_match(other.row))
                .map(|other| chosen.labels[other.row].clone()),
            wrong_above: wrong.map(|other| (chosen.labels[other.row].clone(), other.distance)).collect(),
        });
    }
    Ok(hardest)
}
