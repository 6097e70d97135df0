//! Verification of a folder with planted faults, undisturbed and killed.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bc_formats::index::{Index, Status};
use support::Scratch;

const SETTINGS: [&str; 2] = ["index.source=folder", "index.dataset_path=audio"];

/// A mono WAV of `seconds` at `level`, different for each `seed`.
fn wav(path: &Path, seconds: f64, level: f64, seed: u32) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for at in 0..(seconds * 8000.0) as u32 {
        let phase = f64::from(at) * (0.05 + f64::from(seed) * 0.001);
        writer.write_sample((phase.sin() * level * 32767.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
}

/// A real MP3 of the shared references.
fn mp3() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let shared = std::env::var_os("BYTECOVER_SHARED").map_or(beside, PathBuf::from);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(shared.join("covers/mini/audio")).ok()?.flatten().map(|file| file.path()).collect();
    files.sort();
    files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "mp3"))
}

/// 200 files in 50 cliques, 30 of them faulty; what each faulty one must be marked as.
fn plant(scratch: &Scratch) -> BTreeMap<String, (Status, &'static str)> {
    let root = scratch.folder.path().join("audio");
    let mp3 = mp3().map(|path| std::fs::read(path).unwrap());
    if mp3.is_none() {
        println!("skipped: truncated MP3s (no covers/mini in the shared folder; set BYTECOVER_SHARED)");
    }
    let mut expected = BTreeMap::new();
    for at in 0..200u32 {
        let clique = format!("c{:02}", at / 4);
        std::fs::create_dir_all(root.join(&clique)).unwrap();
        let kind = if at % 4 == 3 && at / 4 < 30 { at / 4 / 5 } else { 99 };
        let name = format!("v{}.{}", at % 4, if kind == 2 && mp3.is_some() { "mp3" } else { "wav" });
        let path = root.join(&clique).join(&name);
        let mut mark = |status, reason| {
            expected.insert(format!("{clique}/{name}"), (status, reason));
        };
        match kind {
            0 => (std::fs::write(&path, b"").unwrap(), mark(Status::Corrupt, "no audio")).1,
            1 => {
                std::fs::write(&path, "<html>429 Too Many Requests</html>\n".repeat(99)).unwrap();
                mark(Status::Corrupt, "not audio");
            }
            2 => {
                let whole = mp3.clone().unwrap_or_else(|| {
                    wav(&path, 1.0, 0.5, at);
                    std::fs::read(&path).unwrap()
                });
                // Each cut at another place, so that they are no duplicates.
                std::fs::write(&path, &whole[..whole.len() / 2 - at as usize]).unwrap();
                mark(Status::Corrupt, "");
            }
            3 => {
                wav(&path, 1.0, 0.5, at);
                let whole = std::fs::read(&path).unwrap();
                std::fs::write(&path, &whole[..44]).unwrap();
                mark(Status::Corrupt, "");
            }
            4 => {
                wav(&path, 1.0 + f64::from(at) * 0.001, 0.0, at);
                mark(Status::Corrupt, "silence");
            }
            5 => {
                std::fs::copy(root.join(format!("c{:02}/v0.wav", at / 4 - 1)), &path).unwrap();
                mark(Status::Duplicate, "same bytes as c");
            }
            _ => wav(&path, 0.5, 0.5, at),
        }
    }
    // Fine, but not what its name says.
    std::fs::rename(root.join("c40/v0.wav"), root.join("c40/v0.mp3")).unwrap();
    expected
}

#[test]
fn exactly_the_planted_faults_are_marked() {
    let scratch = Scratch::new::<&str>(&[]);
    let expected = plant(&scratch);
    assert_eq!(expected.len(), 30);
    assert_eq!(scratch.build(&SETTINGS).0, Some(0));
    let (code, said) = scratch.run("verify", &SETTINGS);
    assert_eq!(code, Some(0), "{said}");
    let index = Index::read(&scratch.folder.path().join("index.parquet")).unwrap();
    assert_eq!(index.versions.len(), 200);
    for version in &index.versions {
        let reason = version.reason.clone().unwrap_or_default();
        let &(status, word) = expected.get(&version.version_id).unwrap_or(&(Status::Ok, ""));
        assert_eq!(version.status, status, "{}: {reason}", version.version_id);
        assert!(reason.contains(word), "{}: {reason}", version.version_id);
    }
    assert!(said.contains("Equal bytes across cliques or splits: 5"), "{said}");
    assert!(said.contains("Extensions that do not fit the codec: 1"), "{said}");
    let coverage = std::fs::read_to_string(scratch.folder.path().join("coverage.md")).unwrap();
    assert!(coverage.contains("c40/v0.mp3") && coverage.contains("After verification"), "{coverage}");
    let png = std::fs::read(scratch.folder.path().join("clique_sizes.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG"));
    let (_, again) = scratch.run("verify", &SETTINGS);
    assert!(again.contains("up to date"), "{again}");
}

#[test]
fn killed_twenty_times_the_index_is_the_same() {
    let scratch = Scratch::new::<&str>(&[]);
    plant(&scratch);
    let root = scratch.folder.path();
    scratch.build(&SETTINGS);
    let raw = std::fs::read(root.join("index.parquet")).unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(scratch.run("verify", &SETTINGS).0, Some(0));
    let whole = begun.elapsed();
    let undisturbed = Index::read(&root.join("index.parquet")).unwrap();
    let mut midway = 0;
    for round in 0..20u32 {
        std::fs::write(root.join("index.parquet"), &raw).unwrap();
        std::fs::remove_file(root.join("index.verify.jsonl")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_bc-download-index"))
            .current_dir(root)
            .args([
                "verify",
                "--set",
                SETTINGS[0],
                "--set",
                SETTINGS[1],
                "--set",
                "index.output=index.parquet",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let share = f64::from(round * 7 % 20) / 20.0 + rand::random::<f64>() / 20.0;
        std::thread::sleep(Duration::from_secs_f64(whole.as_secs_f64() * share));
        child.kill().unwrap();
        midway += u32::from(!child.wait().unwrap().success());
        let (code, said) = scratch.run("verify", &SETTINGS);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(Index::read(&root.join("index.parquet")).unwrap(), undisturbed, "round {round}");
    }
    println!("{midway} of 20 kills hit the run");
    assert!(midway > 0);
}
