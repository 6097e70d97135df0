//! The unsafe interface of usearch: it reads a mapped file of links, and passes keys to a distance function.

#![allow(
    unsafe_code,
    reason = "usearch's interface: it reads a buffer later, and gives pointers to a callback"
)]

use anyhow::{Context, Result};
use memmap2::Mmap;
use usearch::{Index as Links, VectorType};

/// A graph and the mapped file that it reads, if any. Fields are dropped in this order.
pub struct View {
    links: Links,
    _map: Option<Mmap>,
}

impl View {
    /// A graph that owns its links.
    pub fn new(links: Links) -> Self {
        Self { links, _map: None }
    }

    /// A graph whose links are those of a mapped file, after `header` bytes. Their content must have been checked.
    ///
    /// # Errors
    /// A file that is not one of usearch's.
    pub fn from_map(links: Links, map: Mmap, header: usize) -> Result<Self> {
        // SAFETY: the map is dropped after the links, and never changes (`index::mapped_file`).
        unsafe { links.view_from_buffer(&map[header..]) }?;
        Ok(Self { links, _map: Some(map) })
    }

    /// Sets the distance function of two rows; usearch stores each row as a vector of one number.
    ///
    /// # Errors
    /// Errors of usearch.
    pub fn set_distance(&mut self, distance: impl Fn(f64, f64) -> f32 + Send + Sync + 'static) -> Result<()> {
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
