//! A scratch folder with an index, and the binary run in it.
#![allow(dead_code, reason = "every test file uses a part of it")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bc_formats::features::{FeatureRow, FeatureSet, failures};
use bc_formats::index::{Index, Status, Version};
use bc_formats::provenance::Provenance;

/// A scratch folder with an index and its audio.
pub struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    /// `seconds.len()` WAV files of tones with those lengths.
    pub fn with_tones(seconds: &[f64]) -> Self {
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

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same files `times` over under other ids, each claimed to last `claimed_s`.
    pub fn repeat(&self, times: usize, claimed_s: f64) {
        let index = Index::read(&self.path("index.parquet")).unwrap();
        let versions = (0..times).flat_map(|round| {
            index.versions.iter().map(move |known| {
                let mut copy = known.clone();
                copy.version_id = format!("{}-{round}", known.version_id);
                copy.duration_s = Some(claimed_s);
                copy
            })
        });
        self.write_index(versions.collect());
    }

    pub fn write_index(&self, versions: Vec<Version>) {
        let provenance = Provenance {
            format: String::new(),
            tool: "test".into(),
            settings: serde_json::json!({}),
            fingerprint: String::new(),
            inputs: Default::default(),
        };
        Index { versions, provenance }.write(&self.path("index.parquet")).unwrap();
    }

    pub fn command(&self, output: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bc-features"));
        command
            .arg("extract")
            .args(["--set", "features.index=index.parquet", "--set", &format!("features.output={output}")])
            .args(arguments)
            .current_dir(self.folder.path())
            .env_remove("SLURM_ARRAY_TASK_ID");
        command
    }

    pub fn extract(&self, output: &str, arguments: &[&str]) -> String {
        let output = self.command(output, arguments).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    }

    /// A run that ends, with files that failed: exit code 3 and their number.
    pub fn extract_with_failures(&self, output: &str, arguments: &[&str], failures: u32) -> String {
        let output = self.command(output, arguments).output().unwrap();
        let printed = text(&output);
        assert_eq!(output.status.code(), Some(3), "{printed}");
        assert!(printed.contains(&format!("done with failures: {failures}\n")), "{printed}");
        printed
    }

    /// `bc-features <command>` on the same index.
    pub fn other_command(&self, command: &str, output: &str, arguments: &[&str]) -> Command {
        let extract = self.command(output, arguments);
        let mut other = Command::new(extract.get_program());
        other.arg(command).args(extract.get_args().skip(1)).current_dir(self.folder.path());
        other
    }

    /// The versions of the index, to be changed and written again.
    pub fn versions(&self) -> Vec<Version> {
        Index::read(&self.path("index.parquet")).unwrap().versions
    }

    /// Names of the finished parts.
    pub fn parts(&self, output: &str) -> Vec<PathBuf> {
        let set = FeatureSet::open_if_any(&self.path(output)).unwrap();
        set.map_or_else(Vec::new, |set| set.parts.into_iter().map(|part| part.path).collect())
    }

    /// Whether a folder holds what an undisturbed one does: the same rows, each once; no failure, no temporary file.
    pub fn assert_same(&self, undisturbed: &str, disturbed: &str) {
        assert_eq!(self.rows(undisturbed), self.rows(disturbed));
        let [expected, found] =
            [undisturbed, disturbed].map(|folder| FeatureSet::open(&self.path(folder)).unwrap());
        assert_eq!(expected.fingerprint(), found.fingerprint());
        assert_eq!(found.superseded.len(), 0);
        assert_eq!(failures::tables(&self.path(disturbed)).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(bc_testing::kills::leftover_files(&self.path(disturbed)), Vec::<PathBuf>::new());
    }

    pub fn rows(&self, output: &str) -> Vec<FeatureRow> {
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

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

pub fn version(id: &str, path: &str, seconds: Option<f64>) -> Version {
    let mut version = Version::new(id, "clique");
    version.audio_path = Some(path.into());
    version.status = Status::Ok;
    version.duration_s = seconds;
    version
}

pub fn write_tone(path: &Path, seconds: f64, frequency: f64) {
    write_wav(path, (seconds * 44_100.0) as u32, |n| {
        let value = (f64::from(n) / 44_100.0 * frequency * std::f64::consts::TAU).sin();
        [(value * 20_000.0) as i16; 2]
    });
}

/// `frames` pairs of 16-bit samples at 44,100 Hz.
pub fn write_wav(path: &Path, frames: u32, pair: impl Fn(u32) -> [i16; 2]) {
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 44_100,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for value in (0..frames).flat_map(pair) {
        writer.write_sample(value).unwrap();
    }
    writer.finalize().unwrap();
}

/// The recordings of the shared set, if they are at hand.
pub fn recordings() -> Option<BTreeSet<PathBuf>> {
    let entries = std::fs::read_dir(bc_testing::shared("covers/mini/audio")?).unwrap();
    Some(entries.map(|entry| entry.unwrap().path()).collect())
}
