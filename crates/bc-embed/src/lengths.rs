//! Batches tracks of equal length for the network, so that nothing is padded and no embedding depends on the other tracks of
//! its batch.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::embedder::Embedder;

/// Maximum number of columns of a batch, all tracks together, unless it has one track only.
const MAX_COLUMNS: usize = 4096;
/// When more values than this are waiting, the largest group is embedded.
const MAX_WAITING_VALUES: usize = 32 << 20;

/// A queue in which inputs wait for others of the same length.
pub struct ByLength<'a> {
    embedder: &'a Embedder,
    waiting: BTreeMap<usize, Vec<(usize, Vec<f32>)>>,
    waiting_values: usize,
}

impl<'a> ByLength<'a> {
    /// Creates an empty queue of inputs.
    pub fn new(embedder: &'a Embedder) -> Self {
        Self { embedder, waiting: BTreeMap::new(), waiting_values: 0 }
    }

    /// Adds the input (bins x `columns`) of track `number`; returns the embeddings that are
    /// finished, with their tracks' numbers.
    ///
    /// # Errors
    /// The errors of [`Embedder::embed`].
    pub fn add(&mut self, number: usize, input: Vec<f32>, columns: usize) -> Result<Vec<(usize, Vec<f32>)>> {
        self.waiting_values += input.len();
        let group = self.waiting.entry(columns).or_default();
        group.push((number, input));
        if (group.len() + 1) * columns > MAX_COLUMNS {
            return self.embed(columns);
        }
        if self.waiting_values > MAX_WAITING_VALUES {
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
    /// The errors of [`Embedder::embed`].
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
        self.waiting_values -= inputs.iter().map(Vec::len).sum::<usize>();
        Ok(numbers.into_iter().zip(self.embedder.embed(&inputs, columns)?).collect())
    }
}
