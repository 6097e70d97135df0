//! Decides which errors of a file are worth another attempt.

use bc_formats::retry::{self, RetryWhen};

use crate::decode::DecodeError;

impl DecodeError {
    /// When it makes sense to try again: soon or later if the machine was at fault, never if the file's bytes are.
    pub fn retry_when(&self) -> RetryWhen {
        match self {
            Self::Unreadable(error) => retry::retry_when(error),
            Self::TooSlow { .. } => RetryWhen::NextRun,
            _ => RetryWhen::Never,
        }
    }
}
