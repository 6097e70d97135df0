//! The commands and what they call.

mod arguments;
mod commands;

use anyhow::Result;
use bc_cli::{ConfigArgs, Outcome, ThreadArgs};
use clap::{Parser, Subcommand};

use arguments::{
    AddArgs, AnnCommand, BenchArgs, CompareArgs, DuplicatesArgs, ExportArgs, IdentifyArgs, ImportArgs,
    IndexArgs, InfoArgs, MergeArgs, RemoveArgs, RerankArgs, SearchArgs, ServeArgs,
};

const EXAMPLES: &str = "\
Examples (NET is --network configs/networks/default):
  bc-search add music/ --index songs.index NET         an index of a folder; again: what is new
  bc-search add works.csv --index songs.index NET      a list: path,title,performer,work,isrc,iswc and any others
  bc-search search song.mp3 --index songs.index NET    which works is this a version of?
  find new -name '*.mp3' | bc-search search - --index songs.index NET --format csv > answers.csv
  bc-search compare a.mp3 b.ogg NET                    are these versions of one work?
  bc-search duplicates --index songs.index NET --format csv
  bc-search identify set.mp3 --index songs.index NET   which works does a mix hold, and where?
  bc-search remove --path old.mp3 --index songs.index
  bc-search import runs/own/eval/search.parquet --index own.index
  bc-search serve songs.index NET                      a page to listen on, at http://127.0.0.1:8765
  bc-search export --to faiss --index songs.index --out faiss

Exit codes: 0 all done, 1 refused or failed, 2 wrong usage, 3 done but some files failed, 130 interrupted, what was
done is saved.";

/// Search: an index of recordings that grows, and queries to it.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The works that audio files, or recordings of the index, may be versions of.
    Search(SearchArgs),
    /// Whether two audio files are versions of one work.
    Compare(CompareArgs),
    /// Add audio files, folders and lists to an index, or begin one with them; only new recordings take time.
    Add(AddArgs),
    /// Like add, but a file whose path is known with other audio replaces the old recording.
    Replace(AddArgs),
    /// Remove recordings, by path, work or content hash.
    Remove(RemoveArgs),
    /// Add what other indexes of the same network hold.
    Merge(MergeArgs),
    /// Merge all segments into one, without removed recordings.
    Compact(IndexArgs),
    /// What an index holds and what made it.
    Info(InfoArgs),
    /// Check every file of an index against its hash.
    Verify(IndexArgs),
    /// Add embeddings that bc-eval made.
    Import(ImportArgs),
    /// Graphs beside an index, for approximate search in millions of recordings (needs a build with --features ann).
    #[command(subcommand)]
    Ann(AnnCommand),
    /// Which recordings of an index are the same audio or of one work.
    Duplicates(DuplicatesArgs),
    /// The works of a long recording, with their times.
    Identify(IdentifyArgs),
    /// Write the index for a database: FAISS, Qdrant, Lance or DuckDB.
    Export(ExportArgs),
    /// Calibrated answers from the candidates that a database found.
    Rerank(RerankArgs),
    /// Answer over HTTP, with a page to listen on.
    Serve(ServeArgs),
    /// Measure adding and searching with made-up vectors.
    Bench(BenchArgs),
    /// Print the resolved configuration with a comment for every key.
    Config,
}

/// Does what the arguments ask for.
///
/// # Errors
/// Whatever the command's module says.
pub fn main(cli: Cli) -> Result<Outcome> {
    use crate::index::change::ConflictPolicy;
    let Some(config) = cli.config.load()? else { return Ok(Outcome::Done) };
    cli.threads.install()?;
    match cli.command {
        Command::Search(args) => commands::search(config, args),
        Command::Compare(args) => commands::compare(config, args).map(Into::into),
        Command::Add(args) => commands::add(config, args, ConflictPolicy::KeepOld),
        Command::Replace(args) => commands::add(config, args, ConflictPolicy::Replaced),
        Command::Remove(args) => commands::remove(&args).map(Into::into),
        Command::Merge(args) => commands::merge(&args).map(Into::into),
        Command::Compact(args) => commands::compact(&args.index).map(Into::into),
        Command::Info(args) => commands::info(&args).map(Into::into),
        Command::Verify(args) => commands::verify(&args.index),
        Command::Import(args) => commands::import(&args),
        Command::Ann(AnnCommand::Build(args)) => commands::ann_build(&args).map(Into::into),
        Command::Ann(AnnCommand::Remove(args)) => commands::ann_remove(&args.index).map(Into::into),
        Command::Duplicates(args) => commands::duplicates(config, args).map(Into::into),
        Command::Identify(args) => commands::identify(config, args),
        Command::Export(args) => commands::export(&args).map(Into::into),
        Command::Rerank(args) => commands::rerank(config, args),
        Command::Serve(args) => commands::serve(config, args).map(Into::into),
        Command::Bench(args) => commands::bench(&args).map(Into::into),
        Command::Config => {
            print!("{}", config.to_commented_toml());
            Ok(Outcome::Done)
        }
    }
}
