//! What an index of made-up vectors costs: adding, bytes, queries, and what rounding loses.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

use crate::index::change::Change;
use crate::index::{Index, Manifest, Row, Storage};
use crate::scan::{self, Queries};

/// Vectors that are made at once.
const CHUNK: usize = 16_384;
/// Vectors around one direction: works with versions.
const VERSIONS: u64 = 4;
/// Best rows that recall compares.
const TOP: usize = 10;

/// How much.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Number of vectors.
    pub rows: usize,
    /// Numbers of a vector.
    pub dim: usize,
    /// Queries of a batch.
    pub batch: usize,
    /// How often a single query is timed.
    pub rounds: usize,
    /// How numbers are kept.
    pub storage: Storage,
    /// Whether recall is measured, which takes a pass over all vectors as they were made.
    pub recall: bool,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// How numbers are kept.
    pub storage: Storage,
    /// Number of vectors.
    pub rows: usize,
    /// Numbers of a vector.
    pub dim: usize,
    /// Threads.
    pub threads: usize,
    /// Seconds until the index was on disk, making the vectors not counted.
    pub add_s: f64,
    /// Vectors per second.
    pub added_per_s: f64,
    /// Bytes on disk per vector, everything counted.
    pub bytes_per_row: f64,
    /// Seconds to open the index.
    pub open_s: f64,
    /// Seconds of the first query, with pages that may have to come from disk.
    pub first_s: f64,
    /// Median seconds of a single query.
    pub single_s: f64,
    /// Best seconds of a single query.
    pub best_single_s: f64,
    /// Bytes of vectors that the best single query went through per second, in 10^9.
    pub gigabytes_per_s: f64,
    /// The same for adding up 64-bit words of the same file: what memory gives.
    pub floor_gigabytes_per_s: f64,
    /// Queries of a batch.
    pub batch: usize,
    /// Seconds of a batch, the best of three.
    pub batch_s: f64,
    /// Queries of a batch per second.
    pub batch_per_s: f64,
    /// Share of the ten best by 32-bit floats that are among the ten found; absent if not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall_at_10: Option<f64>,
}

/// Vector number `row`: a direction that it shares with some others, and noise of its own.
fn vector(row: u64, dim: usize) -> Vec<f32> {
    let mut work = ChaCha8Rng::seed_from_u64(row / VERSIONS);
    let mut own = ChaCha8Rng::seed_from_u64(row ^ 0x5eed_0000_0000);
    (0..dim).map(|_| work.random::<f32>() - 0.5 + 0.8 * (own.random::<f32>() - 0.5)).collect()
}

/// Queries: further versions of works of the index.
fn queries(count: usize, options: &Options) -> Vec<f32> {
    let step = (options.rows / count.max(1)).max(1) as u64;
    let mut all = Vec::with_capacity(count * options.dim);
    for number in 0..count as u64 {
        let mut work = ChaCha8Rng::seed_from_u64(number * step / VERSIONS);
        let mut own = ChaCha8Rng::seed_from_u64(number ^ 0x9e37_0000_0000);
        all.extend((0..options.dim).map(|_| work.random::<f32>() - 0.5 + 0.8 * (own.random::<f32>() - 0.5)));
    }
    all
}

/// Makes an index in `folder` and measures it; the index stays.
///
/// # Errors
/// A folder that cannot be written.
pub fn run(folder: &Path, options: Options) -> Result<Measured> {
    let add_s = make(folder, options)?;
    let started = Instant::now();
    let index = Index::open(folder)?;
    let open_s = started.elapsed().as_secs_f64();
    let made = queries(options.batch.max(options.rounds), &options);
    let one = |number: usize| {
        Queries::new(&made[number * options.dim..][..options.dim], options.dim, options.storage)
    };
    let mut times: Vec<f64> =
        (0..options.rounds.max(1)).map(|number| timed(|| scan::nearest(&index, &one(number), TOP))).collect();
    let first_s = times[0];
    times.sort_unstable_by(f64::total_cmp);
    let all = Queries::new(&made[..options.batch * options.dim], options.dim, options.storage);
    let batch = (0..3).map(|_| timed(|| scan::nearest(&index, &all, TOP)));
    let batch_s = batch.fold(f64::INFINITY, f64::min);
    let bytes: usize =
        index.segments.iter().map(|segment| segment.vectors.rows * segment.vectors.stride).sum();
    let floor = (0..3).map(|_| timed(|| read_all(&index))).fold(f64::INFINITY, f64::min);
    let recall_at_10 = options.recall.then(|| recall(&index, &all, &made, options));
    Ok(Measured {
        storage: options.storage,
        rows: options.rows,
        dim: options.dim,
        threads: rayon::current_num_threads(),
        add_s,
        added_per_s: options.rows as f64 / add_s,
        bytes_per_row: on_disk(folder) as f64 / options.rows as f64,
        open_s,
        first_s,
        single_s: times[times.len() / 2],
        best_single_s: times[0],
        gigabytes_per_s: bytes as f64 / times[0] / 1e9,
        floor_gigabytes_per_s: bytes as f64 / floor / 1e9,
        batch: options.batch,
        batch_s,
        batch_per_s: options.batch as f64 / batch_s,
        recall_at_10,
    })
}

fn timed<T>(what: impl FnOnce() -> T) -> f64 {
    let started = Instant::now();
    std::hint::black_box(what());
    started.elapsed().as_secs_f64()
}

/// Seconds that adding took.
fn make(folder: &Path, options: Options) -> Result<f64> {
    let settings = serde_json::json!({ "made up": true });
    let network = BTreeMap::from([("checkpoint".to_owned(), "made up".to_owned())]);
    let empty = Manifest::of_provenance(settings, network, options.storage, options.dim);
    let mut change = Change::begin(folder, Some(&empty))?;
    let mut writer = change.segment(Default::default())?;
    let mut spent = 0.0;
    for first in (0..options.rows).step_by(CHUNK) {
        let end = (first + CHUNK).min(options.rows);
        let vectors: Vec<Vec<f32>> =
            (first..end).into_par_iter().map(|row| vector(row as u64, options.dim)).collect();
        let started = Instant::now();
        for (row, vector) in (first..end).zip(&vectors) {
            let work = format!("W{}", row as u64 / VERSIONS);
            let row = Row {
                path: format!("/music/{row}.flac"),
                title: format!("Title {row}"),
                work,
                ..Row::default()
            };
            writer.push(row, &[(0.0, vector)], &[])?;
        }
        spent += started.elapsed().as_secs_f64();
    }
    let started = Instant::now();
    change.manifest.segments.push(writer.commit()?);
    change.commit()?;
    Ok(spent + started.elapsed().as_secs_f64())
}

/// Adds up all numbers, which is as little as can be done with them.
fn read_all(index: &Index) -> u64 {
    let sum = |bytes: &[u8]| {
        bytemuck::cast_slice::<u8, u64>(bytes).iter().fold(0u64, |sum, x| sum.wrapping_add(*x))
    };
    let parts = index.segments.iter().map(|segment| {
        segment
            .vectors
            .row_bytes(0, segment.vectors.rows)
            .par_chunks(1 << 20)
            .map(sum)
            .reduce(|| 0, u64::wrapping_add)
    });
    parts.fold(0, u64::wrapping_add)
}

fn on_disk(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => on_disk(&entry.path()),
            Ok(data) => data.len(),
            Err(_) => 0,
        })
        .sum()
}

/// The share of the ten best of each query by 32-bit floats that the index finds among its ten best.
fn recall(index: &Index, all: &Queries, made: &[f32], options: Options) -> f64 {
    let found = scan::nearest(index, all, TOP);
    let unit = |vector: &[f32]| -> Vec<f32> {
        let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        vector.iter().map(|x| (f64::from(*x) / length) as f32).collect()
    };
    let queries: Vec<Vec<f32>> = made[..options.batch * options.dim].chunks(options.dim).map(unit).collect();
    let mut best: Vec<Vec<(f32, usize)>> = vec![Vec::new(); queries.len()];
    for first in (0..options.rows).step_by(CHUNK) {
        let end = (first + CHUNK).min(options.rows);
        let vectors: Vec<Vec<f32>> =
            (first..end).into_par_iter().map(|row| unit(&vector(row as u64, options.dim))).collect();
        best.par_iter_mut().zip(&queries).for_each(|(best, query)| {
            let scored = vectors
                .iter()
                .zip(first..)
                .map(|(vector, row)| (vector.iter().zip(query).map(|(a, b)| a * b).sum::<f32>(), row));
            best.extend(scored);
            best.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            best.truncate(TOP);
        });
    }
    let mut shared = 0;
    for (best, found) in best.iter().zip(&found) {
        shared += best.iter().filter(|(_, row)| found.iter().any(|found| found.row as usize == *row)).count();
    }
    shared as f64 / (TOP * queries.len()) as f64
}
