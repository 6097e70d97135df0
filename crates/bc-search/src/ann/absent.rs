//! A program that was built without approximate search says so.

use std::path::Path;

use anyhow::{Result, bail};

use super::{Built, Settings};
use crate::index::Index;
use crate::scan::{Queries, ScoredRow};

/// The graphs of an index: there are none here.
#[derive(Debug, Clone)]
pub enum Graphs {}

impl Graphs {
    /// Opens nothing.
    ///
    /// # Errors
    /// Always.
    pub fn open(_: &Index, _: Option<&Self>) -> Result<Self> {
        missing()
    }

    /// Cannot be called.
    #[must_use]
    pub fn nearest(&self, _: &Index, _: &Queries, _: usize) -> Vec<Vec<ScoredRow>> {
        match *self {}
    }
}

/// Builds nothing.
///
/// # Errors
/// Always.
pub fn build(_: &Path, _: Settings) -> Result<Vec<Built>> {
    missing()
}

/// Graphs are not looked at.
#[must_use]
pub fn wrong(_: &Path, _: &crate::index::Manifest) -> Vec<String> {
    Vec::new()
}

fn missing<T>() -> Result<T> {
    bail!(
        "this bc-search was built without approximate search; build it with `cargo build --release -p bc-search --features ann` \
         (which needs a C++ compiler), or search exactly"
    )
}
