//! Writes man pages, shell completions and a reference page from the definition of a command line.
//!
//! **In**: the `clap` command of a stage. **Out**: a folder with `man/*.1`, `completions/` (bash, zsh, fish) and
//! `<program>.md`. They are used to build packages and docs/reference, not by users.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Command;
use clap_complete::Shell;

/// Name of the hidden subcommand that writes the documents.
const COMMAND: &str = "documents";

/// Width of help texts in the reference page, in columns.
const WIDTH: usize = 100;

/// Returns the folder that the arguments of the process ask to write documents to: `bc-train documents FOLDER`.
pub(crate) fn requested_folder(mut arguments: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    let command = arguments.nth(1)?;
    (command == COMMAND).then(|| arguments.next().unwrap_or_else(|| ".".into()).into())
}

/// Writes all documents of a command below a folder, which is created if absent.
///
/// # Errors
/// A file that cannot be written.
pub(crate) fn write(command: Command, folder: &Path) -> Result<()> {
    let mut command = command.term_width(WIDTH);
    command.build();
    let name = command.get_name().to_owned();
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    for folder in [&man, &completions] {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    clap_mangen::generate_to(command.clone(), &man)
        .with_context(|| format!("cannot write man pages to {}", man.display()))?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, &name, &completions)
            .with_context(|| format!("cannot write completions to {}", completions.display()))?;
    }
    let page = folder.join(format!("{name}.md"));
    bc_formats::atomic::write(&page, reference(&mut command).as_bytes())
}

/// Returns a page with the help text of the program and of each of its commands.
fn reference(command: &mut Command) -> String {
    let name = command.get_name().to_owned();
    let mut page = format!("# {name}\n\nMade by `scripts/reference.sh`; edit the program's help instead.\n");
    section(&mut page, &name, command);
    for command in command.get_subcommands_mut() {
        if command.get_name() != "help" && !command.is_hide_set() {
            let title = format!("{name} {}", command.get_name());
            section(&mut page, &title, command);
        }
    }
    page
}

fn section(page: &mut String, title: &str, command: &mut Command) {
    let help = command.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    let _infallible = write!(page, "\n## `{title}`\n\n```text\n{}\n```\n", help.join("\n").trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    fn example() -> Command {
        let search = Command::new("search").about("Search an index.").arg(Arg::new("index").long("index"));
        Command::new("bc-example").about("An example.").subcommand(search)
    }

    #[test]
    fn only_the_documents_command_writes_documents() {
        let requested = |arguments: &[&str]| requested_folder(arguments.iter().map(OsString::from));
        assert_eq!(requested(&["bc-example", "documents", "to"]), Some("to".into()));
        assert_eq!(requested(&["bc-example", "documents"]), Some(".".into()));
        assert_eq!(requested(&["bc-example", "search", "documents"]), None);
        assert_eq!(requested(&["bc-example"]), None);
    }

    #[test]
    fn all_commands_have_man_page_completions_and_reference_section() {
        let folder = tempfile::tempdir().unwrap();
        write(example(), folder.path()).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(
            read("man/bc-example-search.1").contains("\\-\\-index"),
            "{}",
            read("man/bc-example-search.1")
        );
        for name in ["bc-example.bash", "_bc-example", "bc-example.fish"] {
            assert!(read(&format!("completions/{name}")).contains("index"), "{name}");
        }
        let page = read("bc-example.md");
        assert!(page.contains("## `bc-example search`") && page.contains("--index <index>"), "{page}");
        assert!(!page.contains("documents"), "{page}");
    }
}
