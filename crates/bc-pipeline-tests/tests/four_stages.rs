//! The main job on a very small demo set: all four stages, each rerun alone.

use std::path::Path;

use bc_pipeline_tests::Scratch;

/// Small enough for a test: a few seconds of audio and a network of a few thousand weights.
const TINY: &str = r#"
[synth]
cliques = 6
versions = 3
seconds = 6.0
val_cliques = 2
test_cliques = 2

[model]
width = 4
blocks = [1, 1, 1, 1]
pool = 10
variant = "plain"
scale = "sqrt"

[train]
run = "runs/tiny"
batches = "pk"
cliques_per_batch = 2
versions_per_clique = 2
lengths_s = [4]
epochs = 4
validate_every_passes = 2
checkpoint_every_steps = 2

[eval]
output = "runs/tiny/eval"
"#;

const STAGES: [(&str, &str); 5] = [
    ("bc-download-index", "synth"),
    ("bc-download-index", "build"),
    ("bc-features", "extract"),
    ("bc-train", "train"),
    ("bc-eval", "run"),
];

fn stage(scratch: &Scratch, number: usize) -> String {
    let (binary, command) = STAGES[number];
    scratch.succeed(binary, &[command, "--config", "tiny.toml"])
}

fn figures(scratch: &Scratch) -> serde_json::Value {
    let text = std::fs::read_to_string(scratch.path("runs/tiny/eval/metrics.json")).unwrap();
    let mut figures: serde_json::Value = serde_json::from_str(&text).unwrap();
    figures["provenance"] = serde_json::Value::Null;
    figures
}

fn remove(path: &Path) {
    if path.is_dir() {
        std::fs::remove_dir_all(path).unwrap();
    } else {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn four_stages_run_and_each_can_be_rerun_with_the_same_figures() {
    let scratch = Scratch::default();
    scratch.write("tiny.toml", TINY);
    for number in 0..STAGES.len() {
        stage(&scratch, number);
    }
    let first = figures(&scratch);
    let map = first["splits"]["test"]["mAP"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&map), "{map}");
    for file in ["report.html", "report.md", "embeddings.parquet"] {
        assert!(scratch.path("runs/tiny/eval").join(file).exists(), "no {file}");
    }
    for file in ["best.safetensors", "metrics.jsonl", "curves.png", "config.toml"] {
        assert!(scratch.path("runs/tiny").join(file).exists(), "no {file}");
    }

    // A stage with nothing to do says so.
    for number in [0, 1, 2, 4] {
        let printed = stage(&scratch, number);
        assert!(printed.contains("Nothing to do"), "{:?} says: {printed}", STAGES[number]);
    }
    let printed = stage(&scratch, 3);
    assert!(printed.to_lowercase().contains("nothing to do"), "bc-train says: {printed}");

    // The output of one stage gone, that stage run alone, then the last: the same figures.
    let outputs = [
        (0, "data/demo/versions.csv"),
        (1, "data/demo/index.parquet"),
        (2, "data/demo/features"),
        (3, "runs/tiny"),
        (4, "runs/tiny/eval"),
    ];
    for (number, output) in outputs {
        remove(&scratch.path(output));
        stage(&scratch, number);
        stage(&scratch, 4);
        assert_eq!(figures(&scratch), first, "after {output} was made again");
    }
    assert_eq!(scratch.leftover_files("."), Vec::<std::path::PathBuf>::new());
}
