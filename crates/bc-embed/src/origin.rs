//! Records which network computed a file of embeddings, so that embeddings of two networks are never mixed.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use bc_audio::Limits;
use bc_formats::config::{Config, Layer};
use bc_formats::provenance::Provenance;
use bc_formats::run::NetworkInput;
use serde::Deserialize;
use serde_json::Value;

use crate::embedder::Embedder;
use crate::recording::AudioEmbedder;

/// The identity of a network: embeddings are comparable if weights, output layer and input are the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    checkpoint: String,
    layer: Value,
    input: Value,
}

impl Origin {
    /// Reads the origin from the provenance of a file of embeddings.
    #[must_use]
    pub fn from_provenance(provenance: &Provenance) -> Self {
        let checkpoint = provenance.inputs.get("checkpoint").map_or("(none)", String::as_str).to_owned();
        let setting = |key: &str| provenance.settings.get(key).cloned().unwrap_or_default();
        Self { checkpoint, layer: setting("layer"), input: setting("input") }
    }

    /// Returns the origin of the embeddings that `embedder` computes.
    #[must_use]
    pub fn from_embedder(embedder: &Embedder) -> Self {
        let settings = embedder.settings();
        let setting = |key: &str| settings.get(key).cloned().unwrap_or_default();
        Self { checkpoint: embedder.fingerprint.clone(), layer: setting("layer"), input: setting("input") }
    }

    /// Checks that two files were computed by the same network; `left` is the file of `self`, `right` that of `other`.
    ///
    /// # Errors
    /// The networks differ: the message names both values of each difference, and the remedy.
    pub fn require_same(&self, left: &Path, other: &Self, right: &Path) -> Result<()> {
        let mut differences = Vec::new();
        if self.checkpoint != other.checkpoint {
            differences.push(format!("network {} against {}", self.checkpoint, other.checkpoint));
        }
        for (name, one, two) in [("layer", &self.layer, &other.layer), ("input", &self.input, &other.input)] {
            if one != two {
                differences.push(format!("{name} {one} against {two}"));
            }
        }
        ensure!(
            differences.is_empty(),
            "{} and {} are not of the same network: {}\n  (first {0}'s value); name the right network with \
             --checkpoint or --config, or make one of them again with the other's network",
            left.display(),
            right.display(),
            differences.join("; ")
        );
        Ok(())
    }
}

/// The network's settings as a file of embeddings records them.
#[derive(Debug, Deserialize)]
struct Settings {
    layer: Layer,
    input: NetworkInput,
}

/// Opens the checkpoint of `config` with the layer of `[eval]`; warns if its input differs from that of `config`.
///
/// # Errors
/// The errors of [`Embedder::open`].
pub fn embedder(config: &Config) -> Result<Embedder> {
    let (embedder, assumed) = open(config)?;
    if !embedder.input.differences(&assumed).is_empty() {
        tracing::warn!(
            "{} was trained on {}, this configuration has {}; the network's own input is used",
            embedder.path.display(),
            serde_json::to_string(&embedder.input)?,
            serde_json::to_string(&assumed)?
        );
    }
    Ok(embedder)
}

/// Opens the network; also returns the input settings that are assumed if its file does not record any.
fn open(config: &Config) -> Result<(Embedder, NetworkInput)> {
    let checkpoint = config.eval.checkpoint_of(&config.train.run);
    let assumed =
        NetworkInput { cqt: config.features.cqt(), pool: config.model.pool, scale: config.model.scale };
    Ok((
        Embedder::open_with_backend(
            &Embedder::backend(&config.eval)?,
            &checkpoint,
            config.eval.layer,
            &assumed,
        )?,
        assumed,
    ))
}

/// Opens the network of `config` for audio files. There is no warning if its input differs from that of `config`, because the
/// transform of audio files is determined by the network alone.
///
/// # Errors
/// The errors of [`AudioEmbedder::new`].
pub fn audio_embedder(config: &Config) -> Result<AudioEmbedder> {
    AudioEmbedder::new(open(config)?.0, Limits::of(&config.features))
}

/// Opens the checkpoint of `config` to embed audio files like those of the index at `path`, whose `provenance` names its network.
///
/// # Errors
/// The errors of [`Embedder::open`]; another checkpoint than the one that made the index.
pub fn audio_embedder_like(config: &Config, path: &Path, provenance: &Provenance) -> Result<AudioEmbedder> {
    let checkpoint = config.eval.checkpoint_of(&config.train.run);
    let settings: Settings = serde_json::from_value(provenance.settings.clone()).with_context(|| {
        format!(
            "{} does not record the input of its network; embed it again with `bc-eval embed`",
            path.display()
        )
    })?;
    let embedder = Embedder::open_with_backend(
        &Embedder::backend(&config.eval)?,
        &checkpoint,
        settings.layer,
        &settings.input,
    )?;
    Origin::from_provenance(provenance).require_same(path, &Origin::from_embedder(&embedder), &checkpoint)?;
    AudioEmbedder::new(embedder, Limits::of(&config.features))
}
