//! The graph itself.

use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use bc_cli::{Interrupted, interrupt, progress};
use bc_formats::atomic;
use rayon::prelude::*;
use usearch::{IndexOptions, MetricKind, ScalarKind};

use super::{Built, FORMAT, NAME, others, stamp};
use crate::index::Index;
use crate::scan::{self, Found, Queries};

/// Links of a vector.
const CONNECTIVITY: usize = 32;
/// Candidates that are weighed for the links of a new vector.
const EXPANSION_ADD: usize = 128;
/// Candidates that a search keeps at least.
const EXPANSION_SEARCH: usize = 128;
/// Vectors that are asked for what the graph misses.
const ASKED: usize = 200;
const TOP: usize = 10;
/// Vectors between two looks at the keyboard.
const AT_ONCE: usize = 8192;

/// A graph beside an index, of the index's own generation.
pub struct Ann {
    graph: usearch::Index,
    /// First number of each segment's vectors: they are counted through.
    firsts: Vec<usize>,
}

fn options(dim: usize) -> IndexOptions {
    IndexOptions {
        dimensions: dim,
        metric: MetricKind::Cos,
        quantization: ScalarKind::BF16,
        connectivity: CONNECTIVITY,
        expansion_add: EXPANSION_ADD,
        expansion_search: EXPANSION_SEARCH,
        multi: false,
    }
}

fn firsts(index: &Index) -> Vec<usize> {
    let mut before = 0;
    let first = index.segments.iter().map(|segment| {
        let first = before;
        before += segment.vectors.rows;
        first
    });
    first.collect()
}

impl Ann {
    /// Maps the graph beside an index.
    ///
    /// # Errors
    /// None there, one of another generation, or one that is damaged.
    pub fn open(index: &Index) -> Result<Self> {
        let built = Built::of(index)?;
        let path = index.path.join(&built.file);
        let graph = usearch::Index::new(&options(index.dim())).map_err(|error| anyhow!("{error}"))?;
        let text = path.to_str().context("a path that is no UTF-8")?;
        graph.view(text).map_err(|error| anyhow!("cannot open {}: {error}", path.display()))?;
        ensure!(
            graph.size() == index.vectors() && graph.dimensions() == index.dim(),
            "{} is of {} vectors, the index has {}; make it again with `bc-search ann`",
            path.display(),
            graph.size(),
            index.vectors()
        );
        graph.change_expansion_search(EXPANSION_SEARCH);
        Ok(Self { graph, firsts: firsts(index) })
    }

    /// About the `k` best vectors of every query among those whose recordings were not removed, with their exact scores, the best first.
    ///
    /// # Errors
    /// Of the graph.
    pub fn nearest(&self, index: &Index, queries: &Queries, k: usize) -> Result<Vec<Vec<Found>>> {
        let one = |number: usize| -> Result<Vec<Found>> {
            let query = queries.one(number);
            let found = self.graph.search(&query.floats()[..index.dim()], k.min(index.vectors()).max(1));
            let keys = found.map_err(|error| anyhow!("the graph of {}: {error}", index.path.display()))?.keys;
            let places = keys.into_iter().map(|key| {
                let segment = self.firsts.partition_point(|first| *first <= key as usize) - 1;
                (segment as u32, key as usize - self.firsts[segment])
            });
            let there = |(segment, row): &(u32, usize)| {
                let segment = &index.segments[*segment as usize];
                *row < segment.vectors.rows && !segment.removed.has(segment.keys.places()[*row].recording)
            };
            let places: Vec<(u32, usize)> = places.filter(there).collect();
            let scores = scan::scores_of(index, &places, &query);
            let mut found: Vec<Found> = places
                .iter()
                .zip(scores)
                .map(|((segment, row), score)| Found { score, segment: *segment, row: *row as u32 })
                .collect();
            found.sort();
            Ok(found)
        };
        (0..queries.len()).into_par_iter().map(one).collect()
    }
}

/// Makes the graph of an index and measures what it misses.
///
/// # Errors
/// A disk that is full, an index in a file, an interrupt; then the old graph stays, if there is one.
pub fn build(index: &Index) -> Result<Built> {
    ensure!(index.path.is_dir(), "{} is no folder of an index; make one with `bc-search import`", index.path.display());
    let started = Instant::now();
    interrupt::install("ending; no graph is written")?;
    let graph = filled(index)?;
    let file = format!("ann-{:08}-{:04x}.usearch", index.manifest.generation, rand::random::<u16>());
    let (path, temporary) = (index.path.join(&file), index.path.join(format!(".{file}")));
    let text = temporary.to_str().context("a path that is no UTF-8")?;
    let saved = graph.save(text).map_err(|error| anyhow!("cannot write {}: {error} (is the disk full?)", temporary.display()));
    let synced = saved.and_then(|()| Ok(std::fs::File::open(&temporary)?.sync_all()?));
    if let Err(error) = synced {
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    std::fs::rename(&temporary, &path).with_context(|| format!("cannot rename {}", temporary.display()))?;
    let seconds = started.elapsed().as_secs_f64();
    let (bytes, modified_ns) = stamp(&path)?;
    let ann = Ann { graph, firsts: firsts(index) };
    let (asked, recall_at_10) = recall(&ann, index)?;
    let built = Built {
        format: FORMAT.to_owned(),
        generation: index.manifest.generation,
        fingerprint: index.manifest.provenance.fingerprint.clone(),
        hash: bc_formats::fingerprint::of_file(&path)?,
        file,
        bytes,
        modified_ns,
        vectors: index.vectors(),
        seconds,
        asked,
        recall_at_10,
    };
    atomic::write_json(&index.path.join(NAME), &built)?;
    for old in others(&index.path, &built.file) {
        // A reader may have it mapped.
        let _ = std::fs::remove_file(old);
    }
    Ok(built)
}

/// All vectors of an index, those of removed recordings included: they are passed over when asked.
fn filled(index: &Index) -> Result<usearch::Index> {
    let of_graph = |error: cxx::Exception| anyhow!("the graph of {}: {error}", index.path.display());
    let graph = usearch::Index::new(&options(index.dim())).map_err(of_graph)?;
    graph.reserve_capacity_and_threads(index.vectors(), rayon::current_num_threads()).map_err(of_graph)?;
    let bar = progress::bar(index.vectors() as u64, "linking", "vectors");
    for (segment, before) in index.segments.iter().zip(firsts(index)) {
        for first in (0..segment.vectors.rows).step_by(AT_ONCE) {
            if interrupt::requested() {
                return Err(Interrupted("no graph was written".to_owned()).into());
            }
            let end = (first + AT_ONCE).min(segment.vectors.rows);
            (first..end)
                .into_par_iter()
                .try_for_each(|row| graph.add((before + row) as u64, &segment.vectors.vector(row)))
                .map_err(of_graph)?;
            bar.inc((end - first) as u64);
        }
    }
    bar.finish_and_clear();
    Ok(graph)
}

/// How many were asked, and the share of their nearest others that the graph found.
fn recall(ann: &Ann, index: &Index) -> Result<(usize, f64)> {
    let step = index.vectors().div_ceil(ASKED).max(1);
    let mut vectors = Vec::new();
    for (segment, first) in index.segments.iter().zip(firsts(index)) {
        let begin = first.next_multiple_of(step) - first;
        (begin..segment.vectors.rows).step_by(step).for_each(|row| vectors.extend(segment.vectors.vector(row)));
    }
    let queries = Queries::new(&vectors, index.dim(), index.manifest.storage);
    // Itself and ten others.
    let exact = scan::nearest(index, &queries, TOP + 1);
    let found = ann.nearest(index, &queries, TOP + 1)?;
    let (mut shared, mut all) = (0, 0);
    for (exact, found) in exact.iter().zip(&found) {
        shared += exact.iter().filter(|one| found.iter().any(|other| (other.segment, other.row) == (one.segment, one.row))).count();
        all += exact.len();
    }
    Ok((queries.len(), shared as f64 / all.max(1) as f64))
}
