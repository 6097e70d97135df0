//! Checks that audio that changed after its features were computed is reported before anything is embedded.

mod common;

use bc_formats::index::Index;
use common::{experiment, refuse, succeed};

#[test]
fn features_of_other_audio_than_the_index_knows_are_refused_with_both_values_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    experiment(folder.path(), 4);
    let path = folder.path().join("index.parquet");
    let mut index = Index::read(&path).unwrap();
    // The hashes that `bc-download-index verify` records for unchanged audio.
    for version in &mut index.versions {
        version.content_hash = Some(format!("hash of {}", version.version_id));
    }
    index.write(&path).unwrap();
    succeed(folder.path(), &["embed", "--config", "c.toml"]);
    index.versions[5].content_hash = Some("another".into());
    index.write(&path).unwrap();
    let error = refuse(folder.path(), &["embed", "--config", "c.toml"]);
    for word in ["1 version(s)", "v005", "hash of v005", "another", "index.parquet", "bc-features extract"] {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}
