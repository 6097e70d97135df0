//! Audio files as queries, as an index, and against each other.

mod common;

use std::path::Path;

use bc_formats::embeddings::Embeddings;
use common::{melody, refuse, run, succeed};
use serde_json::Value;

const NETWORK: [&str; 2] = ["--checkpoint", "network.safetensors"];
const TUNES: [(&str, [u32; 6]); 4] = [
    ("up", [60, 62, 64, 65, 67, 69]),
    ("down", [81, 79, 77, 74, 72, 71]),
    ("low", [40, 43, 40, 45, 40, 47]),
    ("high", [88, 91, 95, 88, 86, 93]),
];

/// A folder with a network and an index of four tunes.
fn workplace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    common::checkpoint(&folder.path().join("network.safetensors"), 7);
    std::fs::create_dir(folder.path().join("tunes")).unwrap();
    for (name, notes) in TUNES {
        melody(&folder.path().join(format!("tunes/{name}.wav")), &notes);
    }
    let said = with_network(folder.path(), &["add", "tunes", "--index", "i.parquet"]);
    assert!(said.contains("4 recordings added"), "{said}");
    folder
}

fn with_network(folder: &Path, args: &[&str]) -> String {
    succeed(folder, &[args, &NETWORK].concat())
}

#[test]
fn an_indexed_recording_is_found_first_by_its_file() {
    let folder = workplace();
    for (name, notes) in TUNES {
        melody(&folder.path().join("query.wav"), &notes);
        let line = with_network(folder.path(), &["search", "query.wav", "--index", "i.parquet", "--json"]);
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answer["hits"][0]["version_id"], name);
        assert!((answer["hits"][0]["score"].as_f64().unwrap() - 1.0).abs() < 1e-4);
        assert_eq!(answer["hits"].as_array().unwrap().len(), 4);
        assert!(answer["probability_of_none"].is_null(), "nothing was calibrated");
    }
    // Several queries are a line each, and a bad one among them does not stop the others.
    std::fs::write(folder.path().join("text.mp3"), "no audio").unwrap();
    let mixed = ["search", "query.wav", "text.mp3", "up", "--index", "i.parquet", "--json"];
    let output = run(folder.path(), &[&mixed[..], &NETWORK].concat());
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 2);
    assert!(String::from_utf8_lossy(&output.stderr).contains("text.mp3"));
}

#[test]
fn an_index_grows_and_keeps_what_it_has() {
    let folder = workplace();
    let before = Embeddings::read(&folder.path().join("i.parquet")).unwrap();
    melody(&folder.path().join("new.wav"), &[50, 60, 70]);
    std::fs::write(folder.path().join("bad.mp3"), "no audio").unwrap();
    let more = ["add", "new.wav", "bad.mp3", "tunes", "--index", "i.parquet", "--title", "New"];
    let output = run(folder.path(), &[&more[..], &NETWORK].concat());
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}");
    assert!(said.contains("1 recordings added") && said.contains("4 were there already"), "{said}");
    assert!(said.contains("1 failed") && errors.contains("bad.mp3"), "{said}{errors}");
    let after = Embeddings::read(&folder.path().join("i.parquet")).unwrap();
    assert_eq!(after.labels[..4], before.labels[..]);
    assert_eq!(after.vectors[..before.vectors.len()], before.vectors[..]);
    assert_eq!((after.labels[4].version_id.as_str(), after.labels[4].title.as_str()), ("new", "New"));
    assert_ne!(after.provenance.fingerprint, before.provenance.fingerprint);
}

#[test]
fn another_recording_of_a_known_name_is_told_and_not_taken_for_it() {
    let folder = workplace();
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    melody(&other.join("up.wav"), &[90, 80, 70]);
    let again = ["add", "tunes", "other/up.wav", "--index", "i.parquet"];
    assert!(refuse(folder.path(), &[&again[..], &NETWORK].concat()).contains("two files"));
    let output = run(
        folder.path(),
        &[&["add", "other", "tunes/low.wav", "--index", "i.parquet"][..], &NETWORK].concat(),
    );
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("0 recordings added") && said.contains("1 were there already, 1 failed"), "{said}");
    assert!(
        errors.contains("other/up.wav: the index holds another recording of the name \"up\""),
        "{errors}"
    );
    // From the folder above, both have names of their own, and the folder may be the work.
    std::fs::create_dir(folder.path().join("all")).unwrap();
    for name in ["tunes", "other"] {
        std::fs::rename(folder.path().join(name), folder.path().join("all").join(name)).unwrap();
    }
    with_network(folder.path(), &["add", "all", "--index", "works.parquet", "--by-folder"]);
    let labels = Embeddings::read(&folder.path().join("works.parquet")).unwrap().labels;
    let works: Vec<_> =
        labels.iter().map(|label| (label.version_id.as_str(), label.clique_id.as_str())).collect();
    assert_eq!(works[..2], [("other/up", "other"), ("tunes/down", "tunes")]);
}

#[test]
fn windows_and_whole_recordings_do_not_mix_and_silence_is_refused() {
    let folder = workplace();
    let windows = ["add", "tunes/up.wav", "--index", "i.parquet", "--window", "3"];
    let error = refuse(folder.path(), &[&windows[..], &NETWORK].concat());
    assert!(error.contains("i.parquet holds whole recordings"), "{error}");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 22_050,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut silence = hound::WavWriter::create(folder.path().join("silence.wav"), spec).unwrap();
    (0..44_100).for_each(|_| silence.write_sample(0i16).unwrap());
    silence.finalize().unwrap();
    let search = ["search", "silence.wav", "--index", "i.parquet"];
    let error = refuse(folder.path(), &[&search[..], &NETWORK].concat());
    assert!(error.contains("silence.wav: it is silent"), "{error}");
}

#[test]
fn a_window_of_a_medley_is_found_where_it_is() {
    let folder = workplace();
    let medley: Vec<u32> = TUNES.iter().flat_map(|(_, notes)| *notes).collect();
    melody(&folder.path().join("medley.wav"), &medley);
    let windows = ["--window", "6", "--step", "2"];
    let made = ["embed", "medley.wav", "--out", "m.parquet"];
    with_network(folder.path(), &[&made[..], &windows].concat());
    assert!(Embeddings::read(&folder.path().join("m.parquet")).unwrap().labels.len() > 5);
    melody(&folder.path().join("query.wav"), &TUNES[2].1);
    let line = with_network(folder.path(), &["search", "query.wav", "--index", "m.parquet", "--json"]);
    let answer: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(answer["hits"].as_array().unwrap().len(), 1, "one answer a version");
    let start = answer["hits"][0]["start_s"].as_f64().unwrap();
    assert!((start - 12.0).abs() < 0.5, "found at {start} s");
    let error = refuse(folder.path(), &["metrics", "--embeddings", "m.parquet"]);
    assert!(error.contains("m.parquet") && error.contains("--window"), "{error}");
}

#[test]
fn two_files_are_compared_and_other_checkpoints_refused() {
    let folder = workplace();
    let compare = |a: &str, b: &str| -> f64 {
        let text = with_network(folder.path(), &["compare", a, b, "--json"]);
        serde_json::from_str::<Value>(&text).unwrap()["score"].as_f64().unwrap()
    };
    assert!((compare("tunes/up.wav", "tunes/up.wav") - 1.0).abs() < 1e-5);
    assert!(compare("tunes/up.wav", "tunes/low.wav") < 0.99999);

    common::checkpoint(&folder.path().join("other.safetensors"), 8);
    let other = ["search", "tunes/up.wav", "--index", "i.parquet", "--checkpoint", "other.safetensors"];
    let error = refuse(folder.path(), &other);
    assert!(error.contains("i.parquet") && error.contains("other.safetensors"), "{error}");
    let absent = refuse(folder.path(), &[&["compare", "tunes/up.wav", "no.wav"][..], &NETWORK].concat());
    assert!(absent.contains("no.wav"), "{absent}");
    let unknown = [&["search", "nothing", "--index", "i.parquet"][..], &NETWORK].concat();
    assert!(refuse(folder.path(), &unknown).contains("no file \"nothing\""));
    let directory = [&["search", "tunes", "--index", "i.parquet"][..], &NETWORK].concat();
    assert!(refuse(folder.path(), &directory).contains("is a folder"));
}

#[test]
fn arrays_and_the_network_travel_as_numpy_and_safetensors() {
    let folder = workplace();
    let input = {
        use npyz::WriterBuilder;
        let path = folder.path().join("x.npy");
        let file = std::fs::File::create(&path).unwrap();
        let shape = [3, 84, 50];
        let mut writer =
            npyz::WriteOptions::new().default_dtype().shape(&shape).writer(file).begin_nd().unwrap();
        writer.extend((0..3 * 84 * 50).map(|n| (n % 97) as f32 / 97.0)).unwrap();
        writer.finish().unwrap();
        path
    };
    let said = with_network(folder.path(), &["embed", "--npy", "x.npy", "--out", "y.npy", "--layer", "f_t"]);
    assert!(said.starts_with("3 embeddings"), "{said}");
    let out = with_network(folder.path(), &["export", "--embeddings", "i.parquet", "--out", "out"]);
    assert!(out.contains("4 vectors") && out.contains("weights"), "{out}");
    // The exported network is the same one.
    let again = ["embed", "--npy", "x.npy", "--out", "z.npy", "--layer", "f_t"];
    succeed(folder.path(), &[&again[..], &["--checkpoint", "out/network.safetensors"]].concat());
    let read = |name: &str| bc_formats::array::read(&folder.path().join(name)).unwrap();
    assert_eq!(read("y.npy"), read("z.npy"));
    let flat =
        refuse(folder.path(), &[&["embed", "--npy", "y.npy", "--out", "w.npy"][..], &NETWORK].concat());
    assert!(flat.contains("2 axes"), "{flat}");
    drop(input);
}
