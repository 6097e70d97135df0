//! In the place of `gpus.rs` where a build has no CUDA: there is no GPU, and errors say so.

use anyhow::{Result, bail};

use super::{Backend, Precision};

const WITHOUT: &str = "this program was built without CUDA; build it with `just build-cuda` (needs no GPU and no CUDA to \
     build), or use device = \"cpu\"";

/// There is none.
pub enum Gpu {}

impl Gpu {
    /// None.
    ///
    /// # Errors
    /// Always.
    pub fn open(name: &str, _: Precision) -> Result<Self> {
        bail!("device = \"{name}\": {WITHOUT}")
    }

    /// Of none.
    ///
    /// # Errors
    /// Never.
    pub fn uuid(&self) -> Result<String> {
        match *self {}
    }

    /// Of none.
    pub fn alone(self) -> Backend {
        match self {}
    }

    /// Of none.
    ///
    /// # Errors
    /// Never.
    pub fn connected(self, _: &[u8], _: [usize; 2], _: bool) -> Result<Backend> {
        match self {}
    }
}

/// None.
///
/// # Errors
/// Always.
pub fn count() -> Result<usize> {
    bail!(WITHOUT)
}

/// They cannot.
///
/// # Errors
/// Always.
pub fn require_connection() -> Result<()> {
    bail!(WITHOUT)
}

/// Nothing to connect.
///
/// # Errors
/// Always.
pub fn new_id() -> Result<Vec<u8>> {
    bail!(WITHOUT)
}
