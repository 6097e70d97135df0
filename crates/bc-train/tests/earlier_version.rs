//! A run that version 0.1 left goes on with this one.

mod support;

use std::path::Path;

use support::{last_checkpoint, lines, output, train};

/// A run folder as bc-train 0.1.0 wrote it with the configuration of the tests and `train.max_steps=20`, without its
/// pictures, events and `best.safetensors`.
const SAVED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/v0.1-run");

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_run_of_version_0_1_is_resumed_and_its_record_stays() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    copy(Path::new(SAVED), &run);
    let record = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let (ok, text) = output(train(&run, &["train.max_steps=20"], &["--resume"]));
    assert!(ok && text.contains("nothing to do"), "{text}");
    let (ok, text) = output(train(&run, &["train.max_steps=24", "train.threads=2"], &["--resume"]));
    assert!(ok && text.contains("resuming after step 20"), "{text}");
    assert!(last_checkpoint(&run).ends_with("step-00000024"));
    assert!(std::fs::read_to_string(run.join("metrics.jsonl")).unwrap().starts_with(&record));
    let steps: Vec<_> = lines(&run).into_iter().filter(|line| line["kind"] == "step").collect();
    assert_eq!(
        steps.iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>(),
        Vec::from_iter(1..=24)
    );

    // What changes its course is refused as ever, keys that 0.1 did not know among them.
    for (other, part) in [
        ("train.margin=0.5", "train.margin: 0.3 against 0.5"),
        ("train.decay_norms_and_biases=false", "train.decay_norms_and_biases: true against false"),
    ] {
        let (ok, text) = output(train(&run, &["train.max_steps=26", other], &["--resume"]));
        assert!(!ok && text.contains(part), "{part} is not in: {text}");
    }
}
