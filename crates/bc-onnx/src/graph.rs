//! A graph of operators, built one node after the other.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use bc_nn::Network;
use candle_core::Tensor;

use crate::proto::Message;

/// Version of ONNX's operators.
const OPSET: i64 = 17;
/// The IR version of ONNX that belongs to the opset.
const IR: i64 = 8;
/// Element types of tensors.
const FLOAT: i64 = 1;
const INT64: i64 = 7;
/// Added to variances, as in PyTorch.
const EPSILON: f32 = 1e-5;
/// Minimum of the values in GeM (Radenović et al. 2018; ours and the public re-implementation's).
const GEM_MIN: f32 = 1e-6;

/// Name of a value in the graph.
pub type Value = String;

/// An attribute of a node.
pub enum Attribute<'a> {
    /// A whole number.
    Int(&'a str, i64),
    /// Whole numbers.
    Ints(&'a str, &'a [i64]),
    /// A 32-bit float.
    Float(&'a str, f32),
    /// Text.
    Text(&'a str, &'a str),
}

/// A graph and the weights that it may use.
pub struct Graph {
    weights: BTreeMap<String, Tensor>,
    /// Names of the weights that are already in the graph.
    used: BTreeSet<String>,
    /// The encoded graph so far.
    fields: Message,
    /// Number of values named by [`Graph::new_name`].
    values: usize,
}

impl Graph {
    /// Creates a graph without nodes.
    ///
    /// # Errors
    /// Weights that cannot be read from their device.
    pub fn new(network: &Network) -> Result<Self> {
        let weights = network.tensors()?.into_iter().collect();
        let fields = Message::new().bytes(2, "bytecover");
        Ok(Self { weights, used: BTreeSet::new(), fields, values: 0 })
    }

    /// Returns whether the network has a weight of this name.
    pub fn has(&self, weight: &str) -> bool {
        self.weights.contains_key(weight)
    }

    /// Returns the lengths of a weight's axes.
    pub fn shape(&self, weight: &str) -> Result<Vec<usize>> {
        Ok(self.weight(weight)?.dims().to_vec())
    }

    fn weight(&self, name: &str) -> Result<&Tensor> {
        self.weights.get(name).with_context(|| format!("the network has no weight {name}"))
    }

    /// Returns the bytes of the model with its metadata.
    pub fn finish(self, metadata: &BTreeMap<String, String>) -> Vec<u8> {
        let mut model = Message::new()
            .int(1, IR)
            .bytes(2, "bytecover")
            .bytes(3, env!("CARGO_PKG_VERSION"))
            .message(7, self.fields)
            .message(8, Message::new().bytes(1, "").int(2, OPSET));
        for (key, value) in metadata {
            model = model.message(14, Message::new().bytes(1, key).bytes(2, value));
        }
        model.into_bytes()
    }

    /// Declares the input; an axis without a length is free and has a name from `axes`.
    pub fn input(&mut self, name: &str, lengths: &[Option<usize>; 3], axes: [&str; 3]) -> Value {
        let info = value_info(name, lengths.iter().zip(axes).map(|(length, axis)| length.ok_or(axis)));
        self.fields = std::mem::take(&mut self.fields).message(11, info);
        name.to_owned()
    }

    /// Declares a value of shape (batch, `size`) as the output `name`.
    pub fn output(&mut self, value: &Value, name: &str, size: usize) {
        self.node("Identity", &[value], &[], Some(name));
        let info = value_info(name, [Err("batch"), Ok(size)].into_iter());
        self.fields = std::mem::take(&mut self.fields).message(12, info);
    }

    /// Appends a node of the operator `kind` and returns its output.
    pub fn op(&mut self, kind: &str, inputs: &[&str], attributes: &[Attribute<'_>]) -> Value {
        self.node(kind, inputs, attributes, None)
    }

    fn node(
        &mut self,
        kind: &str,
        inputs: &[&str],
        attributes: &[Attribute<'_>],
        name: Option<&str>,
    ) -> Value {
        let output = name.map_or_else(|| self.new_name(), str::to_owned);
        self.push(kind, inputs, &[&output], attributes);
        output
    }

    fn push(&mut self, kind: &str, inputs: &[&str], outputs: &[&str], attributes: &[Attribute<'_>]) {
        let mut node = Message::new();
        for input in inputs {
            node = node.bytes(1, input);
        }
        for output in outputs {
            node = node.bytes(2, output);
        }
        node = node.bytes(3, format!("{kind} {}", outputs[0])).bytes(4, kind);
        for attribute in attributes {
            node = node.message(5, encode(attribute));
        }
        self.fields = std::mem::take(&mut self.fields).message(1, node);
    }

    fn new_name(&mut self) -> Value {
        self.values += 1;
        format!("v{}", self.values)
    }

    /// Returns the value of a weight, which is added to the graph on first use.
    pub fn weight_value(&mut self, name: &str) -> Result<Value> {
        if self.used.insert(name.to_owned()) {
            let tensor = self.weight(name)?.clone();
            self.floats(name, tensor.dims(), &tensor.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(name.to_owned())
    }

    fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(name, FLOAT, shape, raw);
    }

    fn tensor(&mut self, name: &str, kind: i64, shape: &[usize], raw: Vec<u8>) {
        let dims = shape.iter().fold(Message::new(), |message, length| message.int(1, *length as i64));
        let tensor = dims.int(2, kind).bytes(8, name).bytes(9, raw);
        self.fields = std::mem::take(&mut self.fields).message(5, tensor);
    }

    /// Adds a constant number.
    pub fn number(&mut self, value: f32) -> Value {
        let name = self.new_name();
        self.floats(&name, &[], &[value]);
        name
    }

    /// Adds a constant list of whole numbers.
    pub fn ints(&mut self, values: &[i64]) -> Value {
        let name = self.new_name();
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(&name, INT64, &[values.len()], raw);
        name
    }

    /// Maps (batch, bins, frames) to images of one channel, (batch, 1, bins, frames).
    pub fn image(&mut self, x: &Value) -> Result<Value> {
        let axis = self.ints(&[1]);
        Ok(self.op("Unsqueeze", &[x, &axis], &[]))
    }

    /// Appends a convolution with the weights `<name>.weight` and, if there is one, `<name>.bias`; `padding` is (rows, columns).
    pub fn convolution(
        &mut self,
        x: &Value,
        name: &str,
        stride: [i64; 2],
        padding: [i64; 2],
    ) -> Result<Value> {
        let shape = self.shape(&format!("{name}.weight"))?;
        let weight = self.weight_value(&format!("{name}.weight"))?;
        let bias = format!("{name}.bias");
        let kernel = [shape[2] as i64, shape[3] as i64];
        let pads = [padding[0], padding[1], padding[0], padding[1]];
        let attributes = [
            Attribute::Ints("kernel_shape", &kernel),
            Attribute::Ints("strides", &stride),
            Attribute::Ints("pads", &pads),
        ];
        if self.has(&bias) {
            let bias = self.weight_value(&bias)?;
            return Ok(self.op("Conv", &[x, &weight, &bias], &attributes));
        }
        Ok(self.op("Conv", &[x, &weight], &attributes))
    }

    /// Appends a batch normalisation by running statistics.
    pub fn batch_norm(&mut self, x: &Value, name: &str) -> Result<Value> {
        let mut parts = vec![x.clone()];
        for part in ["weight", "bias", "running_mean", "running_var"] {
            parts.push(self.weight_value(&format!("{name}.{part}"))?);
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        Ok(self.op("BatchNormalization", &parts, &[Attribute::Float("epsilon", EPSILON)]))
    }

    /// Appends a batch normalisation or, if there are weights for it, an IBN: instance normalisation of the first channels (Pan et al.
    /// 2018).
    pub fn norm(&mut self, x: &Value, name: &str) -> Result<Value> {
        let instance = format!("{name}.IN.weight");
        if !self.has(&instance) {
            return self.batch_norm(x, name);
        }
        let first = self.shape(&instance)?[0] as i64;
        let others = self.shape(&format!("{name}.BN.weight"))?[0] as i64;
        let sizes = self.ints(&[first, others]);
        let (left, right) = (self.new_name(), self.new_name());
        self.push("Split", &[x, &sizes], &[&left, &right], &[Attribute::Int("axis", 1)]);
        let (scale, shift) = (self.weight_value(&instance)?, self.weight_value(&format!("{name}.IN.bias"))?);
        let left = self.op(
            "InstanceNormalization",
            &[&left, &scale, &shift],
            &[Attribute::Float("epsilon", EPSILON)],
        );
        let right = self.batch_norm(&right, &format!("{name}.BN"))?;
        Ok(self.concat(&[&left, &right], 1))
    }

    /// Concatenates values along an axis.
    pub fn concat(&mut self, values: &[&str], axis: i64) -> Value {
        self.op("Concat", values, &[Attribute::Int("axis", axis)])
    }

    /// Appends a ReLU.
    pub fn relu(&mut self, x: &Value) -> Value {
        self.op("Relu", &[x], &[])
    }

    /// Appends maximum and mean over an axis, which is removed; their channels are concatenated.
    pub fn max_mean(&mut self, x: &Value, axis: i64) -> Value {
        let attributes = [Attribute::Ints("axes", &[axis]), Attribute::Int("keepdims", 0)];
        let max = self.op("ReduceMax", &[x], &attributes);
        let mean = self.op("ReduceMean", &[x], &attributes);
        self.concat(&[&max, &mean], 1)
    }

    /// Appends a generalised mean over `axes`, which are removed (Radenović et al. 2018).
    pub fn gem(&mut self, x: &Value, axes: &[i64]) -> Result<Value> {
        let p = self.weight("gem_pool.p")?.flatten_all()?.to_vec1::<f32>()?[0];
        let (min, power, root) = (self.number(GEM_MIN), self.number(p), self.number(1.0 / p));
        let y = self.op("Max", &[x, &min], &[]);
        let y = self.op("Pow", &[&y, &power], &[]);
        let y = self.op("ReduceMean", &[&y], &[Attribute::Ints("axes", axes), Attribute::Int("keepdims", 0)]);
        Ok(self.op("Pow", &[&y, &root], &[]))
    }

    /// Appends a linear layer without bias: rows of x times the transposed weights.
    pub fn linear(&mut self, x: &Value, name: &str) -> Result<Value> {
        let weight = self.weight_value(&format!("{name}.weight"))?;
        Ok(self.op("Gemm", &[x, &weight], &[Attribute::Int("transB", 1)]))
    }
}

fn encode(attribute: &Attribute<'_>) -> Message {
    const KIND: u32 = 20;
    match attribute {
        Attribute::Float(name, value) => Message::new().bytes(1, name).float(2, *value).int(KIND, 1),
        Attribute::Text(name, value) => Message::new().bytes(1, name).bytes(4, value).int(KIND, 3),
        Attribute::Int(name, value) => Message::new().bytes(1, name).int(3, *value).int(KIND, 2),
        Attribute::Ints(name, values) => {
            let named = Message::new().bytes(1, name);
            values.iter().fold(named, |message, value| message.int(8, *value)).int(KIND, 7)
        }
    }
}

/// Encodes name, element type and axes of an input or output; an axis is a length or a name.
fn value_info<'a>(name: &str, axes: impl Iterator<Item = Result<usize, &'a str>>) -> Message {
    let shape = axes.fold(Message::new(), |shape, axis| {
        let axis = match axis {
            Ok(length) => Message::new().int(1, length as i64),
            Err(name) => Message::new().bytes(2, name),
        };
        shape.message(1, axis)
    });
    let tensor = Message::new().int(1, FLOAT).message(2, shape);
    Message::new().bytes(1, name).message(2, Message::new().message(1, tensor))
}
