//! `bc-eval embed` of audio files: one process or several add to one file.

mod common;

use bc_formats::embeddings::Embeddings;
use common::{NETWORK, melody, refuse, run, succeed, with_network};

/// A folder with a network and an index of four tunes.
fn folder_with_index() -> tempfile::TempDir {
    common::with_tunes(&["embed", "tunes", "--out", "i.parquet"])
}

#[test]
fn sharded_index_equals_that_of_one_process() {
    let folder = folder_with_index();
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
fn vectors_and_network_are_exported_as_numpy_and_safetensors() {
    let folder = folder_with_index();
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
    let stdout =
        with_network(folder.path(), &["embed", "--npy", "x.npy", "--out", "y.npy", "--layer", "f_t"]);
    assert!(stdout.starts_with("3 embeddings"), "{stdout}");
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

#[test]
fn adding_to_an_index_keeps_its_rows() {
    let folder = folder_with_index();
    let before = Embeddings::read(&folder.path().join("i.parquet")).unwrap();
    melody(&folder.path().join("new.wav"), &[50, 60, 70]);
    std::fs::write(folder.path().join("bad.mp3"), "no audio").unwrap();
    let more = ["embed", "new.wav", "bad.mp3", "tunes", "--out", "i.parquet"];
    let output = run(folder.path(), &[&more[..], &NETWORK].concat());
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stdout.contains("1 recordings added") && stdout.contains("4 already present"), "{stdout}");
    assert!(stdout.contains("1 failed") && stderr.contains("bad.mp3"), "{stdout}{stderr}");
    let after = Embeddings::read(&folder.path().join("i.parquet")).unwrap();
    // Rows are in order of their ids: the old ones are unchanged, and the new one is between them.
    let new = after.labels.iter().position(|label| label.version_id == "new.wav").unwrap();
    assert_eq!(after.labels[new].title, "new");
    let mut rest = after.clone();
    rest.labels.remove(new);
    rest.vectors.drain(new * after.dim..(new + 1) * after.dim);
    assert_eq!((rest.labels, rest.vectors), (before.labels, before.vectors));
    assert_ne!(after.provenance.fingerprint, before.provenance.fingerprint);
}

#[test]
fn another_recording_with_a_known_name_is_reported_as_failure() {
    let folder = folder_with_index();
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    melody(&other.join("up.wav"), &[90, 80, 70]);
    let again = ["embed", "tunes", "other/up.wav", "--out", "j.parquet"];
    let output = run(folder.path(), &[&again[..], &NETWORK].concat());
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(
        stdout.contains("4 recordings added") && stderr.contains("two files would have the id"),
        "{stdout}{stderr}"
    );
    let output = run(
        folder.path(),
        &[&["embed", "other", "tunes/low.wav", "--out", "i.parquet"][..], &NETWORK].concat(),
    );
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        stdout.contains("0 recordings added") && stdout.contains("1 already present, 1 failed"),
        "{stdout}"
    );
    assert!(stderr.contains("other/up.wav: the index holds another recording of that name"), "{stderr}");
}

#[test]
fn windows_of_another_size_are_refused() {
    let folder = folder_with_index();
    // All of them shorter than the window: still an index of windows.
    with_network(folder.path(), &["embed", "tunes", "--out", "w.parquet", "--window", "30", "--step", "10"]);
    let labels = Embeddings::read(&folder.path().join("w.parquet")).unwrap().labels;
    assert!(labels.iter().all(|label| label.start_s == 0.0));
    let add = ["embed", "tunes/up.wav", "--out", "w.parquet"];
    let error = refuse(folder.path(), &[&add[..], &NETWORK].concat());
    assert!(error.contains("--window 30 --step 10") && error.contains("whole recordings"), "{error}");
    let other = ["embed", "tunes/up.wav", "--out", "w.parquet", "--window", "20", "--step", "10"];
    let error = refuse(folder.path(), &[&other[..], &NETWORK].concat());
    assert!(error.contains("--window 30") && error.contains("--window 20"), "{error}");
    let error = refuse(folder.path(), &["metrics", "--embeddings", "w.parquet"]);
    assert!(error.contains("windows of tracks"), "{error}");
}

#[test]
fn audio_that_is_cut_off_is_added_with_a_warning() {
    let folder = folder_with_index();
    let whole = std::fs::read(folder.path().join("tunes/up.wav")).unwrap();
    std::fs::write(folder.path().join("cut.wav"), &whole[..whole.len() / 2]).unwrap();
    let add = ["embed", "cut.wav", "tunes/low.wav", "--out", "c.parquet"];
    let output = run(folder.path(), &[&add[..], &NETWORK].concat());
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout.contains("2 recordings added"), "{stdout}{stderr}");
    assert!(
        stderr.contains("warning: cut.wav is cut off: 3.0 s of 6.0 s; it was added as it is"),
        "{stderr}"
    );
    assert!(!stderr.contains("low.wav"), "{stderr}");
}

#[test]
fn numpy_name_for_embeddings_of_audio_is_refused() {
    let folder = folder_with_index();
    let add = ["embed", "tunes", "--out", "x.npy"];
    let error = refuse(folder.path(), &[&add[..], &NETWORK].concat());
    assert!(error.contains("x.npy") && error.contains("x.parquet") && error.contains("--npy"), "{error}");
    assert!(!folder.path().join("x.npy").exists());
}

#[test]
fn configured_limits_apply_to_audio() {
    let folder = folder_with_index();
    let long = ["embed", "tunes/up.wav", "--out", "l.parquet", "--set", "features.longest_s=3"];
    let error = refuse(folder.path(), &[&long[..], &NETWORK].concat());
    assert!(error.contains("up.wav") && error.contains("3 s"), "{error}");
}

#[test]
fn interrupt_while_waiting_for_the_lock_exits_with_130() {
    use std::io::{BufRead, BufReader};
    let folder = folder_with_index();
    let lock = std::fs::File::create(folder.path().join(".i.parquet.lock")).unwrap();
    lock.lock().unwrap();
    melody(&folder.path().join("new.wav"), &[50, 60, 70]);
    let args = ["embed", "new.wav", "--out", "i.parquet", "--checkpoint", "network.safetensors"];
    let mut child = common::stage(folder.path(), &args).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("waiting for another process")));
    let interrupt = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupt.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(lock);
    with_network(folder.path(), &["embed", "new.wav", "--out", "i.parquet"]);
}
