//! Networks as ONNX files, which onnxruntime and other runtimes run without this project's code.
//!
//! **In**: a [`Network`] of either kind. **Out**: the bytes of an ONNX model (opset 17): input `magnitude`
//! (batch, bins, frames) with free batch and frames; outputs `f_t` and `f_c` (batch, embedding), and `logits` (batch, classes) if
//! there is a classifier. The input is that of the network: pooled and scaled as the metadata states, which are those of
//! the safetensors file. The model is in evaluation mode: norms use their running statistics.
//!
//! A separate crate, because it needs the structure of the networks but none of their arithmetic: the graph follows
//! from the names of the weights, which are PyTorch's. The file is encoded by our own code ([`proto`]), because a model
//! consists of few kinds of messages, too few to need a library.

mod bytecover;
mod graph;
mod proto;
mod ring;

use std::collections::BTreeMap;

use anyhow::Result;
use bc_nn::{Network, NetworkSettings};

use crate::graph::Graph;

/// Returns the bytes of the model, which includes `metadata` by key.
///
/// # Errors
/// A network without a weight that its kind has.
pub fn export(network: &Network, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let mut graph = Graph::new(network)?;
    let settings = network.settings();
    let input = graph.input("magnitude", &[None, Some(settings.bins()), None], ["batch", "bins", "frames"]);
    let image = graph.image(&input)?;
    let pooled = match settings {
        NetworkSettings::ByteCover(_) => bytecover::body(&mut graph, &image)?,
        NetworkSettings::Ring(settings) => ring::body(&mut graph, &image, settings.bins)?,
    };
    let f_t = if graph.has("projection.weight") { graph.linear(&pooled, "projection")? } else { pooled };
    let f_c = graph.batch_norm(&f_t, "bn_fc")?;
    graph.output(&f_t, "f_t", settings.embedding());
    graph.output(&f_c, "f_c", settings.embedding());
    if graph.has("fc.weight") {
        let logits = graph.linear(&f_c, "fc")?;
        graph.output(&logits, "logits", settings.classes());
    }
    Ok(graph.finish(metadata))
}
