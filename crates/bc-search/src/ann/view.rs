//! What usearch reads of memory that is not its own: a mapped file of links, and the keys that it hands to a distance.

#![allow(
    unsafe_code,
    reason = "usearch's interface: it reads a buffer later, and gives pointers to a callback"
)]

use anyhow::{Context, Result};
use memmap2::Mmap;
use usearch::{Index as Links, VectorType};

/// A graph, and the mapped file that it reads, if it does. Fields are dropped in this order.
pub struct View {
    links: Links,
    _map: Option<Mmap>,
}

impl View {
    /// A graph that owns its links.
    pub fn new(links: Links) -> Self {
        Self { links, _map: None }
    }

    /// A graph whose links are those of a mapped file, behind `header` bytes. Their content must have been checked.
    ///
    /// # Errors
    /// A file that is none of usearch's.
    pub fn of_file(links: Links, map: Mmap, header: usize) -> Result<Self> {
        // SAFETY: the map is dropped after the links, and never changes (`index::mapped_file`).
        unsafe { links.view_from_buffer(&map[header..]) }?;
        Ok(Self { links, _map: Some(map) })
    }

    /// Measures by a function of two rows, which are the vectors of one number that usearch has of each.
    ///
    /// # Errors
    /// Of usearch.
    pub fn measure_by(&mut self, distance: impl Fn(f64, f64) -> f32 + Send + Sync + 'static) -> Result<()> {
        let distance = move |a: *const f64, b: *const f64| {
            // SAFETY: usearch calls it with two of its vectors of one number each, which need not be aligned in a mapped
            // file.
            let (a, b) = unsafe { (a.read_unaligned(), b.read_unaligned()) };
            distance(a, b)
        };
        <f64 as VectorType>::change_metric(&mut self.links, Box::new(distance)).context("no distance")
    }

    /// The links.
    pub fn links(&self) -> &Links {
        &self.links
    }
}
