//! Opens and decodes every file of an index.
//!
//! **In**: an index and its files. **Out**: the index with statuses, lengths, codecs and hashes;
//! `coverage.md` and a histogram of clique sizes beside it. What was found is remembered in
//! `<index>.verify.jsonl` ([`state`]), so that a killed run goes on where it was; the statuses are
//! decided from that alone ([`judge`]), so that they do not depend on the order of the work.

pub mod judge;
pub mod report;
pub mod state;

use std::path::Path;

use anyhow::{Result, bail};
use bc_audio::{DecodeError, Limits, inspect, patience};
use bc_cli::{interrupt, progress};
use bc_formats::config::Config;
use bc_formats::index::Index;
use rayon::prelude::*;

use crate::{known, locate, publish};
use state::{Facts, Key, State};

/// Verifies the index of `config`; `fast` reads headers only (no hashes of content, no silence).
///
/// # Errors
/// No index, or outputs that cannot be written. Faults of audio files are statuses.
pub fn run(config: &Config, fast: bool) -> Result<()> {
    let output = &config.index.output;
    let mut index = Index::read(output)?;
    locate::look_again(&mut index.versions, &config.index)?;
    known::bring_failures(&mut index.versions, config)?;
    let state = State::open(&known::notes_of_verify(output))?;
    interrupt::install("Stopping; what is done is remembered. Ctrl-C again to quit at once.")?;
    let limits = Limits {
        longest_s: config.verify.longest_s,
        patience_s: config.verify.patience_s,
        ..Limits::of(&config.features)
    };
    let files = index.versions.iter().filter(|version| version.audio_path.is_some()).count();
    let bar = progress::bar(files as u64, "verify", "files");
    let look = |path: &str| -> Result<Option<Facts>> {
        let Some(key) = Key::of(path) else { bail!("the file {path} went away; run the same command again") };
        if let Some(known) = state.get(&key, fast) {
            return Ok(Some(known.clone()));
        }
        let facts = facts(Path::new(path), limits, fast);
        state.add(&key, &facts)?;
        Ok(Some(facts))
    };
    let found: Vec<Option<Facts>> = index
        .versions
        .par_iter()
        .map(|version| {
            let Some(path) = &version.audio_path else { return Ok(None) };
            if interrupt::requested() {
                bail!("stopped; run the same command again to go on");
            }
            let found = look(path);
            bar.inc(1);
            found
        })
        .collect::<Result<_>>()?;
    bar.finish_and_clear();
    let remarks = judge::judge(&mut index.versions, &found, &config.verify);
    report::print(&index.versions, &remarks);
    report::write(output, &index.versions, &remarks)?;
    publish::publish(&mut index, output)
}

/// Looks at one file. One on which the decoder or the disk never comes back makes a bad file, not a run that hangs.
fn facts(path: &Path, limits: Limits, fast: bool) -> Facts {
    let file = path.to_owned();
    let look = move || {
        let inspected = if fast { inspect::headers(&file) } else { inspect::whole(&file, limits) };
        let hash = if fast { None } else { bc_formats::fingerprint::of_file(&file).ok() };
        Ok((inspected, hash))
    };
    let (inspected, hash) =
        patience::watched(limits.patience_s, look).unwrap_or_else(|error| (Err(error), None));
    let mut facts = Facts { fast, hash, ..Facts::default() };
    match inspected {
        Ok(found) => {
            facts.codec = Some(found.header.codec);
            facts.rate = Some(found.header.sample_rate);
            facts.channels = Some(found.header.channels);
            // Microseconds survive the way through JSON to the last bit.
            let rounded = |seconds: f64| (seconds * 1e6).round() / 1e6;
            facts.declared_s = found.header.declared_s.map(rounded);
            facts.duration_s = found.duration_s.map(rounded);
            facts.peak = found.peak;
            facts.rms = found.rms;
            facts.packets = [found.frames.decoded, found.frames.failed];
        }
        Err(error) => {
            use DecodeError::{TooLong, TooSlow, Unreadable};
            facts.passing = matches!(error, TooLong { .. } | TooSlow { .. } | Unreadable(_));
            facts.error = Some(error.to_string());
        }
    }
    facts
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_never_opens_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe.wav");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let facts = facts(&pipe, Limits { longest_s: 60.0, patience_s: 0.1, ..Limits::default() }, false);
        assert!(facts.passing && facts.hash.is_none(), "{facts:?}");
    }
}
