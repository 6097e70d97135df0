//! Replaces `gpus.rs` in a build without CUDA: there is no GPU, and all functions return an error that says so.

use anyhow::{Result, bail};

use super::{Backend, Precision};

const WITHOUT: &str = "this program was built without CUDA; build it with `just build-cuda` (needs no GPU and no CUDA to \
     build), or use device = \"cpu\"";

/// A GPU, which does not exist in this build.
pub enum Gpu {}

impl Gpu {
    /// Refuses to open a GPU.
    ///
    /// # Errors
    /// Always.
    pub fn open(name: &str, _: Precision) -> Result<Self> {
        bail!("device = \"{name}\": {WITHOUT}")
    }

    /// Cannot be called, because there is no GPU.
    ///
    /// # Errors
    /// Never.
    pub fn uuid(&self) -> Result<String> {
        match *self {}
    }

    /// Cannot be called, because there is no GPU.
    pub fn alone(self) -> Backend {
        match self {}
    }

    /// Cannot be called, because there is no GPU.
    ///
    /// # Errors
    /// Never.
    pub fn connected(self, _: &[u8], _: [usize; 2], _: bool) -> Result<Backend> {
        match self {}
    }
}

/// Refuses to count GPUs.
///
/// # Errors
/// Always.
pub fn count() -> Result<usize> {
    bail!(WITHOUT)
}

/// Reports that GPUs cannot be connected.
///
/// # Errors
/// Always.
pub fn require_connection() -> Result<()> {
    bail!(WITHOUT)
}

/// Refuses to create an id, because there are no GPUs to connect.
///
/// # Errors
/// Always.
pub fn new_id() -> Result<Vec<u8>> {
    bail!(WITHOUT)
}
