//! How a command ended, and its exit code: 0 all done, 1 refused or failed, 2 wrong usage (clap's),
//! 3 done with failures, 130 interrupted.

use std::process::ExitCode;

/// How a command that did not fail as a whole ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was done: exit code 0.
    Done,
    /// The run is complete, but this many items (files, versions) failed, each with a row in a failure
    /// table or a line of its own: exit code 3, and the count is the last line on standard error.
    Failures(u64),
}

impl Outcome {
    /// [`Outcome::Done`] without failures.
    pub fn of_failures(count: u64) -> Self {
        if count == 0 { Self::Done } else { Self::Failures(count) }
    }
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Self::Done
    }
}

/// The error of a command that Ctrl-C or SIGTERM stopped after it saved what it had: exit code 130.
/// The text says what is saved and how to continue.
#[derive(Debug, thiserror::Error)]
#[error("interrupted: {0}")]
pub struct Interrupted(pub String);

/// Returns the exit code of a command's result; prints the last line that belongs to it.
pub(crate) fn report(result: anyhow::Result<Outcome>) -> ExitCode {
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Failures(count)) => {
            eprintln!("done with failures: {count}");
            ExitCode::from(3)
        }
        Err(error) => {
            if error.chain().any(|cause| cause.is::<Interrupted>()) {
                eprintln!("{}", crate::describe(&error));
                return ExitCode::from(130);
            }
            eprintln!("error: {}", crate::describe(&error));
            ExitCode::FAILURE
        }
    }
}
