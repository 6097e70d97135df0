//! Runs `download`: plans, fetches the missing files and updates the index.

use anyhow::{Context, Result, bail};
use bc_cli::{Interrupted, Outcome, Shard, interrupt};
use bc_formats::config::Config;
use bc_formats::index::Index;

use super::{fetch, incoming, plan, yt_dlp};
use crate::update;

/// What the command line adds to the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Only print what would be fetched.
    pub dry_run: bool,
    /// Maximum number of files to fetch.
    pub limit: Option<usize>,
    /// Also fetch versions that failed permanently.
    pub retry_gone: bool,
    /// The shard of the index.
    pub shard: Shard,
}

/// Downloads the missing audio. The outcome counts the versions that failed in this run.
///
/// # Errors
/// No index, no yt-dlp, a folder that cannot be written, too many failures in a row, or Ctrl-C.
pub fn run(config: &Config, options: Options) -> Result<Outcome> {
    let folder = &config.index.dataset_path;
    if bc_store::is_remote(folder) {
        bail!(
            "[index] dataset_path = \"{}\" is an object store; `download` needs a folder",
            folder.display()
        );
    }
    let versions = Index::read(&config.index.output)?.versions;
    if !config.index.file_extension.is_empty() {
        bail!("[index] file_extension must be empty for downloads: m4a or webm comes, as the site has it");
    }
    if !options.dry_run {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let access = yt_dlp::access(&config.download)?;
    let Options { shard, limit, retry_gone, .. } = options;
    let plan::Plan { jobs, open } =
        plan::plan(versions, config, plan::Selection { shard, limit, retry_gone, access: &access })?;
    if options.dry_run {
        jobs.iter().for_each(|job| bc_cli::println!("{}  {}", job.id, job.url));
        return Ok(Outcome::Done);
    }
    incoming::sweep(&folder.join(incoming::INCOMING), &open);
    let mut fetched = fetch::Fetched::default();
    if !jobs.is_empty() {
        let program = yt_dlp::find()?;
        interrupt::install("Stopping; what is done stays. Ctrl-C again to quit at once.")?;
        fetched = fetch::fetch_all(&jobs, folder, &program, options.shard, &config.download, access)?;
    }
    // Shards run at the same time, possibly on several machines; none of them has to wait for the others' files.
    if options.shard == Shard::WHOLE {
        update::index(config, false, |_| Ok(()))?;
    } else {
        bc_cli::println!(
            "Part {} leaves the index as it is; when all parts are done, `build` or `verify` brings in what came.",
            options.shard
        );
    }
    if interrupt::requested() {
        bail!(Interrupted("what came stays, and the same command continues".to_owned()));
    }
    if fetched.blocked {
        bail!(
            "{} downloads in a row failed, so the site seems to block; wait some hours, or set [download] cookies \
             or proxy, then run the same command again",
            config.download.most_failures
        );
    }
    Ok(Outcome::of_failures(fetched.failed as u64))
}
