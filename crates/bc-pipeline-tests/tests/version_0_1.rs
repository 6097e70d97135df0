//! Files that version 0.1 wrote can still be read.

use std::path::{Path, PathBuf};

use bc_formats::features::{FeatureSet, failures};
use bc_formats::index::{Index, Split};
use bc_pipeline_tests::Scratch;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/v0.1")
}

#[test]
fn index_and_features_of_0_1_keep_their_fingerprints() {
    let index = Index::read(&data().join("index.parquet")).unwrap();
    assert_eq!(index.versions.len(), 12);
    assert_eq!(index.provenance.tool, "bc-download-index 0.1.0");
    assert_eq!(Index::fingerprint(&index.versions), index.provenance.fingerprint);
    let set = FeatureSet::open(&data().join("features")).unwrap();
    assert_eq!(set.rows.len(), 12);
    // What the run of version 0.1 has written down of its features.
    let state = data().join("run/checkpoints/step-00000002/state.json");
    let state = std::fs::read_to_string(state).unwrap();
    assert!(state.contains(&set.fingerprint()), "{} is not in {state}", set.fingerprint());
    assert!(set.outdated(&index).is_empty());
    let mut values = 0;
    set.for_each(|row| {
        assert!(row.magnitude.iter().all(|value| value.is_finite()));
        values += row.magnitude.len();
        Ok(())
    })
    .unwrap();
    assert_eq!(values, set.rows.iter().map(|row| 84 * row.frames as usize).sum::<usize>());
    assert_eq!(index.versions.iter().filter(|version| version.split == Split::Train).count(), 6);
    assert_eq!(failures::tables(&data()).unwrap(), Vec::<PathBuf>::new());
}

#[test]
fn extraction_reports_that_another_extractor_made_the_features() {
    let scratch = Scratch::default();
    for file in ["index.parquet", "features/part-00000.parquet"] {
        std::fs::create_dir_all(scratch.path(file).parent().unwrap()).unwrap();
        std::fs::copy(data().join(file), scratch.path(file)).unwrap();
    }
    std::fs::copy(data().join("tiny.toml"), scratch.path("tiny.toml")).unwrap();
    let printed = scratch.succeed("bc-features", &["extract", "--config", "tiny.toml"]);
    for word in ["Nothing to do: features of 12 of 12", "12 of 12 rows", "`bc-features 0.1.0`", "--renew"] {
        assert!(printed.contains(word), "no `{word}` in {printed}");
    }
}
