//! Replays the fuzzer's seeds and findings (`fuzz/README.md`) with the assertions of its targets.

mod checks;

use bc_calibration::Calibration;
use bc_formats::embeddings::{Embeddings, Label};
use bc_formats::index::Split;
use bc_formats::provenance::Provenance;
use bc_testing::fuzzed::{replay, write_seed};

/// Counts the memory that the parsers allocate.
#[global_allocator]
static MEMORY: bc_testing::memory::Counting = bc_testing::memory::Counting;

#[test]
fn calibration() {
    replay("calibration", checks::calibration);
}

#[test]
#[ignore = "rewrites fuzz/corpus"]
fn write_corpus() {
    // Twelve works of two versions on a circle, near each other.
    let label = |number: usize| Label {
        version_id: number.to_string(),
        clique_id: (number / 2).to_string(),
        title: String::new(),
        performer: String::new(),
        split: Split::Val,
        duration_s: 31.5,
        start_s: 0.0,
        source_hash: "0123".into(),
    };
    let angle =
        |number: usize| (number / 2) as f32 * 0.25 + (number % 2) as f32 * (0.05 + 0.01 * number as f32);
    let embeddings = Embeddings {
        labels: (0..24).map(label).collect(),
        dim: 2,
        vectors: (0..24).flat_map(|number| [angle(number).cos(), angle(number).sin()]).collect(),
        provenance: Provenance {
            format: "embeddings/4".into(),
            tool: "bc-eval 0.2.0".into(),
            settings: serde_json::json!({ "splits": ["val"] }),
            fingerprint: "0123".into(),
            inputs: Default::default(),
        },
    };
    let calibration = Calibration::from_embeddings("embeddings.parquet".as_ref(), &embeddings).unwrap();
    write_seed("calibration", "circle", &serde_json::to_vec(&calibration).unwrap());
}
