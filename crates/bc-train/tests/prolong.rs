//! What may change between the parts of a run, and what a resume does not need any more.

mod support;

use support::{assert_equal_runs, output, train, whole};

#[test]
fn a_run_that_stopped_early_goes_on_when_it_may_as_if_it_never_had() {
    let folder = tempfile::tempdir().unwrap();
    let (stopped, left_alone) = (folder.path().join("stopped"), folder.path().join("left alone"));
    let with = |patience: &'static str| ["train.epochs=12", "train.learning_rate=1e-5", patience];
    let (ok, text) = output(train(&stopped, &with("train.early_stopping=2"), &[]));
    assert!(ok && text.contains("stopped early after 2 validations"), "{text}");

    let (ok, text) = output(train(&stopped, &with("train.early_stopping=2"), &["--resume"]));
    for part in ["nothing to do", "stopped early", "larger train.early_stopping"] {
        assert!(ok && text.contains(part), "{part} is not in: {text}");
    }
    let (ok, text) = output(train(&stopped, &with("train.early_stopping=0"), &["--resume"]));
    assert!(ok && text.contains("resuming after step") && !text.contains("stopped early"), "{text}");
    whole(&left_alone, &with("train.early_stopping=0"));
    assert_equal_runs(&left_alone, &stopped);
}

#[test]
fn more_epochs_prolong_a_complete_run() {
    let folder = tempfile::tempdir().unwrap();
    let (prolonged, at_once) = (folder.path().join("prolonged"), folder.path().join("at once"));
    whole(&prolonged, &["train.epochs=1"]);
    let (ok, text) = output(train(&prolonged, &["train.epochs=1"], &[]));
    assert!(ok && text.contains("all 1 epochs are done (a larger train.epochs goes on)"), "{text}");
    let (ok, text) = output(train(&prolonged, &["train.epochs=3"], &["--resume"]));
    assert!(ok, "{text}");
    whole(&at_once, &["train.epochs=3"]);
    assert_equal_runs(&at_once, &prolonged);
}

#[test]
fn the_network_that_a_run_began_with_is_not_needed_to_resume_it() {
    let folder = tempfile::tempdir().unwrap();
    let (first, tuned) = (folder.path().join("first"), folder.path().join("tuned"));
    whole(&first, &["train.max_steps=2"]);
    let init = format!("train.init={}", first.join("best.safetensors").display());
    let with = |steps: &'static str| [init.as_str(), "train.ema=0.5", steps];
    let (ok, text) = output(train(&tuned, &with("train.max_steps=2"), &[]));
    assert!(ok, "{text}");
    std::fs::remove_dir_all(&first).unwrap();
    let (ok, text) = output(train(&tuned, &with("train.max_steps=4"), &["--resume"]));
    assert!(ok && text.contains("resuming after step 2"), "{text}");
    let (ok, text) = output(train(&tuned, &with("train.max_steps=4"), &["--fresh"]));
    assert!(!ok && text.contains("[train] init") && text.contains("best.safetensors"), "{text}");
    // What was refused has cost nothing.
    let (ok, text) = output(train(&tuned, &with("train.max_steps=4"), &["--resume"]));
    assert!(ok && text.contains("nothing to do"), "{text}");
    // A run may begin anew from what it had.
    let own = format!("train.init={}", tuned.join("best.safetensors").display());
    let (ok, text) = output(train(&tuned, &[own.as_str(), "train.max_steps=1"], &["--fresh"]));
    assert!(ok && !text.contains("resuming"), "{text}");
}

#[test]
fn a_prolonged_cosine_says_that_its_rate_rises_again() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let with = |epochs: &'static str| ["train.schedule=cosine", epochs];
    whole(&run, &with("train.epochs=1"));
    let (ok, text) = output(train(&run, &with("train.epochs=2"), &["--resume"]));
    assert!(ok && text.contains("its cosine goes on at a rate of"), "{text}");
}
