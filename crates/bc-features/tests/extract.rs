//! The binary on real files: what it writes, keeps, refuses and survives.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use bc_formats::features::{FeatureRow, FeatureSet, failures};
use bc_formats::index::{Index, Status, Version};
use bc_formats::provenance::Provenance;

/// A scratch folder with an index and its audio.
struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    /// `seconds.len()` WAV files of tones with those lengths.
    fn with_tones(seconds: &[f64]) -> Self {
        let scratch = Self { folder: tempfile::tempdir().unwrap() };
        let mut versions = Vec::new();
        for (number, seconds) in seconds.iter().enumerate() {
            let name = format!("v{number}.wav");
            write_tone(&scratch.path(&name), *seconds, 110.0 * (number + 1) as f64);
            versions.push(version(&format!("v{number}"), &name, Some(*seconds)));
        }
        scratch.write_index(versions);
        scratch
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write_index(&self, versions: Vec<Version>) {
        let provenance = Provenance {
            format: String::new(),
            tool: "test".into(),
            settings: serde_json::json!({}),
            fingerprint: String::new(),
            inputs: Default::default(),
        };
        Index { versions, provenance }.write(&self.path("index.parquet")).unwrap();
    }

    fn command(&self, output: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bc-features"));
        command
            .arg("extract")
            .args(["--set", "features.index=index.parquet", "--set", &format!("features.output={output}")])
            .args(arguments)
            .current_dir(self.folder.path())
            .env_remove("SLURM_ARRAY_TASK_ID");
        command
    }

    fn extract(&self, output: &str, arguments: &[&str]) -> String {
        let output = self.command(output, arguments).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    }

    fn rows(&self, output: &str) -> Vec<FeatureRow> {
        let mut rows = Vec::new();
        let set = FeatureSet::open(&self.path(output)).unwrap();
        set.for_each(|row| {
            rows.push(row);
            Ok(())
        })
        .unwrap();
        rows.sort_by(|a, b| a.version_id.cmp(&b.version_id));
        rows
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn version(id: &str, path: &str, seconds: Option<f64>) -> Version {
    let mut version = Version::new(id, "clique");
    version.audio_path = Some(path.into());
    version.status = Status::Ok;
    version.duration_s = seconds;
    version
}

fn write_tone(path: &Path, seconds: f64, frequency: f64) {
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 44_100,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for n in 0..(seconds * 44_100.0) as usize {
        let value = (n as f64 / 44_100.0 * frequency * std::f64::consts::TAU).sin();
        for _ in 0..2 {
            writer.write_sample((value * 20_000.0) as i16).unwrap();
        }
    }
    writer.finalize().unwrap();
}

#[test]
fn a_tone_stands_in_its_bin_and_a_second_run_has_nothing_to_do() {
    let scratch = Scratch::with_tones(&[3.0, 5.0]);
    let said = scratch.extract("features", &[]);
    assert!(said.contains("2 versions"), "{said}");
    let rows = scratch.rows("features");
    assert_eq!(rows.len(), 2);
    // 3 s at 22,050 Hz: 66150 / 512 + 1 = 130 hop frames, 26 columns of five.
    assert_eq!(rows[0].frames, 26);
    // 110 Hz is 21 semitones above C1.
    for (row, bin) in rows.iter().zip([21, 33]) {
        let frames = row.frames as usize;
        let peak =
            (0..84).max_by(|&a, &b| row.magnitude[a * frames + 9].total_cmp(&row.magnitude[b * frames + 9]));
        assert_eq!(peak, Some(bin), "{}", row.version_id);
    }
    let before = std::fs::metadata(scratch.path("features/part-00000.parquet")).unwrap().modified().unwrap();
    let said = scratch.extract("features", &[]);
    assert!(said.contains("Nothing to do"), "{said}");
    assert_eq!(
        std::fs::metadata(scratch.path("features/part-00000.parquet")).unwrap().modified().unwrap(),
        before
    );
}

#[test]
fn one_or_two_threads_write_the_same_bytes_and_seven_shards_the_same_rows() {
    let lengths: Vec<f64> = (0..15).map(|n| 1.0 + f64::from(n % 4)).collect();
    let scratch = Scratch::with_tones(&lengths);
    scratch.extract("one", &["--threads", "1"]);
    scratch.extract("two", &["--threads", "2"]);
    let bytes = |folder: &str| std::fs::read(scratch.path(folder).join("part-00000.parquet")).unwrap();
    assert_eq!(bytes("one"), bytes("two"));
    for shard in 1..=7 {
        scratch.extract("seven", &["--shard", &format!("{shard}/7")]);
    }
    assert_eq!(scratch.rows("one"), scratch.rows("seven"));
    let fingerprint = |folder: &str| FeatureSet::open(&scratch.path(folder)).unwrap().fingerprint();
    assert_eq!(fingerprint("one"), fingerprint("seven"));
}

#[test]
fn bad_files_become_failure_rows_with_a_reason_and_strict_makes_them_an_error() {
    let scratch = Scratch::with_tones(&[2.0]);
    let whole = std::fs::read(scratch.path("v0.wav")).unwrap();
    std::fs::write(scratch.path("empty.mp3"), b"").unwrap();
    std::fs::write(scratch.path("text.mp3"), "this is a text, whatever its name says\n".repeat(99)).unwrap();
    std::fs::write(scratch.path("header.wav"), &whole[..44]).unwrap();
    let names = ["v0.wav", "empty.mp3", "text.mp3", "header.wav", "absent.mp3"];
    scratch.write_index(names.iter().map(|name| version(name, name, None)).collect());
    let said = scratch.extract("features", &[]);
    assert!(said.contains("1 versions") && said.contains("4 failed"), "{said}");
    let mut failed = failures::read(&scratch.path("features/failures.parquet")).unwrap();
    failed.sort_by(|a, b| a.version_id.cmp(&b.version_id));
    let ids: Vec<&str> = failed.iter().map(|failure| failure.version_id.as_str()).collect();
    assert_eq!(ids, ["absent.mp3", "empty.mp3", "header.wav", "text.mp3"]);
    assert!(failed[0].reason.contains("cannot be read"), "{failed:?}");
    assert!(failed[1].reason.contains("no audio"), "{failed:?}");
    assert!(failed[3].reason.contains("not audio"), "{failed:?}");
    let output = scratch.command("features", &["--strict"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("4 file(s) failed"), "{}", text(&output));
}

#[test]
fn features_of_another_hop_length_are_refused_with_both_values() {
    let scratch = Scratch::with_tones(&[1.0]);
    scratch.extract("features", &[]);
    let output = scratch.command("features", &["--set", "features.hop_length=256"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("hop_length: 512 against 256"), "{}", text(&output));
    assert_eq!(scratch.rows("features").len(), 1);
}

#[test]
fn too_many_bins_are_refused_with_the_largest_number() {
    let scratch = Scratch::with_tones(&[1.0]);
    let output = scratch.command("features", &["--set", "features.bins=120"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("at most 101 bins"), "{}", text(&output));
    assert!(!scratch.path("features").exists());
}

#[test]
fn changed_audio_is_extracted_again_and_a_version_that_left_is_dropped() {
    let scratch = Scratch::with_tones(&[1.0, 2.0]);
    scratch.extract("features", &[]);
    std::thread::sleep(Duration::from_millis(20));
    write_tone(&scratch.path("v0.wav"), 3.0, 440.0);
    scratch.write_index(vec![version("v0", "v0.wav", Some(3.0))]);
    scratch.extract("features", &[]);
    let rows = scratch.rows("features");
    assert_eq!(
        rows.iter().map(|row| (row.version_id.as_str(), row.frames)).collect::<Vec<_>>(),
        [("v0", 26)]
    );
}

#[test]
fn killed_at_any_moment_it_resumes_to_the_same_rows() {
    let scratch = Scratch::with_tones(&[8.0; 24]);
    scratch.extract("whole", &[]);
    for attempt in 0..20u64 {
        let mut child =
            scratch.command("killed", &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(5 + attempt * 37 % 90));
        child.kill().unwrap();
        child.wait().unwrap();
        if scratch.path("killed").exists() && attempt % 5 == 4 {
            // What is there so far is whole.
            if let Some(set) = FeatureSet::open_if_any(&scratch.path("killed")).unwrap() {
                assert!(set.rows.len() <= 24);
            }
        }
    }
    scratch.extract("killed", &[]);
    assert_eq!(scratch.rows("whole"), scratch.rows("killed"));
}
