//! Turns Ctrl-C into a flag: the first one requests that a stage finishes its step and saves, the second ends it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

static FIRST: OnceLock<Instant> = OnceLock::new();

static INSTALLED: AtomicBool = AtomicBool::new(false);

/// A signal this soon after the first counts as the same one: Slurm signals every process of a job, and its
/// launcher and script hand theirs on.
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
