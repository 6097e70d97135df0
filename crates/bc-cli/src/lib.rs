//! The parts of the command line that all stages share, so that they feel like one program.
//!
//! **In**: arguments, the environment, standard error (a terminal or not). **Out**: a resolved configuration
//! ([`ConfigArgs`]), a thread pool ([`ThreadArgs`]), a shard of the work ([`ShardArgs`]), progress bars, or log lines without a
//! terminal ([`progress`]), a flag that Ctrl-C sets ([`interrupt`]), printing that never ends the work ([`output`]), and files that several processes write
//! ([`saving`]). [`run`]
//! converts an error to a message and an exit code; [`main`] also parses the arguments, and is all that a stage's `main.rs` calls.

pub mod interrupt;
pub mod output;
pub mod progress;
pub mod saving;

mod arguments;
mod documents;
mod ignored_signals;
mod outcome;
mod period;
mod shard;

pub use arguments::{ConfigArgs, ThreadArgs};
pub use outcome::{Interrupted, Outcome};
pub use shard::{Shard, ShardArgs, ShardChoice, StatusArgs, json_lines};

use std::process::ExitCode;

/// The allocator of statically linked programs, because musl's own has one lock for all threads.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Parses the arguments and runs a stage's main function with them like [`run`]. `<program> documents FOLDER` writes man pages,
/// shell completions and a reference page instead.
pub fn main<A: clap::Parser, T: Into<Outcome>>(main: impl FnOnce(A) -> anyhow::Result<T>) -> ExitCode {
    run(|| match documents::requested_folder(std::env::args_os()) {
        Some(folder) => documents::write(A::command(), &folder).map(|()| Outcome::Done),
        None => main(A::parse()).map(Into::into),
    })
}

/// Runs a stage's main function. Log lines go to standard error (more of them with `BYTECOVER_LOG=debug`; those of the decoders are
/// left out), and an error is printed as one message with its causes. Exit codes: 0 all done, 1 refused or failed,
/// 2 wrong usage, 3 done with failures ([`Outcome::Failures`]), 130 interrupted ([`Interrupted`]). What cannot be printed does not end
/// the work, but the exit code is then not 0 ([`output`]).
pub fn run<T: Into<Outcome>>(main: impl FnOnce() -> anyhow::Result<T>) -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("BYTECOVER_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,symphonia=off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(progress::LogWriter::default)
        // Colours are for terminals; in a file they would be unreadable.
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .without_time()
        .with_target(false)
        // A log line that cannot be written would be reported by a macro that panics.
        .log_internal_errors(false)
        .init();
    // Without it, a signal ends the process as it does by default.
    let _ = interrupt::catch();
    outcome::report(main().map(Into::into))
}

/// Formats an error with its causes, each once: `cannot read x: permission denied`.
pub fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
    }
    text
}

/// Expands to name and version of the calling crate, as output files record them: `bc-features 0.1.0`.
#[macro_export]
macro_rules! tool {
    () => {
        concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"))
    };
}
