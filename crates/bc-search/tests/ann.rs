//! Compares approximate search with exact search.

#[cfg(feature = "ann")]
mod common;

#[cfg(feature = "ann")]
mod graphs {
    use std::collections::BTreeMap;
    use std::path::Path;

    use bc_search::ann::{self, Graphs, Settings};
    use bc_search::index::change::{Adder, Addition, ConflictPolicy, compact, remove};
    use bc_search::index::{Index, Manifest, Row, Storage};
    use bc_search::scan::{self, Queries};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::common::{answers, checkpoint, melody, refuse, succeed};

    const DIM: usize = 48;
    const LARGE: Settings = Settings { connectivity: 16, expansion: 128, min_vectors: 1000 };

    /// The vector of a row; three consecutive rows are versions of one work.
    fn vector(row: u64) -> Vec<f32> {
        let mut work = ChaCha8Rng::seed_from_u64(row / 3);
        let mut own = ChaCha8Rng::seed_from_u64(row ^ 0x5eed_0000);
        (0..DIM).map(|_| work.random::<f32>() - 0.5 + 0.8 * (own.random::<f32>() - 0.5)).collect()
    }

    fn add(folder: &Path, storage: Storage, rows: std::ops::Range<u64>) {
        let network = BTreeMap::from([("checkpoint".to_owned(), "synthetic".to_owned())]);
        let empty = Manifest::from_provenance(serde_json::json!({}), network, storage, DIM);
        let additions = rows.map(|row| Addition {
            row: Row { path: format!("/{row}"), work: format!("W{}", row / 3), ..Row::default() },
            parts: vec![(0.0, vector(row))],
            windows: Vec::new(),
        });
        Adder::open(folder, empty, ConflictPolicy::KeepOld).unwrap().add(additions.collect()).unwrap();
    }

    fn queries(storage: Storage) -> Queries {
        let vectors: Vec<f32> = (0..40u64).flat_map(|number| vector(number * 73 + (1 << 20))).collect();
        Queries::new(&vectors, DIM, storage)
    }

    #[test]
    fn graph_search_agrees_with_exact_search() {
        for storage in [Storage::F16, Storage::Int8] {
            let folder = tempfile::tempdir().unwrap();
            add(folder.path(), storage, 0..4000);
            let built = ann::build(folder.path(), LARGE).unwrap();
            assert_eq!((built.len(), built[0].vectors), (1, 4000));
            assert!(built[0].recall_at_10 > 0.95, "{built:?}");
            assert!(ann::build(folder.path(), LARGE).unwrap().is_empty(), "the graph was built twice");
            let index = Index::open(folder.path()).unwrap();
            let graphs = Graphs::open(&index, None).unwrap();
            let queries = queries(storage);
            let (exact, found) = (scan::nearest(&index, &queries, 10), graphs.nearest(&index, &queries, 10));
            let (mut shared, mut all) = (0, 0);
            for (exact, found) in exact.iter().zip(&found) {
                assert_eq!(found.len(), 10);
                all += exact.len();
                // Rows and scores are equal to the last bit.
                shared += found.iter().filter(|found| exact.contains(found)).count();
            }
            assert!(shared as f64 > 0.95 * f64::from(all as u32), "{storage}: {shared} of {all}");
        }
    }

    #[test]
    fn changed_index_is_searched_correctly_with_old_graphs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        add(path, Storage::F16, 0..3000);
        ann::build(path, LARGE).unwrap();
        // Added recordings are in a small segment without a graph.
        add(path, Storage::F16, 3000..3300);
        // Removed recordings: the work that is nearest to a query.
        remove(path, |row| row.work == "W100").unwrap();
        let index = Index::open(path).unwrap();
        let graphs = Graphs::open(&index, None).unwrap();
        let search = |row: u64| {
            let query = Queries::new(&vector(row), DIM, Storage::F16);
            let found = graphs.nearest(&index, &query, 5).remove(0);
            let path_of = |found: &scan::ScoredRow| {
                let segment = &index.segments[found.segment as usize];
                segment.row(segment.keys.sources()[found.row as usize].recording).unwrap().path
            };
            found.iter().map(path_of).collect::<Vec<_>>()
        };
        assert_eq!(search(3150)[0], "/3150", "found in the segment that has no graph");
        assert_eq!(search(600)[0], "/600", "found by the graph");
        assert!(search(301).iter().all(|path| !["/300", "/301", "/302"].contains(&path.as_str())), "removed");
        assert_eq!(search(301).len(), 5);
        // Removing unused files keeps the graph; compaction deletes it together with its segment.
        assert_eq!(std::fs::read_dir(path.join("segments")).unwrap().filter(is_graph).count(), 1);
        compact(path).unwrap();
        assert_eq!(std::fs::read_dir(path.join("segments")).unwrap().filter(is_graph).count(), 0);
        let error = Graphs::open(&Index::open(path).unwrap(), None).unwrap_err().to_string();
        assert!(error.contains("bc-search ann build"), "{error}");
        // A server that had graphs of an older generation continues with exact search.
        let compacted = Index::open(path).unwrap();
        let exact = Graphs::open(&compacted, Some(&graphs)).unwrap();
        let queries = queries(Storage::F16);
        assert_eq!(exact.nearest(&compacted, &queries, 7), scan::nearest(&compacted, &queries, 7));
    }

    fn is_graph(entry: &std::io::Result<std::fs::DirEntry>) -> bool {
        entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "ann")
    }

    #[test]
    fn damaged_and_outdated_graphs_are_refused_and_rebuilt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        add(path, Storage::F16, 0..1500);
        ann::build(path, LARGE).unwrap();
        let name = Index::open(path).unwrap().manifest.segments[0].name.clone();
        let file = ann::file(path, &name);
        let intact = std::fs::read(&file).unwrap();
        // A changed link, a changed hash of the vectors in the header, a truncated file.
        let (mut changed_link, mut changed_hash) = (intact.clone(), intact.clone());
        changed_link[intact.len() - 100] ^= 1;
        changed_hash[20] ^= 1;
        for bytes in [&changed_link[..], &changed_hash[..], &intact[..intact.len() - 1], &intact[..30]] {
            std::fs::write(&file, bytes).unwrap();
            let error = format!("{:#}", Graphs::open(&Index::open(path).unwrap(), None).unwrap_err());
            assert!(error.contains(".ann is damaged") && error.contains("ann build"), "{error}");
            let manifest = Manifest::read(path).unwrap();
            assert!(ann::damaged(path, &manifest)[0].contains(".ann"));
            assert_eq!(ann::build(path, LARGE).unwrap().len(), 1);
            assert!(ann::damaged(path, &manifest).is_empty());
        }
    }

    #[test]
    fn command_line_searches_with_graphs() {
        let folder = tempfile::tempdir().unwrap();
        checkpoint(&folder.path().join("network.safetensors"), 7);
        std::fs::create_dir(folder.path().join("music")).unwrap();
        for tune in 0..6 {
            melody(&folder.path().join(format!("music/{tune}.wav")), &[40 + tune, 60 + 2 * tune, 50]);
        }
        let network = ["--network", "network.safetensors"];
        succeed(folder.path(), &[&["add", "music", "--index", "i"][..], &network].concat());
        let search = [&["search", "music/3.wav", "--index", "i", "--json"][..], &network].concat();
        let approximate = [&search[..], &["--ann"]].concat();
        assert!(refuse(folder.path(), &approximate).contains("ann build"));
        assert!(succeed(folder.path(), &["ann", "build", "--index", "i"]).contains("nothing to build"));
        let output = succeed(folder.path(), &["ann", "build", "--index", "i", "--min-vectors", "2"]);
        assert!(
            output.contains("a graph of 6 vectors") && output.contains("100.0 % of the ten nearest"),
            "{output}"
        );
        assert_eq!(answers(folder.path(), &approximate), answers(folder.path(), &search));
        let graph =
            std::fs::read_dir(folder.path().join("i/segments")).unwrap().find(is_graph).unwrap().unwrap();
        let intact = std::fs::read(graph.path()).unwrap();
        std::fs::write(graph.path(), &intact[..intact.len() - 1]).unwrap();
        let error = refuse(folder.path(), &["verify", "--index", "i"]);
        assert!(error.contains(".ann is damaged"), "{error}");
        std::fs::write(graph.path(), intact).unwrap();
        assert!(succeed(folder.path(), &["ann", "remove", "--index", "i"]).contains("1 graphs removed"));
        assert!(refuse(folder.path(), &approximate).contains("ann build"));
    }
}

#[cfg(not(feature = "ann"))]
#[test]
fn without_the_feature_ann_the_error_names_it() {
    let error = bc_search::ann::build(std::path::Path::new("i"), bc_search::ann::Settings::default());
    assert!(error.unwrap_err().to_string().contains("--features ann"));
}
