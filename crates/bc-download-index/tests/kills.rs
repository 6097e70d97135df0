//! `build`, `verify` and `download` killed (SIGKILL) at random moments and run again: the same bytes as undisturbed,
//! nothing doubled, nothing left over. BYTECOVER_KILLS says how often (a few times if it does not).
#![cfg(unix)]

#[path = "support/stand_in.rs"]
mod stand_in;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use bc_testing::kills::{self, KillTest};
use support::Scratch;

/// Every file below the folder with its bytes, except lock files. Of notes, whose lines come in any order and may hold
/// the halves that kills leave, the whole lines, each of which must be there once.
fn content(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = kills::bytes_of(root, |path| !kills::is_lock(path));
    for (name, bytes) in &mut found {
        if name.extension().is_some_and(|extension| extension == "jsonl") {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let whole = text.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
            let whole: Vec<&str> = whole.collect();
            let distinct: BTreeSet<&str> = whole.iter().copied().collect();
            assert_eq!(whole.len(), distinct.len(), "{} has a line twice", name.display());
            *bytes = distinct.into_iter().collect::<Vec<_>>().join("\n").into_bytes();
        }
    }
    found
}

/// Kills what `command` makes at random moments; `reset` goes back to the state before the command.
fn killed(what: &str, scratch: &Scratch, codes: &[i32], reset: impl Fn(), command: impl Fn() -> Command) {
    KillTest {
        what,
        tries: kills::count(3),
        codes,
        reset: &|| {
            reset();
            scratch.folder.path().to_owned()
        },
        commands: &|_| vec![command()],
        content: &content,
    }
    .run();
}

/// Removes the output files, but not the list and the audio.
fn remove_outputs(root: &Path) {
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let is_output = ["index.", ".index.", "coverage", ".coverage", "clique_sizes", ".clique_sizes"];
        if is_output.iter().any(|begin| name.starts_with(begin)) {
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn build() {
    let rows: String = (0..20_000).map(|at| format!("v{at},c{},v{at}.wav\n", at / 5)).collect();
    let scratch =
        Scratch::new(&[("songs.csv", format!("id,clique,path\n{rows}")), ("audio/.keep", String::new())]);
    for at in (0..20_000).step_by(20) {
        scratch.write(&format!("audio/v{at}.wav"), b"x");
    }
    let settings = ["index.source=csv", "index.meta=songs.csv", "index.dataset_path=audio"];
    let reset = || remove_outputs(scratch.folder.path());
    killed("build", &scratch, &[0], reset, || scratch.command("build", &settings));
}

#[test]
fn verify() {
    let scratch = Scratch::new::<&str>(&[]);
    for at in 0..200u32 {
        let level = if at % 50 == 7 { 0.0 } else { 0.5 };
        scratch.write(
            &format!("audio/c{}/v{at}.wav", at / 4),
            &support::wav(1.0, level, 0.05 + f64::from(at) * 0.001),
        );
    }
    let settings = ["index.source=folder", "index.dataset_path=audio"];
    let reset = || {
        remove_outputs(scratch.folder.path());
        assert_eq!(scratch.build(&settings).0, Some(0));
    };
    killed("verify", &scratch, &[3], reset, || scratch.command("verify", &settings));
}

#[test]
fn download() {
    let ids: Vec<String> =
        (0..12).map(|at| format!("{}{at}", if at % 4 == 3 { "gone" } else { "v" })).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let body = "case \"$url\" in *gone*) echo 'ERROR: Video unavailable' >&2; exit 1;; esac\n\
        echo half >> \"$folder/audio.m4a.part\"; sleep 0.05; rm \"$folder/audio.m4a.part\"\ncame good.wav wav\n";
    let scratch = stand_in::scratch(&ids, body);
    let root = scratch.folder.path();
    let reset = || {
        for entry in std::fs::read_dir(root.join("audio")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                std::fs::remove_dir_all(path).unwrap()
            } else {
                std::fs::remove_file(path).unwrap()
            }
        }
        // The addresses that were asked for, which a kill may repeat.
        let _ = std::fs::remove_file(root.join("asked"));
        std::os::unix::fs::symlink("/dev/null", root.join("asked")).unwrap();
        remove_outputs(root);
        assert_eq!(scratch.build(&stand_in::SETTINGS).0, Some(0));
    };
    killed("download", &scratch, &[0, 3], reset, || stand_in::download(&scratch, "download", &[]));
}
