//! Reads the figures of classical methods on the same features, which are rows of the table of figures.

use std::path::Path;

use bc_formats::embeddings::Embeddings;
use serde_json::Value;

use crate::baselines::same_inputs;

/// `baselines.json` of a run, if it was made from the features and the index of the run's embeddings.
pub struct Baselines(Value);

impl Baselines {
    /// Reads the file in an evaluation's folder; warns and returns `None` if it was made from other features than `embeddings`.
    pub fn from_folder(eval: &Path, embeddings: &Embeddings) -> Option<Self> {
        let path = eval.join("baselines.json");
        let baselines: Value = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
        let provenance = serde_json::to_value(&embeddings.provenance).ok()?;
        if !same_inputs(&baselines["provenance"], &provenance) {
            tracing::warn!(
                "{} was made from other features than the embeddings and is left out; run `bc-eval baselines`",
                path.display()
            );
            return None;
        }
        Some(Self(baselines))
    }

    /// Returns the name and figures of each method on a split.
    pub fn methods<'a>(&'a self, split: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let methods = self.0["splits"][split].as_object();
        methods.into_iter().flatten().map(|(name, figures)| (name.as_str(), figures))
    }
}
