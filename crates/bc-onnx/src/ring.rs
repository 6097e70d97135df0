//! The key-invariant body (`bc_nn`'s `ring.rs`): convolutions around the ring of twelve pitch classes.

use anyhow::Result;

use crate::graph::{Attribute, Graph, Value};

/// Rows of the ring.
const PITCH_CLASSES: i64 = 12;

/// Maps images (batch, 1, bins, frames) to (batch, channels).
pub fn body(graph: &mut Graph, x: &Value, bins: usize) -> Result<Value> {
    let chromagram = bins as i64 == PITCH_CLASSES;
    let x = if chromagram {
        ring_convolution(graph, x, "stem", 1)?
    } else {
        graph.convolution(x, "stem", [1, 1], [0, 1])?
    };
    let x = graph.batch_norm(&x, "stem_norm")?;
    let mut x = graph.relu(&x);
    if !chromagram {
        let octaves = (bins as i64 - 3 * PITCH_CLASSES) / PITCH_CLASSES;
        let shape = graph.ints(&[0, 0, octaves, PITCH_CLASSES, -1]);
        let by_octave = graph.op("Reshape", &[&x, &shape], &[]);
        x = graph.max_mean(&by_octave, 2);
    }
    let mixed = graph.convolution(&x, "mix", [1, 1], [0, 0])?;
    let mixed = graph.batch_norm(&mixed, "mix_norm")?;
    x = graph.relu(&mixed);
    for stage in 1..=4 {
        for number in 0.. {
            let prefix = format!("layer{stage}.{number}");
            if !graph.has(&format!("{prefix}.conv1.weight")) {
                break;
            }
            x = block(graph, &x, &prefix, if stage > 1 && number == 0 { 2 } else { 1 })?;
        }
    }
    let pooled = graph.gem(&x, &[3])?;
    Ok(graph.max_mean(&pooled, 2))
}

/// Appends a residual block; `stride` is over time.
fn block(graph: &mut Graph, x: &Value, prefix: &str, stride: i64) -> Result<Value> {
    let name = |layer: &str| format!("{prefix}.{layer}");
    let y = ring_convolution(graph, x, &name("conv1"), stride)?;
    let y = graph.norm(&y, &name("norm1"))?;
    let y = graph.relu(&y);
    let y = ring_convolution(graph, &y, &name("conv2"), 1)?;
    let y = graph.norm(&y, &name("norm2"))?;
    let shortcut = if graph.has(&name("downsample.0.weight")) {
        let shortcut = time_mean(graph, x, stride);
        let shortcut = graph.convolution(&shortcut, &name("downsample.0"), [1, 1], [0, 0])?;
        graph.norm(&shortcut, &name("downsample.1"))?
    } else {
        x.clone()
    };
    let sum = graph.op("Add", &[&y, &shortcut], &[]);
    Ok(graph.relu(&sum))
}

/// Appends a convolution with circular padding of the rows and zero padding of the columns.
fn ring_convolution(graph: &mut Graph, x: &Value, name: &str, stride: i64) -> Result<Value> {
    let kernel = graph.shape(&format!("{name}.weight"))?;
    let (rows, columns) = (kernel[2] as i64 / 2, kernel[3] as i64 / 2);
    let axis = graph.ints(&[2]);
    let (zero, from, end, rows_value) =
        (graph.ints(&[0]), graph.ints(&[-rows]), graph.ints(&[i64::MAX]), graph.ints(&[rows]));
    let last = graph.op("Slice", &[x, &from, &end, &axis], &[]);
    let first = graph.op("Slice", &[x, &zero, &rows_value, &axis], &[]);
    let padded = graph.concat(&[&last, x, &first], 2);
    graph.convolution(&padded, name, [1, stride], [0, columns])
}

/// Appends means of each `stride` columns; if the number of columns is odd, the last one is repeated, so that it is its own mean.
fn time_mean(graph: &mut Graph, x: &Value, stride: i64) -> Value {
    if stride == 1 {
        return x.clone();
    }
    let shape = graph.op("Shape", &[x], &[Attribute::Int("start", 3), Attribute::Int("end", 4)]);
    let (two, zeros) = (graph.ints(&[stride]), graph.ints(&[0, 0, 0, 0, 0, 0, 0]));
    let rest = graph.op("Mod", &[&shape, &two], &[]);
    let pads = graph.concat(&[&zeros, &rest], 0);
    let even = graph.op("Pad", &[x, &pads], &[Attribute::Text("mode", "edge")]);
    let window = [Attribute::Ints("kernel_shape", &[1, stride]), Attribute::Ints("strides", &[1, stride])];
    graph.op("AveragePool", &[&even], &window)
}
