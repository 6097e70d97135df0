//! Audio files as queries, as an index, and against each other.

mod common;

use std::path::Path;

use bc_formats::embeddings::Embeddings;
use common::{RATE, melody, refuse, run, succeed, wav};
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
        assert_eq!(answer["hits"][0]["version_id"], format!("{name}.wav"));
        assert!((answer["hits"][0]["score"].as_f64().unwrap() - 1.0).abs() < 1e-4);
        assert_eq!(answer["hits"].as_array().unwrap().len(), 4);
        assert!(answer["probability_of_none"].is_null(), "nothing was calibrated");
    }
    // Several queries are a line each, and a bad one among them is a line with its error and does not stop the others.
    std::fs::write(folder.path().join("text.mp3"), "no audio").unwrap();
    let mixed = ["search", "query.wav", "text.mp3", "up.wav", "--index", "i.parquet", "--json"];
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
fn an_index_grows_and_keeps_what_it_has() {
    let folder = workplace();
    let before = Embeddings::read(&folder.path().join("i.parquet")).unwrap();
    melody(&folder.path().join("new.wav"), &[50, 60, 70]);
    std::fs::write(folder.path().join("bad.mp3"), "no audio").unwrap();
    let more = ["add", "new.wav", "bad.mp3", "tunes", "--index", "i.parquet", "--title", "New"];
    let output = run(folder.path(), &[&more[..], &NETWORK].concat());
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert!(said.contains("1 recordings added") && said.contains("4 were there already"), "{said}");
    assert!(said.contains("1 failed") && errors.contains("bad.mp3"), "{said}{errors}");
    let after = Embeddings::read(&folder.path().join("i.parquet")).unwrap();
    // Rows are in order of their ids: what was there is there, unchanged, and the new one stands between.
    let new = after.labels.iter().position(|label| label.version_id == "new.wav").unwrap();
    assert_eq!(after.labels[new].title, "New");
    let mut rest = after.clone();
    rest.labels.remove(new);
    rest.vectors.drain(new * after.dim..(new + 1) * after.dim);
    assert_eq!((rest.labels, rest.vectors), (before.labels, before.vectors));
    assert_ne!(after.provenance.fingerprint, before.provenance.fingerprint);
    // The failures are in the JSON, too.
    let again = ["add", "bad.mp3", "new.wav", "--index", "i.parquet", "--json"];
    let output = run(folder.path(), &[&again[..], &NETWORK].concat());
    assert_eq!(output.status.code(), Some(3));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&said["new"], &said["there"]), (&0.into(), &1.into()));
    assert_eq!(said["failed"][0]["file"], "bad.mp3");
}

#[test]
fn another_recording_of_a_known_name_is_reported_and_not_taken_for_it() {
    let folder = workplace();
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    melody(&other.join("up.wav"), &[90, 80, 70]);
    let again = ["add", "tunes", "other/up.wav", "--index", "j.parquet"];
    let output = run(folder.path(), &[&again[..], &NETWORK].concat());
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert!(
        said.contains("4 recordings added") && errors.contains("two files would have the id"),
        "{said}{errors}"
    );
    let output = run(
        folder.path(),
        &[&["add", "other", "tunes/low.wav", "--index", "i.parquet"][..], &NETWORK].concat(),
    );
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("0 recordings added") && said.contains("1 were there already, 1 failed"), "{said}");
    assert!(errors.contains("other/up.wav: the index holds another recording of that name"), "{errors}");
    // From the folder above, both have names of their own, and the folder may be the work.
    std::fs::create_dir(folder.path().join("all")).unwrap();
    for name in ["tunes", "other"] {
        std::fs::rename(folder.path().join(name), folder.path().join("all").join(name)).unwrap();
    }
    with_network(folder.path(), &["add", "all", "--index", "works.parquet", "--by-folder"]);
    let labels = Embeddings::read(&folder.path().join("works.parquet")).unwrap().labels;
    let works: Vec<_> =
        labels.iter().map(|label| (label.version_id.as_str(), label.clique_id.as_str())).collect();
    assert_eq!(works[..2], [("other/up.wav", "other"), ("tunes/down.wav", "tunes")]);
}

#[test]
fn windows_and_whole_recordings_do_not_mix_and_silence_is_refused() {
    let folder = workplace();
    let windows = ["add", "tunes/up.wav", "--index", "i.parquet", "--window", "3"];
    let error = refuse(folder.path(), &[&windows[..], &NETWORK].concat());
    assert!(error.contains("i.parquet holds whole recordings"), "{error}");
    // Zeros, and the noise of 16 bits: nobody hears either.
    let noise = (0..4 * RATE).map(|n| (n.wrapping_mul(2_654_435_761) >> 30) as i16 % 2);
    wav(&folder.path().join("noise.wav"), noise);
    wav(&folder.path().join("silence.wav"), (0..4 * RATE).map(|_| 0));
    for name in ["silence.wav", "noise.wav"] {
        let search = ["search", name, "--index", "i.parquet"];
        let error = refuse(folder.path(), &[&search[..], &NETWORK].concat());
        assert!(error.contains(&format!("{name}: it is silent")), "{error}");
    }
    // As quiet as it gets with a tune in it is not.
    wav(&folder.path().join("quiet.wav"), common::notes(&TUNES[0].1).map(|sample| sample / 300));
    with_network(folder.path(), &["search", "quiet.wav", "--index", "i.parquet"]);
}

#[test]
fn windows_of_other_sizes_do_not_mix() {
    let folder = workplace();
    // All of them shorter than the window: still an index of windows.
    with_network(folder.path(), &["add", "tunes", "--index", "w.parquet", "--window", "30", "--step", "10"]);
    let labels = Embeddings::read(&folder.path().join("w.parquet")).unwrap().labels;
    assert!(labels.iter().all(|label| label.start_s == 0.0));
    let add = ["add", "tunes/up.wav", "--index", "w.parquet"];
    let error = refuse(folder.path(), &[&add[..], &NETWORK].concat());
    assert!(error.contains("--window 30 --step 10") && error.contains("whole recordings"), "{error}");
    let other = ["add", "tunes/up.wav", "--index", "w.parquet", "--window", "20", "--step", "10"];
    let error = refuse(folder.path(), &[&other[..], &NETWORK].concat());
    assert!(error.contains("--window 30") && error.contains("--window 20"), "{error}");
    let search = ["search", "tunes/up.wav", "--index", "w.parquet", "--window", "20"];
    let error = refuse(folder.path(), &[&search[..], &NETWORK].concat());
    assert!(error.contains("--window 30") && error.contains("--window 20"), "{error}");
    let error = refuse(folder.path(), &["metrics", "--embeddings", "w.parquet"]);
    assert!(error.contains("windows of tracks"), "{error}");
}

#[test]
fn silent_windows_of_two_recordings_are_no_match() {
    let folder = workplace();
    let silence = || (0..8 * RATE).map(|_| 0i16);
    for (name, tune) in [("one.wav", TUNES[0].1), ("other.wav", TUNES[3].1)] {
        wav(&folder.path().join(name), common::notes(&tune).chain(silence()).chain(common::notes(&tune)));
    }
    let windows = ["--window", "3", "--step", "1"];
    with_network(
        folder.path(),
        &[&["add", "one.wav", "other.wav", "--index", "w.parquet"][..], &windows].concat(),
    );
    let labels = Embeddings::read(&folder.path().join("w.parquet")).unwrap().labels;
    // The notes end at 6 s and begin again at 14 s.
    let silent = labels.iter().filter(|label| label.start_s > 6.5 && label.start_s < 10.5).count();
    assert_eq!(silent, 0, "{:?}", labels.iter().map(|label| label.start_s).collect::<Vec<_>>());
    assert!(labels.len() > 20, "{}", labels.len());
    let line = with_network(folder.path(), &["search", "one.wav", "--index", "w.parquet", "--json"]);
    let score = |line: &str, name: &str| {
        let answer: Value = serde_json::from_str(line).unwrap();
        let hits = answer["hits"].as_array().unwrap().clone();
        hits.iter().find(|hit| hit["version_id"] == name).unwrap()["score"].as_f64().unwrap()
    };
    assert!(score(&line, "other.wav") < 0.9999, "{line}");
    let query = [&["search", "one.wav", "--index", "w.parquet", "--json"][..], &windows].concat();
    let line = with_network(folder.path(), &query);
    assert!(score(&line, "one.wav") > 0.9999 && score(&line, "other.wav") < 0.9999, "{line}");
}

#[test]
fn the_limits_of_the_configuration_hold() {
    let folder = workplace();
    let long = ["add", "tunes/up.wav", "--index", "l.parquet", "--set", "features.longest_s=3"];
    let error = refuse(folder.path(), &[&long[..], &NETWORK].concat());
    assert!(error.contains("up.wav") && error.contains("3 s"), "{error}");
}

#[test]
fn shards_of_audio_make_the_index_that_one_process_makes() {
    let folder = workplace();
    let shard = |part: &str, out: &str| {
        with_network(folder.path(), &["embed", "tunes", "--out", out, "--shard", part]);
        std::fs::read(folder.path().join(out)).unwrap()
    };
    shard("2/2", "a.parquet");
    assert_eq!(Embeddings::read(&folder.path().join("a.parquet")).unwrap().labels.len(), 2);
    let sharded = shard("1/2", "a.parquet");
    assert!(sharded == shard("1/1", "b.parquet"), "other bytes");
}

#[test]
fn an_exported_network_is_the_one_that_made_the_index() {
    let folder = workplace();
    with_network(folder.path(), &["export", "--embeddings", "i.parquet", "--out", "out"]);
    let own = std::fs::read(folder.path().join("network.safetensors")).unwrap();
    // Other bytes, the same weights: with a key of its own in the header.
    let exported = folder.path().join("out/network.safetensors");
    let loaded = bc_nn::Network::load(&exported, &candle_core::Device::Cpu).unwrap();
    let mut metadata = loaded.metadata.clone();
    metadata.insert("note".into(), "by hand".into());
    loaded.network.save(&exported, metadata).unwrap();
    assert_ne!(own, std::fs::read(&exported).unwrap());
    let search =
        ["search", "tunes/up.wav", "--index", "i.parquet", "--checkpoint", "out/network.safetensors"];
    succeed(folder.path(), &search);
}

#[test]
fn an_interrupt_while_another_process_writes_ends_with_130() {
    use std::io::{BufRead, BufReader};
    let folder = workplace();
    let lock = std::fs::File::create(folder.path().join(".i.parquet.lock")).unwrap();
    lock.lock().unwrap();
    melody(&folder.path().join("new.wav"), &[50, 60, 70]);
    let args = ["add", "new.wav", "--index", "i.parquet", "--checkpoint", "network.safetensors"];
    let mut child = common::stage(folder.path(), &args).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("waiting for another process")));
    let interrupt = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupt.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(lock);
    with_network(folder.path(), &["add", "new.wav", "--index", "i.parquet"]);
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
