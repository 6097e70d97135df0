//! The outcome of a command and its exit code: 0 all done, 1 refused or failed, 2 wrong usage (by clap),
//! 3 done with failures, 130 interrupted.

use std::process::ExitCode;

use crate::output;

/// The outcome of a command that did not fail as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was done: exit code 0.
    Done,
    /// The run is complete, but this many items (files, versions) failed, each of which was reported in a failure table or a line:
    /// exit code 3. The number is printed as the last line on standard error.
    Failures(u64),
}

impl Outcome {
    /// Returns [`Outcome::Done`] if `count` is 0, else [`Outcome::Failures`].
    pub fn of_failures(count: u64) -> Self {
        if count == 0 { Self::Done } else { Self::Failures(count) }
    }
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Self::Done
    }
}

/// The error of a command that saved its results and stopped because of Ctrl-C or SIGTERM: exit code 130. The text says what is
/// saved and how to continue.
#[derive(Debug, thiserror::Error)]
#[error("interrupted: {0}")]
pub struct Interrupted(pub String);

/// Prints the error or the number of failures of a command's result, if any, and returns its exit code.
pub(crate) fn report(result: anyhow::Result<Outcome>) -> ExitCode {
    let printed = output::finish();
    match result {
        Ok(Outcome::Done) if printed => ExitCode::SUCCESS,
        // The error was reported where it happened.
        Ok(Outcome::Done) => ExitCode::FAILURE,
        Ok(Outcome::Failures(count)) => {
            crate::eprintln!("done with failures: {count}");
            ExitCode::from(3)
        }
        Err(error) => {
            if error.chain().any(|cause| cause.is::<Interrupted>()) {
                crate::eprintln!("{}", crate::describe(&error));
                return ExitCode::from(130);
            }
            crate::eprintln!("error: {}", crate::describe(&error));
            ExitCode::FAILURE
        }
    }
}
