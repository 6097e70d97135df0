//! Features: pooled CQT magnitudes, a row a version.
mod settings;
pub use settings::CqtSettings;
