//! Validation figures of the network, computed on whole tracks without crops or padding.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use bc_formats::config::{Distance, TrainConfig};
use bc_formats::run::NetworkInput;
use bc_ranks::Ranks;

use crate::data::DataSet;
use crate::learner::Learner;
use crate::randomness::generator;

/// Maximum number of tracks of equal length that are embedded together.
const MAX_BATCH: usize = 16;
/// Added to every difference, as PyTorch's `pairwise_distance` does.
const EPSILON: f64 = 1e-6;

/// The figures of a validation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Mean average precision of f_c.
    pub map: f64,
    /// Mean rank of the first match.
    pub mr1: f64,
    /// Share of queries whose nearest neighbour is a match.
    pub hit_at_1: f64,
    /// Mean triplet loss of f_t over one random triplet per version.
    pub triplet: f64,
}

impl Figures {
    /// The figures of a diverged network: all are NaN, so none is ever the best.
    const NONE: Self = Self { map: f64::NAN, mr1: f64::NAN, hit_at_1: f64::NAN, triplet: f64::NAN };
}

/// Embeddings of all validation tracks, in the order of [`DataSet::validation`].
struct Embeddings {
    /// Before the BNNeck.
    f_t: Vec<Vec<f32>>,
    /// After the BNNeck.
    f_c: Vec<Vec<f32>>,
}

/// Embeds every validation track, each in one of the `ranks`, and computes the figures. Returns `None` if `stop`, which is
/// called between forward passes, returned true in any rank before the end. If embeddings are not finite, a warning names
/// the versions, and the figures are NaN.
///
/// # Errors
/// Not enough memory; a rank that has ended.
pub fn validate(
    learner: &Learner,
    data: &DataSet,
    input: &NetworkInput,
    train: &TrainConfig,
    ranks: &Ranks,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Figures>> {
    let Some(Embeddings { f_t, f_c }) = embed(learner, data, input, ranks, stop)? else { return Ok(None) };
    let finite =
        |position: &usize| f_t[*position].iter().chain(&f_c[*position]).all(|value| value.is_finite());
    let broken: Vec<usize> = (0..f_c.len()).filter(|position| !finite(position)).collect();
    if !broken.is_empty() {
        let id = |&position: &usize| data.store.tracks()[data.validation[position]].version_id.as_str();
        let named: Vec<&str> = broken.iter().map(id).take(5).collect();
        tracing::warn!(
            "the embeddings of {} of {} validation versions are not finite ({}{}): the network has diverged; a lower \
             learning rate or clip_norm may help",
            broken.len(),
            f_c.len(),
            named.join(", "),
            if broken.len() > named.len() { ", ..." } else { "" }
        );
        return Ok(Some(Figures::NONE));
    }
    let dim = f_c.first().map_or(0, Vec::len);
    let vectors = f_c.concat();
    let metrics = bc_retrieval::evaluate(
        &bc_retrieval::Vectors { vectors: &vectors, dim },
        &data.validation_cliques,
        &policy(train.distance),
    )
    .context("the validation embeddings cannot be evaluated")?;
    Ok(Some(Figures {
        map: metrics.map,
        mr1: metrics.mr1,
        hit_at_1: metrics.hit_at_1,
        triplet: triplet_loss(&f_t, &data.validation_cliques, train.margin, train.seed),
    }))
}

/// Tracks of one length that pass the network together.
struct Group {
    columns: usize,
    /// Positions in the validation split.
    positions: Vec<usize>,
}

/// Groups the validation tracks by their length, up to [`MAX_BATCH`] tracks each.
fn groups_by_length(data: &DataSet, input: &NetworkInput) -> Result<Vec<Group>> {
    let mut by_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (position, &track) in data.validation.iter().enumerate() {
        let columns = data.store.tracks()[track].frames / input.group()?;
        by_length.entry(columns.max(1)).or_default().push(position);
    }
    let cut = |(columns, positions): (usize, Vec<usize>)| {
        let group = |positions: &[usize]| Group { columns, positions: positions.to_vec() };
        positions.chunks(MAX_BATCH).map(group).collect::<Vec<_>>()
    };
    Ok(by_length.into_iter().flat_map(cut).collect())
}

/// Embeds all validation tracks: every rank embeds one group of each round, and receives the embeddings of all ranks.
fn embed(
    learner: &Learner,
    data: &DataSet,
    input: &NetworkInput,
    ranks: &Ranks,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Embeddings>> {
    let mut f_t: Vec<Vec<f32>> = vec![Vec::new(); data.validation.len()];
    let mut f_c = f_t.clone();
    let dim = learner.network().settings().embedding();
    for round in groups_by_length(data, input)?.chunks(ranks.size()) {
        let [stopped] = ranks.any([stop()])?;
        if stopped {
            return Ok(None);
        }
        let own = match round.get(ranks.rank()) {
            Some(group) => embed_group(learner, data, input, group)?,
            None => Vec::new(),
        };
        let counts: Vec<usize> = (0..ranks.size())
            .map(|rank| round.get(rank).map_or(0, |group| 2 * dim * group.positions.len()))
            .collect();
        let rows = ranks.gather(&own, &counts)?;
        let positions = round.iter().flat_map(|group| &group.positions);
        for (&position, row) in positions.zip(rows.chunks(2 * dim)) {
            f_t[position] = row[..dim].to_vec();
            f_c[position] = row[dim..].to_vec();
        }
    }
    Ok(Some(Embeddings { f_t, f_c }))
}

/// Embeds the tracks of a group; returns f_t and f_c of each track, one after the other.
fn embed_group(learner: &Learner, data: &DataSet, input: &NetworkInput, group: &Group) -> Result<Vec<f32>> {
    let Group { columns, positions } = group;
    let bins = input.rows();
    let mut values = Vec::with_capacity(positions.len() * bins * columns);
    for &position in positions {
        let view = data.store.view(data.validation[position]);
        values.extend(input.whole_track(view.values, view.frames)?.0);
    }
    let embedded = learner.embed(values, positions.len(), bins, *columns)?;
    let rows = embedded.f_t.chunks(embedded.dim).zip(embedded.f_c.chunks(embedded.dim));
    Ok(rows.flat_map(|(f_t, f_c)| [f_t, f_c]).flatten().copied().collect())
}

/// Returns the evaluation rules of the validation, with the configured distance.
fn policy(distance: Distance) -> bc_retrieval::Policy {
    let distance = match distance {
        Distance::Cosine => bc_retrieval::Distance::Cosine,
        Distance::Euclidean => bc_retrieval::Distance::Euclidean,
    };
    bc_retrieval::Policy { distance, ..bc_retrieval::Policy::default() }
}

/// Computes the mean of max(0, d(a, p) - d(a, n) + margin); the triplets are the same at every validation.
fn triplet_loss(embeddings: &[Vec<f32>], cliques: &[u32], margin: f64, seed: u64) -> f64 {
    let triplets = crate::mining::random(cliques, &mut generator(seed, "validation triplets", &[]));
    let distance = |a: u32, b: u32| {
        let pairs = embeddings[a as usize].iter().zip(&embeddings[b as usize]);
        pairs.map(|(x, y)| (f64::from(x - y) + EPSILON).powi(2)).sum::<f64>().sqrt()
    };
    let losses = (0..triplets.len()).map(|i| {
        let (a, p, n) = (triplets.anchors[i], triplets.positives[i], triplets.negatives[i]);
        (distance(a, p) - distance(a, n) + margin).max(0.0)
    });
    losses.sum::<f64>() / triplets.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triplet_loss_matches_the_formula() {
        // One clique of two, one single: both anchors have one choice each.
        let embeddings = [vec![0.0, 0.0], vec![3.0, 4.0], vec![0.0, 1.0]];
        let loss = triplet_loss(&embeddings, &[0, 0, 1], 0.3, 1);
        // d(0,1) = 5, d(0,2) = 1, d(1,2) = sqrt(18).
        let expected = ((5.0 - 1.0 + 0.3) + (5.0 - 18f64.sqrt() + 0.3)) / 2.0;
        assert!((loss - expected).abs() < 1e-4, "{loss} {expected}");
    }
}
