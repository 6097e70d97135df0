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
    assert_eq!((&by_folder["updated"], &by_folder["new"]), (&1.into(), &1.into()), "{by_folder}");
    assert_eq!(by_folder["kept_works"][0]["work"], "W0", "{by_folder}");
    let works: Vec<String> = rows(path).into_values().map(|row| row.work).collect();
    assert_eq!(works, ["W0", "music", "music"]);
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

#[cfg(unix)]
#[test]
fn spellings_of_one_path_are_one_recording() {
    let folder = folder_with_music(3);
    let path = folder.path();
    with_network(path, &["add", "music", "--index", "i"]);
    std::os::unix::fs::symlink(path.join("music"), path.join("link")).unwrap();
    std::os::unix::fs::symlink(path.join("music/0.wav"), path.join("song.wav")).unwrap();
    let absolute = path.join("music").to_string_lossy().into_owned();
    for spelling in
        ["./music", ".//music/", "music/../music", "x/../music", "link", "link/../music", &absolute]
    {
        if spelling == "x/../music" {
            std::fs::create_dir(path.join("x")).unwrap();
        }
        let added = add_json(path, &["add", spelling]);
        assert_eq!((&added["there"], &added["new"]), (&3.into(), &0.into()), "{spelling}: {added}");
        assert_eq!(added["copies"], Value::Array(Vec::new()), "{spelling}: {added}");
    }
    // Twice in one command, and a link to the file itself.
    let added = add_json(path, &["add", "link", "song.wav", "music/0.wav", "music", "--performer", "Ann"]);
    assert_eq!((&added["updated"], &added["there"]), (&3.into(), &0.into()), "{added}");
    assert_eq!(added["copies"], Value::Array(Vec::new()), "{added}");
    let all = rows(path);
    assert!(all.values().all(|row| row.performer == "Ann" && row.path.contains("/music/")), "{all:?}");
    // Other audio under a known path is that path's, however it is spelled.
    tune_at(&path.join("music/1.wav"), 30);
    let output = run(path, &[&["add", "link", "--index", "i"][..], &NETWORK].concat());
    assert_eq!((output.status.code(), rows(path).len()), (Some(3), 3));
    let replaced = add_json(path, &["replace", "link"]);
    assert_eq!((&replaced["replaced"], &replaced["new"]), (&1.into(), &0.into()), "{replaced}");
    assert_eq!(rows(path).len(), 3);
    succeed(path, &["remove", "--path", "link/1.wav", "--index", "i"]);
    assert_eq!(rows(path).into_keys().collect::<Vec<_>>(), ["0.wav", "2.wav"]);
    // In an index that was made through the link, the folder itself is known.
    let through_link = |args: &[&str]| {
        let output = run(path, &[args, &["--index", "j", "--json"], &NETWORK].concat());
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    assert_eq!(through_link(&["add", "link"])["new"], 3);
    let added = through_link(&["add", "music"]);
    assert_eq!((&added["there"], &added["copies"]), (&3.into(), &Value::Array(Vec::new())), "{added}");
    succeed(path, &["verify", "--index", "i"]);
}

#[test]
fn works_stay_when_a_subfolder_is_added_by_folder_and_new_files_join_them() {
    let folder = folder_with_music(0);
    let path = folder.path();
    tune_at(&path.join("music/ABBA/Waterloo/1.wav"), 1);
    tune_at(&path.join("music/ABBA/SOS/2.wav"), 2);
    with_network(path, &["add", "music", "--by-folder", "--index", "i"]);
    tune_at(&path.join("music/ABBA/Waterloo/3.wav"), 3);
    tune_at(&path.join("music/ABBA/Fernando/4.wav"), 4);
    let works = || rows(path).into_values().map(|row| row.work).collect::<Vec<_>>();
    let output = run(path, &[&["add", "music/ABBA", "--by-folder", "--index", "i"][..], &NETWORK].concat());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(works(), ["ABBA/Waterloo", "ABBA/SOS", "ABBA/Waterloo", "Fernando"], "{stderr}");
    assert!(
        stderr.contains("2 recordings keep their works") && stderr.contains("`bc-search replace`"),
        "{stderr}"
    );
    assert!(stderr.contains("it keeps \"ABBA/") && output.status.success(), "{stderr}");
    // By a name that the user gives, and to replace, works change.
    let replaced = add_json(path, &["replace", "music/ABBA", "--by-folder"]);
    assert_eq!((&replaced["updated"], &replaced["there"]), (&3.into(), &1.into()), "{replaced}");
    assert_eq!(works(), ["Waterloo", "SOS", "Waterloo", "Fernando"]);
    add_json(path, &["add", "music/ABBA/SOS", "--work", "S.O.S."]);
    assert_eq!(works(), ["Waterloo", "S.O.S.", "Waterloo", "Fernando"]);
}

#[test]
fn copies_take_the_place_of_a_file_that_cannot_be_added() {
    let folder = folder_with_music(1);
    let path = folder.path();
    with_network(path, &["add", "music", "--index", "i"]);
    // Other audio under the known path, with two copies.
    tune_at(&path.join("music/0.wav"), 30);
    for copy in ["copy1", "copy2"] {
        std::fs::copy(path.join("music/0.wav"), path.join(format!("music/{copy}.wav"))).unwrap();
    }
    let added = add_json(path, &["add", "music"]);
    assert_eq!((&added["new"], &added["there"]), (&1.into(), &1.into()), "{added}");
    let failed = added["failed"].as_array().unwrap();
    assert!(failed.len() == 1 && failed[0]["file"] == "music/0.wav", "{added}");
    let copy = &added["copies"][0];
    assert!(copy["file"].as_str().unwrap().ends_with("copy2.wav"), "{added}");
    assert!(copy["same_as"].as_str().unwrap().ends_with("copy1.wav"), "{added}");
    assert_eq!(rows(path).into_keys().collect::<Vec<_>>(), ["0.wav", "copy1.wav"]);
    // Where the copy conflicts too, both say so.
    tune_at(&path.join("music/0.wav"), 31);
    std::fs::copy(path.join("music/0.wav"), path.join("music/copy1.wav")).unwrap();
    let both = [&["add", "music/0.wav", "music/copy1.wav", "--index", "i"][..], &NETWORK].concat();
    let error = refuse(path, &both);
    assert_eq!(error.matches("the index holds other audio under this path").count(), 2, "{error}");
    // The recording of copy1 is in copy2, so that its path becomes free.
    let added = add_json(path, &["add", "music"]);
    assert_eq!(
        (&added["new"], &added["moved"], &added["there"]),
        (&1.into(), &1.into(), &0.into()),
        "{added}"
    );
    assert_eq!(added["failed"].as_array().unwrap().len(), 1, "{added}");
    assert_eq!(rows(path).into_keys().collect::<Vec<_>>(), ["0.wav", "copy1.wav", "copy2.wav"]);
    succeed(path, &["verify", "--index", "i"]);
}

#[test]
fn touched_files_are_hashed_once() {
    let folder = folder_with_music(2);
    let path = folder.path();
    with_network(path, &["add", "music", "--index", "i"]);
    let before = vectors(path, "music/0.wav");
    let touched = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    File::options().write(true).open(path.join("music/0.wav")).unwrap().set_modified(touched).unwrap();
    let added = add_json(path, &["add", "music"]);
    assert_eq!((&added["there"], &added["updated"]), (&2.into(), &0.into()), "{added}");
    let row = rows(path)["0.wav"].clone();
    assert_eq!(row.modified_ns, 1_800_000_000_000_000_000, "the next `add` need not read the file");
    assert_eq!(vectors(path, "music/0.wav"), before);
    let generation = || Index::open(&path.join("i")).unwrap().manifest.generation;
    let unchanged = generation();
    add_json(path, &["add", "music"]);
    assert_eq!(generation(), unchanged);
    succeed(path, &["verify", "--index", "i"]);
}

#[test]
fn recordings_of_an_absent_disk_keep_their_paths() {
    let folder = folder_with_music(0);
    let path = folder.path();
    for tune in 0..5 {
        tune_at(&path.join(format!("disk/music/{tune}.wav")), tune);
    }
    with_network(path, &["add", "disk", "--index", "i"]);
    let before = rows(path);
    std::fs::create_dir(path.join("here")).unwrap();
    std::fs::copy(path.join("disk/music/0.wav"), path.join("here/some.wav")).unwrap();
    std::fs::copy(path.join("disk/music/0.wav"), path.join("here/twin.wav")).unwrap();
    // The mount point stays, as an empty folder.
    std::fs::rename(path.join("disk/music"), path.join("unmounted")).unwrap();
    let output = run(path, &[&["add", "here", "--index", "i"][..], &NETWORK].concat());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("disk is absent or empty") && stderr.contains("`bc-search replace`"), "{stderr}");
    let added = add_json(path, &["add", "here"]);
    assert_eq!(
        (&added["moved"], &added["there"], &added["new"]),
        (&0.into(), &2.into(), &0.into()),
        "{added}"
    );
    assert!(added["absent"][0]["same_as"].as_str().unwrap().ends_with("disk/music/0.wav"), "{added}");
    assert!(added["copies"][0]["same_as"].as_str().unwrap().ends_with("disk/music/0.wav"), "{added}");
    assert_eq!(rows(path), before);
    // Mounted again, nothing has changed.
    std::fs::rename(path.join("unmounted"), path.join("disk/music")).unwrap();
    assert_eq!(add_json(path, &["add", "disk"])["there"], 5);
    // A folder that is found again as a whole was renamed, which is said.
    std::fs::remove_dir_all(path.join("here")).unwrap();
    std::fs::rename(path.join("disk"), path.join("renamed")).unwrap();
    let output = run(path, &[&["add", "renamed", "--index", "i"][..], &NETWORK].concat());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("5 moved"), "{stderr}");
    assert_eq!(stderr.lines().filter(|line| line.starts_with("moved: ")).count(), 5, "{stderr}");
    // Who asks for it gets a single recording moved.
    std::fs::create_dir(path.join("here")).unwrap();
    std::fs::rename(path.join("renamed/music/0.wav"), path.join("here/0.wav")).unwrap();
    std::fs::remove_dir_all(path.join("renamed")).unwrap();
    assert_eq!(add_json(path, &["add", "here"])["moved"], 0);
    let replaced = add_json(path, &["replace", "here"]);
    assert!(replaced["moved"] == 1 && replaced["moves"][0]["file"].as_str().unwrap().ends_with("here/0.wav"));
}

#[test]
fn recordings_are_listed_as_table_csv_and_json() {
    let folder = folder_with_music(3);
    let path = folder.path();
    std::fs::write(
        path.join("list.csv"),
        "path,title,performer,work,label\nmusic/0.wav,\"Zero, one\",Ann,W0,blue\nmusic/1.wav,One,,W0,\nmusic/2.wav,,,,\n",
    )
    .unwrap();
    with_network(path, &["add", "list.csv", "--index", "i"]);
    succeed(path, &["remove", "--path", "music/1.wav", "--index", "i"]);
    let table = succeed(path, &["list", "--index", "i"]);
    assert!(
        table.contains("Zero, one") && table.contains("music/2.wav") && table.contains("2 recordings"),
        "{table}"
    );
    assert!(!table.contains("music/1.wav"), "{table}");
    let csv = succeed(path, &["list", "--index", "i", "--format", "csv"]);
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    assert_eq!(
        reader.headers().unwrap().iter().collect::<Vec<_>>(),
        ["path", "title", "performer", "work", "isrc", "iswc", "duration_s", "content_hash", "extra"]
    );
    let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), 2);
    assert_eq!([&records[0][1], &records[0][3], &records[0][8]], ["Zero, one", "W0", "{\"label\":\"blue\"}"]);
    let rows = common::answers(path, &["list", "--index", "i", "--json", "--work", "W0"]);
    assert_eq!(
        (rows.len(), &rows[0]["title"], &rows[0]["extra"]["label"]),
        (1, &"Zero, one".into(), &"blue".into())
    );
    let output = run(path, &["list", "--index", "i", "--work", "W0", "W9"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(3) && stderr.contains("no recording with --work W9"), "{stderr}");
    assert!(refuse(path, &["list", "--index", "nothing"]).contains("there is no index at nothing"));
}

/// Sets the modification time of a file, which stays as it is otherwise.
fn touch(path: &Path) {
    let touched = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    File::options().write(true).open(path).unwrap().set_modified(touched).unwrap();
}

#[test]
fn a_recording_that_gives_way_to_a_moved_one_is_counted_and_named() {
    let folder = folder_with_music(0);
    let path = folder.path();
    for (name, tune) in [("A/x", 1), ("B/y", 2), ("B/z", 3)] {
        tune_at(&path.join(format!("music/{name}.wav")), tune);
    }
    with_network(path, &["add", "music", "--index", "i"]);
    std::fs::rename(path.join("music/A/x.wav"), path.join("music/B/y.wav")).unwrap();
    let replaced = add_json(path, &["replace", "music/B"]);
    assert_eq!((&replaced["moved"], &replaced["replaced"]), (&1.into(), &1.into()), "{replaced}");
    let replacement = &replaced["replacements"][0];
    assert!(replacement["file"].as_str().unwrap().ends_with("music/B/y.wav"), "{replaced}");
    assert!(replacement["same_as"].as_str().unwrap().ends_with("music/A/x.wav"), "{replaced}");
    assert_eq!(rows(path).into_keys().collect::<Vec<_>>(), ["y.wav", "z.wav"]);
    succeed(path, &["verify", "--index", "i"]);
}

#[test]
fn a_known_path_that_holds_a_copy_of_another_recording_is_reported_and_replaced() {
    let folder = folder_with_music(4);
    let path = folder.path();
    with_network(path, &["add", "music", "--index", "i"]);
    std::fs::copy(path.join("music/3.wav"), path.join("music/1.wav")).unwrap();
    let added = add_json(path, &["add", "music"]);
    let failed = added["failed"].as_array().unwrap();
    assert!(failed.len() == 1 && failed[0]["file"] == "music/1.wav", "{added}");
    assert!(failed[0]["error"].as_str().unwrap().contains("other audio under this path"), "{added}");
    assert_eq!((&added["there"], &added["copies"]), (&3.into(), &Value::Array(Vec::new())), "{added}");
    assert_eq!(rows(path).len(), 4);
    let output = run(path, &[&["replace", "music", "--index", "i"][..], &NETWORK].concat());
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(stdout.contains("1 replaced"), "{stdout}");
    let named = stderr
        .lines()
        .any(|line| line.starts_with("replaced: ") && line.contains("music/1.wav has the audio"));
    assert!(named && stderr.contains("copy: "), "{stderr}");
    assert_eq!(rows(path).into_keys().collect::<Vec<_>>(), ["0.wav", "2.wav", "3.wav"]);
    // Now it is a copy as any other.
    let added = add_json(path, &["add", "music"]);
    assert_eq!((&added["there"], &added["failed"]), (&4.into(), &Value::Array(Vec::new())), "{added}");
    // A recording that was moved away leaves its path to a copy.
    std::fs::rename(path.join("music/0.wav"), path.join("music/z.wav")).unwrap();
    std::fs::copy(path.join("music/3.wav"), path.join("music/0.wav")).unwrap();
    let added = add_json(path, &["add", "music"]);
    assert_eq!((&added["moved"], &added["failed"]), (&1.into(), &Value::Array(Vec::new())), "{added}");
    assert_eq!(rows(path).into_keys().collect::<Vec<_>>(), ["2.wav", "3.wav", "z.wav"]);
    succeed(path, &["verify", "--index", "i"]);
}

#[test]
fn new_files_join_the_work_of_their_folder_in_any_order_and_alone() {
    let folder = folder_with_music(0);
    let path = folder.path();
    tune_at(&path.join("music/ABBA/Waterloo/m.wav"), 1);
    tune_at(&path.join("music/ABBA/SOS/n.wav"), 2);
    with_network(path, &["add", "music", "--by-folder", "--index", "i"]);
    touch(&path.join("music/ABBA/Waterloo/m.wav"));
    tune_at(&path.join("music/ABBA/Waterloo/a.wav"), 3);
    let works = || rows(path).into_values().map(|row| row.work).collect::<Vec<_>>();
    let added = add_json(path, &["add", "music/ABBA", "--by-folder"]);
    assert_eq!(added["new"], 1, "{added}");
    assert_eq!(works(), ["ABBA/Waterloo", "ABBA/Waterloo", "ABBA/SOS"]);
    tune_at(&path.join("music/ABBA/SOS/b.wav"), 4);
    add_json(path, &["add", "music/ABBA/SOS/b.wav", "--by-folder"]);
    assert_eq!(works(), ["ABBA/Waterloo", "ABBA/SOS", "ABBA/Waterloo", "ABBA/SOS"]);
    // In a renamed folder too, whose recordings are recognised after the new file was met.
    std::fs::rename(path.join("music"), path.join("art")).unwrap();
    tune_at(&path.join("art/ABBA/SOS/aa.wav"), 5);
    let added = add_json(path, &["add", "art/ABBA", "--by-folder"]);
    assert_eq!((&added["moved"], &added["new"]), (&4.into(), &1.into()), "{added}");
    assert_eq!(rows(path)["aa.wav"].work, "ABBA/SOS");
}

#[test]
fn a_folder_inside_the_given_one_is_no_absent_disk() {
    let folder = folder_with_music(0);
    let path = folder.path();
    for tune in 0..3 {
        tune_at(&path.join(format!("disk/A/{tune}.wav")), tune);
    }
    tune_at(&path.join("disk/B/9.wav"), 9);
    with_network(path, &["add", "disk", "--index", "i"]);
    std::fs::rename(path.join("disk/A/0.wav"), path.join("disk/B/0.wav")).unwrap();
    for deleted in ["1", "2"] {
        std::fs::remove_file(path.join(format!("disk/A/{deleted}.wav"))).unwrap();
    }
    // Seen from elsewhere, it may be a disk.
    let added = add_json(path, &["add", "disk/B"]);
    assert_eq!((&added["moved"], added["absent"].as_array().unwrap().len()), (&0.into(), 1), "{added}");
    let added = add_json(path, &["add", "disk"]);
    assert_eq!((&added["moved"], &added["absent"]), (&1.into(), &Value::Array(Vec::new())), "{added}");
    assert!(rows(path)["0.wav"].path.ends_with("disk/B/0.wav"));
}

/// Adds `audio` to the index `i` by three processes at once; returns their results.
fn add_by_three(folder: &Path, audio: &str) -> Vec<Value> {
    let args = [&["add", audio, "--index", "i", "--json"][..], &NETWORK].concat();
    let start = || common::stage(folder, &args).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let processes: Vec<_> = (0..3).map(|_| start()).collect();
    let outputs = processes.into_iter().map(|process| process.wait_with_output().unwrap());
    outputs.map(|output| serde_json::from_slice(&output.stdout).unwrap()).collect()
}

#[test]
fn processes_that_see_the_same_change_write_it_once() {
    let folder = folder_with_music(6);
    let path = folder.path();
    with_network(path, &["add", "music", "--index", "i"]);
    let generation = || Index::open(&path.join("i")).unwrap().manifest.generation;
    let sum = |results: &[Value], name: &str| -> u64 {
        results.iter().map(|result| result[name].as_u64().unwrap()).sum()
    };
    for tune in 0..6 {
        touch(&path.join(format!("music/{tune}.wav")));
    }
    let before = generation();
    let added = add_by_three(path, "music");
    assert_eq!((sum(&added, "there"), sum(&added, "updated")), (18, 0), "{added:?}");
    assert_eq!(generation(), before + 1, "only one process writes the new times");
    std::fs::rename(path.join("music"), path.join("art")).unwrap();
    let added = add_by_three(path, "art");
    assert!(added.iter().all(|result| result["failed"] == Value::Array(Vec::new())), "{added:?}");
    assert_eq!((sum(&added, "moved"), sum(&added, "there")), (6, 12), "{added:?}");
    assert_eq!((generation(), rows(path).len()), (before + 2, 6));
    succeed(path, &["verify", "--index", "i"]);
}
