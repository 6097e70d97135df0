//! A program that replaces yt-dlp.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use super::support::Scratch;

/// Settings of a list `songs.csv` and a folder `audio`.
pub const SETTINGS: [&str; 5] = [
    "index.source=csv",
    "index.meta=songs.csv",
    "index.dataset_path=audio",
    "download.per_minute=100000",
    "download.backoff_s=0",
];

/// Reads its arguments as yt-dlp does: `url`, `folder` (where it works), `cookies`; notes the address in `asked`.
/// `came FILE EXTENSION` ends with a file.
const BEGIN: &str = r#"#!/bin/sh
[ "$1" = --version ] && exit 0
while [ $# -gt 0 ]; do
    case "$1" in
    --output) folder=$(dirname "$2"); shift ;;
    --print-to-file) named=$3; shift 2 ;;
    --cookies) cookies=$2; shift ;;
    --format) format=$2; shift ;;
    --) url=$2; shift ;;
    esac
    shift
done
echo "$url" >> asked
came() {
    cp "$1" "$folder/audio.part"
    mv "$folder/audio.part" "$folder/audio.$2"
    echo "$folder/audio.$2" > "$named"
}
"#;

/// A built index of versions of these ids without files, their addresses `http://x.invalid/<id>`, and a program that
/// does what `body` says instead of yt-dlp. `good.wav` is a file for it to give.
pub fn scratch(ids: &[&str], body: &str) -> Scratch {
    let rows: String = ids.iter().map(|id| format!("{id},c,,http://x.invalid/{id}\n")).collect();
    let scratch = Scratch::new(&[
        ("songs.csv", format!("id,clique,path,url\n{rows}")),
        ("audio/.keep", String::new()),
        ("fake", format!("{BEGIN}{body}")),
    ]);
    scratch.write("good.wav", &super::support::wav(0.5, 0.5, 0.05));
    std::fs::set_permissions(program_of(&scratch), PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(scratch.build(&SETTINGS).0, Some(0));
    scratch
}

/// The program.
pub fn program_of(scratch: &Scratch) -> PathBuf {
    scratch.folder.path().join("fake")
}

/// `download` with the program; `stage` may hold arguments.
pub fn download(scratch: &Scratch, stage: &str, more: &[&str]) -> Command {
    let mut command = scratch.command(stage, &[&SETTINGS[..], more].concat());
    command.env("BYTECOVER_YT_DLP", program_of(scratch));
    command
}

/// What the program was asked for, in order.
pub fn requested_names(scratch: &Scratch) -> Vec<String> {
    let asked = std::fs::read_to_string(scratch.folder.path().join("asked")).unwrap_or_default();
    asked.lines().map(|url| url.rsplit('/').next().unwrap().to_owned()).collect()
}
