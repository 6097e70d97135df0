//! The embeddings of the search index: all usable versions of the index, whatever their split.

use std::path::PathBuf;

use anyhow::Result;
use bc_cli::Shard;
use bc_formats::config::Config;
use bc_formats::embeddings::Embeddings;
use bc_formats::features::FeatureSet;

use super::{Inputs, path_of};

/// Updates `[eval] search_index` and returns its path. Vectors that the evaluated embeddings hold are copied;
/// the rest is embedded.
///
/// # Errors
/// As [`super::run`].
pub fn search_index(config: &Config) -> Result<PathBuf> {
    let out = config.eval.search_index_path();
    let checkpoint = config.eval.checkpoint_of(&config.train.run);
    let features = || matches!(FeatureSet::open_if_any(&config.features.output), Ok(None));
    if out.exists() && (!checkpoint.exists() || !config.features.index.exists() || features()) {
        tracing::warn!(
            "{} is searched as it is: without index, features and network it cannot be checked whether it is up to date",
            out.display()
        );
        return Ok(out);
    }
    let inputs = Inputs::open(config)?;
    report_change(&inputs, &out);
    inputs.embed(&out, &[], &[path_of(config)], Shard::WHOLE)?;
    Ok(out)
}

/// Reports why an existing index is embedded again.
fn report_change(inputs: &Inputs, out: &std::path::Path) {
    let Some(made) = out.exists().then(|| Embeddings::read_provenance(out).ok()).flatten() else { return };
    let now = inputs.provenance(&super::Part { splits: &[], windows: None });
    for (name, now) in &now.inputs {
        let then = made.inputs.get(name).map_or("(none)", String::as_str);
        if then != now {
            tracing::warn!(
                "{} was made from the {name} {then}, now {now}: it is embedded again",
                out.display()
            );
        }
    }
}
