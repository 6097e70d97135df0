//! How a run begins, or continues from a checkpoint.

use std::fs::File;

use anyhow::{Context, Result, bail};
use bc_formats::atomic;
use bc_formats::config::{Config, TrainConfig};
use bc_ranks::Ranks;
use serde_json::Value;

use crate::best::{self, BEST};
use crate::checkpoint::{BEST_BEFORE_END, Checkpoints, State};
use crate::ending::{best_figure, end, warn_of_other_length, warn_of_other_machine, warn_of_other_ranks};
use crate::folder::{self, CONFIG};
use crate::learner::Learner;
use crate::machine::Machine;
use crate::memory_check::MemoryCheck;
use crate::ranks::print_once;
use crate::record::{Line, Recorder, Resumed, StartLine, now};
pub use crate::session::Outcome;
use crate::session::Session;
use crate::settings;
use crate::setup::Setup;

/// What to do with an existing run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Whether it is an error if there is nothing to resume.
    pub resume: bool,
    /// Whether an existing run is removed.
    pub fresh: bool,
}

/// Trains in this process alone, or continues with a run that is not complete.
///
/// # Errors
/// Data that cannot be trained on; a run folder of other settings, of another process, or with a configuration
/// that is not a run's; a loss that is not finite; a full disk.
pub fn train(config: &Config, options: Options) -> Result<Outcome> {
    train_with(config, options, &Ranks::alone())
}

/// Trains as one of several ranks. All of them call it; only rank 0 writes files and prints.
///
/// # Errors
/// The errors of [`train`]; ranks whose configuration, data or machines differ; a rank that has ended.
pub fn train_with(config: &Config, options: Options, ranks: &Ranks) -> Result<Outcome> {
    let run = &config.train.run;
    let setup = ranks.first_then_others(|| Setup::new(config, ranks))?;
    let settings = settings::of(config, &setup.data)?;
    let mut checkpoints = Checkpoints::of(run, config.train.keep_checkpoints);
    if !ranks.is_first() {
        checkpoints = checkpoints.read_only();
    }
    let saved = if options.fresh { None } else { checkpoints.latest()? };
    if saved.is_none() && options.resume {
        bail!("{}: there is no checkpoint to resume from; start without --resume", run.display());
    }
    if saved.is_none() {
        folder::refuse_foreign_config(run)?;
    }
    let machine = Machine::current(ranks.size());
    let step = saved.as_ref().map(|(_, saved)| saved.step);
    refuse_other_ranks(ranks, &settings, &config.train, &machine, step)?;
    let mut learner = setup.learner(config, ranks)?;
    let memory_check = MemoryCheck::new(config, &setup, learner.network(), ranks)?;
    let (mut state, resumed) = match saved {
        None => (begin(config, &setup, &mut learner, ranks)?, Resumed::Never),
        Some((folder, saved)) => {
            folder::refuse_other_settings(run, &saved.settings, &settings)?;
            if let Some(complete) = complete(config, &saved) {
                print_once(ranks, complete);
                return Ok(Outcome::NothingToDo);
            }
            learner.load(&folder)?;
            print_once(ranks, format!("{}: resuming after step {}", run.display(), saved.step));
            warn_of_other_length(&setup.schedule, &saved);
            warn_of_other_machine(&saved, &machine.instruction_set);
            warn_of_other_ranks(config, &saved, ranks.size());
            resume(config, saved)
        }
    };
    memory_check.check()?;
    state.settings = settings;
    state.total_steps = setup.schedule.total_steps;
    state.instruction_set.clone_from(&machine.instruction_set);
    state.ranks = ranks.size();
    let prolonged = resumed != Resumed::Never && end(config, &state).is_none();
    let _lock =
        ranks.is_first().then(|| take_folder(config, options, &setup, &checkpoints, &state)).transpose()?;
    if prolonged {
        undo_final_validation(config, &checkpoints, &mut state, ranks)?;
    }
    let recorder = match ranks.is_first() {
        true => record(config, resumed, StartLine { step: state.step, machine, time: now() })?,
        false => Recorder::disabled(),
    };
    // After this, rank 0 holds the folder's lock, or all ranks have failed.
    ranks.wait()?;
    let session = Session::new(config, setup, learner, state, checkpoints, recorder, ranks.clone());
    session.work().map_err(|error| memory_check.explain(error))
}

/// Ranks that were started differently would train different networks, or wait for each other for ever.
fn refuse_other_ranks(
    ranks: &Ranks,
    settings: &Value,
    train: &TrainConfig,
    machine: &Machine,
    step: Option<u64>,
) -> Result<()> {
    ranks.require_same("the configuration or the data", &settings.to_string()).context(
        "all ranks need one configuration and one index and features, on a file system that all of them see",
    )?;
    // These may change at a resume and are no settings, but decide which messages come next. (A backward pass that
    // recomputes activations asks the others for the statistics of its norms again.)
    let course = serde_json::json!({
        "epochs": train.epochs,
        "max_steps": train.max_steps,
        "early_stopping": train.early_stopping,
        "checkpoint_every_steps": train.checkpoint_every_steps,
        "recompute_activations": train.recompute_activations,
    });
    ranks.require_same("when the run saves and ends, or what it recomputes", &course.to_string()).context(
        "all ranks need the same epochs, max_steps, early_stopping, checkpoint_every_steps and recompute_activations",
    )?;
    ranks
        .require_same("the instruction set", &machine.instruction_set)
        .context("ranks on such machines would differ in the last bits; take machines of one kind")?;
    let step = step.map_or_else(|| "none".to_owned(), |step| format!("step {step}"));
    ranks
        .require_same("the latest checkpoint", &step)
        .context("the run's folder must be on a file system that all ranks see alike; start again")
}

/// Returns the state to continue from, and which lines the record keeps.
fn resume(config: &Config, saved: State) -> (State, Resumed) {
    let state = State { stopped_early: false, ..saved };
    let prolonged = end(config, &state).is_none();
    let validated = !state.pending || (prolonged && state.before_end.is_some());
    let resumed = Resumed::After { step: state.step, validated };
    (state, resumed)
}

/// Locks the folder for this process, and empties it for a fresh run.
fn take_folder(
    config: &Config,
    options: Options,
    setup: &Setup,
    checkpoints: &Checkpoints,
    state: &State,
) -> Result<File> {
    let run = &config.train.run;
    let lock = folder::lock(run)?;
    if options.fresh {
        // Only now, after all checks: a refused run must not remove an old one.
        folder::empty(run, &setup.data.mapped_file())?;
    } else if checkpoints.latest()?.map_or(0, |(_, state)| state.step) != state.step {
        bail!("{}: another process has trained in it meanwhile; start again", run.display());
    }
    Ok(lock)
}

/// Writes the resolved configuration and opens the record.
fn record(config: &Config, resumed: Resumed, start: StartLine) -> Result<Recorder> {
    atomic::write(&config.train.run.join(CONFIG), config.to_commented_toml())?;
    let mut recorder = Recorder::open(&config.train.run, resumed)?;
    recorder.add(Line::Start(start))?;
    Ok(recorder)
}

/// Returns the state before the first step of a new run.
fn begin(config: &Config, setup: &Setup, learner: &mut Learner, ranks: &Ranks) -> Result<State> {
    if let Some(note) = learner.load_init()? {
        print_once(ranks, note);
    }
    let pending = config.train.validate_at_start && setup.data.validation_obstacle().is_none();
    Ok(State { pending, ..State::default() })
}

/// Returns the message that there is nothing left to do, with what would continue the run; `None` if there is.
fn complete(config: &Config, saved: &State) -> Option<String> {
    end(config, saved).filter(|_| !saved.pending).map(|end| {
        format!(
            "{}: nothing to do, training is complete ({} steps, best {}): {end}; --fresh starts again",
            config.train.run.display(),
            saved.step,
            best_figure(config, saved)
        )
    })
}

/// For a run that is extended after it ended between two planned validations: reverts what its last validation changed,
/// so that the run continues as if it had never ended.
fn undo_final_validation(
    config: &Config,
    checkpoints: &Checkpoints,
    state: &mut State,
    ranks: &Ranks,
) -> Result<()> {
    let Some(before) = state.before_end.clone() else { return Ok(()) };
    state.validation = before;
    // If the run is resumed without being extended after all, the end is done again.
    state.pending = true;
    checkpoints.update(state)?;
    (state.pending, state.before_end) = (false, None);
    if !ranks.is_first() {
        return Ok(());
    }
    let (destination, saved) =
        (config.train.run.join(BEST), checkpoints.path(state.step).join(BEST_BEFORE_END));
    best::tidy(&config.train.run, state.validation.ranking.iter());
    if !saved.exists() {
        // There was no best network before; the first validation to come is better than none, and writes over it.
        return Ok(());
    }
    let bytes = std::fs::read(&saved).with_context(|| format!("cannot read {}", saved.display()))?;
    atomic::write(&destination, bytes)
}
