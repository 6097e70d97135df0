//! `bc-eval search`, `compare` and `add`, kept for users of older versions: the arguments are passed on to bc-search.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use bc_cli::{ConfigArgs, Outcome};
use clap::Parser;

use crate::embed;

/// The arguments that this program reads before it passes all arguments on to bc-search.
#[derive(Parser)]
#[command(ignore_errors = true, disable_help_flag = true, disable_version_flag = true)]
struct Recognised {
    #[command(flatten)]
    config: ConfigArgs,
    #[arg(long)]
    index: Option<PathBuf>,
    #[arg(long, short)]
    help: bool,
    #[arg(value_name = "WORD")]
    words: Vec<OsString>,
}

/// Runs bc-search, which is in the same folder as this program, with these arguments. A search without `--index` searches the
/// configuration's own recordings; those that are missing are embedded first.
///
/// # Errors
/// bc-search is missing, or a recording cannot be embedded.
pub fn to_search(mut arguments: Vec<OsString>) -> Result<Outcome> {
    let own_path = std::env::current_exe().context("cannot find the folder of this program")?;
    let program = own_path.with_file_name(format!("bc-search{}", std::env::consts::EXE_SUFFIX));
    if !program.is_file() {
        bail!(
            "this command is now one of bc-search, but there is no {}; build it with `cargo build --release`",
            program.display()
        );
    }
    let known =
        Recognised::parse_from([OsString::from("bc-eval")].into_iter().chain(arguments.iter().cloned()));
    let search = known.words.first().is_some_and(|word| word == "search");
    if search && known.index.is_none() && !known.help {
        let index = embed::search_index(&known.config.resolve()?)?;
        arguments.extend([OsString::from("--index"), index.into_os_string()]);
    }
    run(Command::new(program).args(arguments))
}

#[cfg(unix)]
fn run(command: &mut Command) -> Result<Outcome> {
    use std::os::unix::process::CommandExt;
    // This process becomes bc-search: signals and exit codes are its own.
    Err(command.exec()).context("cannot start bc-search")
}

#[cfg(not(unix))]
fn run(command: &mut Command) -> Result<Outcome> {
    let status = command.status().context("cannot start bc-search")?;
    std::process::exit(status.code().unwrap_or(1))
}
