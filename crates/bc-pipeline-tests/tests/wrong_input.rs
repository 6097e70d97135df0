//! Wrong input: each stage prints one clear error, fails, and leaves no unfinished files.

use bc_pipeline_tests::Scratch;

const STAGES: [(&str, &str); 4] =
    [("bc-download-index", "build"), ("bc-features", "extract"), ("bc-train", "train"), ("bc-eval", "run")];

const TINY: &str = "[synth]\ncliques = 3\nversions = 2\nseconds = 3.0\nval_cliques = 1\ntest_cliques = 1\n\
                    [train]\nlengths_s = [2]\n";

/// A folder with the demo set, an index and features.
fn prepared() -> Scratch {
    let scratch = Scratch::default();
    scratch.write("tiny.toml", TINY);
    scratch.succeed("bc-download-index", &["synth", "--config", "tiny.toml"]);
    scratch.succeed("bc-download-index", &["build", "--config", "tiny.toml"]);
    scratch.succeed("bc-features", &["extract", "--config", "tiny.toml"]);
    scratch
}

fn assert_none_of(scratch: &Scratch, outputs: &[&str]) {
    for output in outputs {
        assert!(!scratch.path(output).exists(), "{output} was written");
    }
    assert_eq!(scratch.leftover_files("."), Vec::<std::path::PathBuf>::new());
}

#[test]
fn misspelt_key_is_named_with_line_and_nearest_key() {
    let scratch = Scratch::default();
    scratch.write("wrong.toml", "[features]\nhop_lenght = 512\n");
    for (binary, command) in STAGES {
        let error = scratch.refuse(binary, &[command, "--config", "wrong.toml"]);
        for part in ["wrong.toml:2", "hop_lenght", "did you mean `hop_length`?"] {
            assert!(error.contains(part), "{binary}: {part} is not in: {error}");
        }
    }
    assert_none_of(&scratch, &["data", "runs"]);
}

#[test]
fn missing_path_is_named() {
    let scratch = Scratch::default();
    let cases = [
        ("bc-download-index", "build", "index.meta=lists/none", "lists/none"),
        ("bc-download-index", "build", "index.source=folder", "data/demo"),
        ("bc-features", "extract", "features.index=none.parquet", "none.parquet"),
        ("bc-train", "train", "features.index=none.parquet", "none.parquet"),
        ("bc-eval", "run", "features.index=none.parquet", "none.parquet"),
    ];
    for (binary, command, set, named) in cases {
        let error = scratch.refuse(binary, &[command, "--set", set]);
        assert!(error.contains(named), "{binary} --set {set}: {error}");
        let error = scratch.refuse(binary, &[command, "--config", "no/such.toml"]);
        assert!(error.contains("no/such.toml"), "{binary}: {error}");
    }
    assert_none_of(&scratch, &["data", "runs"]);
}

#[test]
fn missing_checkpoint_is_named() {
    let scratch = prepared();
    let error = scratch.refuse("bc-eval", &["run", "--config", "tiny.toml"]);
    assert!(error.contains("best.safetensors") && error.contains("bc-train"), "{error}");
    assert_none_of(&scratch, &["runs"]);
}

#[test]
fn features_made_with_another_hop_length_are_refused_with_both_values() {
    let scratch = prepared();
    for (binary, command) in [("bc-features", "extract"), ("bc-train", "train")] {
        let error =
            scratch.refuse(binary, &[command, "--config", "tiny.toml", "--set", "features.hop_length=256"]);
        for part in ["hop_length", "512", "256"] {
            assert!(error.contains(part), "{binary}: {part} is not in: {error}");
        }
    }
    assert_none_of(&scratch, &["runs"]);
}

#[test]
fn features_of_two_extractors_are_refused_by_later_stages() {
    use bc_formats::features::{FeatureSet, PartWriter};
    let scratch = prepared();
    let small = ["--set", "model.width=4", "--set", "model.blocks=[1,1,1,1]", "--set", "train.max_steps=1"];
    let debug = ["train", "--config", "tiny.toml", "--set", "train.debug=true"];
    scratch.succeed("bc-train", &[&debug, &small[..]].concat());
    // One row recomputed by a later extractor, as after an upgrade that was not finished.
    let folder = scratch.path("data/demo/features");
    let set = FeatureSet::open(&folder).unwrap();
    let path = folder.join("part-00009-01234567.parquet");
    let mut part = PartWriter::create(&path, set.settings).unwrap().made_by("bc-audio 99");
    let mut first = true;
    set.for_each(|row| if std::mem::take(&mut first) { part.push(row) } else { Ok(()) }).unwrap();
    part.commit(set.parts[0].provenance.clone()).unwrap();
    for (binary, arguments) in [
        ("bc-train", &["train", "--fresh", "--config", "tiny.toml"][..]),
        ("bc-eval", &["run", "--config", "tiny.toml"]),
        ("bc-features", &["extract", "--config", "tiny.toml"]),
    ] {
        if binary == "bc-features" {
            // Without something to do, there would be no row to compare with the others.
            std::fs::remove_file(&set.parts[0].path).unwrap();
        }
        let error = scratch.refuse(binary, &[arguments, &small[..]].concat());
        for part in ["`bc-audio 99`", "--renew"] {
            assert!(error.contains(part), "{binary}: {part} is not in: {error}");
        }
        if binary != "bc-features" {
            assert!(error.contains(&format!("`{}`", set.parts[0].extractor)), "{binary}: {error}");
        }
    }
    scratch.succeed("bc-features", &["extract", "--config", "tiny.toml", "--renew"]);
    assert_eq!(FeatureSet::open(&folder).unwrap().rows.len(), 6);
}

#[test]
fn network_trained_on_another_hop_length_is_refused_with_both_values() {
    let scratch = prepared();
    let small = ["--set", "model.width=4", "--set", "model.blocks=[1,1,1,1]", "--set", "train.max_steps=1"];
    let train =
        ["train", "--config", "tiny.toml", "--set", "train.debug=true", "--set", "features.hop_length=256"];
    scratch.succeed("bc-train", &[&train[..], &small].concat());
    let error = scratch.refuse("bc-eval", &["run", "--config", "tiny.toml"]);
    for part in ["hop_length", "512", "256"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    assert_none_of(&scratch, &["runs/demo/eval/embeddings.parquet"]);
}

#[test]
fn index_without_a_training_clique_is_refused() {
    let scratch = prepared();
    let list = std::fs::read_to_string(scratch.path("data/demo/versions.csv")).unwrap();
    scratch.write("data/demo/versions.csv", &list.replace(",train,", ",test,"));
    scratch.succeed("bc-download-index", &["build", "--config", "tiny.toml"]);
    let error = scratch.refuse("bc-train", &["train", "--config", "tiny.toml"]);
    assert!(error.contains("no training clique") && error.contains("index.parquet"), "{error}");
    assert_none_of(&scratch, &["runs"]);
}

#[test]
fn text_file_named_mp3_becomes_a_failure_row() {
    let scratch = prepared();
    let song = scratch.path("music/song");
    std::fs::create_dir_all(&song).unwrap();
    std::fs::write(song.join("one.mp3"), "this is no audio").unwrap();
    std::fs::write(song.join("two.wav"), "").unwrap();
    let set = |key: &str, value: &str| ["--set".to_owned(), format!("{key}={value}")];
    let own = [
        set("index.source", "folder"),
        set("index.dataset_path", "music"),
        set("index.output", "own/index.parquet"),
        set("features.index", "own/index.parquet"),
        set("features.output", "own/features"),
    ]
    .concat();
    let with = |command: &'static str| -> Vec<&str> {
        std::iter::once(command).chain(own.iter().map(String::as_str)).collect()
    };
    scratch.succeed("bc-download-index", &with("build"));
    // Done, with failures: exit code 3 and their number.
    let output = scratch.run("bc-features", &with("extract"));
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.code() == Some(3) && printed.contains("2 failed"), "{printed}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("done with failures: 2"));
    assert!(scratch.path("own/features/failures.parquet").exists());
    let strict = [with("extract"), vec!["--strict", "--retry"]].concat();
    let error = scratch.refuse("bc-features", &strict);
    assert!(error.contains("one.mp3") || error.contains("two.wav"), "{error}");
}
