//! The demo set, as `bc-download-index synth` wrote it.

use anyhow::{Result, bail};
use bc_formats::config::IndexConfig;

use super::list::{Imported, Importer};
use super::table::Csv;
use crate::synth::LIST;

pub(super) struct Synth;

impl Importer for Synth {
    fn import(&self, config: &IndexConfig) -> Result<Imported> {
        let list = if config.meta.is_dir() { config.meta.join(LIST) } else { config.meta.clone() };
        if !list.exists() {
            bail!("there is no {}; make the demo set with `bc-download-index synth`", list.display());
        }
        // The list has the table's default column names.
        let usual = IndexConfig::default();
        Csv.import(&IndexConfig { meta: list, ..usual })
    }
}
