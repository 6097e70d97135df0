//! Figures of the validation split: whole tracks, no crop, no padding.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use bc_formats::config::Distance;
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
    /// Mean triplet loss of f_t over one random triplet a version.
    pub triplet: f64,
}

/// Embeds every validation track and measures.
pub fn validate(
    learner: &Learner,
    data: &DataSet,
    input: &NetworkInput,
    distance: Distance,
    margin: f64,
    seed: u64,
) -> Result<Figures> {
    let tracks = data.training..data.store.tracks().len();
    let mut by_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for track in tracks.clone() {
        let columns = data.store.tracks()[track].frames / input.group()?;
        by_length.entry(columns.max(1)).or_default().push(track);
    }
    let mut f_t: Vec<Vec<f32>> = vec![Vec::new(); tracks.len()];
    let mut f_c = f_t.clone();
    for (columns, tracks) in by_length {
        for together in tracks.chunks(TOGETHER) {
            let mut values = Vec::with_capacity(together.len() * data.store.bins() * columns);
            for &track in together {
                let view = data.store.view(track);
                values.extend(input.whole_track(view.values, view.frames)?.0);
            }
            let embedded = learner.embed(values, together.len(), data.store.bins(), columns)?;
            let dim = embedded.dim;
            for (i, &track) in together.iter().enumerate() {
                f_t[track - data.training] = embedded.f_t[i * dim..(i + 1) * dim].to_vec();
                f_c[track - data.training] = embedded.f_c[i * dim..(i + 1) * dim].to_vec();
            }
        }
    }
    let dim = f_c.first().map_or(0, Vec::len);
    let vectors = f_c.concat();
    let metrics = bc_retrieval::evaluate(
        &bc_retrieval::Vectors { vectors: &vectors, dim },
        &data.validation_cliques,
        &policy(distance),
    )
    .context("the validation embeddings cannot be evaluated")?;
    Ok(Figures {
        map: metrics.map,
        mr1: metrics.mr1,
        hit_at_1: metrics.hit_at_1,
        triplet: triplet_loss(&f_t, &data.validation_cliques, margin, seed),
    })
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
