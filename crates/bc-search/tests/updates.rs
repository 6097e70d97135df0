//! Adding files again: corrected metadata, moved files, exact copies, damaged and unreadable files.

mod common;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bc_search::index::{Index, Row};
use common::{NETWORK, melody, refuse, run, succeed, with_network};
use serde_json::Value;

/// A folder with a network and `count` tunes in `music/`.
fn folder_with_music(count: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    common::checkpoint(&folder.path().join("network.safetensors"), 7);
    for tune in 0..count {
        tune_at(&folder.path().join(format!("music/{tune}.wav")), tune);
    }
    folder
}

fn tune_at(path: &Path, tune: u32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    melody(path, &[40 + tune, 60 + 2 * tune, 50]);
    // Files of one size need times of their own: those of the clock may be the same for files that are written at once.
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + u64::from(tune));
    File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

/// The rows of the index `i` by the names of their files.
fn rows(folder: &Path) -> BTreeMap<String, Row> {
    let index = Index::open(&folder.join("i")).unwrap();
    let rows = index.recordings().map(|recording| index.row(recording).unwrap());
    rows.map(|row| (row.path.rsplit('/').next().unwrap().to_owned(), row)).collect()
}

/// The vectors of a recording.
fn vectors(folder: &Path, name: &str) -> Vec<(f32, Vec<f32>)> {
    let index = Index::open(&folder.join("i")).unwrap();
    let path = folder.join(name).to_string_lossy().into_owned();
    index.parts(index.of_path(&path).unwrap().unwrap())
}

/// Runs `add` or `replace` on the index `i` and returns the result as JSON.
fn add_json(folder: &Path, args: &[&str]) -> Value {
    let output = run(folder, &[args, &["--index", "i", "--json"], &NETWORK].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "{error}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

#[test]
fn corrected_metadata_update_the_rows_and_empty_values_erase_nothing() {
    let folder = folder_with_music(3);
    let (path, list) = (folder.path(), folder.path().join("list.csv"));
    std::fs::write(
        &list,
        "path,title,performer,work,isrc,label\nmusic/0.wav,Zero,Ann,W0,,blue\nmusic/1.wav,,,,,\n",
    )
    .unwrap();
    with_network(path, &["add", "list.csv", "--index", "i"]);
    let before = vectors(path, "music/0.wav");
    std::fs::write(&list, "path,performer,work,isrc\nmusic/0.wav,Anna,,QZ1\nmusic/1.wav,,,\n").unwrap();
    let stdout = with_network(path, &["add", "list.csv", "--index", "i"]);
    assert!(stdout.contains("0 recordings added") && stdout.contains("1 updated"), "{stdout}");
    let row = rows(path)["0.wav"].clone();
    assert_eq!([&row.title, &row.performer, &row.work, &row.isrc], ["Zero", "Anna", "W0", "QZ1"]);
    assert_eq!(row.extra["label"], "blue");
    assert_eq!(vectors(path, "music/0.wav"), before, "the vectors are copied");
    // A second time nothing changes.
    let again = add_json(path, &["add", "list.csv"]);
    assert_eq!((&again["updated"], &again["there"]), (&0.into(), &2.into()), "{again}");
    // Works that were not given at first.
    let by_folder = add_json(path, &["add", ".", "--by-folder"]);
    assert_eq!((&by_folder["updated"], &by_folder["new"]), (&2.into(), &1.into()), "{by_folder}");
    assert!(rows(path).values().all(|row| row.work == "music"));
    succeed(path, &["verify", "--index", "i"]);
}

#[test]
fn replaced_audio_keeps_the_metadata_of_the_old_recording() {
    let folder = folder_with_music(2);
    let path = folder.path();
    std::fs::write(path.join("list.csv"), "path,title,performer,work,isrc\nmusic/0.wav,Zero,Ann,W0,QZ1\n")
        .unwrap();
    with_network(path, &["add", "list.csv", "--index", "i"]);
    tune_at(&path.join("music/0.wav"), 30);
    let stdout = with_network(path, &["replace", "music", "--index", "i"]);
    assert!(stdout.contains("1 replaced"), "{stdout}");
    let row = rows(path)["0.wav"].clone();
    assert_eq!([&row.title, &row.performer, &row.work, &row.isrc], ["Zero", "Ann", "W0", "QZ1"]);
    assert_eq!(row.content_hash, bc_formats::fingerprint::of_file(&path.join("music/0.wav")).unwrap());
    tune_at(&path.join("music/0.wav"), 31);
    with_network(path, &["replace", "music/0.wav", "--work", "W1", "--index", "i"]);
    assert_eq!(rows(path)["0.wav"].work, "W1");
}

#[test]
fn moved_files_take_their_rows_along() {
    let folder = folder_with_music(4);
    let path = folder.path();
    std::fs::write(path.join("list.csv"), "path,title,work\nmusic/0.wav,Zero,W0\n").unwrap();
    with_network(path, &["add", "list.csv", "music", "--index", "i"]);
    let before = vectors(path, "music/0.wav");
    std::fs::rename(path.join("music"), path.join("moved")).unwrap();
    // Two files swap their names; the index must not mix them up.
    for (from, to) in [("1", "x"), ("2", "1"), ("x", "2")] {
        std::fs::rename(path.join(format!("moved/{from}.wav")), path.join(format!("moved/{to}.wav")))
            .unwrap();
    }
    let added = add_json(path, &["add", "moved"]);
    assert_eq!(
        (&added["moved"], &added["new"], &added["there"]),
        (&4.into(), &0.into(), &0.into()),
        "{added}"
    );
    let all = rows(path);
    assert_eq!(all.len(), 4);
    for (name, row) in &all {
        assert_eq!(row.path, path.join("moved").join(name).to_string_lossy());
        assert_eq!(row.content_hash, bc_formats::fingerprint::of_file(Path::new(&row.path)).unwrap());
    }
    assert_eq!([&all["0.wav"].title, &all["0.wav"].work, &all["1.wav"].title], ["Zero", "W0", "1"]);
    assert_eq!(vectors(path, "moved/0.wav"), before);
    // In place, two files swap their names once more.
    for (from, to) in [("1", "x"), ("2", "1"), ("x", "2")] {
        std::fs::rename(path.join(format!("moved/{from}.wav")), path.join(format!("moved/{to}.wav")))
            .unwrap();
    }
    let added = add_json(path, &["add", "moved"]);
    assert_eq!((&added["moved"], &added["failed"]), (&2.into(), &Value::Array(Vec::new())), "{added}");
    // A file goes elsewhere and other audio gets its path: both are right in one run.
    std::fs::rename(path.join("moved/3.wav"), path.join("moved/z.wav")).unwrap();
    tune_at(&path.join("moved/3.wav"), 25);
    let added = add_json(path, &["add", "moved"]);
    assert_eq!(
        (&added["moved"], &added["new"], &added["there"]),
        (&1.into(), &1.into(), &3.into()),
        "{added}"
    );
    assert_eq!(rows(path).len(), 5);
    succeed(path, &["verify", "--index", "i"]);
}

#[test]
fn replace_moves_a_recording_onto_the_path_of_one_that_is_gone() {
    let folder = folder_with_music(2);
    let path = folder.path();
    with_network(path, &["add", "music", "--index", "i"]);
    std::fs::rename(path.join("music/1.wav"), path.join("music/0.wav")).unwrap();
    let error = common::run(path, &[&["add", "music", "--index", "i"][..], &common::NETWORK].concat());
    assert_eq!(error.status.code(), Some(1), "the path belongs to another recording");
    with_network(path, &["replace", "music", "--index", "i"]);
    let all = rows(path);
    assert_eq!(all.len(), 1);
    let row = &all["0.wav"];
    assert_eq!(row.content_hash, bc_formats::fingerprint::of_file(Path::new(&row.path)).unwrap());
    succeed(path, &["verify", "--index", "i"]);
}

#[test]
fn exact_copies_are_named() {
    let folder = folder_with_music(1);
    let path = folder.path();
    for copy in 0..12 {
        std::fs::copy(path.join("music/0.wav"), path.join(format!("music/copy{copy:02}.wav"))).unwrap();
    }
    // New in this run, and in a later one.
    for new in [1, 0] {
        let added = add_json(path, &["add", "music"]);
        assert_eq!((&added["new"], &added["there"]), (&new.into(), &(13 - new).into()), "{added}");
        let copies = added["copies"].as_array().unwrap();
        assert_eq!(copies.len(), 12, "{added}");
        for copy in copies {
            assert!(copy["file"].as_str().unwrap().contains("copy"), "{copy}");
            assert!(copy["same_as"].as_str().unwrap().ends_with("music/0.wav"), "{copy}");
        }
    }
    let output = run(path, &[&["add", "music", "--index", "i"][..], &NETWORK].concat());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.lines().filter(|line| line.starts_with("copy: ")).count(), 10, "{stderr}");
    assert!(stderr.contains("and 2 more copies"), "{stderr}");
}

#[test]
fn remove_refuses_empty_selectors_and_reports_those_that_match_nothing() {
    let folder = folder_with_music(3);
    let path = folder.path();
    with_network(path, &["add", "music", "--index", "i"]);
    for option in ["--work", "--path", "--content"] {
        let error = refuse(path, &["remove", option, "", "--index", "i"]);
        assert!(error.contains(&format!("{option} is empty")), "{error}");
    }
    assert_eq!(rows(path).len(), 3);
    let output =
        run(path, &["remove", "--path", "music/0.wav", "music/9.wav", "--work", "W", "--index", "i"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("--path music/9.wav") && stderr.contains("--work W"), "{stderr}");
    assert!(!stderr.contains("music/0.wav"), "{stderr}");
    assert_eq!(rows(path).len(), 2);
    refuse(path, &["remove", "--path", "music/9.wav", "--index", "i"]);
}

#[test]
fn files_that_are_cut_off_are_added_and_reported() {
    let folder = folder_with_music(0);
    let path = folder.path();
    common::flac::write_decompression_bomb(&path.join("whole.flac"), 40);
    let whole = std::fs::read(path.join("whole.flac")).unwrap();
    std::fs::write(path.join("cut.flac"), &whole[..whole.len() / 2]).unwrap();
    let added = add_json(path, &["add", "whole.flac", "cut.flac"]);
    let damaged = added["damaged"].as_array().unwrap();
    assert_eq!((&added["new"], damaged.len()), (&2.into(), 1), "{added}");
    let seconds = |name: &str| damaged[0][name].as_f64().unwrap();
    assert!(
        damaged[0]["file"] == "cut.flac" && seconds("duration_s") < 0.6 * seconds("declared_s"),
        "{added}"
    );
    let search = [&["search", "cut.flac", "whole.flac", "--index", "i"][..], &NETWORK].concat();
    let stderr = String::from_utf8(run(path, &search).stderr).unwrap();
    assert!(stderr.contains("cut.flac is cut off: "), "{stderr}");
    assert!(!stderr.contains("whole.flac is cut off"), "{stderr}");
    // A log is no terminal: no colours.
    assert!(!stderr.contains('\u{1b}'), "{stderr:?}");
}

#[test]
fn files_of_other_types_are_counted() {
    let folder = folder_with_music(2);
    let path = folder.path();
    for name in ["a.wma", "b.WMA", "c.ac3", "cover.jpg", "notes.txt", "README", "d.cue"] {
        std::fs::write(path.join("music").join(name), "no audio").unwrap();
    }
    std::fs::copy(path.join("music/0.wav"), path.join("music/without")).unwrap();
    let output = run(path, &[&["add", "music", "--index", "i"][..], &NETWORK].concat());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let line = "4 files of other types were skipped: .ac3 (1), .wma (2), no extension (1)";
    assert!(stderr.contains(line), "{stderr}");
    assert_eq!(add_json(path, &["add", "music"])["skipped"][".wma"], 2);
}

#[test]
fn folders_of_the_same_name_are_two_works_and_loose_files_have_none() {
    let folder = folder_with_music(0);
    let path = folder.path();
    for (name, tune) in [("A/Live/1", 1), ("B/Live/2", 2), ("Song/3", 3), ("4", 4)] {
        tune_at(&path.join(format!("art/{name}.wav")), tune);
    }
    let output = run(path, &[&["add", "art", "--by-folder", "--index", "i"][..], &NETWORK].concat());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("1 files got no work"), "{stderr}");
    let works = rows(path).into_values().map(|row| row.work).collect::<Vec<_>>();
    let expected = ["A/Live", "B/Live", "Song", ""];
    assert_eq!(works, expected);
}

#[test]
fn missing_arguments_are_reported_and_the_others_added() {
    let folder = folder_with_music(2);
    let path = folder.path();
    std::fs::create_dir(path.join("empty")).unwrap();
    let args = ["add", "nothing.wav", "music", "no.csv", "empty", "--index", "i"];
    let output = run(path, &[&args[..], &NETWORK].concat());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert_eq!(rows(path).len(), 2);
    for name in ["nothing.wav", "no.csv", "empty"] {
        assert!(stderr.contains(name), "{name}: {stderr}");
    }
    let alone = refuse(path, &[&["add", "nothing.wav", "--index", "i"][..], &NETWORK].concat());
    assert!(alone.contains("nothing.wav"), "{alone}");
}
