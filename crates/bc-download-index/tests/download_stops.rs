//! A download that is stopped, or cannot go on: a stand-in for yt-dlp that never comes back by itself.
#![cfg(unix)]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use support::Scratch;

const SETTINGS: [&str; 4] =
    ["index.source=csv", "index.meta=songs.csv", "index.dataset_path=audio", "download.per_minute=100000"];

/// Two versions with addresses, built, and a program in the place of yt-dlp.
fn scratch(program: &str) -> Scratch {
    let scratch = Scratch::new(&[
        ("songs.csv", "id,clique,path,url\na,c,,http://x.invalid/a\nbad,c,,http://x.invalid/bad\n"),
        ("audio/.keep", ""),
        ("fake", &format!("#!/bin/sh\n[ \"$1\" = --version ] && exit 0\n{program}")),
    ]);
    std::fs::set_permissions(program_of(&scratch), PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(scratch.build(&SETTINGS).0, Some(0));
    scratch
}

fn program_of(scratch: &Scratch) -> PathBuf {
    scratch.folder.path().join("fake")
}

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

#[test]
fn a_stopped_run_says_so_notes_no_failure_and_leaves_nothing_running() {
    // As yt-dlp on Ctrl-C; the second process is that of its single-file form.
    let program =
        "trap 'echo \"ERROR: Interrupted by user\"; exit 1' INT\nsleep 600 & echo $! > second; wait\n";
    for (signal, whole_group) in [(libc::SIGINT, true), (libc::SIGTERM, true), (libc::SIGTERM, false)] {
        let scratch = scratch(program);
        let mut command = scratch.command("download", &[&SETTINGS[..], &["download.workers=1"]].concat());
        command.env("BYTECOVER_YT_DLP", program_of(&scratch)).process_group(0);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let second = number(scratch.folder.path().join("second"));
        let process = child.id() as i32;
        // SAFETY: a signal to a process that this test started and has not waited for.
        unsafe { libc::kill(if whole_group { -process } else { process }, signal) };
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("stopped; run the same command again to go on"), "{said}");
        let noted = std::fs::read_to_string(scratch.folder.path().join("audio/.failed.jsonl"));
        assert_eq!(noted.unwrap(), "");
        for _ in 0..500 {
            if !runs(second) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(!runs(second), "process {second} still runs");
    }
}

#[test]
fn an_error_of_one_worker_ends_the_others_and_comes_out() {
    // The file cannot get its name, as a folder has it. The other download would take ten minutes.
    let scratch = scratch(
        "for url; do :; done\ncase \"$url\" in\n\
         *bad) mkdir -p audio/bad.wav/x; echo x > audio/.incoming/bad.wav;;\n*) sleep 600;;\nesac\n",
    );
    let mut command = scratch.command("download", &SETTINGS);
    let (code, said) = support::said(command.env("BYTECOVER_YT_DLP", program_of(&scratch)));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot move audio/.incoming/bad.wav to audio/bad.wav"), "{said}");
}

#[test]
fn ids_that_name_no_file_are_told_once_and_not_asked_for() {
    let scratch = scratch("touch asked\n");
    let long = "x".repeat(300);
    let rows = format!("id,clique,path,url\na/b,c,,http://x.invalid/1\n{long},c,,http://x.invalid/2\n");
    scratch.write("songs.csv", rows.as_bytes());
    assert_eq!(scratch.build(&SETTINGS).0, Some(0));
    let mut command = scratch.command("download", &SETTINGS);
    let (code, said) = support::said(command.env("BYTECOVER_YT_DLP", program_of(&scratch)));
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("0 to fetch") && said.contains("2 are not fetched, as their ids name no file"),
        "{said}"
    );
    for file in ["asked", "audio/.failed.jsonl"] {
        assert!(!scratch.folder.path().join(file).exists(), "{file}");
    }
}
