//! Building, changing, merging and verifying an index.

mod common;

use std::path::Path;

use bc_search::index::Index;
use common::{answers, melody, refuse, run, succeed};
use serde_json::Value;

const NETWORK: [&str; 2] = ["--network", "network.safetensors"];

/// A folder with a network and `count` tunes in `music/`.
fn folder_with_music(count: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    common::checkpoint(&folder.path().join("network.safetensors"), 7);
    std::fs::create_dir(folder.path().join("music")).unwrap();
    for tune in 0..count {
        melody(&folder.path().join(format!("music/{tune}.wav")), &[40 + tune, 60 + 2 * tune, 50]);
    }
    folder
}

fn with_network(folder: &Path, args: &[&str]) -> String {
    succeed(folder, &[args, &NETWORK].concat())
}

fn count(folder: &Path, index: &str) -> usize {
    Index::open(&folder.join(index)).unwrap().len()
}

#[test]
fn list_sets_works_codes_and_additional_columns() {
    let folder = folder_with_music(3);
    let list = "path,title,performer,work,isrc,iswc,label\nmusic/0.wav,Zero,Ann,W0,QZ1,T-1,blue\nmusic/1.wav,,,W0,,,\n\
                music/9.wav,,,,,,\n";
    std::fs::write(folder.path().join("list.csv"), list).unwrap();
    let output = run(folder.path(), &[&["add", "list.csv", "--index", "i"][..], &NETWORK].concat());
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("9.wav"));
    let search = [&["search", "music/1.wav", "--index", "i", "--json"][..], &NETWORK].concat();
    let answer = answers(folder.path(), &search).remove(0);
    let hits = answer["hits"].as_array().unwrap();
    assert_eq!((hits.len(), &hits[0]["work"], &hits[0]["versions"]), (1, &"W0".into(), &2.into()));
    let search = [&["search", "music/0.wav", "--index", "i", "--json"][..], &NETWORK].concat();
    let hit = answers(folder.path(), &search).remove(0)["hits"][0].clone();
    for (name, value) in [("title", "Zero"), ("performer", "Ann"), ("isrc", "QZ1"), ("iswc", "T-1")] {
        assert_eq!(hit[name], value, "{hit}");
    }
    // Apart from the fields of the answer, whose names it could have.
    assert_eq!(hit["extra"], serde_json::json!({ "label": "blue" }), "{hit}");
    assert!(hit["path"].as_str().unwrap().ends_with("music/0.wav"));
}

#[test]
fn audio_already_in_the_index_is_not_embedded_again() {
    let folder = folder_with_music(4);
    with_network(folder.path(), &["add", "music", "--index", "i"]);
    std::fs::copy(folder.path().join("music/0.wav"), folder.path().join("copy.wav")).unwrap();
    let output = with_network(folder.path(), &["add", "music", "copy.wav", "--index", "i"]);
    assert!(output.contains("0 recordings added") && output.contains("5 already present"), "{output}");
    assert_eq!(count(folder.path(), "i"), 4);
    // Moved files have the same audio, so they are already present.
    std::fs::rename(folder.path().join("music"), folder.path().join("moved")).unwrap();
    let output = with_network(folder.path(), &["add", "moved", "--index", "i"]);
    assert!(output.contains("0 recordings added"), "{output}");
}

#[test]
fn changed_audio_under_a_known_path_is_an_error_unless_replaced() {
    let folder = folder_with_music(3);
    with_network(folder.path(), &["add", "music", "--index", "i"]);
    melody(&folder.path().join("music/1.wav"), &[90, 80, 70]);
    let output = run(folder.path(), &[&["add", "music", "--index", "i"][..], &NETWORK].concat());
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("bc-search replace"));
    let output = with_network(folder.path(), &["replace", "music", "--index", "i"]);
    assert!(output.contains("1 replaced") && output.contains("2 already present"), "{output}");
    assert_eq!(count(folder.path(), "i"), 3);
    let search = [&["search", "music/1.wav", "--index", "i", "--json"][..], &NETWORK].concat();
    assert_eq!(answers(folder.path(), &search)[0]["hits"][0]["kind"], "same-audio");
}

#[test]
fn removed_recordings_are_not_found_and_compacting_deletes_them() {
    let folder = folder_with_music(4);
    with_network(folder.path(), &["add", ".", "--index", "i", "--by-folder"]);
    assert!(
        succeed(folder.path(), &["remove", "--path", "music/2.wav", "--index", "i"]).contains("1 recordings")
    );
    assert!(
        refuse(folder.path(), &["remove", "--path", "music/2.wav", "--index", "i"]).contains("none of these")
    );
    assert_eq!(count(folder.path(), "i"), 3);
    let info = |folder: &Path| -> Value {
        serde_json::from_str(&succeed(folder, &["info", "--index", "i", "--json"])).unwrap()
    };
    assert_eq!((&info(folder.path())["removed"], &info(folder.path())["vectors"]), (&1.into(), &4.into()));
    let search = [&["search", "music/2.wav", "--index", "i", "--json"][..], &NETWORK].concat();
    let line = succeed(folder.path(), &search);
    assert!(!line.contains("music/2.wav\",\"title"), "{line}");
    succeed(folder.path(), &["compact", "--index", "i"]);
    assert_eq!((&info(folder.path())["removed"], &info(folder.path())["vectors"]), (&0.into(), &3.into()));
    assert!(succeed(folder.path(), &["verify", "--index", "i"]).contains("is intact"));
    // A removed recording can be added again.
    let output = with_network(folder.path(), &["add", ".", "--index", "i", "--by-folder"]);
    assert!(output.contains("1 recordings added") && output.contains("3 already present"), "{output}");
    succeed(folder.path(), &["remove", "--work", "music", "--index", "i"]);
    assert_eq!(count(folder.path(), "i"), 0);
    succeed(folder.path(), &["compact", "--index", "i"]);
    assert_eq!(count(folder.path(), "i"), 0);
    let search = [&["search", "music/2.wav", "--index", "i", "--json"][..], &NETWORK].concat();
    assert_eq!(answers(folder.path(), &search)[0]["hits"].as_array().unwrap().len(), 0);
}

#[test]
fn indexes_are_merged_only_if_they_have_the_same_network() {
    let folder = folder_with_music(6);
    for (part, index) in [("1/2", "a"), ("2/2", "b")] {
        with_network(folder.path(), &["add", "music", "--index", index, "--shard", part]);
    }
    with_network(folder.path(), &["add", "music/0.wav", "--index", "b"]);
    let output = succeed(folder.path(), &["merge", "b", "--index", "a"]);
    assert!(output.contains("3 recordings of b") && output.contains("1 already present"), "{output}");
    assert_eq!(count(folder.path(), "a"), 6);
    succeed(folder.path(), &["verify", "--index", "a"]);
    common::checkpoint(&folder.path().join("other.safetensors"), 8);
    succeed(folder.path(), &["add", "music", "--index", "c", "--network", "other.safetensors"]);
    let error = refuse(folder.path(), &["merge", "c", "--index", "a"]);
    let fingerprint = |index: &str| {
        Index::open(&folder.path().join(index)).unwrap().manifest.provenance.inputs["checkpoint"].clone()
    };
    assert!(
        error.contains(&fingerprint("a")) && error.contains(&fingerprint("c")),
        "does not name both networks: {error}"
    );
    let error = refuse(folder.path(), &["add", "music", "--index", "a", "--network", "other.safetensors"]);
    assert!(
        error.contains(&fingerprint("a")) && error.contains(&fingerprint("c")),
        "does not name both networks: {error}"
    );
    let storage = [&["add", "music", "--index", "a", "--storage", "int8"][..], &NETWORK].concat();
    assert!(refuse(folder.path(), &storage).contains("stores vectors as f16"));
}

#[test]
fn verify_finds_and_names_damaged_files() {
    let folder = folder_with_music(3);
    with_network(folder.path(), &["add", "music", "--index", "i"]);
    let segments = folder.path().join("i/segments");
    for extension in ["vectors", "keys", "rows.parquet"] {
        let path = std::fs::read_dir(&segments).unwrap().flatten().map(|entry| entry.path());
        let path = path.into_iter().find(|path| path.to_string_lossy().ends_with(extension)).unwrap();
        let intact = std::fs::read(&path).unwrap();
        let mut bytes = intact.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        std::fs::write(&path, &bytes).unwrap();
        let error = refuse(folder.path(), &["verify", "--index", "i"]);
        assert!(error.contains(extension) && error.contains("damaged"), "{extension}: {error}");
        std::fs::write(&path, &intact[..intact.len() / 2]).unwrap();
        let search = [&["search", "music/0.wav", "--index", "i"][..], &NETWORK].concat();
        let error = refuse(folder.path(), &search);
        assert!(error.contains(extension) || error.contains("seg-"), "{extension}: {error}");
        std::fs::write(&path, intact).unwrap();
    }
    succeed(folder.path(), &["verify", "--index", "i"]);
    assert!(refuse(folder.path(), &["info", "--index", "nothing"]).contains("there is no index at nothing"));
    std::fs::write(folder.path().join("i/manifest.json"), "{").unwrap();
    assert!(refuse(folder.path(), &["info", "--index", "i"]).contains("manifest.json"));
}

#[test]
fn many_small_additions_become_few_segments() {
    let folder = folder_with_music(20);
    for tune in 0..20 {
        with_network(folder.path(), &["add", &format!("music/{tune}.wav"), "--index", "i"]);
    }
    let index = Index::open(&folder.path().join("i")).unwrap();
    assert_eq!(index.len(), 20);
    assert!(index.segments.len() <= 6, "{} segments", index.segments.len());
    let mut paths: Vec<String> = index.recordings().map(|id| index.row(id).unwrap().path).collect();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), 20);
    succeed(folder.path(), &["verify", "--index", "i"]);
    // An open reader keeps its generation of the index; `newer` opens the next one.
    with_network(folder.path(), &["replace", "music", "--index", "i"]);
    assert!(index.newer().unwrap().is_none(), "nothing changed");
    succeed(folder.path(), &["remove", "--path", "music/3.wav", "--index", "i"]);
    succeed(folder.path(), &["compact", "--index", "i"]);
    let rows: Vec<_> = index.recordings().map(|id| index.row(id).unwrap()).collect();
    assert_eq!(rows.len(), 20);
    assert_eq!(index.newer().unwrap().unwrap().len(), 19);
}

#[test]
fn segments_without_their_manifest_are_not_removed() {
    let folder = folder_with_music(3);
    let path = folder.path();
    with_network(path, &["add", "music", "--index", "i"]);
    let files = || std::fs::read_dir(path.join("i/segments")).unwrap().count();
    let before = files();
    let (manifest, lost) = (path.join("i/manifest.json"), path.join("lost.json"));
    std::fs::rename(&manifest, &lost).unwrap();
    let add = [&["add", "music", "--index", "i"][..], &NETWORK].concat();
    let error = refuse(path, &add);
    assert!(error.contains("holds segments") && error.contains("backup"), "{error}");
    assert_eq!(files(), before);
    // Nor with a link that leads nowhere.
    std::os::unix::fs::symlink("nowhere", &manifest).unwrap();
    refuse(path, &add);
    assert_eq!(files(), before);
    std::fs::remove_file(&manifest).unwrap();
    std::fs::rename(&lost, &manifest).unwrap();
    assert!(succeed(path, &["verify", "--index", "i"]).contains("is intact"));
    // What the first `add` left when it was killed belongs to no index.
    std::fs::create_dir_all(path.join("j/segments")).unwrap();
    std::fs::write(path.join("j/segments/.new"), "").unwrap();
    std::fs::write(path.join("j/segments/seg-00000001.keys"), "half").unwrap();
    with_network(path, &["add", "music", "--index", "j"]);
    assert!(succeed(path, &["verify", "--index", "j"]).contains("is intact"));
    assert_eq!(std::fs::read_dir(path.join("j/segments")).unwrap().count(), before);
}

#[test]
fn merging_reports_other_audio_under_the_same_path() {
    let folder = folder_with_music(2);
    let path = folder.path();
    with_network(path, &["add", "music", "--index", "a"]);
    melody(&path.join("music/0.wav"), &[71, 44, 52]);
    with_network(path, &["add", "music", "--index", "b"]);
    let output = run(path, &["merge", "b", "--index", "a"]);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(3), "{printed}");
    let expected =
        "0 recordings of b added to a, 1 already present, 1 left out because other audio has their path";
    assert!(printed.contains(expected), "{printed}");
}

#[test]
fn damage_is_neither_used_nor_copied() {
    let folder = folder_with_music(3);
    let path = folder.path();
    with_network(path, &["add", "music/0.wav", "music/1.wav", "--index", "i"]);
    with_network(path, &["add", "music/2.wav", "--index", "i"]);
    succeed(path, &["remove", "--path", "music/0.wav", "--index", "i"]);
    let file = |ending: &str| {
        let entries = std::fs::read_dir(path.join("i/segments")).unwrap();
        let mut paths = entries.map(|entry| entry.unwrap().path());
        paths.find(|path| path.to_string_lossy().contains(ending)).unwrap()
    };
    let (removed, vectors) = (file(".removed-"), file(".vectors"));
    let search = [&["search", "music/1.wav", "--index", "i"][..], &NETWORK].concat();
    let intact = std::fs::read(&removed).unwrap();
    std::fs::write(&removed, "").unwrap();
    let error = refuse(path, &search);
    assert!(error.contains("which recordings were removed") && error.contains("backup"), "{error}");
    std::fs::write(&removed, intact).unwrap();
    succeed(path, &search);
    // One bit of a vector.
    let mut bytes = std::fs::read(&vectors).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 64;
    std::fs::write(&vectors, bytes).unwrap();
    let error = refuse(path, &["compact", "--index", "i"]);
    assert!(error.contains("damaged") && error.contains(".vectors"), "{error}");
}

#[test]
fn only_regular_files_are_added() {
    let folder = folder_with_music(1);
    let path = folder.path();
    std::os::unix::fs::symlink("/dev/zero", path.join("zero.wav")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(path.join("pipe.wav")).status().unwrap().success());
    let add = ["add", "zero.wav", "pipe.wav", "music/0.wav", "--index", "i"];
    let output = run(path, &[&add[..], &NETWORK].concat());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{error}");
    for name in ["zero.wav", "pipe.wav"] {
        assert!(error.contains(name) && error.contains("not a regular file"), "{error}");
    }
    assert_eq!(count(path, "i"), 1);
}

#[test]
fn an_index_that_was_made_again_is_a_newer_one() {
    let folder = folder_with_music(3);
    let path = folder.path();
    with_network(path, &["add", "music/0.wav", "--index", "i"]);
    let index = Index::open(&path.join("i")).unwrap();
    assert!(index.newer().unwrap().is_none());
    std::fs::remove_dir_all(path.join("i")).unwrap();
    with_network(path, &["add", "music/1.wav", "--index", "i"]);
    let newer = index.newer().unwrap().expect("generation 1 of another index");
    assert_eq!(newer.manifest.generation, index.manifest.generation);
    assert!(newer.row(newer.recordings().next().unwrap()).unwrap().path.ends_with("music/1.wav"));
}
