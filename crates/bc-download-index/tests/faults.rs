//! `verify` on a disk whose calls fail: no error of the disk becomes a verdict on a file.
#![cfg(target_os = "linux")]

mod support;

use bc_formats::index::{Status, Version};
use bc_testing::faults::{Fault, Faults};
use support::{Scratch, code_and_output};

const SETTINGS: [&str; 2] = ["index.source=folder", "index.dataset_path=audio"];

/// Three good files and a bad one, built; the index that an undisturbed `verify` writes, which is then forgotten.
fn scratch() -> (Scratch, Vec<Version>) {
    let scratch = Scratch::new(&[("audio/c/text.wav", "<html></html>")]);
    for (name, step) in [("a", 0.05), ("b", 0.06), ("d", 0.07)] {
        // Longer than any reader's buffer, so that reads in mid-file can fail.
        scratch.write(&format!("audio/c/{name}.wav"), &support::wav(12.0, 0.5, step));
    }
    assert_eq!(scratch.build(&SETTINGS).0, Some(0));
    let (code, text) = scratch.run("verify", &SETTINGS);
    assert_eq!(code, Some(3), "{text}");
    let verified = scratch.index().versions;
    forget(&scratch);
    (scratch, verified)
}

fn forget(scratch: &Scratch) {
    std::fs::remove_file(scratch.folder.path().join("index.verify.jsonl")).unwrap();
    assert_eq!(scratch.build(&SETTINGS).0, Some(0));
}

/// `verify` with a fault; exit code, everything printed, and how many calls failed.
fn faulty(scratch: &Scratch, faults: &Faults, fault: &Fault) -> (Option<i32>, String, usize) {
    let mut command = scratch.command("verify", &SETTINGS);
    let log = faults.arm(&mut command, fault);
    let (code, text) = code_and_output(&mut command);
    (code, text, log.hits())
}

#[test]
fn single_failed_system_call_does_not_change_results() {
    let Some(faults) = Faults::build() else { return };
    let (scratch, verified) = scratch();
    let kinds = [
        ("read", "EIO", 9),
        ("read", "ESTALE", 9),
        ("read", "SHORT", 5),
        ("read", "EOF", 9),
        ("open", "ESTALE", 6),
    ];
    let mut all = 0;
    for (call, what, calls) in kinds {
        let mut failed = 0;
        for nth in (1..=calls).map(|n| 3 * n - 2) {
            let fault = Fault { nth, ..Fault::new(call, "*audio/c/*.wav", what) };
            let (code, text, hits) = faulty(&scratch, faults, &fault);
            failed += hits;
            assert_eq!(code, Some(3), "{fault:?}: {text}");
            assert_eq!(scratch.index().versions, verified, "{fault:?}: {text}");
            forget(&scratch);
        }
        assert!(failed > 0, "no {call} failed with {what}");
        all += failed;
    }
    println!("{all} calls failed");
}

#[test]
fn failing_disk_does_not_mark_files_corrupt() {
    let Some(faults) = Faults::build() else { return };
    let (scratch, verified) = scratch();
    for (call, what) in [("read", "EIO"), ("read", "ESTALE"), ("open", "EIO"), ("read", "EOF")] {
        let fault = Fault { count: 0, ..Fault::new(call, "*audio/c/b.wav", what) };
        let (code, text, hits) = faulty(&scratch, faults, &fault);
        assert!(hits > 0 && code == Some(3) && text.contains("done with failures: 2"), "{fault:?}: {text}");
        assert!(text.contains("Files that could not be read, and stay usable: 1"), "{text}");
        let versions = scratch.index().versions;
        for (now, expected) in versions.iter().zip(&verified) {
            if now.version_id == "c/b.wav" {
                let reason = now.reason.as_deref().unwrap_or_default();
                let unchecked = reason.starts_with("was not checked: cannot be read");
                assert!(now.status == Status::Ok && unchecked, "{fault:?}: {} {reason}", now.status);
            } else {
                assert_eq!(now, expected);
            }
        }
        // The next run looks again at that file alone.
        let (code, text) = scratch.run("verify", &SETTINGS);
        assert!(code == Some(3) && text.contains("done with failures: 1"), "{text}");
        assert_eq!(scratch.index().versions, verified);
        forget(&scratch);
    }
}
