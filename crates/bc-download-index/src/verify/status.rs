//! Reports how much of an index was verified, shard by shard.

use std::path::Path;

use anyhow::Result;
use bc_cli::{Shard, StatusArgs};
use bc_formats::audio_root::AudioRoot;
use bc_formats::config::Config;
use rayon::prelude::*;
use serde::Serialize;

use super::run::for_each_file;
use super::state::{Key, State};
use crate::locate::Audio;
use crate::shard;

/// Counts of a shard.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Counts {
    /// Number of the shard, from 1.
    shard: usize,
    /// Versions that have a file.
    files: usize,
    /// Files that `verify` would inspect.
    pending: usize,
}

/// Prints the number of files of each shard, and how many of them `verify` still has to inspect: as a table, or as one JSON
/// object with a line per shard.
///
/// # Errors
/// No index, notes that cannot be read.
pub fn run(config: &Config, args: StatusArgs) -> Result<()> {
    let shards = args.shards.into();
    let output = &config.index.output;
    let (state, root) = (State::read(output)?, AudioRoot::named(output, &config.index.audio_root));
    let audio = Audio::open(&config.index)?;
    let mut files = Vec::new();
    for_each_file(config, &audio, |id, path| files.push((shard::number_of(id, shards), path)))?;
    // A file whose metadata cannot be read has to be inspected.
    let is_known = |path: &str| match audio.about(Path::new(path)) {
        Ok(Some(about)) => state.get(&Key::new(path, about, root.as_ref()), false).is_some(),
        Ok(None) => true,
        Err(_) => false,
    };
    let known: Vec<bool> = files.par_iter().map(|(_, path)| is_known(path)).collect();
    let mut counts: Vec<Counts> =
        (0..shards).map(|index| Counts { shard: index + 1, ..Counts::default() }).collect();
    for ((shard, _), known) in files.iter().zip(known) {
        counts[*shard].files += 1;
        counts[*shard].pending += usize::from(!known);
    }
    if args.json {
        bc_cli::println!("{{\n\"shards\": {}\n}}", bc_cli::json_lines(&counts)?);
        return Ok(());
    }
    bc_cli::println!("shard        files  not looked at");
    for Counts { shard, files, pending } in counts {
        bc_cli::println!("{:<12} {files:>5} {pending:>14}", Shard { index: shard - 1, count: shards });
    }
    Ok(())
}
