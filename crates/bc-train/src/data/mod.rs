//! Makes batches from feature files.
//!
//! [`DataSet`] holds the stored features of the training and validation splits,
//! [`painted`] makes versions of works where `[train] data` says so, [`crop`] cuts and stretches,
//! [`Assembler`] makes a planned batch, and [`Loader`] makes batches on threads ahead of the network.

mod assemble;
pub mod crop;
mod dataset;
mod debug;
mod loader;
mod mapped_file;
pub mod painted;
mod patch;
mod store;

use anyhow::Result;
use bc_formats::config::Config;
use bc_ranks::Ranks;

pub use assemble::{Assembler, Batch};
pub use dataset::DataSet;
pub use loader::Loader;
pub(crate) use mapped_file::is_mapped_store;
pub use patch::{Patch, TrackView};
pub use store::{Store, Track};

/// Opens the data that the configuration names, or draws random data for `[train] debug`.
///
/// # Errors
/// The errors of [`DataSet::open`].
pub fn open(config: &Config, ranks: &Ranks) -> Result<DataSet> {
    if config.train.debug {
        return debug::draw(config.train.seed, config.features.cqt());
    }
    DataSet::open(config, ranks)
}
