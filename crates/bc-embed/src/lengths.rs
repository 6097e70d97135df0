//! Tracks of equal length pass the network together, so that nothing is padded and no
//! embedding depends on its neighbours.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::embedder::Embedder;

/// Maximum number of columns that are embedded together, if there is more than one track.
const COLUMNS: usize = 4096;
/// Maximum number of values that wait before the largest group is embedded.
const MAX_WAITING_VALUES: usize = 32 << 20;

/// Inputs, which wait for others of the same length.
pub struct ByLength<'a> {
    embedder: &'a Embedder,
    waiting: BTreeMap<usize, Vec<(usize, Vec<f32>)>>,
    held: usize,
}

impl<'a> ByLength<'a> {
    /// An empty queue of inputs.
    pub fn new(embedder: &'a Embedder) -> Self {
        Self { embedder, waiting: BTreeMap::new(), held: 0 }
    }

    /// Adds the input (bins x `columns`) of track `number`; returns the embeddings that are
    /// finished by this.
    ///
    /// # Errors
    /// As [`Embedder::embed`].
    pub fn add(&mut self, number: usize, input: Vec<f32>, columns: usize) -> Result<Vec<(usize, Vec<f32>)>> {
        self.held += input.len();
        let group = self.waiting.entry(columns).or_default();
        group.push((number, input));
        if (group.len() + 1) * columns > COLUMNS {
            return self.embed(columns);
        }
        if self.held > MAX_WAITING_VALUES {
            let fullest = self.waiting.iter().max_by_key(|(columns, group)| **columns * group.len());
            if let Some(columns) = fullest.map(|(columns, _)| *columns) {
                return self.embed(columns);
            }
        }
        Ok(Vec::new())
    }

    /// Embeds the remaining inputs.
    ///
    /// # Errors
    /// As [`Embedder::embed`].
    pub fn finish(mut self) -> Result<Vec<(usize, Vec<f32>)>> {
        let mut finished = Vec::new();
        while let Some(columns) = self.waiting.keys().next().copied() {
            finished.extend(self.embed(columns)?);
        }
        Ok(finished)
    }

    fn embed(&mut self, columns: usize) -> Result<Vec<(usize, Vec<f32>)>> {
        let (numbers, inputs): (Vec<usize>, Vec<Vec<f32>>) =
            self.waiting.remove(&columns).unwrap_or_default().into_iter().unzip();
        self.held -= inputs.iter().map(Vec::len).sum::<usize>();
        Ok(numbers.into_iter().zip(self.embedder.embed(&inputs, columns)?).collect())
    }
}
