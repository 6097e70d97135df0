//! Ctrl-C as a flag: the first one asks a stage to finish its step and save, the second ends it.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

static REQUESTED: AtomicBool = AtomicBool::new(false);

static INSTALLED: AtomicBool = AtomicBool::new(false);

/// Installs the handler; a second call changes nothing. `note` is printed at the first Ctrl-C.
pub fn install(note: &'static str) -> Result<()> {
    if INSTALLED.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    ctrlc::set_handler(move || {
        if REQUESTED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        eprintln!("\n{note}");
    })
    .context("cannot catch Ctrl-C")
}

/// Whether Ctrl-C (or SIGTERM, as Slurm sends before a time limit) has come.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}
