//! Fetches what an index lacks, with yt-dlp.
//!
//! **In**: an index with ids or urls. **Out**: `<dataset_path>/<id>.<extension>`, each whole when it
//! appears, and statuses in the index. Unfinished files lie in `<dataset_path>/.incoming`, from where
//! yt-dlp goes on; failures are noted in `<dataset_path>/.failed*.jsonl` ([`ledger`]), so that no run
//! asks again for what is gone. A kill loses at most what was under way.

pub mod fetch;
pub mod ledger;
pub mod pace;
pub mod yt_dlp;

use std::path::Path;

use anyhow::{Context, Result, bail};
use bc_cli::{Shard, interrupt};
use bc_formats::config::Config;
use bc_formats::index::{Index, Version};

use crate::{known, locate, publish};
use fetch::Job;

/// What the command line adds to the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Only print what would be fetched.
    pub dry_run: bool,
    /// Fetch at most so many.
    pub limit: Option<usize>,
    /// The part of the index.
    pub shard: Shard,
}

/// Downloads.
///
/// # Errors
/// No index, no yt-dlp, a folder that cannot be written, too many failures in a row, or Ctrl-C.
pub fn run(config: &Config, options: Options) -> Result<()> {
    let folder = &config.index.dataset_path;
    let mut index = Index::read(&config.index.output)?;
    if !config.index.file_extension.is_empty() {
        bail!("[index] file_extension must be empty for downloads: m4a or webm comes, as the site has it");
    }
    if !options.dry_run {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let jobs = plan(&index.versions, config, options)?;
    if options.dry_run {
        jobs.iter().for_each(|job| println!("{}  {}", job.id, job.url));
        return Ok(());
    }
    let mut blocked = false;
    if !jobs.is_empty() {
        let program = yt_dlp::find()?;
        interrupt::install("Stopping; what is done stays. Ctrl-C again to quit at once.")?;
        blocked = fetch::all(&jobs, folder, &program, options.shard, &config.download)?;
    }
    // Parts run side by side, on several machines perhaps: none of them may write the index of all.
    if options.shard == Shard::WHOLE {
        locate::look_again(&mut index.versions, &config.index)?;
        known::bring_failures(&mut index.versions, config)?;
        known::bring_facts(&mut index.versions, config)?;
        publish::publish(&mut index, &config.index.output)?;
    } else {
        println!(
            "Part {} leaves the index as it is; when all parts are done, `build` or `verify` brings in what came.",
            options.shard
        );
    }
    if interrupt::requested() {
        bail!("stopped; run the same command again to go on");
    }
    if blocked {
        bail!(
            "{} downloads in a row failed, so the site seems to block; wait some hours, or set [download] cookies \
             or proxy, then run the same command again",
            config.download.most_failures
        );
    }
    Ok(())
}

/// What is to be fetched; tells what is not.
fn plan(versions: &[Version], config: &Config, options: Options) -> Result<Vec<Job>> {
    let folder = &config.index.dataset_path;
    let (there, failures) = if folder.is_dir() {
        (locate::files_by_stem(&config.index)?, ledger::read(folder)?)
    } else {
        Default::default()
    };
    let (mut done, mut gone, mut nowhere, mut nameless, mut jobs) = (0, 0, 0, 0, Vec::new());
    for (_, version) in versions.iter().enumerate().filter(|(at, _)| options.shard.takes(*at)) {
        let id = &version.version_id;
        let named = version.audio_path.as_deref().is_some_and(|path| Path::new(path).is_file());
        if named || there.contains_key(id) {
            done += 1;
        } else if !names_a_file(id) {
            nameless += 1;
        } else if let Some(url) = address(&config.download.url, version) {
            if failures.gone(id, &url) {
                gone += 1;
            } else {
                jobs.push(Job { id: id.clone(), url });
            }
        } else {
            nowhere += 1;
        }
    }
    let left = jobs.len();
    jobs.truncate(options.limit.unwrap_or(usize::MAX));
    let limited = if jobs.len() < left { format!(" of {left}") } else { String::new() };
    println!("{done} are there, {gone} are gone for good, {}{limited} to fetch.", jobs.len());
    if nowhere > 0 {
        println!("{nowhere} have no address in the list; [download] url may make one of the version id.");
    }
    if nameless > 0 {
        println!(
            "{nameless} are not fetched, as their ids name no file (a slash, or more than {LONGEST_ID} bytes); put \
             their files where the list says."
        );
    }
    Ok(jobs)
}

/// Bytes of an id; file systems take 255 a name, and yt-dlp appends to it while it works.
const LONGEST_ID: usize = 200;

fn names_a_file(id: &str) -> bool {
    id.len() <= LONGEST_ID && !id.contains(['/', '\\'])
}

/// Where a version comes from: what its list says, or what the template makes of that and of the id.
pub fn address(template: &str, version: &Version) -> Option<String> {
    let source = version.source_url.as_deref();
    if template.is_empty() {
        return source.map(str::to_owned);
    }
    let needs_source = template.contains("{source_url}");
    let with_id = template.replace("{id}", &version.version_id);
    if needs_source { Some(with_id.replace("{source_url}", source?)) } else { Some(with_id) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_the_lists_unless_a_template_is_given() {
        let mut version = Version::new("0_1", "0");
        assert_eq!(address("", &version), None);
        assert_eq!(address("https://a/{id}", &version).unwrap(), "https://a/0_1");
        assert_eq!(address("https://a/?of={source_url}", &version), None);
        version.source_url = Some("https://b/c".to_owned());
        assert_eq!(address("", &version).unwrap(), "https://b/c");
        assert_eq!(address("https://a/{id}", &version).unwrap(), "https://a/0_1");
        assert_eq!(address("https://a/?of={source_url}", &version).unwrap(), "https://a/?of=https://b/c");
    }
}
