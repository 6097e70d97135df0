//! Measures the costs of an index of synthetic vectors: adding, bytes, queries, and the recall lost to rounding and graphs.
//!
//! Works are spread around few directions, as those of a trained network are (the centred embeddings of 315 recordings of 100 songs by the network
//! included in the project have a participation ratio of 16 of 256), each with 2 to 5 versions around it, whose cosines are about 0.63 as in that set.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use bc_retrieval::Smallest;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

use crate::ann::{self, Graphs};
use crate::index::change::{Adder, Addition, ConflictPolicy, compact};
use crate::index::{Index, Manifest, Row, Storage};
use crate::scan::nearest::ScoredRow;
use crate::scan::{self, Queries};

/// Number of vectors that are generated and added in one change.
const CHUNK: usize = 100_000;
/// Number of vectors that are compared with the queries together.
const COMPARE_BATCH: usize = 1024;
/// The works of consecutive rows: versions of four works, one after another.
const WORK_CYCLE: [u64; 14] = [0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3];
/// Number of directions that works are mixtures of.
const LATENT: usize = 32;
/// Length of a version's noise relative to its work's direction: cosines of two versions are about 0.63.
const NOISE: f32 = 0.766;
/// Number of best rows that recall compares.
const TOP: usize = 10;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of vectors.
    pub rows: usize,
    /// Dimension of a vector.
    pub dim: usize,
    /// Queries per batch.
    pub batch: usize,
    /// Number of single queries that are timed.
    pub rounds: usize,
    /// Storage of the vectors; one index for each.
    pub storages: Vec<Storage>,
    /// Whether recall is measured, which compares all vectors with the queries when they are generated.
    pub recall: bool,
    /// Whether graphs are built as well.
    pub ann: bool,
    /// Whether all segments are merged into one.
    pub compact: bool,
}

/// The cost of building an index.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BuildTimes {
    /// Storage of the vectors.
    pub storage: Storage,
    /// Number of vectors.
    pub rows: usize,
    /// Dimension of a vector.
    pub dim: usize,
    /// Threads.
    pub threads: usize,
    /// Seconds that adding took, as in `import`: 100,000 at a time, with lookup of known audio and merging of segments, but without
    /// generating the vectors.
    pub add_s: f64,
    /// Vectors per second.
    pub added_per_s: f64,
    /// Seconds to merge all segments into one; absent if that was not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compact_s: Option<f64>,
    /// Bytes on disk per vector, without graphs.
    pub bytes_per_row: f64,
    /// Seconds to open the index.
    pub open_s: f64,
    /// Graphs that were built.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub graphs: Vec<ann::BuiltGraph>,
    /// Seconds to open the graphs and check their content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_graphs_s: Option<f64>,
}

/// The cost of queries.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QueryTimes {
    /// `f16`, `int8`, or these with `+ann` (`way` in JSON).
    #[serde(rename = "way")]
    pub variant: String,
    /// Seconds of the first query, which may have to read pages from disk.
    pub first_s: f64,
    /// Median seconds of a single query.
    pub single_s: f64,
    /// Best seconds of a single query.
    pub best_single_s: f64,
    /// 10^9 bytes of vectors that the best single query read per second; only for exact searches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gigabytes_per_s: Option<f64>,
    /// 10^9 bytes per second for summing the 64-bit words of the same file: the bandwidth of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor_gigabytes_per_s: Option<f64>,
    /// Queries per batch.
    pub batch: usize,
    /// Best of three times of a batch, in seconds.
    pub batch_s: f64,
    /// Queries of a batch per second.
    pub batch_per_s: f64,
    /// Share of the ten best rows by 32-bit floats that are among the ten found; absent if not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall_at_10: Option<f64>,
    /// Share of a query's own versions among the ten found.
    pub own_versions_found: f64,
}

/// The work of a row.
fn work_of(row: u64) -> u64 {
    let cycle = WORK_CYCLE.len() as u64;
    4 * (row / cycle) + WORK_CYCLE[(row % cycle) as usize]
}

/// Generates synthetic vectors.
struct VectorGenerator {
    dim: usize,
    /// `LATENT` directions.
    directions: Vec<f32>,
}

impl VectorGenerator {
    fn new(dim: usize) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(0xd1e5);
        let directions = (0..LATENT * dim).map(|_| random.random::<f32>() - 0.5).collect();
        Self { dim, directions }
    }

    /// A version of a work, of length 1: a mixture of directions that all versions of the work share, plus its own noise.
    fn version(&self, work: u64, own: u64) -> Vec<f32> {
        let mut work_random = ChaCha8Rng::seed_from_u64(work);
        let mut vector = vec![0.0f32; self.dim];
        for direction in self.directions.chunks_exact(self.dim) {
            let weight = work_random.random::<f32>() - 0.5;
            vector.iter_mut().zip(direction).for_each(|(sum, value)| *sum += weight * value);
        }
        let mut own_random = ChaCha8Rng::seed_from_u64(own);
        let noise: Vec<f32> = (0..self.dim).map(|_| own_random.random::<f32>() - 0.5).collect();
        let length = |vector: &[f32]| vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        let (signal_gain, noise_gain) = (1.0 / length(&vector), NOISE / length(&noise));
        vector
            .iter_mut()
            .zip(noise)
            .for_each(|(value, noise)| *value = signal_gain * *value + noise_gain * noise);
        let share = 1.0 / length(&vector);
        vector.iter_mut().for_each(|value| *value *= share);
        vector
    }

    fn row(&self, row: u64) -> Vec<f32> {
        self.version(work_of(row), row ^ 0x5eed_0000_0000)
    }
}

/// The indexes to measure, with their queries.
pub struct Bench {
    options: Options,
    build_times: Vec<BuildTimes>,
    indexes: BTreeMap<String, (Index, Option<Graphs>)>,
    /// The queries: further versions of works of the index.
    queries: Vec<Vec<f32>>,
    /// The works of the queries.
    works: Vec<u64>,
    /// The best rows of each query by 32-bit floats.
    truth: Vec<Vec<usize>>,
}

impl Bench {
    /// Builds the indexes in `folder`, where they stay.
    ///
    /// # Errors
    /// A folder that cannot be written, or already holds such indexes.
    pub fn build(folder: &Path, options: Options) -> Result<Self> {
        let generator = VectorGenerator::new(options.dim);
        let count = options.batch.max(options.rounds) as u64;
        let step = (options.rows as u64 / count).max(1);
        let works: Vec<u64> = (0..count).map(|number| work_of(number * step % options.rows as u64)).collect();
        let queries: Vec<Vec<f32>> = works
            .iter()
            .zip(0u64..)
            .map(|(work, number)| generator.version(*work, number ^ 0x9e37_0000_0000))
            .collect();
        let mut bench = Self {
            options,
            build_times: Vec::new(),
            indexes: BTreeMap::new(),
            queries,
            works,
            truth: Vec::new(),
        };
        bench.build_indexes(folder, &generator)?;
        Ok(bench)
    }

    fn build_indexes(&mut self, folder: &Path, generator: &VectorGenerator) -> Result<()> {
        let Options { rows, dim, ref storages, recall, ann, compact: compacts, .. } = self.options;
        let paths: Vec<PathBuf> = storages.iter().map(|storage| folder.join(storage.to_string())).collect();
        let mut adders = Vec::new();
        for (path, storage) in paths.iter().zip(storages) {
            ensure!(!path.exists(), "{} already exists; name another folder", path.display());
            let settings = serde_json::json!({ "synthetic": true });
            let network = BTreeMap::from([("checkpoint".to_owned(), "synthetic".to_owned())]);
            let empty = Manifest::from_provenance(settings, network, *storage, dim);
            adders.push((Adder::open(path, empty, ConflictPolicy::KeepOld)?, 0.0));
        }
        let mut best: Vec<Smallest<ScoredRow>> = self.queries.iter().map(|_| Smallest::new(TOP)).collect();
        for first in (0..rows).step_by(CHUNK) {
            let vectors: Vec<Vec<f32>> = (first..(first + CHUNK).min(rows))
                .into_par_iter()
                .map(|row| generator.row(row as u64))
                .collect();
            if recall {
                compare(&vectors, first, &self.queries, &mut best);
            }
            for (adder, add_s) in &mut adders {
                let additions = additions(&vectors, first);
                let (seconds, done) = timed(|| adder.add(additions));
                done?;
                *add_s += seconds;
            }
        }
        let rows_of = |best: Smallest<ScoredRow>| {
            best.into_sorted().into_iter().map(|found| found.row as usize).collect()
        };
        self.truth = if recall { best.into_iter().map(rows_of).collect() } else { Vec::new() };
        for ((path, storage), (_, add_s)) in paths.iter().zip(storages.clone()).zip(adders) {
            let (compact_s, done) = timed(|| compacts.then(|| compact(path)).transpose());
            done?;
            let bytes_per_row = bytes_on_disk(path) as f64 / rows as f64;
            let graphs = if ann { ann::build(path, ann::Settings::default())? } else { Vec::new() };
            let (open_s, index) = timed(|| Index::open(path));
            let index = index?;
            let (open_graphs_s, opened) = timed(|| ann.then(|| Graphs::open(&index, None)).transpose());
            self.build_times.push(BuildTimes {
                storage,
                rows,
                dim,
                threads: rayon::current_num_threads(),
                add_s,
                added_per_s: rows as f64 / add_s,
                compact_s: compacts.then_some(compact_s),
                bytes_per_row,
                open_s,
                graphs,
                open_graphs_s: ann.then_some(open_graphs_s),
            });
            self.indexes.insert(storage.to_string(), (index, opened?));
        }
        Ok(())
    }

    /// The cost of building each index.
    #[must_use]
    pub fn build_times(&self) -> &[BuildTimes] {
        &self.build_times
    }

    /// Names of the variants that can be measured.
    #[must_use]
    pub fn variants(&self) -> Vec<String> {
        let names = |(name, (_, graphs)): (&String, &(Index, Option<Graphs>))| {
            let graphs = graphs.as_ref().map(|_| format!("{name}+ann"));
            std::iter::once(name.clone()).chain(graphs).collect::<Vec<_>>()
        };
        self.indexes.iter().flat_map(names).collect()
    }

    fn variant(&self, variant: &str) -> Result<(&Index, Option<&Graphs>)> {
        let (name, approximate) = variant.strip_suffix("+ann").map_or((variant, false), |name| (name, true));
        match self.indexes.get(name) {
            Some((index, Some(graphs))) if approximate => Ok((index, Some(graphs))),
            Some((index, _)) if !approximate => Ok((index, None)),
            _ => bail!("there is no variant {variant:?}, only {}", self.variants().join(", ")),
        }
    }

    /// Runs queries `first` to `end` as one batch; returns the seconds and the nearest rows.
    fn time_queries(&self, variant: &str, first: usize, end: usize) -> Result<(f64, Vec<Vec<ScoredRow>>)> {
        let (index, graphs) = self.variant(variant)?;
        let queries =
            Queries::new(&self.queries[first..end].concat(), self.options.dim, index.manifest.storage);
        Ok(timed(|| match graphs {
            Some(graphs) => graphs.nearest(index, &queries, TOP),
            None => scan::nearest(index, &queries, TOP),
        }))
    }

    /// Measures the queries of one variant.
    ///
    /// # Errors
    /// There is no such variant.
    pub fn measure(&self, variant: &str) -> Result<QueryTimes> {
        let (index, graphs) = self.variant(variant)?;
        let mut times = Vec::new();
        for number in 0..self.options.rounds.max(1) {
            times.push(self.time_queries(variant, number, number + 1)?.0);
        }
        let first_s = times[0];
        times.sort_unstable_by(f64::total_cmp);
        let mut batch_s = f64::INFINITY;
        let mut nearest_rows = Vec::new();
        for _ in 0..3 {
            let (seconds, nearest) = self.time_queries(variant, 0, self.options.batch)?;
            (batch_s, nearest_rows) = (batch_s.min(seconds), nearest);
        }
        let bytes: usize =
            index.segments.iter().map(|segment| segment.vectors.rows * segment.vectors.stride).sum();
        let floor = || (0..3).map(|_| timed(|| read_all(index)).0).fold(f64::INFINITY, f64::min);
        let (recall_at_10, own_versions_found) = self.recall(index, &nearest_rows)?;
        Ok(QueryTimes {
            variant: variant.to_owned(),
            first_s,
            single_s: times[times.len() / 2],
            best_single_s: times[0],
            gigabytes_per_s: graphs.is_none().then(|| bytes as f64 / times[0] / 1e9),
            floor_gigabytes_per_s: graphs.is_none().then(|| bytes as f64 / floor() / 1e9),
            batch: self.options.batch,
            batch_s,
            batch_per_s: self.options.batch as f64 / batch_s,
            recall_at_10,
            own_versions_found,
        })
    }

    /// The share of the best rows by 32-bit floats that were found, and that of a query's own versions.
    fn recall(&self, index: &Index, found: &[Vec<ScoredRow>]) -> Result<(Option<f64>, f64)> {
        let (mut found_count, mut own, mut versions) = (0, 0, 0);
        for (number, found) in found.iter().enumerate() {
            let rows: Vec<usize> =
                found.iter().map(|found| row_number(index, found)).collect::<Result<_>>()?;
            let best = self.truth.get(number).map_or(&[][..], Vec::as_slice);
            found_count += best.iter().filter(|row| rows.contains(row)).count();
            own += rows.iter().filter(|row| work_of(**row as u64) == self.works[number]).count();
            let (work, cycle) = (self.works[number], WORK_CYCLE.len() as u64);
            let first = work / 4 * cycle;
            versions += (first..(first + cycle).min(self.options.rows as u64))
                .filter(|row| work_of(*row) == work)
                .count();
        }
        let all = TOP.min(self.options.rows) * found.len();
        let recall = (!self.truth.is_empty()).then(|| found_count as f64 / all as f64);
        Ok((recall, own as f64 / versions.max(1) as f64))
    }

    /// Writes queries and their best rows to `folder`: `queries.f32`, `truth.u64`.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn write_queries(&self, folder: &Path) -> Result<()> {
        let queries: Vec<f32> = self.queries.concat();
        std::fs::write(folder.join("queries.f32"), bytemuck::cast_slice(&queries))?;
        let truth: Vec<u64> = self.truth.iter().flatten().map(|row| *row as u64).collect();
        std::fs::write(folder.join("truth.u64"), bytemuck::cast_slice(&truth))?;
        Ok(())
    }

    /// Reads lines `VARIANT FIRST END [THREADS]` from `input`, runs these queries as one batch and writes the seconds to `output`,
    /// so that another program can be measured alternately.
    ///
    /// # Errors
    /// A line of another form.
    pub fn time_requests(&self, input: impl BufRead, mut output: impl Write) -> Result<()> {
        for line in input.lines() {
            let line = line?;
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |index: usize| -> Result<Option<usize>> {
                words.get(index).map(|word| word.parse().with_context(|| format!("{line:?}"))).transpose()
            };
            let (Some(variant), Some(first), Some(end)) = (words.first(), number(1)?, number(2)?) else {
                bail!("{line:?} is not VARIANT FIRST END [THREADS]");
            };
            ensure!(
                first < end && end <= self.queries.len(),
                "{line:?}: there are {} queries",
                self.queries.len()
            );
            let (seconds, _) = match number(3)? {
                Some(threads) => rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()?
                    .install(|| self.time_queries(variant, first, end))?,
                None => self.time_queries(variant, first, end)?,
            };
            writeln!(output, "{seconds}")?;
            output.flush()?;
        }
        Ok(())
    }
}

/// The number that a found row had when it was generated, from its path.
fn row_number(index: &Index, found: &ScoredRow) -> Result<usize> {
    let segment = &index.segments[found.segment as usize];
    let row = segment.row(segment.keys.sources()[found.row as usize].recording)?;
    let name = Path::new(&row.path).file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    name.parse().with_context(|| format!("{} is no row", row.path))
}

fn additions(vectors: &[Vec<f32>], first: usize) -> Vec<Addition> {
    let addition = |(vector, row): (&Vec<f32>, usize)| Addition {
        row: Row {
            path: format!("/music/{row}.flac"),
            title: format!("Title {row}"),
            work: format!("W{}", work_of(row as u64)),
            content_hash: format!("{:032x}", row as u128 + 1),
            ..Row::default()
        },
        parts: vec![(0.0, vector.clone())],
        windows: Vec::new(),
    };
    vectors.iter().zip(first..).map(addition).collect()
}

/// Merges the best of `vectors`, the first of which is row `first`, into the best of each query.
fn compare(vectors: &[Vec<f32>], first: usize, queries: &[Vec<f32>], best: &mut [Smallest<ScoredRow>]) {
    for (chunk, first_row) in vectors.chunks(COMPARE_BATCH).zip((first..).step_by(COMPARE_BATCH)) {
        best.par_iter_mut().zip(queries).for_each(|(best, query)| {
            for (vector, row) in chunk.iter().zip(first_row..) {
                best.push(ScoredRow { score: product(vector, query), segment: 0, row: row as u32 });
            }
        });
    }
}

/// The dot product in sixteen partial sums, so that the compiler can vectorise it.
fn product(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    let (a_parts, b_parts) = (a.chunks_exact(16), b.chunks_exact(16));
    let remainder: f32 = a_parts.remainder().iter().zip(b_parts.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_parts.zip(b_parts) {
        sums.iter_mut().zip(a).zip(b).for_each(|((sum, a), b)| *sum += a * b);
    }
    sums.iter().sum::<f32>() + remainder
}

/// The seconds that `work` takes, and its result.
fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let started = Instant::now();
    let result = std::hint::black_box(work());
    (started.elapsed().as_secs_f64(), result)
}

/// Sums all values, the smallest amount of work that reads all of them.
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

/// Bytes of all files in a folder.
fn bytes_on_disk(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => bytes_on_disk(&entry.path()),
            Ok(data) => data.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_works_have_two_to_five_similar_versions() {
        let mut sizes = BTreeMap::new();
        (0..140).for_each(|row| *sizes.entry(work_of(row)).or_insert(0) += 1);
        assert_eq!(sizes.len(), 40);
        assert!(sizes.iter().all(|(work, size)| *size == 2 + work % 4), "{sizes:?}");
        let generator = VectorGenerator::new(512);
        let mean = |cosines: Vec<f32>| cosines.iter().sum::<f32>() / cosines.len() as f32;
        let same = mean(
            (0..50).map(|work| product(&generator.version(work, 1), &generator.version(work, 2))).collect(),
        );
        let other = mean(
            (0..50)
                .map(|work| product(&generator.version(work, 1), &generator.version(work + 1, 2)))
                .collect(),
        );
        assert!((same - 0.63).abs() < 0.03 && other.abs() < 0.1, "{same} and {other}");
    }

    #[test]
    fn bench_measures_the_indexes_that_it_builds() {
        let folder = tempfile::tempdir().unwrap();
        let storages = vec![Storage::F16, Storage::Int8];
        let options = Options {
            rows: 3_000,
            dim: 70,
            batch: 8,
            rounds: 3,
            storages,
            recall: true,
            ann: false,
            compact: true,
        };
        let bench = Bench::build(folder.path(), options).unwrap();
        assert_eq!(bench.variants(), ["f16", "int8"]);
        let exact = bench.measure("f16").unwrap();
        assert!(exact.recall_at_10.unwrap() > 0.98, "{exact:?}");
        assert!(exact.own_versions_found > 0.9, "{exact:?}");
        assert!(bench.measure("int8").unwrap().recall_at_10.unwrap() > 0.9);
        assert!(bench.measure("f16+ann").is_err());
        let mut output = Vec::new();
        bench.time_requests(&b"f16 0 1\nint8 0 8 1\n"[..], &mut output).unwrap();
        let seconds: Vec<f64> =
            String::from_utf8(output).unwrap().lines().map(|line| line.parse().unwrap()).collect();
        assert!(seconds.len() == 2 && seconds.iter().all(|seconds| *seconds > 0.0));
        assert!(bench.time_requests(&b"f16 0 9\n"[..], Vec::new()).is_err());
        bench.write_queries(folder.path()).unwrap();
        assert_eq!(std::fs::metadata(folder.path().join("truth.u64")).unwrap().len(), 8 * 10 * 8);
    }
}
