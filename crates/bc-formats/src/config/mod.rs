//! The configuration: one TOML file for each experiment, with one or more sections for each stage.
//!
//! A section is a plain struct declared with `section!`, which keeps every key together with its default and its explanation, so
//! that `bc-… config` can print the resolved file with a comment for each key. Relative paths are relative to the working
//! directory. [`load`] refuses unknown sections and keys (and suggests the nearest known one), values of the wrong type, and
//! values out of range, and reports all of them in one error.

mod augment;
mod document;
mod download;
mod eval;
mod features;
mod index;
mod model;
mod paint;
mod resolved;
mod section;
mod synth;
mod train;
mod verify;

use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

pub use augment::{AugmentConfig, StretchScope};
pub use download::DownloadConfig;
pub use eval::{Compare, EvalConfig, Layer, NEIGHBOURS, Rerank, WINDOW_S, WINDOW_STEP_S, require_tempi};
pub use features::{FeaturesConfig, Mp3Decoder};
pub use index::IndexConfig;
pub use model::{Bottleneck, ModelConfig, NetworkKind};
pub use paint::PaintConfig;
pub use resolved::HEAD as RESOLVED_HEAD;
pub use section::{Key, Problems, Section};
pub use synth::SynthConfig;
pub use train::{
    Batches, Classes, Classified, Distance, Figure, Loss, Mining, Optimizer, PassOrder, Schedule,
    ShortTracks, TrainConfig, TrainingData,
};
pub use verify::VerifyConfig;

/// Declares [`Config`] from its sections, in the order in which stages run.
macro_rules! config {
    ($($(#[doc = $doc:literal])* $field:ident : $section:ty,)*) => {
        /// A resolved configuration: every section, every key with its value.
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
        pub struct Config { $($(#[doc = $doc])* pub $field: $section,)* }

        /// Name and keys of every section.
        const SECTIONS: &[(&str, &[Key])] =
            &[$((<$section as Section>::NAME, <$section as Section>::KEYS),)*];

        impl Config {
            fn from_document(document: &document::Document, problems: &mut Problems) -> Self {
                Self { $($field: document.section::<$section>(problems),)* }
            }

            /// Returns the resolved configuration as TOML: every key with its value and a comment.
            pub fn to_commented_toml(&self) -> String {
                let mut text = String::from(resolved::HEAD);
                $(resolved::push_section(&mut text, &self.$field);)*
                text
            }
        }
    };
}

config! {
    /// What the index is made from.
    index: IndexConfig,
    /// The synthetic demo set.
    synth: SynthConfig,
    /// Fetching audio.
    download: DownloadConfig,
    /// Checking audio.
    verify: VerifyConfig,
    /// The constant-Q transform.
    features: FeaturesConfig,
    /// Painting synthetic versions.
    paint: PaintConfig,
    /// The network.
    model: ModelConfig,
    /// Training.
    train: TrainConfig,
    /// Augmentation of training crops.
    augment: AugmentConfig,
    /// Embedding, metrics, report.
    eval: EvalConfig,
}

/// Reads the configuration: the file (without one, all keys have their defaults), and then each override `section.key=value` in
/// order.
///
/// # Errors
/// One error that lists every problem, each with the line of the file or the override that caused it.
pub fn load(path: Option<&Path>, overrides: &[String]) -> Result<Config> {
    let mut document = match path {
        Some(path) => document::Document::read(path)?,
        None => document::Document::default(),
    };
    let mut problems = Problems::default();
    document.refuse_unknown(SECTIONS, &mut problems);
    for text in overrides {
        document.override_with(text, SECTIONS, &mut problems);
    }
    let config = Config::from_document(&document, &mut problems);
    problems.into_result(|section, key| document.source_of(section, key))?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str, overrides: &[&str]) -> Result<Config> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("experiment.toml");
        std::fs::write(&path, text).unwrap();
        load(Some(&path), &overrides.iter().map(|s| s.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn defaults_are_valid() {
        load(None, &[]).unwrap();
    }

    #[test]
    fn misspelt_key_is_named_with_line_and_nearest_key() {
        let error = load_text("[features]\nbins = 84\nhop_lenght = 512\n", &[]).unwrap_err().to_string();
        assert!(error.contains("experiment.toml:3"), "{error}");
        assert!(error.contains("`hop_lenght`") && error.contains("`hop_length`"), "{error}");
    }

    #[test]
    fn misspelt_section_is_named() {
        let error = load_text("[feature]\nbins = 84\n", &[]).unwrap_err().to_string();
        assert!(error.contains("experiment.toml:1") && error.contains("[features]"), "{error}");
    }

    #[test]
    fn all_problems_are_in_one_error() {
        let text = "[features]\nhop_length = \"a\"\nsample_rate = 0\n[train]\nnonsense_key = 1\n";
        let error = load_text(text, &[]).unwrap_err().to_string();
        for part in ["hop_length", ":2", "sample_rate", ":3", "nonsense_key", ":5"] {
            assert!(error.contains(part), "{part} is not in: {error}");
        }
    }

    #[test]
    fn broken_toml_names_file_and_line() {
        let error = load_text("[features]\nbins = = 3\n", &[]).unwrap_err().to_string();
        assert!(error.contains("experiment.toml") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn overrides_replace_the_file_and_are_checked() {
        let config = load_text("[features]\nhop_length = 512\n", &["features.hop_length=256"]).unwrap();
        assert_eq!(config.features.hop_length, 256);
        let config = load_text("", &["index.source=folder", "features.output=a b/c"]).unwrap();
        assert_eq!(config.features.output.to_str(), Some("a b/c"));
        let error = load_text("", &["features.hop=3"]).unwrap_err().to_string();
        assert!(error.contains("--set features.hop"), "{error}");
        let error = load_text("", &["hop_length"]).unwrap_err().to_string();
        assert!(error.contains("section.key=value"), "{error}");
    }

    #[test]
    fn printed_configuration_round_trips() {
        let config = load_text("[features]\nhop_length = 256\n", &[]).unwrap();
        let printed = config.to_commented_toml();
        assert!(printed.contains("# "), "{printed}");
        assert_eq!(load_text(&printed, &[]).unwrap(), config);
    }
}
