//! The function of each command, which prints its results.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bc_cli::Outcome;
use bc_embed::windows::{Windows, describe as describe_windows};
use bc_formats::config::{Compare, Config};
use serde_json::json;

use super::arguments::{
    self, AddArgs, AnnBuildArgs, BenchArgs, CalibrationArgs, CompareArgs, DuplicatesArgs, ExportArgs,
    IdentifyArgs, ImportArgs, InfoArgs, ListArgs, MergeArgs, RemoveArgs, RerankArgs, SearchArgs, ServeArgs,
};
use crate::answer::query::{self, QueryNames};
use crate::answer::{Answer, Failure, Options, Query, Searcher};
use crate::bench::Bench;
use crate::index::change::{self, ConflictPolicy};
use crate::index::keys::work_hash;
use crate::index::known::each_path;
use crate::index::{self, Index, Manifest, Row, Storage};
use crate::output::{Format, Printer};
use crate::paths::PathSelectors;
use crate::serve::Token;
use crate::{ann, compare, duplicates, export, identify, import, rerank, serve};

/// Number of queries that are embedded and searched together.
const BATCH: usize = 64;

pub fn search(mut config: Config, args: SearchArgs) -> Result<Outcome> {
    let prior = arguments::check_prior(args.prior)?;
    args.calibration_args.network.apply(&mut config);
    if args.whole {
        config.eval.compare = Compare::Whole;
    }
    let options = Options {
        k: args.k as usize,
        windows: args.window.resolve()?,
        prior,
        calibration: args.calibration_args.calibration,
        approximate: args.ann,
    };
    let path = args.index.unwrap_or_else(|| config.eval.search_index_path());
    ensure!(
        path.exists(),
        "there is no index at {}; make one with `bc-search add AUDIO --index FOLDER`, or name one with --index",
        path.display()
    );
    let searcher = Searcher::open(&config, &path, options)?;
    let QueryNames { names, failed: unusable } = query::names(&args.queries)?;
    ensure!(!names.is_empty() || !unusable.is_empty(), "there are no queries");
    let mut printer = Printer::new(args.format.format());
    let all = names.len() + unusable.len();
    let mut failed = unusable.len() as u64;
    for failure in &unusable {
        printer.failure(failure)?;
    }
    for names in names.chunks(BATCH.min(4 * rayon::current_num_threads().max(1))) {
        if bc_cli::output::is_lost() {
            break;
        }
        failed += answer_batch(&searcher, names, args.align.unwrap_or(0), &mut printer)?;
    }
    outcome(failed, all)
}

/// Answers a batch of queries and aligns the first `align` works of each; returns the number of queries without an answer.
fn answer_batch(searcher: &Searcher, names: &[String], align: usize, printer: &mut Printer) -> Result<u64> {
    let embedded = searcher.queries(names)?;
    let queries: Vec<Query> = embedded.iter().filter_map(|query| query.as_ref().ok().cloned()).collect();
    let mut answers = searcher.answer(&queries)?;
    if align > 0 {
        searcher.align(&mut answers, align)?;
    }
    let mut answers = answers.into_iter();
    let results = embedded.into_iter().map(|query| match query {
        Ok(_) => answers.next().context("a query without an answer"),
        Err(error) => Err(error),
    });
    print_answers(names, results, printer)
}

/// Prints answers and errors; returns the number of errors.
fn print_answers(
    names: &[String],
    answers: impl Iterator<Item = Result<Answer>>,
    printer: &mut Printer,
) -> Result<u64> {
    let mut failed = 0;
    for (name, answer) in names.iter().zip(answers) {
        match answer {
            Ok(answer) => printer.answer(&answer)?,
            Err(error) => {
                printer.failure(&Failure { query: name.clone(), error: bc_cli::describe(&error) })?;
                failed += 1;
            }
        }
    }
    Ok(failed)
}

/// The outcome of a command: an error if all queries failed, done with failures if some did.
fn outcome(failed: u64, all: usize) -> Result<Outcome> {
    ensure!(failed == 0 || failed < all as u64, "no query could be answered");
    Ok(Outcome::of_failures(failed))
}

pub fn compare(mut config: Config, args: CompareArgs) -> Result<()> {
    let CalibrationArgs { network, calibration } = args.calibration_args;
    network.apply(&mut config);
    if args.whole {
        config.eval.compare = Compare::Whole;
    }
    let options = compare::Options {
        windows: args.window.resolve()?,
        calibration,
        prior: arguments::check_prior(args.prior)?,
        align: args.align,
    };
    let comparison = compare::run(&config, [&args.a, &args.b], &options)?;
    if args.json {
        bc_cli::println!("{}", serde_json::to_string_pretty(&comparison)?);
    } else {
        bc_cli::println!("{}", compare::sentence(&comparison));
    }
    Ok(())
}

pub fn add(mut config: Config, args: AddArgs, conflicts: ConflictPolicy) -> Result<Outcome> {
    args.network.apply(&mut config);
    if args.whole {
        config.eval.compare = Compare::Whole;
    }
    let request = crate::add::Request {
        works: args.works(),
        inputs: args.inputs,
        performer: args.performer,
        windows: args.window.resolve()?,
        storage: args.storage.map(Into::into),
        shard: args.shard.resolve()?,
        conflicts,
    };
    let added = crate::add::add(&config, &request, &args.index)?;
    if args.json {
        bc_cli::println!("{}", serde_json::to_string_pretty(&added)?);
    } else {
        bc_cli::println!("{}", super::added::describe(&added, &args.index));
    }
    Ok(Outcome::of_failures(added.failed.len() as u64))
}

pub fn remove(args: &RemoveArgs) -> Result<Outcome> {
    for (option, values) in [("--path", &args.path), ("--work", &args.work), ("--content", &args.content)] {
        let is_empty = values.iter().any(|value| value.trim().is_empty());
        ensure!(!is_empty, "{option} is empty (a variable that is not set?); nothing was removed");
    }
    let (works, contents): (HashSet<&String>, HashSet<&String>) =
        (args.work.iter().collect(), args.content.iter().collect());
    let mut selectors = PathSelectors::new(&args.path);
    if !selectors.is_empty() {
        each_path(&args.index, |path| selectors.see(path))?;
    }
    let removed = change::remove(&args.index, |row| {
        !selectors.of(&row.path).is_empty()
            || works.contains(&row.work)
            || contents.contains(&row.content_hash)
    })?;
    ensure!(!removed.is_empty(), "{} holds none of these; nothing was removed", args.index.display());
    let unmatched = unmatched_selectors(args, &selectors, &removed);
    for selector in &unmatched {
        bc_cli::eprintln!("warning: {} holds no recording with {selector}", args.index.display());
    }
    bc_cli::println!("{} recordings removed from {}", removed.len(), args.index.display());
    Ok(Outcome::of_failures(unmatched.len() as u64))
}

/// The options of `remove` that no removed recording matches.
fn unmatched_selectors(args: &RemoveArgs, selectors: &PathSelectors, removed: &[Row]) -> Vec<String> {
    let values = |field: fn(&Row) -> &String| removed.iter().map(field).collect::<HashSet<&String>>();
    let (works, contents) = (values(|row| &row.work), values(|row| &row.content_hash));
    let matched: HashSet<&String> = removed.iter().flat_map(|row| selectors.of(&row.path)).collect();
    let path = args.path.iter().filter(|path| !matched.contains(path)).map(|path| format!("--path {path}"));
    let work = args.work.iter().filter(|work| !works.contains(work)).map(|work| format!("--work {work}"));
    let content = args.content.iter().filter(|content| !contents.contains(content));
    path.chain(work).chain(content.map(|content| format!("--content {content}"))).collect()
}

pub fn merge(args: &MergeArgs) -> Result<Outcome> {
    let mut path_conflicts = 0;
    for other in &args.others {
        let merged = change::merge(&args.index, &Index::open(other)?)
            .with_context(|| format!("cannot merge {} into {}", other.display(), args.index.display()))?;
        bc_cli::println!(
            "{} recordings of {} added to {}, {} already present, {} left out because other audio has their path",
            merged.new,
            other.display(),
            args.index.display(),
            merged.already_present,
            merged.path_conflicts
        );
        path_conflicts += merged.path_conflicts;
    }
    Ok(Outcome::of_failures(path_conflicts as u64))
}

pub fn compact(index: &Path) -> Result<()> {
    let (before, after) = change::compact(index)?;
    bc_cli::println!("{}: {before} vectors before, {after} now, in one segment", index.display());
    Ok(())
}

pub fn info(args: &InfoArgs) -> Result<()> {
    let manifest = Manifest::read(&args.index)?;
    let windows: Option<Windows> = manifest.windows()?;
    let removed: usize = manifest
        .segments
        .iter()
        .filter_map(|entry| entry.removed.as_ref())
        .map(|removed| removed.count)
        .sum();
    let short_windows: usize = manifest
        .segments
        .iter()
        .filter_map(|entry| entry.windows.as_ref())
        .map(|windows| windows.vectors)
        .sum();
    let network = manifest.provenance.inputs.get("checkpoint").cloned().unwrap_or_default();
    if args.json {
        let information = json!({
            "recordings": manifest.recordings(),
            "removed": removed,
            "vectors": manifest.segments.iter().map(|entry| entry.vectors).sum::<usize>(),
            "dim": manifest.dim,
            "storage": manifest.storage,
            "compare": manifest.compare,
            "short_windows": short_windows,
            "segments": manifest.segments.len(),
            "generation": manifest.generation,
            "network": network,
            "settings": manifest.provenance.settings,
            "fingerprint": manifest.provenance.fingerprint,
        });
        bc_cli::println!("{}", serde_json::to_string_pretty(&information)?);
        return Ok(());
    }
    if let Some(compare) = &manifest.compare {
        bc_cli::println!(
            "{short_windows} short windows of {} s every {} s are stored in addition",
            compare.window_s,
            compare.step_s
        );
    }
    bc_cli::println!(
        "{}: {} recordings ({removed} removed ones still take space), {} in {} segments, vectors of {} numbers as {}\n\
         network {network}, layer {}, input {}",
        args.index.display(),
        manifest.recordings(),
        describe_windows(windows),
        manifest.segments.len(),
        manifest.dim,
        manifest.storage,
        manifest.provenance.settings["layer"],
        manifest.provenance.settings["input"],
    );
    Ok(())
}

pub fn list(args: &ListArgs) -> Result<Outcome> {
    let is_empty = args.work.iter().any(|work| work.trim().is_empty());
    ensure!(!is_empty, "--work is empty (a variable that is not set?)");
    let index = Index::open(&args.index)?;
    let works: HashSet<u64> = args.work.iter().map(|work| work_hash(work)).collect();
    let mut listed: HashSet<String> = HashSet::new();
    let all = index.recordings();
    let chosen = all.filter(|recording| works.is_empty() || works.contains(&index.key(*recording).work));
    let rows = chosen.map(|recording| {
        let row = index.row(recording)?;
        listed.extend((!works.is_empty()).then(|| row.work.clone()));
        Ok(row)
    });
    Printer::new(args.format.format()).recordings(rows)?;
    let absent: Vec<&String> = args.work.iter().filter(|work| !listed.contains(*work)).collect();
    for work in &absent {
        bc_cli::eprintln!("warning: {} holds no recording with --work {work}", args.index.display());
    }
    Ok(Outcome::of_failures(absent.len() as u64))
}

pub fn verify(index: &Path) -> Result<Outcome> {
    let mut damaged = index::verify(index)?;
    damaged.extend(ann::damaged(index, &Manifest::read(index)?));
    for line in &damaged {
        bc_cli::eprintln!("damaged: {line}");
    }
    ensure!(damaged.is_empty(), "{} is damaged; make it again, or merge a copy of it", index.display());
    bc_cli::println!("{} is intact: every file matches the hash in its manifest", index.display());
    Ok(Outcome::Done)
}

pub fn ann_build(args: &AnnBuildArgs) -> Result<()> {
    let settings = ann::Settings {
        connectivity: args.connectivity,
        expansion: args.expansion,
        min_vectors: args.min_vectors,
    };
    let graphs = ann::build(&args.index, settings)?;
    for graph in &graphs {
        if args.json {
            bc_cli::println!("{}", serde_json::to_string(graph)?);
            continue;
        }
        bc_cli::println!(
            "{}: a graph of {} vectors in {:.1} s, {:.0} bytes per vector; it finds {:.1} % of the ten nearest, in {:.2} ms per query \
             (exact: {:.2} ms, in a batch)",
            graph.segment,
            graph.vectors,
            graph.build_s,
            graph.bytes as f64 / graph.vectors.max(1) as f64,
            100.0 * graph.recall_at_10,
            1e3 * graph.query_s,
            1e3 * graph.exact_query_s
        );
    }
    if graphs.is_empty() {
        bc_cli::println!(
            "{}: nothing to build; every segment of {} vectors or more has its graph",
            args.index.display(),
            args.min_vectors
        );
    }
    Ok(())
}

pub fn ann_remove(index: &Path) -> Result<()> {
    let mut removed = 0;
    for entry in Manifest::read(index)?.segments {
        let file = ann::file(index, &entry.name);
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => {
                other.with_context(|| format!("cannot remove {}", file.display()))?;
                removed += 1;
            }
        }
    }
    bc_cli::println!("{}: {removed} graphs removed; searches are exact", index.display());
    Ok(())
}

pub fn import(args: &ImportArgs) -> Result<Outcome> {
    let mut id_conflicts = 0;
    for path in &args.embeddings {
        let imported = import::import(path, &args.index, args.storage.map(Storage::from))?;
        bc_cli::println!(
            "{} recordings of {} added to {}, {} already present, {} left out because other audio has their id",
            imported.new,
            path.display(),
            args.index.display(),
            imported.already_present,
            imported.id_conflicts
        );
        id_conflicts += imported.id_conflicts;
    }
    Ok(Outcome::of_failures(id_conflicts as u64))
}

/// Opens an index for commands other than `search`.
fn open_searcher(
    config: &mut Config,
    index: &Path,
    calibration_args: CalibrationArgs,
    k: usize,
    prior: f64,
) -> Result<Searcher> {
    calibration_args.network.apply(config);
    let options =
        Options { k, windows: None, prior, calibration: calibration_args.calibration, approximate: false };
    Searcher::open(config, index, options)
}

/// Refuses to go on without a calibration; if the network is not the one of the index, the error names both.
fn require_calibration(searcher: &Searcher) -> Result<()> {
    let Err(error) = searcher.require_calibration() else { return Ok(()) };
    match searcher.audio() {
        Ok(_) => Err(error),
        Err(network) => Err(network.context(error)),
    }
}

pub fn duplicates(mut config: Config, args: DuplicatesArgs) -> Result<()> {
    ensure!(
        args.prior > 0.0 && args.prior.is_finite(),
        "a prior of {} is not possible; give one above 0",
        args.prior
    );
    let format = args.format.format();
    let searcher =
        open_searcher(&mut config, &args.index, args.calibration_args, 1, bc_calibration::EVEN_ODDS)?;
    require_calibration(&searcher)?;
    let probes = args.cells.probes(searcher.index.len());
    let options = duplicates::Options { prior: args.prior, min_probability: args.min_probability, probes };
    let duplicates::DuplicatePairs { pairs, recall } = duplicates::pairs(&searcher, options)?;
    Printer::new(format).pairs(&pairs)?;
    if let Some(duplicates::Recall { sampled, pairs, found }) = recall {
        bc_cli::eprintln!(
            "not all pairs were compared: {found} of the {pairs} pairs of {sampled} sampled recordings that were compared with all others \
             were found (--exact compares all)"
        );
    }
    if format == Format::Table {
        let groups = pairs.iter().map(|pair| pair.group).max().unwrap_or(0);
        bc_cli::println!("{} pairs, {groups} groups among {} recordings", pairs.len(), searcher.index.len());
    }
    Ok(())
}

pub fn identify(mut config: Config, args: IdentifyArgs) -> Result<Outcome> {
    let options = identify::Options {
        windows: identify::check_windows(Windows::new(args.window, args.step)?)?,
        prior: arguments::check_prior(args.prior)?,
        min_probability: args.min_probability,
    };
    let searcher = open_searcher(&mut config, &args.index, args.calibration_args, 1, options.prior)?;
    require_calibration(&searcher)?;
    let mut printer = Printer::new(args.format.format());
    let mut failed = 0;
    for file in &args.files {
        match identify::timeline(&searcher, file, options) {
            Ok(stretches) => printer.timeline(file, &stretches)?,
            Err(error) if args.files.len() == 1 => return Err(error),
            Err(error) => {
                bc_cli::eprintln!("error: {}", bc_cli::describe(&error));
                failed += 1;
            }
        }
    }
    outcome(failed, args.files.len())
}

pub fn export(args: &ExportArgs) -> Result<()> {
    let count = export::export(&Index::open(&args.index)?, args.to, &args.out)?;
    bc_cli::println!("{count} vectors in {}", args.out.display());
    Ok(())
}

pub fn rerank(mut config: Config, args: RerankArgs) -> Result<Outcome> {
    let prior = arguments::check_prior(args.prior)?;
    let format = args.format.format();
    let searcher = open_searcher(&mut config, &args.index, args.calibration_args, args.k as usize, prior)?;
    let queries = rerank::read(&args.candidates)?;
    let names: Vec<String> = queries.iter().map(|(query, _)| query.clone()).collect();
    let answers = rerank::rerank(&searcher, &queries)?;
    let failed = print_answers(&names, answers.into_iter(), &mut Printer::new(format))?;
    outcome(failed, names.len())
}

pub fn serve(mut config: Config, args: ServeArgs) -> Result<()> {
    args.calibration_args.network.apply(&mut config);
    for (name, value) in [("--max-minutes", args.max_minutes), ("--decode-timeout", args.decode_timeout)] {
        ensure!(value > 0.0 && value.is_finite(), "{name} {value} is not a duration; give a number above 0");
    }
    let token = args.token_file.as_deref().map(|path| {
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("cannot read the token in {}", path.display()))?;
        Token::new(&text).with_context(|| path.display().to_string())
    });
    let megabytes = |count: u32| u64::from(count) * 1_000_000;
    let options = serve::Options {
        listen: args.listen,
        token: token.transpose()?,
        workers: args.workers.map_or_else(rayon::current_num_threads, usize::from),
        queue: usize::from(args.queue),
        max_file_bytes: megabytes(args.max_upload),
        max_spool_bytes: megabytes(args.max_spool),
        spool: args.spool,
        longest_s: 60.0 * args.max_minutes,
        decode_timeout_s: args.decode_timeout,
        audio: !args.no_audio,
        hosts: args.allow_host,
        origins: args.allow_origin,
        prior: arguments::check_prior(args.prior)?,
        calibration: args.calibration_args.calibration,
        approximate: args.ann,
    };
    serve::run(&config, &args.index, options)
}

pub fn bench(args: &BenchArgs) -> Result<()> {
    ensure!(args.rows > 0 && args.dims > 0 && args.batch > 0, "nothing to measure: give numbers above 0");
    let temporary = tempfile::tempdir().context("cannot make a temporary folder")?;
    let folder: &Path = args.folder.as_deref().unwrap_or_else(|| temporary.path());
    let both = vec![Storage::F16, Storage::Int8];
    let options = crate::bench::Options {
        rows: args.rows,
        dim: args.dims,
        batch: args.batch.min(args.rows),
        rounds: args.rounds,
        storages: args.storage.map_or(both, |one| vec![one.into()]),
        recall: !args.no_recall,
        ann: args.ann,
        compact: !args.no_compact,
    };
    let bench = Bench::build(folder, options)?;
    for times in bench.build_times() {
        bc_cli::println!("{}", serde_json::to_string(times)?);
    }
    for variant in bench.variants() {
        bc_cli::println!("{}", serde_json::to_string(&bench.measure(&variant)?)?);
    }
    if args.in_turn {
        bench.write_queries(folder)?;
        bc_cli::println!("{}", json!({ "ready": bench.variants() }));
        bench.time_requests(std::io::stdin().lock(), std::io::stdout().lock())?;
    }
    Ok(())
}
