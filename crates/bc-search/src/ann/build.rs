//! Builds the graphs of an index, and measures their recall.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use bc_cli::{Interrupted, interrupt, progress, saving};
use rayon::prelude::*;

use super::graph::Graph;
use super::search::nearest_in_segment;
use super::{BuiltGraph, Settings, sidecar};
use crate::index::manifest::SegmentEntry;
use crate::index::{Index, Manifest};
use crate::scan::{self, Queries};

/// Number of nearest rows that are compared to measure recall.
const TOP: usize = 10;
/// Number of rows used as queries, spread over a segment.
const QUERIES: usize = 128;

/// Builds the graph of every segment that is large enough and has none, and measures its recall against an exact search. Others
/// may add and search meanwhile.
///
/// # Errors
/// There is no index; too little memory; a full disk; an interrupt, after which finished graphs stay.
pub fn build(folder: &Path, settings: Settings) -> Result<Vec<BuiltGraph>> {
    ensure!(
        (2..=256).contains(&settings.connectivity) && (1..=65_536).contains(&settings.expansion),
        "a connectivity of {} and an expansion of {} are not possible; give 2 to 256, and 1 to 65536",
        settings.connectivity,
        settings.expansion
    );
    interrupt::install("stopping; finished graphs stay")?;
    let index = Index::open(folder)?;
    ensure!(folder.is_dir(), "{} is a file of embeddings, which cannot have graphs", folder.display());
    let mut built = Vec::new();
    for (entry, number) in index.manifest.segments.iter().zip(0u32..) {
        // A graph that is damaged, or of other vectors, is built again.
        if entry.vectors < settings.min_vectors.max(1) || matches!(sidecar::open(folder, entry), Ok(Some(_)))
        {
            continue;
        }
        built.extend(build_segment(&index, number, entry, settings)?);
    }
    Ok(built)
}

/// Builds the graph of one segment; `None` if it was merged into another one in the meantime.
fn build_segment(
    index: &Index,
    number: u32,
    entry: &SegmentEntry,
    settings: Settings,
) -> Result<Option<BuiltGraph>> {
    let started = Instant::now();
    let graph = Graph::empty(&index.path, entry, settings)?;
    let bar = progress::bar(entry.vectors as u64, "linking", "vectors");
    (0..entry.vectors).into_par_iter().try_for_each(|row| {
        if interrupt::requested() {
            return Err(Interrupted("finished graphs stay".to_owned()).into());
        }
        graph.add(row)?;
        bar.inc(1);
        Ok::<_, anyhow::Error>(())
    })?;
    bar.finish_and_clear();
    let build_s = started.elapsed().as_secs_f64();
    let bytes = graph.bytes()?;
    {
        // A writer removes unknown files, so none may run while this file is renamed to its final name.
        let _lock = saving::lock_for_writing(&Manifest::path(&index.path))?;
        let newest = Manifest::read(&index.path)?;
        if !newest.segments.iter().any(|segment| segment.name == entry.name) {
            return Ok(None);
        }
        sidecar::write(&index.path, entry, settings, &bytes)?;
    }
    let size = (sidecar::HEADER + bytes.len()) as u64;
    drop(bytes);
    let (recall_at_10, query_s, exact_query_s) = measure(index, number, entry, &graph)?;
    Ok(Some(BuiltGraph {
        segment: entry.name.clone(),
        vectors: entry.vectors,
        build_s,
        bytes: size,
        recall_at_10,
        query_s,
        exact_query_s,
    }))
}

/// Recall, median seconds of a query, and seconds of an exact query, with rows spread over the segment as queries.
fn measure(index: &Index, number: u32, entry: &SegmentEntry, graph: &Graph) -> Result<(f64, f64, f64)> {
    let segment = &index.segments[number as usize];
    let step = entry.vectors.div_ceil(QUERIES).max(1);
    let query_rows: Vec<usize> = (0..entry.vectors).step_by(step).collect();
    let vectors: Vec<f32> = query_rows.iter().flat_map(|row| segment.vectors.vector(*row)).collect();
    let queries = Queries::new(&vectors, index.dim(), index.manifest.storage);
    let started = Instant::now();
    let exact = scan::nearest_of_segments(index, &queries, TOP + 1, |segment| segment == number);
    let exact_s = started.elapsed().as_secs_f64() / query_rows.len() as f64;
    let (mut found_count, mut all, mut times) = (0usize, 0usize, Vec::new());
    for (query_number, row) in query_rows.iter().enumerate() {
        let query = queries.single(query_number);
        let started = Instant::now();
        let found = nearest_in_segment(index, number, graph, &query, TOP + 1);
        times.push(started.elapsed().as_secs_f64());
        let others = exact[query_number].iter().filter(|found| found.row as usize != *row).take(TOP);
        for other in others {
            all += 1;
            found_count += usize::from(found.iter().any(|found| found.row == other.row));
        }
    }
    times.sort_unstable_by(f64::total_cmp);
    Ok((found_count as f64 / all.max(1) as f64, times[times.len() / 2], exact_s))
}
