//! The result of `add` as text.

use std::collections::BTreeMap;
use std::path::Path;

use bc_audio::CutOff;
use bc_embed::files;

use crate::add::{Added, Damaged};

/// Maximum number of exact copies, and of moved recordings, that are printed one by one.
const MAX_PRINTED: usize = 10;

/// The result of adding audio files as a sentence; what needs attention is printed to standard error.
pub fn describe(added: &Added, index: &Path) -> String {
    print_problems(added);
    print_known(added);
    let part =
        |count: usize, what: &str| if count == 0 { String::new() } else { format!(", {count} {what}") };
    format!(
        "{} recordings added to {}{}{}{}{}{}",
        added.new,
        index.display(),
        part(added.replaced, "replaced"),
        part(added.updated, "updated"),
        part(added.moved, "moved"),
        part(added.already_present, "already present"),
        part(added.failed.len(), "failed")
    )
}

/// Prints what is wrong with files, and which files were passed over.
fn print_problems(added: &Added) {
    for failure in &added.failed {
        bc_cli::eprintln!("failed: {}: {}", failure.file, failure.error);
    }
    for Damaged { file, duration_s, declared_s } in &added.damaged {
        let cut_off = CutOff { duration_s: *duration_s, declared_s: *declared_s };
        bc_cli::eprintln!("warning: {file} {cut_off}; it was added as it is");
    }
    if let Some(skipped) = files::describe_skipped(&added.skipped) {
        bc_cli::eprintln!("{skipped}");
    }
    if added.without_work > 0 {
        bc_cli::eprintln!(
            "{} files got no work: they are directly in the folder that was given",
            added.without_work
        );
    }
}

/// Prints what became of files whose audio the index already held.
fn print_known(added: &Added) {
    print_first(&added.copies, "copies", |copy| {
        format!("copy: {} has the same bytes as {}, which is in the index", copy.file, copy.same_as)
    });
    print_first(&added.moves, "moved recordings", |moved| {
        format!("moved: {} is {} now", moved.from, moved.file)
    });
    print_first(&added.replacements, "replaced recordings", |replaced| {
        format!(
            "replaced: {} has the audio of {} now; the recording that was indexed under its path is removed from the index",
            replaced.file, replaced.same_as
        )
    });
    let mut folders: BTreeMap<&str, usize> = BTreeMap::new();
    for absent in &added.absent {
        *folders.entry(&absent.folder).or_default() += 1;
    }
    for (folder, count) in folders {
        bc_cli::eprintln!(
            "warning: {folder} is absent or empty (a disk that is not mounted?), and {count} of the files have the audio of recordings \
             below it. Most others below it were not found, so all of them keep their paths. If the files were moved, run \
             `bc-search replace` with the same arguments"
        );
    }
    if let Some(first) = added.kept_works.first() {
        bc_cli::eprintln!(
            "{} recordings keep their works, although their folders have other names, such as {}: it keeps {:?}, its folder is {:?} \
             (`bc-search replace` with the same arguments changes such works)",
            added.kept_works.len(),
            first.file,
            first.work,
            first.by_folder
        );
    }
}

/// Prints the first of `all`, one line each, and the number of the others.
fn print_first<T>(all: &[T], what: &str, line: impl Fn(&T) -> String) {
    for one in all.iter().take(MAX_PRINTED) {
        bc_cli::eprintln!("{}", line(one));
    }
    if all.len() > MAX_PRINTED {
        bc_cli::eprintln!("and {} more {what} (--json lists all)", all.len() - MAX_PRINTED);
    }
}
