//! The commands and the functions that they call.

mod added;
mod arguments;
mod commands;

use anyhow::Result;
use bc_cli::{ConfigArgs, Outcome, ThreadArgs};
use clap::{Parser, Subcommand};

use arguments::{
    AddArgs, AnnCommand, BenchArgs, CompareArgs, DuplicatesArgs, ExportArgs, IdentifyArgs, ImportArgs,
    IndexArgs, InfoArgs, ListArgs, MergeArgs, RemoveArgs, RerankArgs, SearchArgs, ServeArgs,
};

const EXAMPLES: &str = "\
Examples (NET is --network configs/networks/default):
  bc-search add music/ --index songs.index NET         an index of a folder; repeat it to add new files
  bc-search add works.csv --index songs.index NET      a list: path,title,performer,work,isrc,iswc and others
  bc-search search song.mp3 --index songs.index NET    which works is this a version of?
  find new -name '*.mp3' | bc-search search - --index songs.index NET --format csv > answers.csv
  bc-search compare a.mp3 b.ogg NET                    are these versions of one work?
  bc-search duplicates --index songs.index NET --format csv
  bc-search identify set.mp3 --index songs.index NET   which works are in a mix, and where?
  bc-search list --index songs.index --format csv      what the index holds
  bc-search remove --path old.mp3 --index songs.index
  bc-search import runs/own/eval/search.parquet --index own.index
  bc-search serve songs.index NET                      a web page, at http://127.0.0.1:8765
  bc-search export --to faiss --index songs.index --out faiss

Exit codes: 0 all done, 1 refused or failed, 2 wrong usage, 3 done but some files failed, 130 interrupted, what was
done is saved.";

/// Search: an index of recordings that grows, and queries.
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
    /// Add audio files, folders and lists to an index, or create one; only new recordings take time.
    Add(AddArgs),
    /// Like add, but other audio under a path of the index replaces the old recording, and --by-folder renames works.
    Replace(AddArgs),
    /// Remove recordings, by path, work or content hash.
    Remove(RemoveArgs),
    /// Add the recordings of other indexes of the same network.
    Merge(MergeArgs),
    /// Merge all segments into one, without removed recordings.
    Compact(IndexArgs),
    /// Print what an index holds and which network made it.
    Info(InfoArgs),
    /// Print the recordings of an index: path, title, performer, work, length.
    List(ListArgs),
    /// Check every file of an index against its hash.
    Verify(IndexArgs),
    /// Add embeddings of bc-eval.
    Import(ImportArgs),
    /// Build or remove graphs, for approximate search in millions of recordings (needs a build with --features ann).
    #[command(subcommand)]
    Ann(AnnCommand),
    /// Find recordings of an index that are the same audio or of one work.
    Duplicates(DuplicatesArgs),
    /// The works of a long recording, with their times.
    Identify(IdentifyArgs),
    /// Write the index for a database: FAISS, Qdrant, Lance or DuckDB.
    Export(ExportArgs),
    /// Answer queries from the candidates that a database found, with calibrated probabilities.
    Rerank(RerankArgs),
    /// Answer over HTTP, with a web page.
    Serve(ServeArgs),
    /// Measure adding and searching with synthetic vectors.
    Bench(BenchArgs),
    /// Print the resolved configuration with a comment for every key.
    Config,
}

/// Runs the command of the arguments.
///
/// # Errors
/// The errors of the command.
pub fn main(cli: Cli) -> Result<Outcome> {
    use crate::index::change::ConflictPolicy;
    let Some(config) = cli.config.load()? else { return Ok(Outcome::Done) };
    cli.threads.install()?;
    match cli.command {
        Command::Search(args) => commands::search(config, args),
        Command::Compare(args) => commands::compare(config, args).map(Into::into),
        Command::Add(args) => commands::add(config, args, ConflictPolicy::KeepOld),
        Command::Replace(args) => commands::add(config, args, ConflictPolicy::Replace),
        Command::Remove(args) => commands::remove(&args),
        Command::Merge(args) => commands::merge(&args),
        Command::Compact(args) => commands::compact(&args.index).map(Into::into),
        Command::Info(args) => commands::info(&args).map(Into::into),
        Command::List(args) => commands::list(&args),
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
            bc_cli::print!("{}", config.to_commented_toml());
            Ok(Outcome::Done)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses the arguments twice, with an option under its present and under its former name.
    fn parse_both(args: &[&str], [present, former]: [&str; 2], value: &str) -> [Command; 2] {
        [present, former].map(|option| {
            let args = [&["bc-search"][..], args, &[option, value]].concat();
            Cli::try_parse_from(&args).unwrap_or_else(|error| panic!("{args:?}: {error}")).command
        })
    }

    #[test]
    fn former_option_names_are_accepted() {
        for command in parse_both(&["duplicates", "--index", "i"], ["--min-probability", "--least"], "0.25") {
            assert!(matches!(command, Command::Duplicates(args) if args.min_probability == 0.25));
        }
        let identify = ["identify", "--index", "i", "mix.mp3"];
        for command in parse_both(&identify, ["--min-probability", "--least"], "0.25") {
            assert!(matches!(command, Command::Identify(args) if args.min_probability == 0.25));
        }
        for command in parse_both(&["ann", "build", "--index", "i"], ["--min-vectors", "--least"], "7") {
            assert!(matches!(command, Command::Ann(AnnCommand::Build(args)) if args.min_vectors == 7));
        }
        for command in parse_both(&["serve", "i"], ["--decode-timeout", "--patience"], "9.5") {
            assert!(matches!(command, Command::Serve(args) if args.decode_timeout == 9.5));
        }
    }
}
