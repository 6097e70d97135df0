//! The nearest versions of one that is in the index.

use std::path::Path;

use anyhow::{Context, Result};
use bc_formats::embeddings::Embeddings;
use bc_retrieval::{Distance, nearest};
use comfy_table::Table;
use serde::Serialize;

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hit {
    /// Rank, from 1.
    pub rank: usize,
    /// Cosine similarity, from -1 to 1.
    pub score: f32,
    /// Id in the index.
    pub version_id: String,
    /// Clique in the index.
    pub clique_id: String,
    /// Title, empty where unknown.
    pub title: String,
    /// Performer, empty where unknown.
    pub performer: String,
}

/// The `k` versions nearest to `version_id`, itself left out.
///
/// # Errors
/// When the embeddings cannot be read or do not hold the version.
pub fn by_version(index: &Path, version_id: &str, k: usize) -> Result<Vec<Hit>> {
    let embeddings = Embeddings::read(index)?;
    let own = embeddings.labels.iter().position(|label| label.version_id == version_id);
    let own = own.with_context(|| format!("{} holds no version {version_id:?}", index.display()))?;
    let dim = embeddings.dim;
    let query = bc_retrieval::Embeddings { vectors: &embeddings.vectors[own * dim..][..dim], dim };
    let all = bc_retrieval::Embeddings { vectors: &embeddings.vectors, dim };
    let found = nearest(&query, &all, Distance::Cosine, k.saturating_add(1))
        .with_context(|| index.display().to_string())?;
    let others = found.into_iter().flatten().filter(|neighbour| neighbour.row != own).take(k);
    let hits = others.zip(1..).map(|(neighbour, rank)| {
        let label = &embeddings.labels[neighbour.row];
        Hit {
            rank,
            score: 1.0 - neighbour.distance,
            version_id: label.version_id.clone(),
            clique_id: label.clique_id.clone(),
            title: label.title.clone(),
            performer: label.performer.clone(),
        }
    });
    Ok(hits.collect())
}

/// The hits for people.
#[must_use]
pub fn table(hits: &[Hit]) -> Table {
    let mut table = Table::new();
    table.set_header(["rank", "score", "title", "performer", "version"]);
    for hit in hits {
        let score = format!("{:.4}", hit.score);
        table.add_row([&hit.rank.to_string(), &score, &hit.title, &hit.performer, &hit.version_id]);
    }
    table
}
