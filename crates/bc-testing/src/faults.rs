//! Makes file operations of a program fail, with `faults/faults.c`, compiled by the system's `cc` and preloaded.
//!
//! ```no_run
//! use bc_testing::faults::{Fault, Faults};
//! # let mut command = std::process::Command::new("bc-features");
//! let Some(faults) = Faults::build() else { return };
//! let fault = Fault { nth: 2, ..Fault::new("read", "song.mp3", "EIO") };
//! let log = faults.arm(&mut command, &fault);
//! command.status().unwrap();
//! assert!(log.hits() > 0, "no call failed");
//! ```

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The compiled library.
#[derive(Debug)]
pub struct Faults {
    library: PathBuf,
}

/// Which calls fail, and how. `faults.c` explains the values.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// `open`, `read`, `write`, `fsync`, `rename`, `flock` or `any`.
    pub call: &'static str,
    /// A part of the path, or a pattern with `*`.
    pub path: String,
    /// The first call that fails, from 1.
    pub nth: u32,
    /// How many calls fail from there on; 0 means all.
    pub count: u32,
    /// `EIO`, `ESTALE`, `ENOSPC`, `ENOLCK` ..., `SHORT`, `EOF` or `HANG`.
    pub what: &'static str,
}

impl Fault {
    /// Creates a fault of the first such call only.
    pub fn new(call: &'static str, path: &str, what: &'static str) -> Self {
        Self { call, path: path.to_owned(), nth: 1, count: 1, what }
    }
}

/// The log of the calls that failed.
#[derive(Debug)]
pub struct FaultLog(tempfile::TempPath);

impl FaultLog {
    /// Returns how many calls failed so far.
    pub fn hits(&self) -> usize {
        std::fs::read_to_string(&self.0).unwrap_or_default().lines().count()
    }
}

impl Faults {
    /// Compiles the library, once in a process; `None`, with the reason printed, where that is not possible.
    pub fn build() -> Option<&'static Self> {
        static BUILT: OnceLock<Option<Faults>> = OnceLock::new();
        BUILT.get_or_init(compile).as_ref()
    }

    /// Makes `command` fail as `fault` says.
    pub fn arm(&self, command: &mut Command, fault: &Fault) -> FaultLog {
        let log = tempfile::NamedTempFile::new().expect("a temporary file").into_temp_path();
        command
            .env("LD_PRELOAD", &self.library)
            .env("BC_FAULT_CALL", fault.call)
            .env("BC_FAULT_PATH", &fault.path)
            .env("BC_FAULT_NTH", fault.nth.to_string())
            .env("BC_FAULT_COUNT", fault.count.to_string())
            .env("BC_FAULT_ERRNO", fault.what)
            .env("BC_FAULT_LOG", &log);
        FaultLog(log)
    }
}

fn compile() -> Option<Faults> {
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        eprintln!("skipped: faults are injected on Linux with glibc alone");
        return None;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("faults/faults.c");
    let test = std::env::current_exe().expect("the path of this test");
    let library = test.with_extension("faults.so");
    // Compiled under another name and renamed, because another test of this binary may be loading it.
    let temporary = test.with_extension(format!("faults.{}.so", std::process::id()));
    let compiled = Command::new("cc")
        .args(["-O1", "-shared", "-fPIC", "-o"])
        .arg(&temporary)
        .arg(&source)
        .arg("-ldl")
        .output();
    match compiled {
        Ok(output) if output.status.success() => {
            std::fs::rename(&temporary, &library).expect("a renamed library");
            Some(Faults { library })
        }
        Ok(output) => {
            panic!("cc does not take {}:\n{}", source.display(), String::from_utf8_lossy(&output.stderr))
        }
        Err(error) => {
            eprintln!("skipped: no C compiler for {} (cc: {error})", source.display());
            None
        }
    }
}
