//! Importers: one small module a kind of source.

mod folder;
mod shs100k;
mod synth;
mod table;

use std::path::Path;

use anyhow::{Context, Result, bail};
use bc_formats::config::IndexConfig;
use bc_formats::index::Version;

/// Reads a source's lists. Audio is not looked for here: `audio_path` holds the path that
/// the source names, if it does.
trait Importer {
    fn import(&self, config: &IndexConfig) -> Result<Imported>;
}

/// What a source holds.
#[derive(Debug, Default)]
pub struct Imported {
    /// The versions, in the order of the source.
    pub versions: Vec<Version>,
    /// What a reader of the lists should know: repeated rows, cliques in two splits.
    pub notes: Vec<String>,
}

impl From<Vec<Version>> for Imported {
    fn from(versions: Vec<Version>) -> Self {
        Self { versions, notes: Vec::new() }
    }
}

/// The versions of the configured source, in its order.
pub fn import(config: &IndexConfig) -> Result<Imported> {
    let importer: &dyn Importer = match config.source.as_str() {
        "shs100k" => &shs100k::Shs100k,
        "folder" => &folder::Folder,
        "csv" => &table::Csv,
        "synth" => &synth::Synth,
        other => bail!("[index] source = \"{other}\" is not known"),
    };
    importer.import(config)
}

/// A list as text; bad UTF-8 is an error with its line.
fn read_text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| {
        format!("cannot read the list {}; [index] meta says where the lists lie", path.display())
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].iter().filter(|&&byte| byte == b'\n').count() + 1;
        anyhow::anyhow!("{}:{line}: not UTF-8", path.display())
    })
}
