//! The `k` smallest of what comes by.

use std::collections::BinaryHeap;

/// A heap of the `k` smallest so far, whatever the number that comes by. What is nearest or best has to be the smallest by
/// its order.
pub struct Smallest<T> {
    k: usize,
    heap: BinaryHeap<T>,
}

impl<T: Ord> Smallest<T> {
    /// Without anything.
    #[must_use]
    pub fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::with_capacity(k.saturating_add(1).min(1 << 16)) }
    }

    /// Takes what is among the smallest.
    pub fn push(&mut self, new: T) {
        if self.heap.len() < self.k {
            self.heap.push(new);
        } else if self.heap.peek().is_some_and(|largest| new < *largest) {
            self.heap.pop();
            self.heap.push(new);
        }
    }

    /// Whether there are `k`: from here on something has to go for something to come.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.heap.len() >= self.k
    }

    /// The one that would go next.
    #[must_use]
    pub fn largest(&self) -> Option<&T> {
        self.heap.peek()
    }

    /// The smallest first.
    #[must_use]
    pub fn into_sorted(self) -> Vec<T> {
        self.heap.into_sorted_vec()
    }

    /// In no order.
    pub fn into_unsorted(self) -> impl Iterator<Item = T> {
        self.heap.into_iter()
    }
}
