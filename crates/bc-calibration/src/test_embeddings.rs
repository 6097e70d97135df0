//! Synthetic embeddings for tests.

use bc_formats::embeddings::{Embeddings, Label};
use bc_formats::index::Split;
use bc_formats::provenance::Provenance;

/// Embeddings of `dim` numbers each: `versions` consecutive vectors are the versions of one work, and `split` returns a
/// work's split.
pub fn embeddings(
    dim: usize,
    versions: usize,
    vectors: Vec<f32>,
    split: impl Fn(usize) -> Split,
) -> Embeddings {
    let label = |number: usize| {
        let (work, version) = (number / versions, number % versions);
        Label {
            version_id: format!("{work}-{version}"),
            clique_id: format!("work {work}"),
            title: String::new(),
            performer: String::new(),
            split: split(work),
            duration_s: 60.0,
            start_s: 0.0,
            source_hash: String::new(),
        }
    };
    let provenance = Provenance {
        format: String::new(),
        tool: String::new(),
        settings: serde_json::Value::Null,
        fingerprint: String::new(),
        inputs: Default::default(),
    };
    Embeddings { labels: (0..vectors.len() / dim).map(label).collect(), dim, vectors, provenance }
}
