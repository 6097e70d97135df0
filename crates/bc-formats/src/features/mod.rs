//! Features: pooled CQT magnitudes, one row per version, in `part-*.parquet` files.
//!
//! A part is written whole or not at all and never changed ([`PartWriter`]). [`FeatureSet`] opens all parts of a
//! folder, and [`Parts`] goes through their rows without holding them; of two rows of one version it takes the newer one, so that writers beside each other need not agree
//! on anything. [`failures`] are the versions that gave none.

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

/// The error of a part that holds two rows of one version; whoever reads the part names it.
pub fn row_twice(version_id: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "version {version_id} is listed twice; remove the file and run `bc-features extract` again"
    )
}

/// Kind and schema version of a feature file.
pub const FORMAT: &str = "features/2";

/// What is read: the newest first. `features/1` has the clique, and no [`Source`] and no hash of its magnitudes.
pub const FORMATS: [&str; 2] = [FORMAT, "features/1"];
