//! What searches refuse, warn about and print.

mod common;

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use bc_calibration::Calibration;
use bc_formats::embeddings::Embeddings;
use bc_search::index::Index;
use common::songs::{Performance, indexed_songs, song};
use common::{NETWORK, TUNES, melody, refuse, run, succeed, with_tunes};

/// A folder with four tunes, an index of them and a calibration of its network next to the index.
fn calibrated_tunes() -> tempfile::TempDir {
    let folder = with_tunes(&["add", "tunes", "--index", "songs", "--work", "Tune"]);
    let index = Index::open(&folder.path().join("songs")).unwrap();
    let path = folder.path().join("e.parquet");
    common::clusters(&path, [80, 5], 24, 0.6, |_| {});
    let mut embeddings = Embeddings::read(&path).unwrap();
    // With an offset common to all, other works have high cosines, as the tunes have by this untrained network.
    for vector in embeddings.vectors.chunks_exact_mut(embeddings.dim) {
        let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        vector[0] += 20.0 * length;
    }
    embeddings.provenance.settings = index.manifest.provenance.settings.clone();
    embeddings.provenance.inputs = index.manifest.provenance.inputs.clone();
    let calibration = Calibration::from_embeddings(Path::new("e.parquet"), &embeddings).unwrap();
    bc_formats::atomic::write_json(&folder.path().join("songs/calibration.json"), &calibration).unwrap();
    folder
}

fn stderr_of(folder: &Path, args: &[&str]) -> String {
    String::from_utf8(run(folder, args).stderr).unwrap()
}

#[test]
fn windows_of_a_timeline_have_limits() {
    let folder = calibrated_tunes();
    let identify = |args: &[&str]| {
        let base = ["identify", "tunes/up.wav", "--index", "songs"];
        refuse(folder.path(), &[&base[..], args, &NETWORK].concat())
    };
    assert!(identify(&["--window", "4", "--step", "0.001"]).contains("--step 0.001"));
    assert!(identify(&["--window", "4", "--step", "5"]).contains("--step 5"));
    assert!(identify(&["--window", "0.5", "--step", "0.5"]).contains("--window 0.5"));
    let longer = identify(&["--window", "300"]);
    assert!(longer.contains("tunes/up.wav is 6.0 s long") && longer.contains("300 s"), "{longer}");
}

#[test]
fn a_timeline_without_works_says_so_and_keeps_its_header() {
    let folder = calibrated_tunes();
    melody(&folder.path().join("other.wav"), &[30, 90, 33, 99, 31, 95]);
    let base = ["identify", "other.wav", "--index", "songs", "--window", "4", "--step", "1"];
    let nothing = ["--prior", "1e-9"];
    let table = succeed(folder.path(), &[&base[..], &nothing, &NETWORK].concat());
    assert_eq!(table, "nothing of the index was found in other.wav\n");
    let csv = succeed(folder.path(), &[&base[..], &nothing, &["--format", "csv"], &NETWORK].concat());
    assert_eq!(csv, "file,start_s,end_s,probability,score,work,title,performer,path,isrc,iswc\n");
    let duplicates = ["duplicates", "--index", "songs", "--min-probability", "1", "--format", "csv"];
    let csv = succeed(folder.path(), &[&duplicates[..], &["--prior", "1e-12"], &NETWORK].concat());
    assert!(csv.lines().count() == 1 && csv.starts_with("group,kind,"), "{csv}");
    let impossible = ["duplicates", "--index", "songs", "--min-probability", "2"];
    assert_eq!(run(folder.path(), &impossible).status.code(), Some(2));
}

#[test]
fn a_network_that_is_not_the_index_s_is_named() {
    let folder = with_tunes(&["add", "tunes", "--index", "songs"]);
    common::checkpoint(&folder.path().join("other.safetensors"), 8);
    let error =
        refuse(folder.path(), &["duplicates", "--index", "songs", "--checkpoint", "other.safetensors"]);
    assert!(error.contains("other.safetensors") && error.contains("songs"), "{error}");
    assert!(error.contains("no calibration"), "{error}");
    let error = refuse(folder.path(), &["search", "tunes/up.wav", "--index", "songs"]);
    assert!(error.contains("--network configs/networks/default"), "{error}");
}

#[test]
fn short_queries_get_a_hint_and_bad_lines_of_a_list_fail_alone() {
    let folder = with_tunes(&["add", "tunes", "--index", "songs"]);
    let search = [&["search", "tunes/up.wav", "--index", "songs"][..], &NETWORK].concat();
    let stderr = stderr_of(folder.path(), &search);
    assert!(stderr.contains("tunes/up.wav is 6.0 s long"), "{stderr}");
    let long: Vec<u32> = TUNES[0].1.repeat(2);
    melody(&folder.path().join("long.wav"), &long);
    let search = [&["search", "long.wav", "--index", "songs"][..], &NETWORK].concat();
    assert_eq!(stderr_of(folder.path(), &search), "");
    let mut list = common::stage(
        folder.path(),
        &[&["search", "-", "--index", "songs", "--json"][..], &NETWORK].concat(),
    );
    let mut child = list.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"long.wav\nb\xffd.wav\ntunes/low.wav\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert_eq!(stdout.lines().count(), 3, "{stdout}");
    assert!(stderr.contains("line 2 of the list"), "{stderr}");
}

#[test]
fn indexed_recordings_are_queries_by_relative_paths_when_their_files_are_gone() {
    let folder = with_tunes(&["add", "tunes", "--index", "songs"]);
    std::fs::remove_file(folder.path().join("tunes/up.wav")).unwrap();
    let answer =
        common::answers(folder.path(), &["search", "tunes/up.wav", "--index", "songs", "--json"]).remove(0);
    let hits = answer["hits"].as_array().unwrap();
    assert_eq!(hits.len(), 3, "{answer}");
    assert!(hits.iter().all(|hit| !hit["path"].as_str().unwrap().ends_with("up.wav")), "{answer}");
}

#[test]
fn unlikely_works_are_called_so_and_csv_numbers_are_short() {
    let folder = calibrated_tunes();
    let search = ["search", "tunes/up.wav", "--index", "songs", "--prior", "1e-9"];
    melody(&folder.path().join("tunes/up.wav"), &[30, 90, 33, 99, 31, 95]);
    let table = succeed(folder.path(), &[&search[..], &NETWORK].concat());
    assert!(table.contains("Probability that the index holds no version of it: 100.0 %."), "{table}");
    assert!(table.contains("unlikely") && !table.contains("other works"), "{table}");
    let csv = succeed(folder.path(), &[&search[..], &["--format", "csv"], &NETWORK].concat());
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    for record in reader.records() {
        let probability = record.unwrap()[2].to_owned();
        assert!(probability.len() <= 14 && probability.parse::<f64>().is_ok(), "{probability}");
    }
}

#[test]
fn alignments_show_their_score_and_which_side_is_which() {
    let folder = indexed_songs();
    song(&folder.path().join("query.wav"), 1, Performance { key: 2, ..Performance::default() });
    let search = [&["search", "query.wav", "--index", "index", "--align"][..], &NETWORK].concat();
    let table = succeed(folder.path(), &search);
    assert!(table.contains("alignment score ") && table.contains(" of the query matches "), "{table}");
    let compare = [&["compare", "query.wav", "songs/one.wav", "--align"][..], &NETWORK].concat();
    assert!(succeed(folder.path(), &compare).contains(" of the first matches "));
}
