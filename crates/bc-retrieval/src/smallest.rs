//! Selects the `k` smallest values of a sequence.

use std::collections::BinaryHeap;

/// A heap of the `k` smallest values that were pushed so far; its memory does not grow with the number of pushed values. To
/// find the nearest or best values, they must be the smallest in the order of `T`.
pub struct Smallest<T> {
    k: usize,
    heap: BinaryHeap<T>,
}

impl<T: Ord> Smallest<T> {
    /// Creates an empty heap that keeps `k` values.
    #[must_use]
    pub fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::with_capacity(k.saturating_add(1).min(1 << 16)) }
    }

    /// Adds `new` if it is among the `k` smallest.
    pub fn push(&mut self, new: T) {
        if self.heap.len() < self.k {
            self.heap.push(new);
        } else if self.heap.peek().is_some_and(|largest| new < *largest) {
            self.heap.pop();
            self.heap.push(new);
        }
    }

    /// Returns whether the heap holds `k` values, so that each further addition removes one.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.heap.len() >= self.k
    }

    /// Returns the largest value of the heap, which is removed next.
    #[must_use]
    pub fn largest(&self) -> Option<&T> {
        self.heap.peek()
    }

    /// Returns the values in ascending order.
    #[must_use]
    pub fn into_sorted(self) -> Vec<T> {
        self.heap.into_sorted_vec()
    }

    /// Returns the values in any order.
    pub fn into_unsorted(self) -> impl Iterator<Item = T> {
        self.heap.into_iter()
    }
}
