//! Everything a resume needs, in one folder per checkpoint.
//!
//! ```text
//! checkpoints/step-00000500/network.safetensors    weights and running statistics, PyTorch's names
//!                           average.safetensors    their moving average, if [train] ema
//!                           optimizer.safetensors  moments and step count
//!                           best.safetensors       the best network before the end, if the run ended between two
//!                                                  planned validations
//!                           state.json             position, the results of validation so far
//! ```
//!
//! The folder is filled under a temporary name and renamed, so a checkpoint is complete or
//! absent. It is saved before the step is validated ([`State::pending`]) and its `state.json`
//! replaced afterwards: a kill in the middle of a validation costs that validation. Batches, crops and augmentation are
//! functions of seed and position; the state therefore holds the position and no random generator.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use bc_formats::atomic;
use bc_formats::retry::{self, RetryWhen};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::best::RankedNetwork;
use crate::schedule::Patience;

/// Schema version of `state.json`.
const FORMAT: &str = "training-state/1";
/// Folder of checkpoints in a run.
pub(crate) const FOLDER: &str = "checkpoints";
/// Weights in a checkpoint.
pub const NETWORK: &str = "network.safetensors";
/// Moving average of the weights in a checkpoint.
pub const AVERAGE: &str = "average.safetensors";
/// Optimiser state in a checkpoint.
pub const OPTIMIZER: &str = "optimizer.safetensors";
/// The best network before the last step of a run that ended between two validations of its plan.
pub const BEST_BEFORE_END: &str = "best.safetensors";
const STATE: &str = "state.json";
/// More steps than any run makes: further counting cannot overflow.
const MAX_STEP: u64 = 1 << 53;

/// The results of validation so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ValidationState {
    /// The best validation figure, and how many validations ago it was, for early stopping.
    #[serde(rename = "best")]
    pub early_stopping: Patience,
    /// Step of the best validation.
    pub best_step: u64,
    /// The best figure that the plateau schedule has seen, and how long ago it was.
    pub plateau: Patience,
    /// Reductions of the plateau schedule so far.
    pub reductions: u64,
    /// Step of the last validation, if there was one.
    pub validated_step: Option<u64>,
    /// The networks in the folder `best`, best first.
    pub ranking: Vec<RankedNetwork>,
}

/// The state of training between two steps. Fields that a file of an earlier version lacks are as they
/// are at the beginning.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Schema version.
    pub format: String,
    /// Optimiser steps done.
    pub step: u64,
    /// Epoch of the next batch, from 0.
    pub epoch: u64,
    /// Index of the next batch in its epoch.
    pub batch: usize,
    /// Passes done since training began.
    pub passes: u64,
    /// The results of validation so far.
    #[serde(flatten)]
    pub validation: ValidationState,
    /// The validation of this step, or other work at the end of the run, is still to be done.
    pub pending: bool,
    /// The results of validation before the last step of a run that ended between two validations of its plan.
    /// A run that is extended continues from here, as if it had never ended.
    pub before_end: Option<ValidationState>,
    /// Early stopping has ended training.
    pub stopped_early: bool,
    /// Planned steps of the whole run; 0 if unknown.
    pub total_steps: u64,
    /// Instruction set of the operators so far; empty where that is not known.
    pub instruction_set: String,
    /// Number of ranks that trained the run so far; 0, which earlier versions wrote, means one.
    pub ranks: usize,
    /// All settings that the result of training depends on.
    pub settings: Value,
}

impl State {
    /// Refuses counts that no run has after `step` steps, with which training could not continue.
    ///
    /// # Errors
    /// The state is of another step; more epochs, passes, reductions or validations than steps.
    fn require_possible(&self, step: u64) -> Result<()> {
        ensure!(self.step == step, "step is {}, but that of the folder's name is {step}", self.step);
        ensure!(step <= MAX_STEP, "step is {step}, but at most {MAX_STEP} are possible");
        let validations = std::iter::once(&self.validation).chain(&self.before_end);
        let of_validations = validations.flat_map(|validation| {
            [
                ("waited", validation.early_stopping.waited),
                ("waited", validation.plateau.waited),
                ("reductions", validation.reductions),
                ("best_step", validation.best_step),
                ("validated_step", validation.validated_step.unwrap_or_default()),
            ]
        });
        // One validation more than steps: that before the first step.
        for (name, count) in
            [("epoch", self.epoch), ("passes", self.passes)].into_iter().chain(of_validations)
        {
            ensure!(count <= step + 1, "{name} is {count}, which is not possible after {step} steps");
        }
        Ok(())
    }

    /// Refuses a position in the epoch that the run's plan does not have; `folder` is that of the checkpoint.
    ///
    /// # Errors
    /// The next batch is not one of the epoch's `batches`.
    pub(crate) fn require_batch_of_epoch(&self, batches: usize, folder: &Path) -> Result<()> {
        ensure!(
            self.batch < batches,
            "{} is damaged; {}: batch is {}, but an epoch has {batches} batches",
            folder.join(STATE).display(),
            remedy(folder),
            self.batch
        );
        Ok(())
    }
}

/// The checkpoints of one run.
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
    /// Whether this process writes checkpoints.
    writes: bool,
    /// Whether the user was warned that an old one cannot be removed.
    warned: Cell<bool>,
}

impl Checkpoints {
    /// Returns the checkpoints of the run folder `run`; saving removes all but the last `keep`.
    pub fn of(run: &Path, keep: usize) -> Self {
        Self { folder: run.join(FOLDER), keep, writes: true, warned: Cell::new(false) }
    }

    /// Returns the same checkpoints for a process that must not write them: saving does nothing.
    pub fn read_only(self) -> Self {
        Self { writes: false, ..self }
    }

    /// Returns the path of the checkpoint of a step.
    pub fn path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("step-{step:08}"))
    }

    /// Returns the latest whole checkpoint and its state.
    pub fn latest(&self) -> Result<Option<(PathBuf, State)>> {
        let Some(step) = self.steps()?.pop() else { return Ok(None) };
        let folder = self.path(step);
        let path = folder.join(STATE);
        let damaged = || format!("{} is damaged; {}", path.display(), remedy(&folder));
        let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()));
        let text = text.map_err(|error| with_remedy(error, &folder))?;
        let state: State = serde_json::from_slice(&text).with_context(damaged)?;
        if state.format != FORMAT {
            bail!(
                "{}: schema {}, but this program reads {FORMAT}: start again with --fresh, or resume with the \
                 version that wrote it",
                path.display(),
                state.format
            );
        }
        state.require_possible(step).with_context(damaged)?;
        Ok(Some((folder, state)))
    }

    /// Writes a checkpoint: `fill` puts the tensors into the folder it is given. Older
    /// checkpoints beyond the number to keep are removed afterwards; one that cannot be removed
    /// is left with a warning, because training does not need that.
    ///
    /// # Errors
    /// A full disk, or a folder that cannot be written.
    pub fn save(&self, state: &State, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let destination = self.path(state.step);
        if !self.writes || destination.exists() {
            return Ok(destination);
        }
        std::fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot make the folder {}", self.folder.display()))?;
        self.clear_leftovers();
        let mut builder = tempfile::Builder::new();
        builder.prefix(".step-").suffix(".tmp");
        #[cfg(unix)]
        {
            // tempfile's default is 0700; checkpoints are meant to be read by others (umask still applies).
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o777));
        }
        let temporary = builder
            .tempdir_in(&self.folder)
            .with_context(|| format!("cannot write in {}", self.folder.display()))?;
        fill(temporary.path()).with_context(|| {
            format!(
                "the checkpoint of step {} could not be saved (is the disk full?); --resume continues from the one \
                 before",
                state.step
            )
        })?;
        let state = State { format: FORMAT.to_owned(), ..state.clone() };
        atomic::write_json(&temporary.path().join(STATE), &state)?;
        // The names in the folder reach the disk before the folder's own name: a power cut leaves a whole checkpoint or none.
        sync(temporary.path());
        let temporary = temporary.keep();
        std::fs::rename(&temporary, &destination)
            .with_context(|| format!("cannot rename a finished checkpoint to {}", destination.display()))?;
        sync(&self.folder);
        self.prune()?;
        Ok(destination)
    }

    /// Replaces the state in the checkpoint of its step, if there is one.
    ///
    /// # Errors
    /// A full disk, or a folder that cannot be written.
    pub fn update(&self, state: &State) -> Result<()> {
        let folder = self.path(state.step);
        if !self.writes || !folder.exists() {
            return Ok(());
        }
        let state = State { format: FORMAT.to_owned(), ..state.clone() };
        atomic::write_json(&folder.join(STATE), &state)
    }

    /// Steps of all whole checkpoints, ascending.
    fn steps(&self) -> Result<Vec<u64>> {
        let mut steps: Vec<u64> =
            self.names()?.iter().filter_map(|name| name.strip_prefix("step-")?.parse().ok()).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// Lists the names in the folder of checkpoints; none if there is no such folder.
    fn names(&self) -> Result<Vec<String>> {
        // A folder that cannot be listed now, or only in part, must not count as a run without checkpoints, which would start again.
        let failed = || format!("cannot list {}", self.folder.display());
        let listed = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.with_context(failed)?,
        };
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            Ok(entry.with_context(failed)?.file_name().to_string_lossy().into_owned())
        };
        listed.map(name).collect()
    }

    /// Removes what a kill in the middle of a save left.
    fn clear_leftovers(&self) {
        for name in self.names().unwrap_or_default() {
            if name.starts_with(".step-") {
                self.remove(&self.folder.join(name));
            }
        }
    }

    /// Removes all checkpoints but the last [`Self::keep`].
    fn prune(&self) -> Result<()> {
        let steps = self.steps()?;
        for &step in &steps[..steps.len().saturating_sub(self.keep)] {
            // Renamed first, so that a kill during the removal leaves no incomplete checkpoint under a valid name.
            let temporary = self.folder.join(format!(".step-{step:08}.tmp"));
            let from = self.path(step);
            self.remove(if std::fs::rename(&from, &temporary).is_ok() { &temporary } else { &from });
        }
        Ok(())
    }

    /// Removes what is no longer needed, or warns once that it cannot. (Network file systems refuse it while
    /// another machine reads there.)
    fn remove(&self, folder: &Path) {
        if let Err(error) = std::fs::remove_dir_all(folder)
            && folder.exists()
            && !self.warned.replace(true)
        {
            tracing::warn!(
                "cannot remove {}: {error}; training continues, and this warning is not repeated",
                folder.display()
            );
        }
    }
}

/// Flushes the names in a folder to disk, where the system has a way to.
fn sync(folder: &Path) {
    if cfg!(unix) {
        // A file system that cannot do this has no alternative.
        let _ = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
    }
}

/// Adds a remedy to the error of a checkpoint that cannot be used. An I/O error says nothing about the
/// content of the file.
pub(crate) fn with_remedy(error: anyhow::Error, folder: &Path) -> anyhow::Error {
    let failed = format!("cannot resume from {}", folder.display());
    // A file that is not there is no error of the disk: the checkpoint is not whole.
    match retry::retry_when_in_context(&error).filter(|_| !retry::is_absent(&error)) {
        Some(RetryWhen::ThisRun | RetryWhen::NextRun) => error.context(format!(
            "{failed}: the disk cannot read it, but it may be intact; run the same command again"
        )),
        _ => error.context(format!("{failed}; {}", remedy(folder))),
    }
}

/// Returns what the user can do about a damaged checkpoint, for error messages.
pub(crate) fn remedy(folder: &Path) -> String {
    format!(
        "delete {} to resume from the checkpoint before it, or start again with --fresh",
        folder.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save(checkpoints: &Checkpoints, step: u64) -> PathBuf {
        let state = State { step, ..State::default() };
        checkpoints
            .save(&state, |folder| Ok(std::fs::write(folder.join(NETWORK), step.to_string())?))
            .unwrap()
    }

    #[test]
    fn last_checkpoints_are_kept_and_the_latest_is_read() {
        let run = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::of(run.path(), 2);
        assert!(checkpoints.latest().unwrap().is_none());
        for step in [5, 10, 100] {
            save(&checkpoints, step);
        }
        assert_eq!(checkpoints.steps().unwrap(), [10, 100]);
        let (folder, state) = checkpoints.latest().unwrap().unwrap();
        assert_eq!(state.step, 100);
        assert_eq!(std::fs::read_to_string(folder.join(NETWORK)).unwrap(), "100");
    }

    #[test]
    fn failed_save_leaves_nothing_and_next_save_removes_leftovers_of_a_kill() {
        let run = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::of(run.path(), 2);
        save(&checkpoints, 1);
        let state = State { step: 2, ..State::default() };
        assert!(checkpoints.save(&state, |_| bail!("disk full")).is_err());
        assert_eq!(checkpoints.names().unwrap(), ["step-00000001"]);
        std::fs::create_dir(run.path().join(FOLDER).join(".step-abc.tmp")).unwrap();
        assert_eq!(checkpoints.latest().unwrap().unwrap().1.step, 1);
        save(&checkpoints, 3);
        assert_eq!(checkpoints.names().unwrap().len(), 2);
    }

    #[test]
    fn error_for_damaged_state_names_the_remedy() {
        let run = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::of(run.path(), 2);
        std::fs::write(save(&checkpoints, 7).join(STATE), "{").unwrap();
        let error = format!("{:#}", checkpoints.latest().unwrap_err());
        assert!(
            error.contains("state.json") && error.contains("to resume from the checkpoint before"),
            "{error}"
        );
        std::fs::remove_file(checkpoints.path(7).join(STATE)).unwrap();
        let error = format!("{:#}", checkpoints.latest().unwrap_err());
        assert!(
            error.contains("state.json") && error.contains("to resume from the checkpoint before"),
            "{error}"
        );
    }

    #[test]
    fn impossible_counts_are_refused_with_the_file_and_the_remedy() {
        let run = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::of(run.path(), 2);
        let folder = save(&checkpoints, 7);
        let refused = |state: &State| {
            let state = State { format: FORMAT.to_owned(), ..state.clone() };
            std::fs::write(folder.join(STATE), serde_json::to_vec(&state).unwrap()).unwrap();
            checkpoints.latest().map(drop).map_err(|error| format!("{error:#}"))
        };
        let good = State { step: 7, epoch: 7, passes: 7, ..State::default() };
        refused(&good).unwrap();
        let mut waited = good.clone();
        waited.validation.early_stopping.waited = u64::MAX;
        let before_end = Some(waited.validation.clone());
        for (state, part) in [
            (State { step: u64::MAX, ..good.clone() }, "step is 18446744073709551615"),
            (State { epoch: 9, ..good.clone() }, "epoch is 9"),
            (State { passes: u64::MAX, ..good.clone() }, "passes is"),
            (State { before_end, ..good.clone() }, "waited is"),
            (waited, "waited is"),
        ] {
            let error = refused(&state).unwrap_err();
            for part in [part, "state.json", "damaged", "to resume from the checkpoint before"] {
                assert!(error.contains(part), "{part} is not in: {error}");
            }
        }
        let batch = State { batch: 16, ..good };
        batch.require_batch_of_epoch(17, &folder).unwrap();
        let error = batch.require_batch_of_epoch(16, &folder).unwrap_err().to_string();
        assert!(error.contains("state.json") && error.contains("batch is 16"), "{error}");
    }

    #[test]
    fn update_replaces_only_the_state_of_its_own_checkpoint() {
        let run = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::of(run.path(), 2);
        save(&checkpoints, 5);
        let mut state = State { step: 5, pending: true, ..State::default() };
        state.validation.best_step = 5;
        checkpoints.update(&state).unwrap();
        let (folder, read) = checkpoints.latest().unwrap().unwrap();
        assert_eq!(State { format: String::new(), ..read }, state);
        assert_eq!(std::fs::read_to_string(folder.join(NETWORK)).unwrap(), "5");
        checkpoints.update(&State { step: 6, ..state }).unwrap();
        assert_eq!(checkpoints.steps().unwrap(), [5]);
    }

    #[test]
    fn failure_to_remove_an_old_checkpoint_does_not_end_the_run() {
        let run = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::of(run.path(), 1);
        std::fs::create_dir(run.path().join(FOLDER)).unwrap();
        // Not a folder, and so not to be removed as one.
        std::fs::write(checkpoints.path(1), "").unwrap();
        save(&checkpoints, 2);
        save(&checkpoints, 3);
        assert_eq!(checkpoints.latest().unwrap().unwrap().1.step, 3);
        assert!(!checkpoints.path(2).exists());
    }

    #[cfg(unix)]
    #[test]
    fn checkpoints_have_the_usual_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let run = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::of(run.path(), 1);
        let mode = std::fs::metadata(save(&checkpoints, 1)).unwrap().permissions().mode();
        let usual = std::fs::metadata(run.path().join(FOLDER)).unwrap().permissions().mode();
        assert_eq!(mode, usual);
    }
}
