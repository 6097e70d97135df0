//! Which network made a file of embeddings, so that others are made by the same.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use bc_formats::config::{Config, Layer};
use bc_formats::embeddings::Embeddings;
use bc_formats::provenance::Provenance;
use bc_formats::run::NetworkInput;
use serde::Deserialize;

use crate::embedder::Embedder;
use crate::recording::Listener;

/// What embeddings say of their network.
#[derive(Debug, Deserialize)]
struct Settings {
    layer: Layer,
    input: NetworkInput,
}

/// Opens the checkpoint of `config` with the layer of `[eval]`; warns where it hears otherwise than `config` says.
///
/// # Errors
/// As [`Embedder::open`].
pub fn embedder(config: &Config) -> Result<Embedder> {
    let checkpoint = config.eval.checkpoint_of(&config.train.run);
    let assumed =
        NetworkInput { cqt: config.features.cqt(), pool: config.model.pool, scale: config.model.scale };
    let embedder = Embedder::open(&checkpoint, config.eval.layer, &assumed)?;
    if embedder.input != assumed {
        tracing::warn!(
            "{} was trained on {}, this configuration says {}; the network's own counts",
            checkpoint.display(),
            serde_json::to_string(&embedder.input)?,
            serde_json::to_string(&assumed)?
        );
    }
    Ok(embedder)
}

/// The same for audio files.
///
/// # Errors
/// As [`Listener::new`].
pub fn listener(config: &Config) -> Result<Listener> {
    Listener::new(embedder(config)?)
}

/// Opens the checkpoint of `config` to embed audio files like those of `index`.
///
/// # Errors
/// As [`Embedder::open`]; another checkpoint than the one that made the index.
pub fn listener_like(config: &Config, path: &Path, index: &Embeddings) -> Result<Listener> {
    let checkpoint = config.eval.checkpoint_of(&config.train.run);
    let settings: Settings =
        serde_json::from_value(index.provenance.settings.clone()).with_context(|| {
            format!(
                "{} does not say how its network was fed; embed it again with `bc-eval embed`",
                path.display()
            )
        })?;
    let embedder = Embedder::open(&checkpoint, settings.layer, &settings.input)?;
    expect(path, &index.provenance, &embedder.fingerprint, &checkpoint)?;
    Listener::new(embedder)
}

/// Fingerprint of the checkpoint that made a file.
#[must_use]
pub fn checkpoint_of(provenance: &Provenance) -> &str {
    provenance.inputs.get("checkpoint").map_or("(none)", String::as_str)
}

/// Refuses embeddings of another checkpoint.
///
/// # Errors
/// Names both fingerprints and the remedy.
pub fn expect(path: &Path, of: &Provenance, fingerprint: &str, checkpoint: &Path) -> Result<()> {
    let made_by = checkpoint_of(of);
    ensure!(
        made_by == fingerprint,
        "{} was made by the checkpoint {made_by}, but {} is {fingerprint}; give the right one with --checkpoint \
         or --config, or make the file again with this one",
        path.display(),
        checkpoint.display()
    );
    Ok(())
}
