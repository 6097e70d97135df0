//! The best networks of a run: `best.safetensors`, and with `[train] keep_best` above 1 the folder `best`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bc_formats::atomic;
use bc_formats::retry;
use bc_nn::weights;
use serde::{Deserialize, Serialize};

/// The best network of a run.
pub const BEST: &str = "best.safetensors";
/// Folder of the best networks in a run.
pub const FOLDER: &str = "best";

/// A network in the folder [`FOLDER`], with the figure that ranks it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RankedNetwork {
    /// Steps done when it was validated.
    pub step: u64,
    /// Its validation figure.
    pub figure: f64,
}

/// Inserts `new` into the ranking `best` (best first, the earlier network wins a tie), cuts it to `keep` networks, and
/// returns whether `new` is still in it. A figure that is NaN is never inserted.
pub(crate) fn insert(
    best: &mut Vec<RankedNetwork>,
    new: RankedNetwork,
    higher_is_better: bool,
    keep: usize,
) -> bool {
    if new.figure.is_nan() {
        return false;
    }
    let better = |a: f64, b: f64| if higher_is_better { a > b } else { a < b };
    let position = best.iter().position(|old| better(new.figure, old.figure)).unwrap_or(best.len());
    best.insert(position, new);
    best.truncate(keep);
    position < keep
}

/// Returns the path of the network that was validated at `step`.
pub(crate) fn path(run: &Path, step: u64) -> PathBuf {
    run.join(FOLDER).join(format!("step-{step:08}.safetensors"))
}

/// Returns why the best network of `run` cannot be used: the file was removed or damaged. `None` if it can be used.
///
/// # Errors
/// The disk cannot read the file now.
pub(crate) fn damage(run: &Path) -> Result<Option<String>> {
    let path = run.join(BEST);
    match weights::metadata(&path) {
        Ok(_) => Ok(None),
        Err(error) if retry::is_absent(&error) => Ok(Some(format!("{} does not exist", path.display()))),
        Err(error) if retry::retry_when_in_context(&error).is_some() => {
            Err(error.context("run the same command again"))
        }
        Err(error) => Ok(Some(bc_cli::describe(&error))),
    }
}

/// Puts a copy of the first network of `copies` that can be read in the place of the best network of `run`. Returns the file
/// that it copied; `None` if there is none.
///
/// # Errors
/// The best network cannot be written.
pub(crate) fn restore_from(run: &Path, copies: &[PathBuf]) -> Result<Option<PathBuf>> {
    let Some(copy) = copies.iter().find(|copy| weights::metadata(copy).is_ok()) else { return Ok(None) };
    let bytes = std::fs::read(copy).with_context(|| format!("cannot read {}", copy.display()))?;
    atomic::write(&run.join(BEST), bytes)?;
    Ok(Some(copy.clone()))
}

/// Removes all networks that are not `listed` from the folder of best networks of `run`. A file that cannot be removed
/// stays.
pub(crate) fn remove_unlisted<'a>(run: &Path, listed: impl Iterator<Item = &'a RankedNetwork>) {
    let kept: Vec<PathBuf> = listed.map(|ranked| path(run, ranked.step)).collect();
    let Ok(files) = std::fs::read_dir(run.join(FOLDER)) else { return };
    for file in files.flatten().map(|entry| entry.path()) {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.trim_start_matches('.').starts_with("step-") && !kept.contains(&file) {
            // A file that stays does no harm, and the next validation tries again.
            let _ = std::fs::remove_file(&file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_networks_are_kept_and_earlier_ones_win_ties() {
        let mut best = Vec::new();
        let entered: Vec<bool> = [(1, 0.2), (2, 0.5), (3, f64::NAN), (4, 0.5), (5, 0.1), (6, 0.9)]
            .map(|(step, figure)| insert(&mut best, RankedNetwork { step, figure }, true, 3))
            .to_vec();
        assert_eq!(entered, [true, true, false, true, false, true]);
        assert_eq!(best.iter().map(|ranked| ranked.step).collect::<Vec<_>>(), [6, 2, 4]);
        let mut best = Vec::new();
        for (step, figure) in [(1, 0.2), (2, 0.5), (3, 0.1)] {
            insert(&mut best, RankedNetwork { step, figure }, false, 2);
        }
        assert_eq!(best.iter().map(|ranked| ranked.step).collect::<Vec<_>>(), [3, 1]);
    }

    #[test]
    fn tidy_keeps_listed_networks_and_files_of_others() {
        let run = tempfile::tempdir().unwrap();
        std::fs::create_dir(run.path().join(FOLDER)).unwrap();
        for file in [path(run.path(), 1), path(run.path(), 2), run.path().join(FOLDER).join("mine.txt")] {
            std::fs::write(file, "").unwrap();
        }
        remove_unlisted(run.path(), [RankedNetwork { step: 2, figure: 0.0 }].iter());
        let mut left: Vec<_> =
            std::fs::read_dir(run.path().join(FOLDER)).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["mine.txt", "step-00000002.safetensors"]);
    }
}
