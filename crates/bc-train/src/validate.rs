//! Figures of the validation split: whole tracks, no crop, no padding.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use bc_formats::config::{Distance, TrainConfig};
use bc_formats::run::NetworkInput;

use crate::data::DataSet;
use crate::learner::Learner;
use crate::randomness::generator;

/// Tracks that pass the network together, if their lengths are equal.
const TOGETHER: usize = 16;
/// PyTorch's `pairwise_distance` adds this to every difference.
const EPSILON: f64 = 1e-6;

/// What a validation found.
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
    /// What a network that has diverged is worth: no figure is a number, so none is ever the best.
    const NONE: Self = Self { map: f64::NAN, mr1: f64::NAN, hit_at_1: f64::NAN, triplet: f64::NAN };
}

/// Embeddings of the tracks of a validation, each at its position.
struct Embeddings {
    f_t: Vec<Vec<f32>>,
    f_c: Vec<Vec<f32>>,
}

/// Embeds every validation track and measures; `None` if `stop` said so before the end, which is asked between
/// any two forward passes. Embeddings that are not finite are a warning that names the versions, and figures
/// that are not numbers.
///
/// # Errors
/// Memory that does not suffice.
pub fn validate(
    learner: &Learner,
    data: &DataSet,
    input: &NetworkInput,
    train: &TrainConfig,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Figures>> {
    let Some(Embeddings { f_t, f_c }) = embed(learner, data, input, stop)? else { return Ok(None) };
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

fn embed(
    learner: &Learner,
    data: &DataSet,
    input: &NetworkInput,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Embeddings>> {
    let mut by_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (position, &track) in data.validation.iter().enumerate() {
        let columns = data.store.tracks()[track].frames / input.group()?;
        by_length.entry(columns.max(1)).or_default().push(position);
    }
    let mut f_t: Vec<Vec<f32>> = vec![Vec::new(); data.validation.len()];
    let mut f_c = f_t.clone();
    for (columns, positions) in by_length {
        for together in positions.chunks(TOGETHER) {
            if stop() {
                return Ok(None);
            }
            let mut values = Vec::with_capacity(together.len() * input.rows() * columns);
            for &position in together {
                let view = data.store.view(data.validation[position]);
                values.extend(input.whole_track(view.values, view.frames)?.0);
            }
            let embedded = learner.embed(values, together.len(), input.rows(), columns)?;
            let dim = embedded.dim;
            for (i, &position) in together.iter().enumerate() {
                f_t[position] = embedded.f_t[i * dim..(i + 1) * dim].to_vec();
                f_c[position] = embedded.f_c[i * dim..(i + 1) * dim].to_vec();
            }
        }
    }
    Ok(Some(Embeddings { f_t, f_c }))
}

fn policy(distance: Distance) -> bc_retrieval::Policy {
    let distance = match distance {
        Distance::Cosine => bc_retrieval::Distance::Cosine,
        Distance::Euclidean => bc_retrieval::Distance::Euclidean,
    };
    bc_retrieval::Policy { distance, ..bc_retrieval::Policy::default() }
}

/// Mean of max(0, d(a, p) - d(a, n) + margin); the triplets are the same at every validation.
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
    fn the_triplet_loss_is_that_of_the_formula() {
        // One clique of two, one single: both anchors have one choice each.
        let embeddings = [vec![0.0, 0.0], vec![3.0, 4.0], vec![0.0, 1.0]];
        let loss = triplet_loss(&embeddings, &[0, 0, 1], 0.3, 1);
        // d(0,1) = 5, d(0,2) = 1, d(1,2) = sqrt(18).
        let expected = ((5.0 - 1.0 + 0.3) + (5.0 - 18f64.sqrt() + 0.3)) / 2.0;
        assert!((loss - expected).abs() < 1e-4, "{loss} {expected}");
    }
}
