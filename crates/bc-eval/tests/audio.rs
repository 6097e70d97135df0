//! Audio files become embeddings: a file that grows, by one process or several.

mod common;

use bc_formats::embeddings::Embeddings;
use common::{NETWORK, melody, refuse, run, succeed, with_network};

/// A folder with a network and an index of four tunes.
fn workplace() -> tempfile::TempDir {
    common::with_tunes(&["embed", "tunes", "--out", "i.parquet"])
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
fn vectors_and_network_are_exported_as_numpy_and_safetensors() {
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

#[test]
fn adding_to_an_index_keeps_its_rows() {
    let folder = workplace();
    let before = Embeddings::read(&folder.path().join("i.parquet")).unwrap();
    melody(&folder.path().join("new.wav"), &[50, 60, 70]);
    std::fs::write(folder.path().join("bad.mp3"), "no audio").unwrap();
    let more = ["embed", "new.wav", "bad.mp3", "tunes", "--out", "i.parquet"];
    let output = run(folder.path(), &[&more[..], &NETWORK].concat());
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert!(said.contains("1 recordings added") && said.contains("4 were there already"), "{said}");
    assert!(said.contains("1 failed") && errors.contains("bad.mp3"), "{said}{errors}");
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
fn another_recording_with_a_known_name_is_reported_and_not_confused_with_it() {
    let folder = workplace();
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    melody(&other.join("up.wav"), &[90, 80, 70]);
    let again = ["embed", "tunes", "other/up.wav", "--out", "j.parquet"];
    let output = run(folder.path(), &[&again[..], &NETWORK].concat());
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert!(
        said.contains("4 recordings added") && errors.contains("two files would have the id"),
        "{said}{errors}"
    );
    let output = run(
        folder.path(),
        &[&["embed", "other", "tunes/low.wav", "--out", "i.parquet"][..], &NETWORK].concat(),
    );
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("0 recordings added") && said.contains("1 were there already, 1 failed"), "{said}");
    assert!(errors.contains("other/up.wav: the index holds another recording of that name"), "{errors}");
}

#[test]
fn windows_of_other_sizes_do_not_mix() {
    let folder = workplace();
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
fn the_limits_of_the_configuration_hold() {
    let folder = workplace();
    let long = ["embed", "tunes/up.wav", "--out", "l.parquet", "--set", "features.longest_s=3"];
    let error = refuse(folder.path(), &[&long[..], &NETWORK].concat());
    assert!(error.contains("up.wav") && error.contains("3 s"), "{error}");
}

#[test]
fn an_interrupt_while_another_process_writes_ends_with_130() {
    use std::io::{BufRead, BufReader};
    let folder = workplace();
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
