//! ByteCover's body (`bc_nn`'s `bytecover.rs`): ResNet-IBN with GeM pooling.

use anyhow::Result;

use crate::graph::{Attribute, Graph, Value};

/// Maps images (batch, 1, bins, frames) to (batch, channels).
pub fn body(graph: &mut Graph, x: &Value) -> Result<Value> {
    let x = graph.convolution(x, "conv1", [2, 2], [3, 3])?;
    let x = graph.batch_norm(&x, "batch_norm1")?;
    let x = graph.relu(&x);
    let pool = [
        Attribute::Ints("kernel_shape", &[3, 3]),
        Attribute::Ints("strides", &[2, 2]),
        Attribute::Ints("pads", &[1, 1, 1, 1]),
    ];
    let mut x = graph.op("MaxPool", &[&x], &pool);
    // Strides 1-2-2-1 (Du et al. 2021, section 3.1).
    for (stage, stride) in [(1, 1), (2, 2), (3, 2), (4, 1)] {
        for number in 0.. {
            let prefix = format!("layer{stage}.{number}");
            if !graph.has(&format!("{prefix}.conv1.weight")) {
                break;
            }
            x = block(graph, &x, &prefix, if number == 0 { stride } else { 1 })?;
        }
    }
    graph.gem(&x, &[2, 3])
}

fn block(graph: &mut Graph, x: &Value, prefix: &str, stride: i64) -> Result<Value> {
    let name = |layer: &str| format!("{prefix}.{layer}");
    let y = graph.convolution(x, &name("conv1"), [1, 1], [0, 0])?;
    let y = graph.norm(&y, &name("ibn"))?;
    let y = graph.relu(&y);
    let y = graph.convolution(&y, &name("conv2"), [stride, stride], [1, 1])?;
    let y = graph.norm(&y, &name("batch_norm2"))?;
    let y = graph.relu(&y);
    let y = graph.convolution(&y, &name("conv3"), [1, 1], [0, 0])?;
    let mut y = graph.norm(&y, &name("batch_norm3"))?;
    // The public re-implementation's bottleneck has biases, and rectifies before the sum too.
    if graph.has(&name("conv3.bias")) {
        y = graph.relu(&y);
    }
    let shortcut = if graph.has(&name("downsample.0.weight")) {
        let shortcut = graph.convolution(x, &name("downsample.0"), [stride, stride], [0, 0])?;
        graph.norm(&shortcut, &name("downsample.1"))?
    } else {
        x.clone()
    };
    let sum = graph.op("Add", &[&y, &shortcut], &[]);
    Ok(graph.relu(&sum))
}
