//! Decides which errors of a file are worth another attempt.

use bc_formats::retry::{self, RetryWhen};

use crate::decode::DecodeError;

impl DecodeError {
    /// Returns when it makes sense to try again: in this run or the next one if the machine was at fault, never if the bytes of
    /// the file are.
    pub fn retry_when(&self) -> RetryWhen {
        match self {
            Self::Unreadable(error) => retry::retry_when(error),
            Self::TooSlow { .. } => RetryWhen::NextRun,
            _ => RetryWhen::Never,
        }
    }
}
