//! Replaces approximate search in a program that was built without it; every call is an error.

use std::path::Path;

use anyhow::{Result, bail};

use super::{BuiltGraph, Settings};
use crate::index::Index;
use crate::scan::{Queries, ScoredRow};

/// The graphs of an index; no value exists in this build.
#[derive(Debug, Clone)]
pub enum Graphs {}

impl Graphs {
    /// Always fails.
    ///
    /// # Errors
    /// Always.
    pub fn open(_: &Index, _: Option<&Self>) -> Result<Self> {
        missing()
    }

    /// Cannot be called, because there is no value.
    #[must_use]
    pub fn nearest(&self, _: &Index, _: &Queries, _: usize) -> Vec<Vec<ScoredRow>> {
        match *self {}
    }
}

/// Always fails.
///
/// # Errors
/// Always.
pub fn build(_: &Path, _: Settings) -> Result<Vec<BuiltGraph>> {
    missing()
}

/// Graphs are not checked in this build.
#[must_use]
pub fn damaged(_: &Path, _: &crate::index::Manifest) -> Vec<String> {
    Vec::new()
}

fn missing<T>() -> Result<T> {
    bail!(
        "this bc-search was built without approximate search; build it with `cargo build --release -p bc-search --features ann` \
         (which needs a C++ compiler), or search exactly"
    )
}
