//! Features: pooled CQT magnitudes, a row a version, in `part-*.parquet` files.
//!
//! A part is written whole or not at all ([`PartWriter`]); [`FeatureSet`] opens all
//! parts of a folder and refuses parts of differing settings.

pub mod failures;
mod part;
mod set;
mod settings;

pub use part::{FeatureRow, PartWriter};
pub use set::{FeatureSet, RowInfo};
pub use settings::CqtSettings;

/// Kind and schema version of a feature file.
pub const FORMAT: &str = "features/1";
