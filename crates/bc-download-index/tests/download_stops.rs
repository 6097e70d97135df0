//! A download that is stopped or killed, or cannot continue: a stand-in for yt-dlp that never comes back by itself.

#![allow(unsafe_code, reason = "signals")]
#![cfg(unix)]

#[path = "support/stand_in.rs"]
mod stand_in;
mod support;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use stand_in::{SETTINGS, download, requested_names, scratch};
use support::Scratch;

/// Waits for a number that the program writes into a file.
fn number(path: PathBuf) -> i32 {
    loop {
        if let Some(number) = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()) {
            return number;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn runs(process: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, state)| !state.starts_with(" Z"))
}

/// Gives a process ten seconds to end.
fn ends(process: i32) -> bool {
    (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        !runs(process)
    })
}

/// Ends like yt-dlp on Ctrl-C; the second process is that of its single-file form.
const TWO_PROCESSES: &str =
    "trap 'echo \"ERROR: Interrupted by user\"; exit 1' INT\nsleep 600 & echo $! > second; wait\n";

#[test]
fn stopped_run_records_no_failure_and_leaves_nothing_running() {
    for (signal, whole_group) in [(libc::SIGINT, true), (libc::SIGTERM, true), (libc::SIGTERM, false)] {
        let scratch = scratch(&["a", "bad"], TWO_PROCESSES);
        let mut command = download(&scratch, "download", &["download.workers=1"]);
        let child = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let second = number(scratch.folder.path().join("second"));
        let process = child.id() as i32;
        // SAFETY: a signal to a process that this test started and has not waited for.
        unsafe { libc::kill(if whole_group { -process } else { process }, signal) };
        let output = child.wait_with_output().unwrap();
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{printed}");
        assert!(
            printed.contains("interrupted: what came stays, and the same command continues"),
            "{printed}"
        );
        let noted = std::fs::read_to_string(scratch.folder.path().join("audio/.failed.jsonl"));
        assert_eq!(noted.unwrap(), "");
        assert!(ends(second), "process {second} still runs");
        assert!(!scratch.folder.path().join("audio/.incoming").exists(), "something is left");
    }
}

#[test]
fn killed_run_leaves_no_yt_dlp_process() {
    for whole_group in [false, true] {
        let scratch = scratch(&["a"], TWO_PROCESSES);
        let mut command = download(&scratch, "download", &[]);
        let mut child = command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let second = number(scratch.folder.path().join("second"));
        let process = child.id() as i32;
        // SAFETY: a signal to a process that this test started and has not waited for.
        unsafe { libc::kill(if whole_group { -process } else { process }, libc::SIGKILL) };
        child.wait().unwrap();
        assert!(ends(second), "process {second} outlived the run, and writes into the files of the next");
    }
}

#[test]
fn error_of_one_worker_ends_the_others_and_is_reported() {
    // The file cannot get its name, as a folder has it. The other download would take ten minutes.
    let body =
        "case \"$url\" in\n*bad) mkdir -p audio/bad.wav/x; came good.wav wav;;\n*) sleep 600;;\nesac\n";
    let scratch = scratch(&["a", "bad"], body);
    let (code, printed) = support::code_and_output(&mut download(&scratch, "download", &[]));
    assert_eq!(code, Some(1), "{printed}");
    assert!(
        printed.contains("cannot move audio/.incoming/") && printed.contains("to audio/bad.wav"),
        "{printed}"
    );
}

#[test]
fn ids_that_cannot_be_file_names_are_reported_and_skipped() {
    let scratch = scratch(&["a"], "came good.wav wav\n");
    let long = "x".repeat(300);
    let rows = format!(
        "id,clique,path,url\na/b,c,,http://x.invalid/1\n{long},c,,http://x.invalid/2\nnul\0,c,,http://x.invalid/3\n\
         nul-in-url,c,,http://x.invalid/\0\ngood,c,,http://x.invalid/good\n"
    );
    scratch.write("songs.csv", rows.as_bytes());
    assert_eq!(scratch.build(&SETTINGS).0, Some(0));
    let (code, printed) = support::code_and_output(&mut download(&scratch, "download", &[]));
    assert_eq!(code, Some(0), "{printed}");
    assert!(
        printed.contains("1 to fetch") && printed.contains("4 are not fetched, as their ids name no file"),
        "{printed}"
    );
    assert_eq!(requested_names(&scratch), ["good"]);
}

fn names(scratch: &Scratch, below: &str) -> Vec<String> {
    let entries = std::fs::read_dir(scratch.folder.path().join(below)).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn two_processes_on_one_folder_fetch_nothing_twice() {
    let ids: Vec<String> = (0..8).map(|at| format!("v{at}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    // Writes slowly, into a file of the name that yt-dlp would use.
    let body = "echo begin >> \"$folder/part\"; sleep 0.3\n[ \"$(wc -l < \"$folder/part\")\" = 1 ] || echo \"$url\" >> mixed\n\
                came good.wav wav\n";
    let scratch = scratch(&ids, body);
    let mut first = download(&scratch, "download", &[]).stdout(Stdio::null()).spawn().unwrap();
    // Of another cut of the work, too.
    let mut part = download(&scratch, "download --shard 1/2", &[]).stdout(Stdio::null()).spawn().unwrap();
    let (code, printed) = support::code_and_output(&mut download(&scratch, "download", &[]));
    assert_eq!(code, Some(0), "{printed}");
    assert_eq!([first.wait().unwrap().code(), part.wait().unwrap().code()], [Some(0); 2]);
    let mut all = requested_names(&scratch);
    all.sort();
    assert_eq!(all, ids, "asked for twice");
    assert!(!scratch.folder.path().join("mixed").exists(), "two processes wrote into one unfinished file");
    let mut expected: Vec<String> = ids.iter().map(|id| format!("{id}.wav")).collect();
    expected.extend([".failed-1-of-2.jsonl", ".failed.jsonl", ".keep"].map(str::to_owned));
    expected.sort();
    assert_eq!(names(&scratch, "audio"), expected);
    assert_eq!(scratch.build(&SETTINGS).0, Some(0));
    assert!(scratch.index().versions.iter().all(|version| version.usable()));
}
