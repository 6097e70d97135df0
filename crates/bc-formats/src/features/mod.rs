//! Features: pooled CQT magnitudes, one row per version, in `part-*.parquet` files.
//!
//! A part is written completely or not at all, and never changed ([`PartWriter`]). [`FeatureSet`] opens all parts of a folder, and
//! [`Parts`] scans their rows without holding them in memory. If a version has two rows, the newer one counts, so that concurrent
//! writers do not have to coordinate. [`failures`] are the versions without features.

pub mod failures;
mod name;
mod part;
mod parts;
mod set;
mod settings;

pub use name::PartName;
pub use part::{FeatureRow, PartWriter, Source};
pub use parts::{Part, Parts, RowRef};
pub use set::{FeatureSet, Outdated, RowInfo};
pub use settings::CqtSettings;

/// Returns the error of a part that holds two rows of one version; the reader adds the name of the part.
pub fn duplicate_row(version_id: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "version {version_id} is listed twice; remove the file and run `bc-features extract` again"
    )
}

/// Kind and schema version of a feature file.
pub const FORMAT: &str = "features/2";

/// Formats that can be read, the newest first. `features/1` has the clique, but no [`Source`] and no hash of its magnitudes.
pub const FORMATS: [&str; 2] = [FORMAT, "features/1"];
