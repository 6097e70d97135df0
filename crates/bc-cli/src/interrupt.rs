//! Handles Ctrl-C: the first one sets a flag by which a stage finishes its step and saves, the second one ends the process.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

static FIRST: OnceLock<Instant> = OnceLock::new();

static INSTALLED: AtomicBool = AtomicBool::new(false);

/// A signal within this time after the first one is ignored: Slurm signals every process of a job, and the launcher and the
/// job's script forward their signals too.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// Installs the handler; a second call changes nothing. `note` is printed at the first Ctrl-C.
pub fn install(note: &'static str) -> Result<()> {
    if INSTALLED.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    ctrlc::set_handler(move || {
        let now = Instant::now();
        let first = *FIRST.get_or_init(|| now);
        if first == now {
            eprintln!("\n{note}");
        } else if now.duration_since(first) > SAME_SIGNAL {
            std::process::exit(130);
        }
    })
    .context("cannot catch Ctrl-C")
}

/// Returns whether Ctrl-C (or SIGTERM, as Slurm sends before a time limit) has come.
pub fn requested() -> bool {
    FIRST.get().is_some()
}
