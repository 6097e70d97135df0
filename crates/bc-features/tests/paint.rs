//! `bc-features paint` on tiny MIDI files that the test makes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bc_formats::features::{FeatureRow, FeatureSet};
use bc_formats::index::{Index, Split};

/// A folder with six songs and lists of them.
struct Songs(tempfile::TempDir);

impl Songs {
    fn new() -> Self {
        let songs = Self(tempfile::tempdir().unwrap());
        for song in 0..6u8 {
            let name = format!("s{song}");
            let path = songs.path("songs").join(&name).join(format!("{name}.mid"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, midi(song)).unwrap();
        }
        std::fs::write(songs.path("splits.json"), r#"{"train": ["s0", "s1", "s2"], "val": ["s3", "s4"]}"#)
            .unwrap();
        songs
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn paint(&self, out: &str, arguments: &[&str]) -> Output {
        let usual = ["paint", "--source", "songs", "--versions", "4", "--seconds", "12"];
        let lists: &[&str] = if arguments.contains(&"--splits") { &[] } else { &["--splits", "splits.json"] };
        Command::new(env!("CARGO_BIN_EXE_bc-features"))
            .args(usual)
            .args(lists)
            .args(["--out", out])
            .args(arguments)
            .current_dir(self.0.path())
            .output()
            .unwrap()
    }

    fn succeed(&self, out: &str, arguments: &[&str]) -> String {
        let output = self.paint(out, arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn refuse(&self, out: &str, arguments: &[&str]) -> String {
        let output = self.paint(out, arguments);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    }
}

/// Two tracks of 60 beats each with POP909's names.
fn midi(song: u8) -> Vec<u8> {
    let mut content = b"MThd\0\0\0\x06\0\x01\0\x02\0\x60".to_vec();
    for (name, low) in [("MELODY", 60), ("PIANO", 45)] {
        let mut track = vec![0, 0xFF, 3, name.len() as u8];
        track.extend(name.as_bytes());
        for beat in 0..60u8 {
            let pitch = low + beat.wrapping_mul(7 + song).wrapping_add(song) % 17;
            track.extend([0, 0x90, pitch, 90, 0x60, 0x80, pitch, 0]);
        }
        track.extend([0, 0xFF, 0x2F, 0]);
        content.extend(b"MTrk");
        content.extend((track.len() as u32).to_be_bytes());
        content.extend(track);
    }
    content
}

fn rows(folder: &Path) -> Vec<FeatureRow> {
    let mut rows = Vec::new();
    FeatureSet::open(&folder.join("features"))
        .unwrap()
        .for_each(|row| {
            rows.push(row);
            Ok(())
        })
        .unwrap();
    rows
}

fn bytes(folder: &Path) -> Vec<Vec<u8>> {
    ["index.parquet", "features/part-00000.parquet"]
        .map(|name| std::fs::read(folder.join(name)).unwrap())
        .to_vec()
}

#[test]
fn painting_does_not_depend_on_the_number_of_threads() {
    let songs = Songs::new();
    let printed = songs.succeed("out", &["--threads", "1"]);
    assert!(printed.starts_with("12 training and 6 validation versions of 5 works are in out"), "{printed}");
    assert!(printed.contains("1 works are in no list"), "{printed}");
    let single_threaded = bytes(&songs.path("out"));
    std::fs::rename(songs.path("out"), songs.path("first")).unwrap();
    songs.succeed("out", &["--threads", "5"]);
    assert!(single_threaded == bytes(&songs.path("out")));
    let rows = rows(&songs.path("out"));
    assert_eq!(rows.len(), 18);
    // 12 s in columns of 5 x 512 samples at 22,050 Hz.
    assert!(rows.iter().all(|row| row.frames == 103 && row.magnitude.iter().all(|value| value.is_finite())));
    let hashes: std::collections::BTreeSet<&str> = rows.iter().map(|row| row.source_hash.as_str()).collect();
    assert_eq!(hashes.len(), 18);
    let index = Index::read(&songs.path("out/index.parquet")).unwrap();
    assert_eq!(index.versions.len(), 18);
    for (version, row) in index.versions.iter().zip(&rows) {
        assert_eq!(&version.version_id, &row.version_id);
        assert!(version.version_id.starts_with(&format!("{}_", version.clique_id)));
        assert!(version.usable());
        let val = ["s3", "s4"].contains(&version.clique_id.as_str());
        assert_eq!(version.split, if val { Split::Val } else { Split::Train });
    }
}

#[test]
fn missing_part_is_painted_again_and_other_settings_are_refused() {
    let songs = Songs::new();
    songs.succeed("out", &[]);
    let first = bytes(&songs.path("out"));
    assert!(songs.succeed("out", &[]).contains("(0 painted now"));
    std::fs::remove_file(songs.path("out/features/part-00000.parquet")).unwrap();
    std::fs::write(songs.path("out/features/.part-00000.parquet.abc.tmp"), b"half").unwrap();
    songs.succeed("out", &[]);
    assert!(first == bytes(&songs.path("out")));
    assert!(!songs.path("out/features/.part-00000.parquet.abc.tmp").exists());
    let error = songs.refuse("out", &["--seed", "2"]);
    assert!(error.contains("other sources, lists or settings") && error.contains("--fresh"), "{error}");
    songs.succeed("out", &["--seed", "2", "--fresh"]);
    assert!(first != bytes(&songs.path("out")));
}

#[test]
fn sources_are_weighted_and_split_by_a_hash_without_lists() {
    let songs = Songs::new();
    let notes: Vec<String> = (0..64).map(|n| format!("[{},1,{},0]", n, 60 + n * 5 % 13)).collect();
    let tunes: Vec<String> = (0..40)
        .map(|n| format!(r#"{{"work":"t:{n}","title":"T{n}","meter":"3/4","notes":[{}]}}"#, notes.join(",")))
        .collect();
    std::fs::write(songs.path("tunes.jsonl"), tunes.join("\n")).unwrap();
    let weights = ["--source", "tunes.jsonl", "--weight", "2", "--weight", "0.5", "--held-out", "0.2"];
    let printed = songs.succeed("out", &weights);
    let index = Index::read(&songs.path("out/index.parquet")).unwrap();
    let count = |clique: &str| index.versions.iter().filter(|version| version.clique_id == clique).count();
    assert_eq!(count("s0"), 8, "{printed}");
    let of_tunes = |split| {
        let of = index.versions.iter().filter(|v| v.split == split && v.clique_id.starts_with("t:"));
        of.map(|version| version.clique_id.as_str()).collect::<std::collections::BTreeSet<_>>()
    };
    let (train, val) = (of_tunes(Split::Train), of_tunes(Split::Val));
    assert_eq!(train.len() + val.len(), 40);
    assert!((2..16).contains(&val.len()), "{val:?}");
    assert!(train.iter().all(|clique| count(clique) == 2) && val.iter().all(|clique| count(clique) == 3));
    assert!(index.versions.iter().any(|version| version.title == "T3"));
}

#[test]
fn wrong_input_gives_one_error() {
    let songs = Songs::new();
    std::fs::write(songs.path("bad.json"), "[1]").unwrap();
    let error = songs.refuse("out", &["--splits", "bad.json"]);
    assert!(error.contains("bad.json holds no lists"), "{error}");
    let error = songs.refuse("out", &["--source", "nothing.jsonl"]);
    assert!(error.contains("nothing.jsonl"), "{error}");
    let error = songs.refuse("out", &["--weight", "1", "--weight", "2"]);
    assert!(error.contains("one weight each"), "{error}");
    std::fs::write(songs.path("songs/s1/s1.mid"), b"MThd but no more").unwrap();
    let error = songs.refuse("out", &[]);
    assert!(error.contains("s1.mid") && !error.contains("panicked"), "{error}");
}
