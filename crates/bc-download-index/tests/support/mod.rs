//! What the tests share: a scratch folder and the binary run in it.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::process::Command;

use bc_formats::index::Index;

/// A folder with files, in which the binary runs.
pub struct Scratch {
    pub folder: tempfile::TempDir,
}

impl Scratch {
    pub fn new<T: AsRef<[u8]>>(files: &[(&str, T)]) -> Self {
        let scratch = Self { folder: tempfile::tempdir().unwrap() };
        for (name, content) in files {
            scratch.write(name, content.as_ref());
        }
        scratch
    }

    pub fn write(&self, name: &str, content: &[u8]) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Exit code and everything printed.
    pub fn build(&self, settings: &[&str]) -> (Option<i32>, String) {
        self.run("build", settings)
    }

    /// `stage` may hold arguments, separated by spaces.
    pub fn run<T: AsRef<str>>(&self, stage: &str, settings: &[T]) -> (Option<i32>, String) {
        code_and_output(&mut self.command(stage, settings))
    }

    pub fn command<T: AsRef<str>>(&self, stage: &str, settings: &[T]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bc-download-index"));
        // Tests may run in a job array; that is no wish for a part.
        for name in ["ID", "MIN", "MAX", "COUNT"] {
            command.env_remove(format!("SLURM_ARRAY_TASK_{name}"));
        }
        command.args(stage.split(' ')).current_dir(self.folder.path());
        for setting in settings.iter().map(AsRef::as_ref).chain(["index.output=index.parquet"]) {
            command.args(["--set", setting]);
        }
        command
    }

    /// The bytes of the index file.
    pub fn index_bytes(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join("index.parquet")).unwrap()
    }

    pub fn index(&self) -> Index {
        Index::read(&self.folder.path().join("index.parquet")).unwrap()
    }

    /// What is printed where `build` refuses; nothing must be written.
    pub fn refused(&self, settings: &[&str]) -> String {
        let (code, printed) = self.build(settings);
        assert_eq!(code, Some(1), "{printed}");
        assert!(!self.folder.path().join("index.parquet").exists());
        printed
    }
}

/// A mono WAV of 8 kHz: `seconds` of a tone at `level`, which turns by `step` a sample.
pub fn wav(seconds: f64, level: f64, step: f64) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
    for at in 0..(seconds * 8000.0) as u32 {
        writer.write_sample(((f64::from(at) * step).sin() * level * 32767.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
    bytes.into_inner()
}

/// Runs; exit code and everything printed.
pub fn code_and_output(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    let printed =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), printed)
}
