//! Command-line arguments of the commands that compute embeddings.

use std::path::PathBuf;

use anyhow::Result;
use bc_formats::config::{Config, Layer};
use clap::{Args, ValueEnum};

use crate::bundle;
use crate::windows::Windows;

/// Options that choose the network, for commands that compute embeddings.
#[derive(Args)]
pub struct NetworkArgs {
    /// The network, ours or a public .pt, or the folder of a bundle (network.safetensors with calibration.json); [eval]
    /// checkpoint, or the best one of [train] run, if not given.
    #[arg(long, visible_alias = "checkpoint", value_name = "FILE|FOLDER")]
    network: Option<PathBuf>,
    /// The network's output that is the embedding; [eval] layer if not given.
    #[arg(long)]
    layer: Option<LayerArg>,
    /// Where the network runs, "cpu" or "cuda:N"; [eval] device if not given.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// How a GPU computes: "f32", "tf32" or "bf16"; [eval] precision if not given.
    #[arg(long, value_name = "PRECISION")]
    precision: Option<String>,
}

impl NetworkArgs {
    /// Overrides the configuration with these arguments.
    pub fn apply(&self, config: &mut Config) {
        if let Some(network) = &self.network {
            config.eval.checkpoint = bundle::network_of(network);
        }
        if let Some(device) = &self.device {
            config.eval.device.clone_from(device);
        }
        if let Some(precision) = &self.precision {
            config.eval.precision.clone_from(precision);
        }
        match self.layer {
            None => {}
            Some(LayerArg::Fc) => config.eval.layer = Layer::Fc,
            Some(LayerArg::Ft) => config.eval.layer = Layer::Ft,
            Some(LayerArg::Logits) => config.eval.layer = Layer::Logits,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum LayerArg {
    /// After the BNNeck: the embedding that the paper uses for retrieval.
    #[value(name = "f_c")]
    Fc,
    /// Before the BNNeck.
    #[value(name = "f_t")]
    Ft,
    /// The classifier's outputs.
    #[value(name = "logits")]
    Logits,
}

/// Options by which audio is cut into windows.
#[derive(Args)]
pub struct WindowArgs {
    /// Cut audio files into windows of this many seconds; the best window counts. Whole tracks if not given.
    #[arg(long, value_name = "SECONDS")]
    window: Option<f64>,
    /// Distance of the windows' beginnings in seconds; half a window if not given.
    #[arg(long, value_name = "SECONDS", requires = "window")]
    step: Option<f64>,
}

impl WindowArgs {
    /// Returns the windows, if audio is cut.
    ///
    /// # Errors
    /// The errors of [`Windows::new`].
    pub fn resolve(&self) -> Result<Option<Windows>> {
        let Some(length) = self.window else { return Ok(None) };
        Windows::new(length, self.step.unwrap_or(length / 2.0)).map(Some)
    }
}
