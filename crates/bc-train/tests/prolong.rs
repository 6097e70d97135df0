//! Extending and resuming runs: which settings may change, and which inputs are no longer needed.

mod support;

use support::{assert_equal_runs, last_checkpoint, lines, output, train, train_to_end};

#[test]
fn run_that_stopped_early_continues_as_if_it_had_not() {
    let folder = tempfile::tempdir().unwrap();
    let (stopped, undisturbed) = (folder.path().join("stopped"), folder.path().join("undisturbed"));
    let with = |patience: &'static str| ["train.epochs=12", "train.learning_rate=1e-5", patience];
    let (ok, text) = output(train(&stopped, &with("train.early_stopping=2"), &[]));
    assert!(ok && text.contains("stopped early after 2 validations"), "{text}");

    let (ok, text) = output(train(&stopped, &with("train.early_stopping=2"), &["--resume"]));
    for part in ["nothing to do", "stopped early", "larger train.early_stopping"] {
        assert!(ok && text.contains(part), "{part} is not in: {text}");
    }
    let (ok, text) = output(train(&stopped, &with("train.early_stopping=0"), &["--resume"]));
    assert!(ok && text.contains("resuming after step") && !text.contains("stopped early"), "{text}");
    train_to_end(&undisturbed, &with("train.early_stopping=0"));
    assert_equal_runs(&undisturbed, &stopped);
}

#[test]
fn more_epochs_extend_a_complete_run() {
    let folder = tempfile::tempdir().unwrap();
    let (prolonged, in_one_go) = (folder.path().join("prolonged"), folder.path().join("in one go"));
    train_to_end(&prolonged, &["train.epochs=1"]);
    let (ok, text) = output(train(&prolonged, &["train.epochs=1"], &[]));
    assert!(ok && text.contains("all 1 epochs are done (a larger train.epochs continues)"), "{text}");
    let (ok, text) = output(train(&prolonged, &["train.epochs=3"], &["--resume"]));
    assert!(ok, "{text}");
    train_to_end(&in_one_go, &["train.epochs=3"]);
    assert_equal_runs(&in_one_go, &prolonged);
}

#[test]
fn initial_network_is_not_needed_to_resume() {
    let folder = tempfile::tempdir().unwrap();
    let (first, tuned) = (folder.path().join("first"), folder.path().join("tuned"));
    train_to_end(&first, &["train.max_steps=2"]);
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
    // A run may start again from its checkpoint.
    let own = format!("train.init={}", tuned.join("best.safetensors").display());
    let (ok, text) = output(train(&tuned, &[own.as_str(), "train.max_steps=1"], &["--fresh"]));
    assert!(ok && !text.contains("resuming"), "{text}");
}

#[test]
fn extending_a_cosine_schedule_warns_that_its_rate_rises() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let with = |epochs: &'static str| ["train.schedule=cosine", epochs];
    train_to_end(&run, &with("train.epochs=1"));
    let (ok, text) = output(train(&run, &with("train.epochs=2"), &["--resume"]));
    assert!(ok && text.contains("its cosine continues at a rate of"), "{text}");
}

#[test]
fn run_that_ended_between_validations_is_extended_as_if_it_had_not() {
    let folder = tempfile::tempdir().unwrap();
    let (prolonged, in_one_go) = (folder.path().join("prolonged"), folder.path().join("in one go"));
    // 16 batches are a pass: 40 steps end in the middle of the third, and 55 in the middle of the fourth. The validation
    // there may find a new best, and counts for the plateau.
    let with = |steps: &'static str| {
        let plateau = ["train.schedule=plateau", "train.plateau_patience=0", "train.factor=0.5"];
        [&plateau[..], &["train.epochs=12", "train.validate_every_passes=2", "train.early_stopping=9", steps]]
            .concat()
    };
    train_to_end(&prolonged, &with("train.max_steps=20"));
    let unplanned = || lines(&prolonged).iter().filter(|line| line["scheduled"] == false).count();
    assert_eq!(unplanned(), 1);
    for steps in ["train.max_steps=40", "train.max_steps=55", "train.max_steps=160"] {
        let (ok, text) = output(train(&prolonged, &with(steps), &["--resume"]));
        assert!(ok && text.contains("resuming"), "{text}");
    }
    assert_eq!(unplanned(), 3, "what was measured stays in the record");
    train_to_end(&in_one_go, &with("train.max_steps=160"));
    assert_equal_runs(&in_one_go, &prolonged);
}

#[test]
fn other_threads_are_allowed_and_another_instruction_set_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let (run, in_one_go) = (folder.path().join("run"), folder.path().join("in one go"));
    train_to_end(&run, &["train.max_steps=3"]);
    let (ok, text) = output(train(&run, &["train.max_steps=6", "train.threads=3"], &["--resume"]));
    assert!(ok && !text.contains("to the last bit"), "{text}");
    train_to_end(&in_one_go, &["train.max_steps=6"]);
    assert_equal_runs(&in_one_go, &run);
    let starts: Vec<_> = lines(&run).into_iter().filter(|line| line["kind"] == "start").collect();
    assert_eq!(starts.iter().map(|line| line["threads"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(starts.iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 3]);
    assert!(starts.iter().all(|line| line["instruction_set"] == bc_nn::instruction_set()), "{starts:?}");

    let path = last_checkpoint(&run).join("state.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let here = format!("\"instruction_set\": \"{}\"", bc_nn::instruction_set());
    assert!(text.contains(&here), "{text}");
    std::fs::write(&path, text.replace(&here, "\"instruction_set\": \"neon\"")).unwrap();
    let (ok, text) = output(train(&run, &["train.max_steps=7"], &["--resume"]));
    assert!(ok && text.contains("with neon until step 6") && text.contains("to the last bit"), "{text}");
}

#[test]
fn max_minutes_ends_a_call_and_minutes_trigger_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let (run, in_one_go) = (folder.path().join("run"), folder.path().join("in one go"));
    let rare_checkpoints =
        ["train.epochs=2", "train.checkpoint_every_steps=100000", "train.validate_every_passes=0"];
    // 6 ms: a few steps; each call continues where the previous one stopped.
    let share = [&rare_checkpoints[..], &["train.max_minutes=0.0001"]].concat();
    let mut calls = 0;
    loop {
        let (ok, text) = output(train(&run, &share, &[]));
        assert!(ok, "{text}");
        if text.contains("nothing to do") {
            break;
        }
        calls += usize::from(text.contains("minutes are over"));
    }
    assert!(calls > 1, "{calls} calls ran out of time");
    train_to_end(
        &in_one_go,
        &[&rare_checkpoints[..], &["train.checkpoint_every_minutes=0.00001", "train.keep_checkpoints=999"]]
            .concat(),
    );
    assert_equal_runs(&in_one_go, &run);
    let checkpoints = std::fs::read_dir(in_one_go.join("checkpoints")).unwrap().count();
    assert!(checkpoints > 1, "{checkpoints} checkpoint");
}

#[test]
fn failing_curves_and_cleanup_do_not_end_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    // No picture can be renamed onto a folder, and no checkpoint can be removed that is none.
    std::fs::create_dir_all(run.join("curves.png/x")).unwrap();
    std::fs::create_dir(run.join("checkpoints")).unwrap();
    std::fs::write(run.join("checkpoints/.step-x.tmp"), "").unwrap();
    let (ok, text) = output(train(&run, &["train.epochs=1", "train.checkpoint_every_steps=1"], &[]));
    for part in ["cannot be drawn", "cannot remove", "is not repeated"] {
        assert!(ok && text.matches(part).count() >= 1, "{part} is not in: {text}");
    }
    assert_eq!(text.matches("cannot be drawn").count(), 1, "{text}");
    assert_eq!(text.matches("cannot remove").count(), 1, "{text}");
}

#[test]
fn best_and_last_networks_are_kept_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train_to_end(&run, &["train.epochs=3", "train.keep_best=2", "train.save_last=true"]);
    let state = support::state(&run);
    let ranking = state["ranking"].as_array().unwrap();
    let mut steps: Vec<u64> = ranking.iter().map(|ranked| ranked["step"].as_u64().unwrap()).collect();
    let mut best: Vec<(f64, u64)> = lines(&run)
        .into_iter()
        .filter(|line| line["kind"] == "validation")
        .map(|line| (-line["map"].as_f64().unwrap(), line["step"].as_u64().unwrap()))
        .collect();
    best.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert_eq!(steps, [best[0].1, best[1].1]);
    let path = |step: u64| run.join(format!("best/step-{step:08}.safetensors"));
    assert_eq!(support::tensors(&path(steps[0])), support::tensors(&run.join("best.safetensors")));
    let mut names: Vec<_> =
        std::fs::read_dir(run.join("best")).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    steps.sort_unstable();
    assert_eq!(names, [path(steps[0]), path(steps[1])]);
    let last = last_checkpoint(&run).join("network.safetensors");
    assert_eq!(support::tensors(&run.join("last.safetensors")), support::tensors(&last));
    train_to_end(&run, &["train.max_steps=1"]);
    assert!(!run.join("best").exists() && !run.join("last.safetensors").exists());
}

#[test]
fn lost_best_network_is_restored_from_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (run, undisturbed) = (folder.path().join("run"), folder.path().join("undisturbed"));
    let best = run.join("best.safetensors");
    let with = |epochs: &'static str| ["train.keep_checkpoints=99", epochs];
    for run in [&run, &undisturbed] {
        train_to_end(run, &with("train.epochs=2"));
    }
    std::fs::remove_file(&best).unwrap();
    let (ok, text) = output(train(&run, &with("train.epochs=2"), &[]));
    assert!(
        ok && text.contains("nothing to do") && text.contains("the best network of the run is lost"),
        "{text}"
    );
    let (ok, text) = output(train(&run, &with("train.epochs=3"), &["--resume"]));
    assert!(ok && text.contains("does not exist: restored") && best.is_file(), "{text}");
    let (ok, text) = output(train(&undisturbed, &with("train.epochs=3"), &["--resume"]));
    assert!(ok && !text.contains("restored"), "{text}");
    assert_equal_runs(&undisturbed, &run);
}

#[test]
fn lost_best_network_without_a_copy_is_chosen_anew() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let with = |epochs: &'static str| ["train.keep_checkpoints=1", epochs];
    train_to_end(&run, &with("train.epochs=1"));
    // The checkpoint of the first step is gone.
    let mut state = support::state(&run);
    state["best_step"] = 1.into();
    std::fs::write(last_checkpoint(&run).join("state.json"), state.to_string()).unwrap();
    std::fs::write(run.join("best.safetensors"), "").unwrap();
    let (ok, text) = output(train(&run, &with("train.epochs=2"), &["--resume"]));
    for part in ["best.safetensors", "no copy of the network of step 1 is left", "anew", "  best"] {
        assert!(ok && text.contains(part), "{part} is not in: {text}");
    }
    assert!(!support::tensors(&run.join("best.safetensors")).is_empty());
    assert!(support::state(&run)["best_step"].as_u64().unwrap() > 1);
}
