//! A command that ends as its argument says; `tests/outcome.rs` runs it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use bc_cli::{Interrupted, Outcome, ShardArgs, interrupt};
use clap::Parser;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    ending: Ending,
}

#[derive(clap::Subcommand)]
enum Ending {
    /// All done.
    Done,
    /// Done, but so many items failed.
    Failures { count: u64 },
    /// Failed as a whole.
    Failed,
    /// Waits for a signal, then saves and ends.
    Wait,
    /// Waits for a signal and does not heed it.
    Busy,
    /// Waits for a signal, and has nothing to save.
    Unprepared,
    /// Prints many lines, then writes a file.
    Print { file: PathBuf },
    /// Prints the part of the work.
    Part(ShardArgs),
}

fn main() -> ExitCode {
    let Arguments { ending } = Arguments::parse();
    bc_cli::run(|| match ending {
        Ending::Done => Ok(Outcome::Done),
        Ending::Failures { count } => Ok(Outcome::of_failures(count)),
        Ending::Failed => Err(std::io::Error::other("no such file")).context("cannot read index.parquet"),
        Ending::Print { file } => {
            for line in 0..100_000 {
                bc_cli::println!("line {line}");
                if line % 10_000 == 0 {
                    bc_cli::eprintln!("at line {line}");
                }
            }
            bc_cli::print!("the end");
            std::fs::write(file, "done")?;
            Ok(Outcome::Done)
        }
        Ending::Wait | Ending::Busy | Ending::Unprepared => {
            if !matches!(ending, Ending::Unprepared) {
                interrupt::install("finishing the step")?;
            }
            bc_cli::println!("ready");
            for _ in 0..600 {
                if interrupt::requested() && matches!(ending, Ending::Wait) {
                    let saved = Interrupted("3 of 9 saved; run the same command again".into());
                    return Err(saved).context("stopped");
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            bail!("no signal came in a minute")
        }
        Ending::Part(arguments) => {
            bc_cli::println!("{}", arguments.resolve()?);
            Ok(Outcome::Done)
        }
    })
}
