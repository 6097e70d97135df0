//! Indexing, searching and comparing audio files.

mod common;

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use bc_search::index::Index;
use common::{NETWORK, RATE, TUNES, melody, refuse, run, succeed, wav, with_network};
use serde_json::Value;

/// The file name of a hit.
fn file_name(hit: &Value) -> &str {
    hit["path"].as_str().unwrap().rsplit('/').next().unwrap()
}

/// Starts of the windows of all recordings of an index, in seconds.
fn window_starts(index: &Path) -> Vec<f32> {
    let index = Index::open(index).unwrap();
    index.recordings().flat_map(|recording| index.parts(recording)).map(|(start_s, _)| start_s).collect()
}

/// A folder with a network and an index of four tunes.
fn folder_with_index() -> tempfile::TempDir {
    common::with_tunes(&["add", "tunes", "--index", "songs"])
}

#[test]
fn indexed_recording_is_the_first_hit_of_its_own_file() {
    let folder = folder_with_index();
    for (name, notes) in TUNES {
        melody(&folder.path().join("query.wav"), &notes);
        let line = with_network(folder.path(), &["search", "query.wav", "--index", "songs", "--json"]);
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(file_name(&answer["hits"][0]), format!("{name}.wav"));
        assert!((answer["hits"][0]["score"].as_f64().unwrap() - 1.0).abs() < 1e-4);
        assert_eq!(answer["hits"].as_array().unwrap().len(), 4);
        assert!(answer["probability_of_none"].is_null(), "there is no calibration");
        assert_eq!(answer["hits"][0]["kind"], "same-audio", "the same bytes");
    }
    // Each query is one line of output; a query that fails is a line with its error and does not stop the others.
    std::fs::write(folder.path().join("text.mp3"), "no audio").unwrap();
    let mixed = ["search", "query.wav", "text.mp3", "tunes/up.wav", "--index", "songs", "--json"];
    let output = run(folder.path(), &[&mixed[..], &NETWORK].concat());
    assert_eq!(output.status.code(), Some(3), "done with failures");
    let lines: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[1]["query"], "text.mp3");
    assert!(lines[1]["error"].as_str().unwrap().contains("text.mp3") && lines[1]["hits"].is_null());
    assert!(String::from_utf8_lossy(&output.stderr).contains("text.mp3"));
}

#[test]
fn silence_and_windows_in_an_index_of_whole_recordings_are_refused() {
    let folder = folder_with_index();
    let windows = ["add", "tunes/up.wav", "--index", "songs", "--window", "3"];
    let error = refuse(folder.path(), &[&windows[..], &NETWORK].concat());
    assert!(error.contains("songs holds whole recordings"), "{error}");
    // Digital silence, and the noise of the lowest bit: neither is audible.
    let noise = (0..4 * RATE).map(|n| (n.wrapping_mul(2_654_435_761) >> 30) as i16 % 2);
    wav(&folder.path().join("noise.wav"), noise);
    wav(&folder.path().join("silence.wav"), (0..4 * RATE).map(|_| 0));
    for name in ["silence.wav", "noise.wav"] {
        let search = ["search", name, "--index", "songs"];
        let error = refuse(folder.path(), &[&search[..], &NETWORK].concat());
        assert!(error.contains(&format!("{name}: it is silent")), "{error}");
    }
    // A very quiet tune is not silence.
    wav(&folder.path().join("quiet.wav"), common::notes(&TUNES[0].1).map(|sample| sample / 300));
    with_network(folder.path(), &["search", "quiet.wav", "--index", "songs"]);
}

#[test]
fn windows_of_another_size_are_refused() {
    let folder = folder_with_index();
    // All recordings are shorter than the window, but the index is still one of windows.
    with_network(folder.path(), &["add", "tunes", "--index", "w", "--window", "30", "--step", "10"]);
    assert_eq!(window_starts(&folder.path().join("w")), [0.0; 4]);
    let add = ["add", "tunes/up.wav", "--index", "w"];
    let error = refuse(folder.path(), &[&add[..], &NETWORK].concat());
    assert!(error.contains("--window 30 --step 10") && error.contains("whole recordings"), "{error}");
    let other = ["add", "tunes/up.wav", "--index", "w", "--window", "20", "--step", "10"];
    let error = refuse(folder.path(), &[&other[..], &NETWORK].concat());
    assert!(error.contains("--window 30") && error.contains("--window 20"), "{error}");
    let search = ["search", "tunes/up.wav", "--index", "w", "--window", "20"];
    let error = refuse(folder.path(), &[&search[..], &NETWORK].concat());
    assert!(error.contains("--window 30") && error.contains("--window 20"), "{error}");
}

#[test]
fn silent_windows_do_not_match_each_other() {
    let folder = folder_with_index();
    let silence = || (0..8 * RATE).map(|_| 0i16);
    for (name, tune) in [("one.wav", TUNES[0].1), ("other.wav", TUNES[3].1)] {
        wav(&folder.path().join(name), common::notes(&tune).chain(silence()).chain(common::notes(&tune)));
    }
    let windows = ["--window", "3", "--step", "1"];
    with_network(folder.path(), &[&["add", "one.wav", "other.wav", "--index", "w"][..], &windows].concat());
    let starts = window_starts(&folder.path().join("w"));
    // The notes end at 6 s and begin again at 14 s.
    let silent = starts.iter().filter(|start| **start > 6.5 && **start < 10.5).count();
    assert_eq!(silent, 0, "{starts:?}");
    assert!(starts.len() > 20, "{}", starts.len());
    let line = with_network(folder.path(), &["search", "one.wav", "--index", "w", "--json"]);
    let score = |line: &str, name: &str| {
        let answer: Value = serde_json::from_str(line).unwrap();
        let hits = answer["hits"].as_array().unwrap().clone();
        hits.iter().find(|hit| file_name(hit) == name).unwrap()["score"].as_f64().unwrap()
    };
    assert!(score(&line, "other.wav") < 0.9999, "{line}");
    let query = [&["search", "one.wav", "--index", "w", "--json"][..], &windows].concat();
    let line = with_network(folder.path(), &query);
    assert!(score(&line, "one.wav") > 0.9999 && score(&line, "other.wav") < 0.9999, "{line}");
}

#[test]
fn copy_of_the_network_file_is_accepted() {
    let folder = folder_with_index();
    let original = std::fs::read(folder.path().join("network.safetensors")).unwrap();
    // A file with the same weights and an additional key in its header.
    let copy = folder.path().join("copy.safetensors");
    let loaded =
        bc_nn::Network::load(&folder.path().join("network.safetensors"), &bc_nn::Backend::cpu()).unwrap();
    let mut metadata = loaded.metadata.clone();
    metadata.insert("note".into(), "by hand".into());
    loaded.network.save(&copy, metadata).unwrap();
    assert_ne!(original, std::fs::read(&copy).unwrap());
    let search = ["search", "tunes/up.wav", "--index", "songs", "--checkpoint", "copy.safetensors"];
    succeed(folder.path(), &search);
}

#[test]
fn interrupt_while_waiting_for_the_lock_exits_with_130() {
    use std::io::{BufRead, BufReader};
    let folder = folder_with_index();
    let lock = std::fs::File::create(folder.path().join("songs/.manifest.json.lock")).unwrap();
    lock.lock().unwrap();
    melody(&folder.path().join("new.wav"), &[50, 60, 70]);
    let args = ["add", "new.wav", "--index", "songs", "--checkpoint", "network.safetensors"];
    let mut child = common::stage(folder.path(), &args).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("waiting for another process")));
    let interrupt = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupt.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(lock);
    with_network(folder.path(), &["add", "new.wav", "--index", "songs"]);
}

#[test]
fn song_in_a_medley_is_found_at_its_position() {
    let folder = folder_with_index();
    let medley: Vec<u32> = TUNES.iter().flat_map(|(_, notes)| *notes).collect();
    melody(&folder.path().join("medley.wav"), &medley);
    let windows = ["--window", "6", "--step", "2"];
    let add = ["add", "medley.wav", "--index", "m"];
    with_network(folder.path(), &[&add[..], &windows].concat());
    assert!(window_starts(&folder.path().join("m")).len() > 5);
    melody(&folder.path().join("query.wav"), &TUNES[2].1);
    let line = with_network(folder.path(), &["search", "query.wav", "--index", "m", "--json"]);
    let answer: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(answer["hits"].as_array().unwrap().len(), 1, "one hit per version");
    let start = answer["hits"][0]["start_s"].as_f64().unwrap();
    assert!((start - 12.0).abs() < 0.5, "found at {start} s");
}

#[test]
fn files_are_compared_and_other_checkpoints_are_refused() {
    let folder = folder_with_index();
    let compare = |a: &str, b: &str| -> f64 {
        let text = with_network(folder.path(), &["compare", a, b, "--json"]);
        serde_json::from_str::<Value>(&text).unwrap()["score"].as_f64().unwrap()
    };
    assert!((compare("tunes/up.wav", "tunes/up.wav") - 1.0).abs() < 1e-5);
    assert!(compare("tunes/up.wav", "tunes/low.wav") < 0.99999);

    common::checkpoint(&folder.path().join("other.safetensors"), 8);
    let other = ["search", "tunes/up.wav", "--index", "songs", "--checkpoint", "other.safetensors"];
    let error = refuse(folder.path(), &other);
    assert!(error.contains("songs") && error.contains("other.safetensors"), "{error}");
    let missing = refuse(folder.path(), &[&["compare", "tunes/up.wav", "no.wav"][..], &NETWORK].concat());
    assert!(missing.contains("no.wav"), "{missing}");
    let unknown = [&["search", "nothing", "--index", "songs"][..], &NETWORK].concat();
    assert!(refuse(folder.path(), &unknown).contains("no file \"nothing\""));
    // A folder stands for all files in it; `-` reads a list from standard input.
    let directory = [&["search", "tunes", "--index", "songs", "--json"][..], &NETWORK].concat();
    assert_eq!(succeed(folder.path(), &directory).lines().count(), 4);
    let mut list = common::stage(
        folder.path(),
        &[&["search", "-", "--index", "songs", "--format", "csv"][..], &NETWORK].concat(),
    );
    let mut child = list.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"tunes/up.wav\n\ntunes/low.wav\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let mut table = csv::Reader::from_reader(&output.stdout[..]);
    let queries: Vec<String> = table.records().map(|record| record.unwrap()[0].to_owned()).collect();
    assert_eq!(queries.len(), 8, "four works per query");
    assert_eq!([&queries[0], &queries[4]], ["tunes/up.wav", "tunes/low.wav"]);
}

#[test]
fn network_folder_contains_network_and_calibration() {
    let folder = folder_with_index();
    std::fs::create_dir(folder.path().join("net")).unwrap();
    std::fs::copy(folder.path().join("network.safetensors"), folder.path().join("net/network.safetensors"))
        .unwrap();
    let search = ["search", "tunes/up.wav", "--index", "songs", "--network", "net", "--json"];
    let line = succeed(folder.path(), &search);
    assert!(!line.contains("probability"), "{line}");
    // A calibration of this network from synthetic embeddings.
    let index = Index::open(&folder.path().join("songs")).unwrap();
    common::clusters(&folder.path().join("e.parquet"), [80, 5], 24, 0.6, |_| {});
    let mut embeddings = bc_formats::embeddings::Embeddings::read(&folder.path().join("e.parquet")).unwrap();
    embeddings.provenance.settings = index.manifest.provenance.settings.clone();
    embeddings.provenance.inputs = index.manifest.provenance.inputs.clone();
    let calibration =
        bc_calibration::Calibration::from_embeddings(Path::new("e.parquet"), &embeddings).unwrap();
    bc_formats::atomic::write_json(&folder.path().join("net/calibration.json"), &calibration).unwrap();
    let answer: Value = serde_json::from_str(&succeed(folder.path(), &search)).unwrap();
    assert!(answer["hits"][0]["probability"].as_f64().unwrap() > 0.99, "{answer}");
    assert_eq!(answer["hits"][0]["kind"], "same-audio");
    let compare = ["compare", "tunes/up.wav", "tunes/up.wav", "--network", "net", "--json"];
    let answer: Value = serde_json::from_str(&succeed(folder.path(), &compare)).unwrap();
    assert_eq!(answer["kind"], "same-audio");
    // The same samples in other bytes: the score alone does not prove that the audio is the same.
    let mut bytes = std::fs::read(folder.path().join("tunes/up.wav")).unwrap();
    bytes.extend(b"LIST\x04\0\0\0INFO");
    std::fs::write(folder.path().join("tagged.wav"), bytes).unwrap();
    let tagged = ["compare", "tunes/up.wav", "tagged.wav", "--network", "net"];
    let answer: Value =
        serde_json::from_str(&succeed(folder.path(), &[&tagged[..], &["--json"]].concat())).unwrap();
    assert_eq!(answer["kind"], "near-identical", "{answer}");
    assert!(succeed(folder.path(), &tagged).contains("near-identical audio; versions of one work"));
    assert!(
        succeed(folder.path(), &compare[..5]).contains("same audio: the bytes of both files are equal; ")
    );
    // A calibration of another network is not used, with a warning.
    common::checkpoint(&folder.path().join("net/network.safetensors"), 8);
    succeed(folder.path(), &["add", "tunes", "--index", "others", "--network", "net"]);
    let output =
        run(folder.path(), &["search", "tunes/up.wav", "--index", "others", "--network", "net", "--json"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("scores only") && errors.contains("calibration.json"), "{errors}");
}
