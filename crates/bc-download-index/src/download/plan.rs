//! Plans which versions are downloaded.

use std::collections::HashSet;
use std::path::Path;

use anyhow::Result;
use bc_cli::Shard;
use bc_formats::config::Config;
use bc_formats::index::Version;

use super::address::address;
use super::incoming::{INCOMING, Job};
use super::ledger;
use crate::disappeared::Disappeared;
use crate::{locate, shard};

/// Maximum number of bytes of an id; file systems take 255 for a name, which has an extension, too.
const MAX_ID_BYTES: usize = 200;

/// Which versions are fetched.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'a> {
    /// The shard of the index.
    pub shard: Shard,
    /// Maximum number of downloads.
    pub limit: Option<usize>,
    /// Whether to also fetch versions that failed permanently.
    pub retry_gone: bool,
    /// The fingerprint of cookies, proxy and format ([`super::yt_dlp::access`]).
    pub access: &'a str,
}

/// The downloads of a run.
#[derive(Debug, Default)]
pub struct Plan {
    /// The downloads of this run.
    pub jobs: Vec<Job>,
    /// The ids of all versions that this or another run may fetch; unfinished files of other ids are useless.
    pub open: Vec<String>,
}

/// Plans the downloads of a run, and prints how many versions are not fetched and why.
///
/// # Errors
/// The audio's folder or the notes in it cannot be read; nearly all files have disappeared.
pub fn plan(versions: Vec<Version>, config: &Config, selection: Selection<'_>) -> Result<Plan> {
    let folder = &config.index.dataset_path;
    let (existing, failures) = if folder.is_dir() {
        (locate::files_by_stem(&config.index)?, ledger::read(folder)?)
    } else {
        Default::default()
    };
    let clashing =
        if folder.is_dir() && !is_case_sensitive(folder) { clashing_ids(&versions) } else { HashSet::new() };
    let mut plan = Plan::default();
    let mut counts = Counts::default();
    let mut disappeared = Disappeared::default();
    for version in versions {
        let id = version.version_id.clone();
        let in_shard = shard::takes(selection.shard, &id);
        let url = address(&config.download.url, &version);
        let has_listed_file =
            version.audio_path.as_deref().is_some_and(|path| locate::file_exists(Path::new(path)));
        let has_file = has_listed_file || existing.contains_key(&id);
        let had_file = version.audio_path.is_some();
        disappeared =
            disappeared.plus(Disappeared { had: had_file.into(), gone: (had_file && !has_file).into() });
        let count = if has_file {
            &mut counts.done
        } else if !names_a_file(&id)
            || clashing.contains(&id)
            || url.as_deref().is_some_and(|url| url.contains('\0'))
        {
            &mut counts.not_a_file_name
        } else if let Some(url) = url {
            if failures.is_permanent(&id, &url, selection.access) && !selection.retry_gone {
                &mut counts.gone
            } else {
                plan.open.push(id.clone());
                if in_shard {
                    plan.jobs.push(Job { id, url });
                }
                continue;
            }
        } else {
            &mut counts.without_address
        };
        *count += usize::from(in_shard);
    }
    // Otherwise all files of a disk that is not mounted would be downloaded again.
    disappeared.require_few(&config.index)?;
    let left = plan.jobs.len();
    plan.jobs.truncate(selection.limit.unwrap_or(usize::MAX));
    counts.print(plan.jobs.len(), left);
    Ok(plan)
}

/// The number of versions of a shard that are not fetched, by reason.
#[derive(Default)]
struct Counts {
    done: usize,
    gone: usize,
    without_address: usize,
    not_a_file_name: usize,
}

impl Counts {
    /// Prints the counts, and that `jobs` of `left` versions are fetched.
    fn print(&self, jobs: usize, left: usize) {
        let Self { done, gone, without_address, not_a_file_name } = self;
        let limited = if jobs < left { format!(" of {left}") } else { String::new() };
        bc_cli::println!("{done} are there, {gone} are gone for good, {jobs}{limited} to fetch.");
        if *gone > 0 {
            bc_cli::println!(
                "What is gone is not asked for; `--retry-gone` asks again. What needs cookies or is barred from a \
                 country is asked for again once [download] cookies, proxy or format change."
            );
        }
        if *without_address > 0 {
            bc_cli::println!(
                "{without_address} have no address in the list; [download] url can make one from the version id."
            );
        }
        if *not_a_file_name > 0 {
            bc_cli::println!(
                "{not_a_file_name} are not fetched, as their ids name no file (a slash, a control character, more than \
                 {MAX_ID_BYTES} bytes, or only upper and lower case differ from another id in a folder that does not \
                 distinguish them); put their files where the list says."
            );
        }
    }
}

/// Returns whether an id can be the name of a file.
fn names_a_file(id: &str) -> bool {
    id.len() <= MAX_ID_BYTES && !id.contains(|c: char| c == '/' || c == '\\' || c.is_control())
}

/// Returns the ids that a case-insensitive file system cannot distinguish from an earlier one.
fn clashing_ids(versions: &[Version]) -> HashSet<String> {
    let mut seen = HashSet::new();
    let later = versions.iter().filter(|version| !seen.insert(version.version_id.to_lowercase()));
    later.map(|version| version.version_id.clone()).collect()
}

/// Returns whether the folder's file system is case-sensitive (macOS and SMB are not). If that cannot be
/// determined, it is assumed to be.
fn is_case_sensitive(folder: &Path) -> bool {
    let incoming = folder.join(INCOMING);
    let created = std::fs::create_dir(&incoming).is_ok();
    let is_case_sensitive = !folder.join(INCOMING.to_uppercase()).exists();
    if created {
        let _ = std::fs::remove_dir(&incoming);
    }
    is_case_sensitive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_differ_only_in_case_clash_on_case_insensitive_file_systems() {
        let versions = ["aBc", "x", "AbC", "abcd"].map(|id| Version::new(id, "c"));
        assert_eq!(clashing_ids(&versions), HashSet::from(["AbC".to_owned()]));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "").unwrap();
        assert_eq!(is_case_sensitive(folder.path()), !folder.path().join("A").exists());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the probe is removed");
    }

    #[test]
    fn ids_that_cannot_be_file_names_are_recognised() {
        let long = "x".repeat(201);
        for (id, names) in [
            ("dQw4w9WgXcQ", true),
            ("-a", true),
            ("a\0b", false),
            ("a/b", false),
            ("a\nb", false),
            (&long, false),
        ] {
            assert_eq!(names_a_file(id), names, "{id:?}");
        }
    }
}
