//! Training on versions that are painted while it runs (`[train] data = "painted"`).

mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bc_formats::config::{Config, load};
use bc_formats::features::CqtSettings;
use bc_train::data::Batch;
use bc_train::setup::Setup;
use support::data::{versions, write};
use support::{TINY, assert_equal_runs, header, last_checkpoint, lines, output, train};

/// An index with features, and two sources of tunes.
struct TestFolder(tempfile::TempDir);

/// Works of the two sources.
const REELS: usize = 8;
const SONGS: usize = 12;

impl TestFolder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        write(folder.path(), versions(3), CqtSettings::default(), None);
        folder.source("reels.jsonl", "reel", REELS);
        folder.source("songs.jsonl", "song", SONGS);
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn source(&self, file: &str, id: &str, works: usize) {
        let text: Vec<String> = (0..works).map(|work| tune(&format!("{id}-{work}"), work)).collect();
        std::fs::write(self.path().join(file), text.join("\n")).unwrap();
    }

    /// Overrides that paint from the two sources, followed by `more`.
    fn overrides(&self, more: &[&str]) -> Vec<String> {
        let path = |name: &str| self.path().join(name).display().to_string();
        let mut all = vec![
            "train.debug=false".to_owned(),
            "train.data=painted".to_owned(),
            "train.lengths_s=[10]".to_owned(),
            format!("features.index={}", path("index.parquet")),
            format!("features.output={}", path("features")),
            format!("paint.sources=[{:?}, {:?}]", path("reels.jsonl"), path("songs.jsonl")),
        ];
        all.extend(more.iter().map(|text| (*text).to_owned()));
        all
    }

    fn train(&self, run: &str, more: &[&str], flags: &[&str]) -> (bool, String) {
        let overrides = self.overrides(more);
        let overrides: Vec<&str> = overrides.iter().map(String::as_str).collect();
        output(train(&self.run(run), &overrides, flags))
    }

    fn config(&self, more: &[&str]) -> Config {
        let mut all: Vec<String> = TINY.iter().map(|text| (*text).to_owned()).collect();
        all.extend(self.overrides(more));
        load(None, &all).unwrap()
    }
}

/// A tune of 48 quarter notes.
fn tune(id: &str, number: usize) -> String {
    let notes: Vec<String> =
        (0..48).map(|n| format!("[{n},1,{},0]", 60 + (n * (5 + number) + n * n / 7) % 13)).collect();
    format!(r#"{{"work":"{id}","title":"T","meter":"4/4","notes":[{}]}}"#, notes.join(","))
}

/// Every batch of an epoch.
fn epoch(setup: &Setup, epoch: u64) -> Vec<Batch> {
    let plan = setup.sampler.epoch(epoch);
    plan.iter().enumerate().map(|(index, plan)| setup.assembler.assemble(epoch, index, plan)).collect()
}

/// Everything that has a state, and all three kinds of cliques.
const STATEFUL: &[&str] = &[
    "train.features_share=0.25",
    "train.source_shares=[1,2]",
    "train.batches_per_pass=6",
    "train.epochs=5",
    "train.ema=0.9",
    "train.checkpoint_every_steps=2",
    "train.validate_every_passes=2",
    "augment.tilt_probability=0.5",
];

#[test]
fn run_does_not_depend_on_workers_or_kills() {
    let folder = TestFolder::new();
    let (ok, text) = folder.train("alone", &[STATEFUL, &["train.workers=1"]].concat(), &[]);
    assert!(ok && text.contains("validation mAP"), "{text}");
    let mut died = 0;
    for (steps, workers) in [(3, "train.workers=3"), (14, "train.workers=2"), (21, "train.workers=1")] {
        let overrides = folder.overrides(&[STATEFUL, &[workers]].concat());
        let overrides: Vec<&str> = overrides.iter().map(String::as_str).collect();
        let run = folder.run("killed");
        let mut child = train(&run, &overrides, &[]).stdout(std::process::Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        let reached = || lines(&run).iter().filter(|line| line["kind"] == "step").count() >= steps;
        while child.try_wait().unwrap().is_none() && !reached() {
            assert!(started.elapsed() < Duration::from_secs(120), "nothing happens");
            std::thread::sleep(Duration::from_micros(200));
        }
        died += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(died >= 2, "{died} kills hit a running process");
    let (ok, text) = folder.train("killed", &[STATEFUL, &["train.workers=4"]].concat(), &["--resume"]);
    assert!(ok, "{text}");
    let steps = |run: &str| lines(&folder.run(run)).iter().filter(|line| line["kind"] == "step").count();
    assert_eq!(steps("alone"), 30);
    assert_equal_runs(&folder.run("alone"), &folder.run("killed"));
    let inputs =
        header(&last_checkpoint(&folder.run("alone")).join("network.safetensors"))["bytecover.inputs"]
            .clone();
    assert!(inputs.contains("\"works\"") && inputs.contains("\"features\""), "{inputs}");
}

#[test]
fn batches_have_their_shares_and_new_versions_in_every_epoch() {
    let folder = TestFolder::new();
    let shares = ["train.features_share=0.5", "train.source_shares=[1,1]", "train.batches_per_pass=5"];
    let setup = Setup::new(&folder.config(&shares), &bc_ranks::Ranks::alone()).unwrap();
    assert_eq!(setup.data.training_tracks, 18);
    // Six cliques of the index, 20 works.
    assert_eq!(setup.data.classes(), 26);
    let (first, second) = (epoch(&setup, 0), epoch(&setup, 1));
    assert_eq!(first.len(), 5);
    for batch in first.iter().chain(&second) {
        let count = |from: usize, to: usize| {
            batch.items.iter().filter(|item| (from..to).contains(&(**item as usize))).count()
        };
        assert_eq!([count(0, 18), count(18, 18 + REELS), count(18 + REELS, 18 + REELS + SONGS)], [4, 2, 2]);
        assert!(batch.labels.chunks(2).all(|pair| pair[0] == pair[1]));
        let size = batch.bins * batch.frames;
        assert_eq!((batch.bins, batch.values.len()), (84, 8 * size));
        let pictures: Vec<&[f32]> = batch.values.chunks(size).collect();
        let painted = pictures.iter().zip(&batch.items).filter(|(_, item)| **item >= 18);
        assert!(painted.into_iter().all(|(picture, _)| picture.iter().any(|value| *value != picture[0])));
        // Two versions of a work are two pictures.
        assert!(pictures.chunks(2).all(|pair| pair[0] != pair[1]));
    }
    assert!(first.iter().zip(&second).all(|(one, other)| one.values != other.values));
}

#[test]
fn without_shares_works_count_by_weight_and_are_used_once() {
    let folder = TestFolder::new();
    let setup = Setup::new(&folder.config(&["paint.weights=[3,1]"]), &bc_ranks::Ranks::alone()).unwrap();
    // 8 works of weight 3 and 12 of weight 1 are two thirds and a third of the four cliques of a batch: nine batches
    // until the 12 have passed. Stored cliques are not trained on.
    assert_eq!((setup.data.training_tracks, setup.sampler.batches_per_pass()), (0, 9));
    let items: Vec<u32> = epoch(&setup, 0).into_iter().flat_map(|batch| batch.items).collect();
    let songs = items.iter().filter(|item| **item as usize >= REELS).count();
    assert_eq!((songs, items.len()), (2 * SONGS, 72));
}

#[test]
fn clique_and_work_with_one_id_are_one_class_and_held_out_works_are_left_out() {
    let folder = TestFolder::new();
    let text = ["train-0", "train-1", "val-0", "new-0", "new-1", "new-2"].map(|id| tune(id, 3)).join("\n");
    std::fs::write(folder.path().join("reels.jsonl"), text).unwrap();
    let setup = Setup::new(
        &folder.config(&["train.features_share=0.5", "train.batches_per_pass=50"]),
        &bc_ranks::Ranks::alone(),
    )
    .unwrap();
    // Of six cliques, five of the works and twelve songs, two are known by both.
    assert_eq!(setup.data.classes(), 6 + 5 - 2 + SONGS);
    let painted = setup.data.painted.as_ref().unwrap();
    assert!(painted.ids().all(|id| !id.starts_with("val-")));
    let work = painted.ids().position(|id| id == "train-0").unwrap();
    assert_eq!(setup.data.labels[setup.data.training_tracks + work], setup.data.labels[0]);
    for batch in epoch(&setup, 0) {
        let mut labels: Vec<u32> = batch.labels.chunks(2).map(|pair| pair[0]).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), 4);
    }
    let (ok, text) = folder.train("run", &["train.max_steps=1"], &[]);
    assert!(ok && text.contains("1 works of [paint] are validation or test cliques"), "{text}");
}

#[test]
fn other_works_or_variation_ranges_are_refused_on_resume() {
    let folder = TestFolder::new();
    let (ok, text) = folder.train("run", &["train.max_steps=2"], &[]);
    assert!(ok, "{text}");
    let (ok, text) = folder.train("run", &["train.max_steps=3", "paint.tempo=[0.9,1.1]"], &[]);
    assert!(
        !ok && text.contains("paint.tempo: [0.7,1.4] against [0.9,1.1]") && text.contains("--fresh"),
        "{text}"
    );
    let (ok, text) = folder.train("run", &["train.max_steps=3", "paint.seed=7", "paint.versions=3"], &[]);
    assert!(ok, "keys of bc-features paint make no difference: {text}");
    folder.source("reels.jsonl", "reel", REELS - 1);
    let (ok, text) = folder.train("run", &["train.max_steps=4"], &[]);
    assert!(!ok && text.contains("paint.inputs.source 0"), "{text}");
}

#[test]
fn wrong_sources_give_one_error_and_no_run() {
    let folder = TestFolder::new();
    let refused = |more: &[&str], parts: &[&str]| {
        let (ok, text) = folder.train("run", more, &[]);
        assert!(!ok && !text.contains("panicked"), "{text}");
        for part in parts {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        assert!(!folder.run("run").exists());
    };
    refused(&["paint.sources=[]"], &["nothing to paint from", "[paint] sources"]);
    refused(&["paint.sources=[\"nowhere.tar.xz\"]"], &["nowhere.tar.xz", "correct [paint] sources"]);
    refused(&["train.source_shares=[1]"], &["source_shares are 1", "2 sources"]);
    refused(&["train.cliques_per_batch=10"], &["reels.jsonl has 8 cliques", "at most 8"]);
    refused(&["train.features_share=0.5", "train.cliques_per_batch=7"], &["index.parquet has 6 cliques"]);
    refused(&["features.bins_per_octave=18"], &["bins_per_octave"]);
    let splits = folder.path().join("splits.json");
    std::fs::write(&splits, r#"{"val": ["reel-0", "song-0"]}"#).unwrap();
    refused(
        &[&format!("paint.splits={}", splits.display()), "train.source_shares=[1,1]"],
        &["reels.jsonl: no work of it is left to train on"],
    );
    std::fs::write(folder.path().join("reels.jsonl"), format!("{}\n{{\"work\": 3}}\n", tune("a", 1)))
        .unwrap();
    refused(&[], &["reels.jsonl:2", "is not a tune"]);
}
