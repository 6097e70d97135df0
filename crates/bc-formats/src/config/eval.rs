//! `[eval]`: embedding, metrics, report.

use std::path::PathBuf;

use super::section::{Check, Found, section};

section! {
    /// Embedding, metrics and report.
    EvalConfig as "eval" {
        /// Folder the embeddings, metrics and report are written to.
        output: PathBuf = "runs/demo/eval".into();
    }
}

impl Check for EvalConfig {
    fn check(&self, found: &mut Found<'_>) {
        found.not_empty("output", &self.output);
    }
}
