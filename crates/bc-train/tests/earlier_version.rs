//! A run that version 0.1 left continues with this one.

mod support;

use std::path::Path;
use std::process::Command;

use support::{last_checkpoint, lines, output};

/// Index, features and a run of two steps as version 0.1 wrote them.
const SAVED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../bc-pipeline-tests/tests/data/v0.1");

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
fn run_of_version_0_1_is_resumed_and_its_record_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    copy(Path::new(SAVED), folder.path());
    let run = folder.path().join("run");
    let resumed = |overrides: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bc-train"));
        command.current_dir(&folder).args(["--config", "tiny.toml", "--resume"]);
        for text in overrides {
            command.args(["--set", text]);
        }
        output(command)
    };
    let record = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let (ok, text) = resumed(&[]);
    assert!(ok && text.contains("nothing to do"), "{text}");
    let (ok, text) = resumed(&["train.max_steps=5", "train.threads=2"]);
    assert!(ok && text.contains("resuming after step 2"), "{text}");
    assert!(last_checkpoint(&run).ends_with("step-00000005"));
    assert!(std::fs::read_to_string(run.join("metrics.jsonl")).unwrap().starts_with(&record));
    let steps = lines(&run).into_iter().filter(|line| line["kind"] == "step");
    assert_eq!(steps.map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);

    // Settings that change the result are refused as always, including keys that 0.1 did not know.
    for (other, part) in [
        ("train.margin=0.5", "train.margin: 0.3 against 0.5"),
        ("train.decay_norms_and_biases=false", "train.decay_norms_and_biases: true against false"),
    ] {
        let (ok, text) = resumed(&["train.max_steps=6", other]);
        assert!(!ok && text.contains(part), "{part} is not in: {text}");
    }
}
