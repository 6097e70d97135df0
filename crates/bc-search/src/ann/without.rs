//! What a program says that was built without approximate search.

use anyhow::{Result, bail};

use super::Built;
use crate::index::Index;
use crate::scan::{Found, Queries};

const NOT_HERE: &str =
    "this program was built without approximate search; build it with `cargo build --release -p bc-search --features ann` (a C++ compiler is needed)";

/// Never there.
pub struct Ann(std::convert::Infallible);

impl Ann {
    /// # Errors
    /// Always.
    pub fn open(_: &Index) -> Result<Self> {
        bail!(NOT_HERE)
    }

    /// Of a graph that is never there.
    ///
    /// # Errors
    /// None.
    pub fn nearest(&self, _: &Index, _: &Queries, _: usize) -> Result<Vec<Vec<Found>>> {
        match self.0 {}
    }
}

/// # Errors
/// Always.
pub fn build(_: &Index) -> Result<Built> {
    bail!(NOT_HERE)
}
