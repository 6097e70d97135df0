//! A graph over the rows of one segment, by usearch.
//!
//! usearch stores a vector with each node and computes distances itself; here that vector is only the number of a row, and the
//! distance is our own product of the mapped rows. A query has the number [`QUERY`], and its vector is in a thread-local variable.

use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use memmap2::Mmap;
use usearch::{Index as Usearch, IndexOptions, MetricKind, ScalarKind};

use super::sidecar::HEADER;
use super::view::View;
use super::{Settings, sidecar};
use crate::index::manifest::SegmentEntry;
use crate::index::segment;
use crate::index::vectors::VectorFile;
use crate::scan::products::InstructionSet;
use crate::scan::{self, Queries};

/// The point that represents the query; a row is represented by its number.
const QUERY: f64 = -1.0;
/// Number of the next graph: a thread's [`Anchor`] may belong to another graph, and is then not used.
static NEXT_GRAPH: AtomicU64 = AtomicU64::new(0);

/// The fixed side of the distances being computed: a query, or the row that is being linked.
struct Anchor {
    graph: u64,
    point: f64,
    vector: Queries,
}

thread_local!(static ANCHOR: RefCell<Option<Anchor>> = const { RefCell::new(None) });

/// The vectors that distances are computed from.
struct RowDistances {
    number: u64,
    instruction_set: InstructionSet,
    file: VectorFile,
}

impl RowDistances {
    /// 1 - the cosine. At least one of the two points is a row; the other is a row or the query that this thread holds.
    fn distance(&self, a: f64, b: f64) -> f32 {
        ANCHOR.with_borrow_mut(|slot| {
            let is_anchor = |slot: &Option<Anchor>, point: f64| {
                slot.as_ref().is_some_and(|anchor| anchor.graph == self.number && anchor.point == point)
            };
            let other = if is_anchor(slot, a) {
                b
            } else if is_anchor(slot, b) {
                a
            } else {
                let numbers = self.file.vector(a as usize);
                let vector = Queries::new(&numbers, self.file.dim, self.file.storage);
                *slot = Some(Anchor { graph: self.number, point: a, vector });
                b
            };
            let score = |anchor: &Anchor| {
                scan::score_of_row(self.instruction_set, &self.file, other as usize, &anchor.vector)
            };
            1.0 - slot.as_ref().map_or(0.0, score)
        })
    }
}

/// A graph that can be searched, by several threads of rayon at once.
pub struct Graph {
    number: u64,
    view: View,
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Graph").field("rows", &self.view.links().size()).finish_non_exhaustive()
    }
}

impl Graph {
    /// A graph without rows.
    pub fn empty(index: &Path, entry: &SegmentEntry, settings: Settings) -> Result<Self> {
        let graph = Self::new(index, entry, settings, None)?;
        let threads = rayon::current_num_threads();
        graph
            .view
            .links()
            .reserve_capacity_and_threads(entry.vectors, threads)
            .context("no memory for a graph")?;
        Ok(graph)
    }

    /// The graph of a segment; `None` if it has none.
    pub fn open(index: &Path, entry: &SegmentEntry) -> Result<Option<Self>> {
        let Some(map) = sidecar::open(index, entry)? else { return Ok(None) };
        let graph = Self::new(index, entry, Settings::default(), Some(map))?;
        ensure!(graph.view.links().size() == entry.vectors, "the graph of {} lacks rows", entry.name);
        Ok(Some(graph))
    }

    fn new(index: &Path, entry: &SegmentEntry, settings: Settings, map: Option<Mmap>) -> Result<Self> {
        let options = IndexOptions {
            dimensions: 1,
            metric: MetricKind::IP,
            quantization: ScalarKind::F64,
            connectivity: settings.connectivity,
            expansion_add: settings.expansion,
            expansion_search: Settings::default().expansion,
            multi: false,
        };
        let links = Usearch::new(&options).context("cannot make a graph")?;
        let mut view = match map {
            None => View::new(links),
            Some(map) => {
                let threads = rayon::current_num_threads();
                links.reserve_capacity_and_threads(0, threads).context("no memory for a graph")?;
                View::from_map(links, map, HEADER).with_context(|| format!("the graph of {}", entry.name))?
            }
        };
        let file = VectorFile::open(&segment::vectors_file(index, &entry.name))?;
        let number = NEXT_GRAPH.fetch_add(1, Ordering::Relaxed);
        let rows = RowDistances { number, instruction_set: InstructionSet::detect(), file };
        view.set_distance(move |a, b| rows.distance(a, b))?;
        Ok(Self { number, view })
    }

    /// Adds a row; several threads may add rows at once.
    pub fn add(&self, row: usize) -> Result<()> {
        Ok(self.view.links().add(row as u64, &[row as f64])?)
    }

    /// The bytes of the graph, as usearch writes them.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.view.links().serialized_length()];
        self.view.links().save_to_buffer(&mut bytes).context("cannot write a graph")?;
        Ok(bytes)
    }

    /// The `k` nearest rows to a query among those that `is_accepted` accepts; approximate: some may be missed, and the order is not exact.
    pub fn nearest(&self, query: &Queries, k: usize, is_accepted: impl Fn(u64) -> bool) -> Result<Vec<u64>> {
        let anchor = Anchor { graph: self.number, point: QUERY, vector: query.single(0) };
        ANCHOR.with_borrow_mut(|slot| *slot = Some(anchor));
        let found = self.view.links().filtered_search(&[QUERY], k, is_accepted);
        ANCHOR.with_borrow_mut(|slot| *slot = None);
        Ok(found.context("cannot search a graph")?.keys)
    }
}
