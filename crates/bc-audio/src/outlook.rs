//! Decides which errors of a file are worth another attempt.

use bc_formats::passing::{self, Outlook};

use crate::decode::DecodeError;

impl DecodeError {
    /// When it makes sense to try again: soon or later if the machine was at fault, never if the file's bytes are.
    pub fn outlook(&self) -> Outlook {
        match self {
            Self::Unreadable(error) => passing::outlook(error),
            Self::TooSlow { .. } => Outlook::Later,
            _ => Outlook::Lasting,
        }
    }
}
