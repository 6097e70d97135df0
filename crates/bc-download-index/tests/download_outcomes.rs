//! What comes of a download, with a stand-in for yt-dlp that ends as the address says.
#![cfg(unix)]

#[path = "support/stand_in.rs"]
mod stand_in;
mod support;

use bc_formats::index::Status;
use stand_in::{download, requested_names, scratch};
use support::{Scratch, code_and_output};

fn status(scratch: &Scratch, id: &str) -> (Status, String) {
    let versions = scratch.index().versions;
    let version = versions.iter().find(|version| version.version_id == id).unwrap();
    (version.status, version.reason.clone().or(version.audio_path.clone()).unwrap_or_default())
}

#[test]
fn downloads_of_any_extension_are_stored_under_their_id() {
    let scratch = scratch(&["mp3", "ts", "flv", "3gp", "xyz"], "came good.wav ${url##*/}\n");
    let (code, text) = code_and_output(&mut download(&scratch, "download", &[]));
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("Fetched 4, failed 1"), "{text}");
    for id in ["mp3", "ts", "flv", "3gp"] {
        assert_eq!(status(&scratch, id), (Status::Ok, format!("audio/{id}.{id}")));
    }
    let (state, reason) = status(&scratch, "xyz");
    assert!(state == Status::Failed && reason.contains("extension `xyz`"), "{reason}");
    // Nothing more to ask for, until another format is.
    let (code, text) = code_and_output(&mut download(&scratch, "download", &[]));
    assert!(code == Some(0) && text.contains("4 are there, 1 are gone for good, 0 to fetch"), "{text}");
    assert_eq!(requested_names(&scratch).len(), 5);
    let (_, text) = code_and_output(&mut download(&scratch, "download", &["download.format=best"]));
    assert!(text.contains("1 to fetch"), "{text}");
}

#[test]
fn barred_videos_are_retried_with_cookies_and_removed_ones_on_request() {
    let body = "case \"$url\" in\n\
        *age) [ -n \"$cookies\" ] || { echo 'ERROR: Sign in to confirm your age' >&2; exit 1; };;\n\
        *gone) [ -e back ] || { echo 'ERROR: Video unavailable' >&2; exit 1; };;\nesac\ncame good.wav wav\n";
    let scratch = scratch(&["age", "gone"], body);
    let run = |stage: &str, more: &[&str]| code_and_output(&mut download(&scratch, stage, more));
    let (code, text) = run("download", &[]);
    assert!(code == Some(3) && text.contains("failed 2"), "{text}");
    let (code, text) = run("download", &[]);
    assert!(code == Some(0) && text.contains("2 are gone for good, 0 to fetch"), "{text}");
    // Other cookies or another proxy: what was barred may come.
    scratch.write("cookies.txt", b"# Netscape HTTP Cookie File\n");
    let (code, text) = run("download", &["download.cookies=cookies.txt"]);
    assert!(code == Some(0) && text.contains("1 are gone for good, 1 to fetch"), "{text}");
    assert_eq!(status(&scratch, "age").0, Status::Ok);
    scratch.write("back", b"");
    let (code, text) = run("download --retry-gone", &[]);
    assert!(code == Some(0) && text.contains("Fetched 1, failed 0"), "{text}");
    assert_eq!(status(&scratch, "gone").0, Status::Ok);
    // The first two are fetched concurrently, in any order.
    let mut asked = requested_names(&scratch);
    asked[..2].sort_unstable();
    assert_eq!(asked, ["age", "gone", "age", "gone"]);
}

#[test]
fn partial_download_is_not_continued_from_another_address() {
    let body = "ls \"$folder\" >> seen\necho half > \"$folder/audio.m4a.part\"\n\
        case \"$url\" in *new) came good.wav wav;; *) echo 'ERROR: timed out' >&2; exit 1;; esac\n";
    let scratch = scratch(&["a"], body);
    let seen = || std::fs::read_to_string(scratch.folder.path().join("seen")).unwrap();
    let (code, text) = code_and_output(&mut download(&scratch, "download", &["download.attempts=2"]));
    assert_eq!(code, Some(3), "{text}");
    assert!(seen().contains("audio.m4a.part"), "the second attempt does not resume: {}", seen());
    std::fs::remove_file(scratch.folder.path().join("seen")).unwrap();
    let (code, text) =
        code_and_output(&mut download(&scratch, "download", &["download.url=http://x.invalid/{id}/new"]));
    assert_eq!(code, Some(0), "{text}");
    assert!(!seen().contains("audio.m4a.part"), "it resumes with another song: {}", seen());
    assert!(!scratch.folder.path().join("audio/.incoming").exists());
}

#[test]
fn shards_share_the_rate_limit() {
    // 60 a minute for all of 1,000 parts: 17 minutes between two beginnings of one.
    let scratch = scratch(&["a", "b", "c", "d", "e", "f", "g", "h"], "came good.wav wav\n");
    let part = (1..=2)
        .map(|part| format!("download --shard {part}/2"))
        .find(|part| {
            let text = code_and_output(&mut download(&scratch, &format!("{part} --dry-run"), &[])).1;
            text.lines().filter(|line| line.contains("http://")).count() >= 2
        })
        .unwrap();
    let settings = ["download.per_minute=120", "download.jitter=0", "download.workers=1"];
    let started = std::time::Instant::now();
    let (code, text) = code_and_output(&mut download(&scratch, &format!("{part} --limit 2"), &settings));
    assert!(code == Some(0) && text.contains("Fetched 2"), "{text}");
    // A wait is never shorter than planned: half of 120 per minute is one per second.
    assert!(started.elapsed() >= std::time::Duration::from_secs(1));
}
