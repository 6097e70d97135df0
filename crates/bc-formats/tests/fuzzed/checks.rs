//! Checks that must hold for any bytes given to the readers of the files between the stages: an error that names the file, or
//! content that is written and read again as it is.

use bc_formats::embeddings::Embeddings;
use bc_formats::features::{FeatureSet, failures};
use bc_formats::index::Index;
use bc_formats::{array, config};
use bc_testing::fuzzed::{in_file, names_file};
use bc_testing::memory::within;

pub fn index(bytes: &[u8]) {
    in_file("index.parquet", bytes, |path| {
        let Some(mut read) = names_file(path, Index::read(path)) else { return };
        let again = path.with_file_name("again.parquet");
        if read.write(&again).is_ok() {
            assert_eq!(Index::read(&again).expect("a file just written").versions, read.versions);
        }
    });
}

pub fn features(bytes: &[u8]) {
    in_file("part-00000.parquet", bytes, |path| {
        let folder = path.parent().expect("a folder");
        let Some(set) = names_file(path, FeatureSet::open(folder)) else { return };
        let mut rows = 0;
        let read = set.for_each(|row| {
            rows += 1;
            let values = u64::from(row.frames) * u64::from(set.settings.bins);
            assert_eq!(row.magnitude.len() as u64, values, "{}", row.version_id);
            Ok(())
        });
        if names_file(path, read).is_some() {
            assert_eq!(rows, set.rows.len());
        }
        set.fingerprint();
    });
}

pub fn failures(bytes: &[u8]) {
    in_file("failures.parquet", bytes, |path| {
        names_file(path, failures::read(path));
    });
}

pub fn embeddings(bytes: &[u8]) {
    in_file("embeddings.parquet", bytes, |path| {
        let Some(read) = names_file(path, Embeddings::read(path)) else { return };
        assert_eq!(read.vectors.len(), read.dim * read.labels.len());
        assert!(read.vectors.iter().all(|value| value.is_finite()), "a search would find nothing");
    });
}

pub fn npy(bytes: &[u8]) {
    in_file("array.npy", bytes, |path| {
        let limit = (16 << 20) + 32 * bytes.len();
        if let Some(matrix) = names_file(path, within(limit, || array::read(path))) {
            assert!(matrix.columns == 0 || matrix.values.len().is_multiple_of(matrix.columns));
        }
        if let Some(cube) = names_file(path, within(limit, || array::read_cube(path))) {
            assert_eq!(cube.values.len(), cube.shape.iter().product::<usize>());
        }
    });
}

pub fn config(bytes: &[u8]) {
    in_file("experiment.toml", bytes, |path| {
        let read = within((32 << 20) + 1000 * bytes.len(), || config::load(Some(path), &[]));
        let Some(config) = names_file(path, read) else { return };
        let printed = config.to_commented_toml();
        std::fs::write(path, &printed).expect("a written file");
        assert_eq!(config::load(Some(path), &[]).expect("what was printed"), config, "{printed}");
    });
}
