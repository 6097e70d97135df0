//! The parameters of a network: their names and shapes, and one contiguous block of memory that holds all values.
//!
//! Gradients and moments have the same layout, so that clipping, the optimiser and averages are one pass over memory.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};

use crate::backend::{Backend, Flat};

/// Every parameter begins at a multiple of this number of values (256 bytes), for fast access by vector instructions and GPUs.
const ALIGNMENT: usize = 64;

/// A parameter of a network: its index in the list, in PyTorch's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter(pub(crate) usize);

/// Name, shape and position of one parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name in PyTorch.
    pub name: String,
    /// Its shape in PyTorch.
    pub shape: Vec<usize>,
    /// The range of its values in flat memory; they are in PyTorch's order.
    pub range: Range<usize>,
}

/// The names and shapes of all parameters, and their ranges in flat memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    entries: Vec<Entry>,
    /// Length of the flat memory in values.
    len: usize,
}

impl Layout {
    /// Appends a parameter.
    fn push(&mut self, name: String, shape: &[usize]) -> Parameter {
        let count: usize = shape.iter().product();
        let range = self.len..self.len + count;
        self.entries.push(Entry { name, shape: shape.to_vec(), range });
        self.len = (self.len + count).next_multiple_of(ALIGNMENT);
        Parameter(self.entries.len() - 1)
    }

    /// Returns the entries of all parameters, in PyTorch's order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the entry of a parameter.
    pub fn entry(&self, parameter: Parameter) -> &Entry {
        &self.entries[parameter.0]
    }

    /// Returns the length of the flat memory in values, padding included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there is no parameter.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Collects parameters while a network is built.
#[derive(Default)]
pub(crate) struct ParameterList {
    layout: Layout,
    values: Vec<f32>,
}

impl ParameterList {
    /// Appends a parameter with its values.
    pub fn push(&mut self, name: String, shape: &[usize], values: impl Iterator<Item = f32>) -> Parameter {
        let parameter = self.layout.push(name, shape);
        self.values.extend(values);
        self.values.resize(self.layout.len, 0.0);
        parameter
    }
}

/// The parameters of a network, with their values on its backend.
pub struct Parameters {
    backend: Backend,
    layout: Arc<Layout>,
    flat: Flat,
}

impl Parameters {
    /// Puts collected parameters on a backend.
    pub(crate) fn new(backend: &Backend, collected: ParameterList) -> Result<Self> {
        let ParameterList { layout, values } = collected;
        let flat = backend.flat(values)?;
        let mut parameters = Self { backend: backend.clone(), layout: Arc::new(layout), flat };
        parameters.changed()?;
        Ok(parameters)
    }

    /// Creates parameters with these names, shapes and values.
    ///
    /// # Errors
    /// The device fails.
    pub fn of(
        backend: &Backend,
        named: impl IntoIterator<Item = (String, Vec<usize>, Vec<f32>)>,
    ) -> Result<Self> {
        let mut collected = ParameterList::default();
        for (name, shape, values) in named {
            collected.push(name, &shape, values.into_iter());
        }
        Self::new(backend, collected)
    }

    /// Returns the names, shapes and ranges of all parameters.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Returns name, shape and range of a parameter.
    pub fn entry(&self, parameter: Parameter) -> &Entry {
        self.layout.entry(parameter)
    }

    /// Returns the backend that holds the values.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Returns the flat memory of all values.
    pub fn flat(&self) -> &Flat {
        &self.flat
    }

    /// Returns the flat memory for overwriting; call [`Parameters::changed`] afterwards.
    pub fn flat_mut(&mut self) -> &mut Flat {
        &mut self.flat
    }

    /// Updates the backend's copies of the values in another precision or layout, after the values have changed.
    ///
    /// # Errors
    /// The device fails.
    pub fn changed(&mut self) -> Result<()> {
        self.backend.clone().refresh(self)
    }

    /// Returns a copy of all values, in flat memory of the same layout.
    ///
    /// # Errors
    /// Not enough memory.
    pub fn copy(&self) -> Result<Flat> {
        self.backend.flat(self.backend.read(&self.flat, 0..self.layout.len)?)
    }

    /// Creates parameters with the same names and shapes, and zeros as values.
    ///
    /// # Errors
    /// Not enough memory.
    pub(crate) fn zeros(&self) -> Result<Self> {
        let (backend, layout) = (self.backend.clone(), self.layout.clone());
        let flat = backend.flat(vec![0.0; layout.len])?;
        let mut zeros = Self { backend, layout, flat };
        zeros.changed()?;
        Ok(zeros)
    }

    /// Swaps the values with those of `other`.
    ///
    /// # Errors
    /// The device fails.
    pub fn swap(&mut self, other: &mut Flat) -> Result<()> {
        std::mem::swap(&mut self.flat, other);
        self.changed()
    }

    /// Reads the values of a parameter.
    ///
    /// # Errors
    /// The device fails.
    pub fn values(&self, parameter: Parameter) -> Result<Vec<f32>> {
        self.backend.read(&self.flat, self.entry(parameter).range.clone())
    }

    /// Returns all parameters by their names, as tensors on the CPU.
    ///
    /// # Errors
    /// The device fails.
    pub fn tensors(&self) -> Result<Vec<(String, Tensor)>> {
        tensors(&self.backend, &self.layout, &self.flat)
    }

    /// Assigns values by their names.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn assign(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        for entry in &self.layout.entries {
            let tensor = tensors.get(&entry.name).with_context(|| format!("{} is missing", entry.name))?;
            anyhow::ensure!(tensor.dims() == entry.shape, "{} has another shape", entry.name);
            let values =
                tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            self.backend.write(&mut self.flat, entry.range.start, &values, false)?;
        }
        self.changed()
    }
}

/// Returns the parts of flat memory by their names, as tensors on the CPU.
///
/// # Errors
/// The device fails.
pub fn tensors(backend: &Backend, layout: &Layout, flat: &Flat) -> Result<Vec<(String, Tensor)>> {
    let named = |entry: &Entry| Ok((entry.name.clone(), tensor(backend, flat, entry)?));
    layout.entries.iter().map(named).collect()
}

/// Returns a part of flat memory as a tensor on the CPU.
pub(crate) fn tensor(backend: &Backend, flat: &Flat, entry: &Entry) -> Result<Tensor> {
    let values = backend.read(flat, entry.range.clone())?;
    Ok(Tensor::from_vec(values, entry.shape.as_slice(), &Device::Cpu)?)
}
