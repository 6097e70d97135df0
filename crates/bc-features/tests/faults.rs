//! Disk faults: the run tries again, or ends with one error and the next run does the rest. Either
//! way the features are those of an undisturbed run, each once, and nothing else is left.

mod support;

use bc_formats::features::failures;
use bc_testing::faults::{Fault, Faults};
use support::{Scratch, text};

/// Ten tones in parts of two.
fn scratch() -> Scratch {
    let scratch = Scratch::with_tones(&[1.0; 10]);
    scratch.extract("undisturbed", PARTS);
    scratch
}

const PARTS: &[&str] = &["--set", "features.part_versions=2", "--set", "features.retry_wait_s=0.01"];

/// Audio, index and output: a fault in each kind of call on each.
fn faults_of_one_call() -> Vec<Fault> {
    let mut all = Vec::new();
    for what in ["EIO", "ESTALE", "ENOSPC", "EOF"] {
        for nth in [1, 2, 3] {
            all.push(Fault { nth, ..Fault::new("read", "v3.wav", what) });
        }
    }
    for what in ["EIO", "ESTALE"] {
        for (call, path) in [("open", "v3.wav"), ("open", "index.parquet"), ("read", "index.parquet")] {
            all.push(Fault::new(call, path, what));
        }
        for (call, path) in [
            ("open", "part-"),
            ("write", "part-"),
            ("fsync", "part-"),
            ("rename", "part-"),
            ("open", "failures"),
            ("fsync", "disturbed"),
        ] {
            for nth in [1, 3] {
                all.push(Fault { nth, ..Fault::new(call, path, what) });
            }
        }
    }
    all.push(Fault::new("write", "part-", "ENOSPC"));
    all.push(Fault { count: 0, ..Fault::new("write", "part-", "SHORT") });
    all.push(Fault { count: 0, ..Fault::new("read", "v3.wav", "SHORT") });
    all
}

/// Runs with each fault and `retries`, then without. Returns how many faults occurred and how many first runs ended well.
fn disturbed(retries: u32) -> Option<(usize, usize, usize)> {
    let faults = Faults::build()?;
    let scratch = scratch();
    let (mut occurred, mut ended_well) = (0, 0);
    let all = faults_of_one_call();
    for fault in &all {
        let _ = std::fs::remove_dir_all(scratch.path("disturbed"));
        let retries = format!("features.retries={retries}");
        let mut command = scratch.command("disturbed", &[PARTS, &["--set", &retries]].concat());
        let log = faults.arm(&mut command, fault);
        let output = command.output().unwrap();
        let printed = text(&output);
        assert!(matches!(output.status.code(), Some(0 | 1 | 3)), "{fault:?}: {printed}");
        assert!(!printed.contains("panicked"), "{fault:?}: {printed}");
        occurred += usize::from(log.hits() > 0);
        ended_well += usize::from(output.status.success());
        if output.status.code() == Some(1) {
            assert!(printed.matches("error:").count() == 1, "{fault:?}: {printed}");
        }
        if !output.status.success() {
            println!("{fault:?}: {}", printed.lines().last().unwrap_or_default());
            scratch.extract("disturbed", PARTS);
        }
        scratch.assert_same("undisturbed", "disturbed");
    }
    println!("{} faults, {occurred} occurred, {ended_well} first runs ended well", all.len());
    Some((all.len(), occurred, ended_well))
}

#[test]
fn single_fault_is_retried_within_the_run() {
    let Some((all, occurred, ended_well)) = disturbed(3) else { return };
    assert!(
        occurred + 4 >= all,
        "{occurred} of {all}: most faults must occur for this test to be meaningful"
    );
    assert_eq!(ended_well, all);
}

#[test]
fn without_retries_a_fault_costs_only_a_second_run() {
    let Some((all, occurred, ended_well)) = disturbed(0) else { return };
    assert!(occurred + 4 >= all && ended_well < all, "{occurred} of {all} occurred, {ended_well} ended well");
}

#[test]
fn file_on_an_absent_disk_is_a_temporary_failure() {
    let Some(faults) = Faults::build() else { return };
    let scratch = scratch();
    for what in ["EIO", "ESTALE", "ETIMEDOUT", "EACCES"] {
        let mut command = scratch.command("disturbed", PARTS);
        let log = faults.arm(&mut command, &Fault { count: 0, ..Fault::new("open", "v3.wav", what) });
        let output = command.output().unwrap();
        let printed = text(&output);
        assert_eq!(output.status.code(), Some(3), "{what}: {printed}");
        assert!(printed.contains("done with failures: 1") && printed.contains("1 may pass"), "{printed}");
        let failed = failures::read(&scratch.path("disturbed/failures.parquet")).unwrap();
        assert!(failed.len() == 1 && failed[0].may_pass && failed[0].version_id == "v3", "{failed:?}");
        let line = format!("  {}: {}", failed[0].audio_path, failed[0].reason);
        assert!(printed.contains(&line), "{line}\n{printed}");
        if what != "EACCES" {
            assert!(failed[0].reason.contains("tried 4 times") && log.hits() == 4, "{failed:?}");
        }
        scratch.extract("disturbed", PARTS);
        scratch.assert_same("undisturbed", "disturbed");
        std::fs::remove_dir_all(scratch.path("disturbed")).unwrap();
    }
}

/// Without `flock`, as on some network disks, there is one warning, and everything else works.
#[test]
fn without_locks_one_warning_is_printed_and_features_are_the_same() {
    let Some(faults) = Faults::build() else { return };
    let scratch = scratch();
    for what in ["ENOLCK", "ENOSYS"] {
        let none = Fault { count: 0, ..Fault::new("flock", "disturbed", what) };
        // Half-written files: of a run that may be at work, and of one that ended long ago.
        let young = scratch.path("disturbed/.part-all.parquet.Young1.tmp");
        let old = scratch.path("disturbed/.part-all.parquet.Older1.tmp");
        std::fs::create_dir_all(scratch.path("disturbed")).unwrap();
        for path in [&young, &old] {
            std::fs::write(path, "half").unwrap();
        }
        let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(48 * 3600);
        std::fs::File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
        let mut command = scratch.command("disturbed", PARTS);
        let log = faults.arm(&mut command, &none);
        let output = command.output().unwrap();
        let printed = text(&output);
        assert!(output.status.success() && log.hits() > 1, "{what}: {printed}");
        assert_eq!(printed.matches("has no locks").count(), 1, "{printed}");
        assert!(young.exists() && !old.exists(), "only what nobody can be writing goes");
        std::fs::remove_file(&young).unwrap();
        // Concurrent shards do not tidy the folder there, because it is unknown which of them are running.
        for shard in ["1/2", "2/2"] {
            let mut command = scratch.command("disturbed", &[PARTS, &["--shard", shard]].concat());
            faults.arm(&mut command, &none);
            assert!(command.output().unwrap().status.success());
        }
        scratch.assert_same("undisturbed", "disturbed");
        std::fs::remove_dir_all(scratch.path("disturbed")).unwrap();
    }
}
