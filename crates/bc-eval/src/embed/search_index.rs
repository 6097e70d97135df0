//! The embeddings of the search index: all usable versions of the index, whatever their split.

use std::path::PathBuf;

use anyhow::Result;
use bc_cli::Shard;
use bc_formats::config::Config;
use bc_formats::embeddings::Embeddings;
use bc_formats::features::FeatureSet;

use super::{Inputs, path_of};

/// Updates `[eval] search_index` and returns its path. Vectors that the evaluated embeddings hold are copied;
/// the others are embedded.
///
/// # Errors
/// The errors of [`super::run`].
pub fn search_index(config: &Config) -> Result<PathBuf> {
    let out = config.eval.search_index_path();
    let checkpoint = config.eval.checkpoint_of(&config.train.run);
    let has_no_features = || matches!(FeatureSet::open_if_any(&config.features.output), Ok(None));
    if out.exists() && (!checkpoint.exists() || !config.features.index.exists() || has_no_features()) {
        tracing::warn!(
            "{} is searched unchecked: without index, features and network it cannot be verified that it is up to date",
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
    let Some(recorded) = out.exists().then(|| Embeddings::read_provenance(out).ok()).flatten() else {
        return;
    };
    let current = inputs.provenance(&super::Selection { splits: &[], windows: None });
    for (name, current) in &current.inputs {
        let recorded = recorded.inputs.get(name).map_or("(none)", String::as_str);
        if recorded != current {
            tracing::warn!(
                "{} was made from the {name} {recorded}, now {current}: it is embedded again",
                out.display()
            );
        }
    }
}
