//! Starts a run, or continues it from its latest checkpoint.
//!
//! [`train_with`] reads the data, finds the latest checkpoint, checks that all ranks agree, prepares the network, locks the
//! run's folder, and hands over to a [`Session`], which trains.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};
use bc_formats::atomic;
use bc_formats::config::{Config, TrainConfig};
use bc_ranks::Ranks;
use serde_json::Value;

use crate::best::{self, BEST};
use crate::checkpoint::{BEST_BEFORE_END, Checkpoints, NETWORK, State};
use crate::ending::{
    best_figure, completion_reason, warn_of_other_length, warn_of_other_machine, warn_of_other_ranks,
};
use crate::folder::{self, CONFIG};
use crate::learner::Learner;
use crate::machine::Machine;
use crate::memory_check::{MemoryCheck, require_memory_for_network};
use crate::ranks::print_once;
use crate::record::{Line, Recorder, Resumed, StartLine, now};
use crate::schedule::Patience;
pub use crate::session::Outcome;
use crate::session::Session;
use crate::settings;
use crate::setup::Setup;

/// What to do with an existing run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Whether it is an error if there is no checkpoint to resume from.
    pub resume: bool,
    /// Whether an existing run is removed, and training starts again.
    pub fresh: bool,
}

/// Trains in this process alone; continues a run that is not complete.
///
/// # Errors
/// Data that cannot be trained on; a run folder that holds a run of other settings, that another process trains in, or
/// whose `config.toml` no run wrote; a loss that is not finite; a full disk.
pub fn train(config: &Config, options: Options) -> Result<Outcome> {
    train_with(config, options, &Ranks::alone())
}

/// Trains as one of several ranks. Every rank calls this function; only rank 0 writes files and prints.
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
    let saved_step = saved.as_ref().map(|(_, saved)| saved.step);
    require_same_on_all_ranks(ranks, &settings, &config.train, &machine, saved_step)?;
    require_memory_for_network(config, &setup)?;
    let mut learner = setup.new_learner(config, ranks)?;
    let memory_check = MemoryCheck::new(config, &setup, learner.network(), ranks)?;
    let (mut state, resumed) = match saved {
        None => (initial_state(config, &setup, &mut learner, ranks)?, Resumed::Never),
        Some((folder, saved)) => {
            folder::refuse_other_settings(run, &saved.settings, &settings)?;
            saved.require_batch_of_epoch(setup.sampler.batches_per_epoch(), &folder)?;
            if let Some(message) = nothing_to_do_message(config, &saved) {
                print_once(ranks, message);
                warn_of_lost_best(run, &folder)?;
                return Ok(Outcome::NothingToDo);
            }
            learner.load(&folder)?;
            print_once(ranks, format!("{}: resuming after step {}", run.display(), saved.step));
            warn_of_other_length(&setup.schedule, &saved);
            warn_of_other_machine(&saved, &machine.instruction_set);
            warn_of_other_ranks(config, &saved, ranks.size());
            resumed_state(config, saved)
        }
    };
    memory_check.check()?;
    state.settings = settings;
    state.total_steps = setup.schedule.total_steps;
    state.instruction_set.clone_from(&machine.instruction_set);
    state.ranks = ranks.size();
    // Held until the session ends.
    let _lock =
        ranks.is_first().then(|| lock_folder(config, options, &setup, &checkpoints, &state)).transpose()?;
    if resumed != Resumed::Never {
        prepare_best(config, &checkpoints, &mut learner, &mut state, ranks)?;
    }
    let recorder = match ranks.is_first() {
        true => open_recorder(config, resumed, StartLine { step: state.step, machine, time: now() })?,
        false => Recorder::disabled(),
    };
    // No rank trains before rank 0 holds the folder's lock.
    ranks.wait()?;
    let session = Session::new(config, setup, learner, state, checkpoints, recorder, ranks.clone());
    session.run().map_err(|error| memory_check.explain(error))
}

/// Refuses ranks that were started differently: they would train different networks, or wait for each other for ever.
/// `saved_step` is the step of the latest checkpoint that this rank sees.
fn require_same_on_all_ranks(
    ranks: &Ranks,
    settings: &Value,
    train: &TrainConfig,
    machine: &Machine,
    saved_step: Option<u64>,
) -> Result<()> {
    ranks.require_same("the configuration or the data", &settings.to_string()).context(
        "all ranks need one configuration and one index and features, on a file system that all of them see",
    )?;
    // These may change when a run is resumed and so are not in `settings`, but ranks that disagree on them would expect
    // different messages. (A backward pass that recomputes activations exchanges batch norm statistics again.)
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
    let checkpoint = saved_step.map_or_else(|| "none".to_owned(), |step| format!("step {step}"));
    ranks
        .require_same("the latest checkpoint", &checkpoint)
        .context("the run's folder must be on a file system that all ranks see alike; start again")
}

/// Returns the state to continue from, and the point up to which the record is kept.
fn resumed_state(config: &Config, saved: State) -> (State, Resumed) {
    let state = State { stopped_early: false, ..saved };
    let continues = completion_reason(config, &state).is_none();
    let validated = !state.pending || (continues && state.before_end.is_some());
    let resumed = Resumed::After { step: state.step, validated };
    (state, resumed)
}

/// Locks the run's folder for this process, and removes the old run's files if a fresh run was requested.
fn lock_folder(
    config: &Config,
    options: Options,
    setup: &Setup,
    checkpoints: &Checkpoints,
    state: &State,
) -> Result<File> {
    let run = &config.train.run;
    let lock = folder::lock(run)?;
    if options.fresh {
        // After all checks, because a run that is refused must not remove an old one.
        folder::remove_run_files(run, &setup.data.mapped_file())?;
    } else if checkpoints.latest()?.map_or(0, |(_, state)| state.step) != state.step {
        bail!("{}: another process has trained in it meanwhile; start again", run.display());
    }
    Ok(lock)
}

/// Writes the resolved configuration and opens the record.
fn open_recorder(config: &Config, resumed: Resumed, start: StartLine) -> Result<Recorder> {
    atomic::write(&config.train.run.join(CONFIG), config.to_commented_toml())?;
    let mut recorder = Recorder::open(&config.train.run, resumed)?;
    recorder.add(Line::Start(start))?;
    Ok(recorder)
}

/// Loads the weights of `[train] init`, if any, and returns the state before the first step of a new run.
fn initial_state(config: &Config, setup: &Setup, learner: &mut Learner, ranks: &Ranks) -> Result<State> {
    if let Some(note) = learner.load_init()? {
        print_once(ranks, note);
    }
    let pending = config.train.validate_at_start && setup.data.validation_obstacle().is_none();
    Ok(State { pending, ..State::default() })
}

/// Returns the message for a run that is complete, with the setting that would continue it; `None` if it is not complete.
fn nothing_to_do_message(config: &Config, saved: &State) -> Option<String> {
    completion_reason(config, saved).filter(|_| !saved.pending).map(|end| {
        format!(
            "{}: nothing to do, training is complete ({} steps, best {}): {end}; --fresh starts again",
            config.train.run.display(),
            saved.step,
            best_figure(config, saved)
        )
    })
}

/// Warns if a complete run has lost its best network; `checkpoint` is the folder of its last checkpoint.
fn warn_of_lost_best(run: &Path, checkpoint: &Path) -> Result<()> {
    if let Some(damage) = best::damage(run)? {
        tracing::warn!(
            "{damage}: the best network of the run is lost, unless a prolonged run (--resume with a larger train.epochs) can \
             restore it; the last network is {}",
            checkpoint.join(NETWORK).display()
        );
    }
    Ok(())
}

/// Makes the best network of a resumed run, and what is known of it, those that the run continues from.
fn prepare_best(
    config: &Config,
    checkpoints: &Checkpoints,
    learner: &mut Learner,
    state: &mut State,
    ranks: &Ranks,
) -> Result<()> {
    if completion_reason(config, state).is_none() {
        undo_final_validation(config, checkpoints, state, ranks)?;
    }
    restore_lost_best(config, checkpoints, learner, state, ranks)
}

/// Restores the best network of a resumed run if the file was removed or damaged. Where no copy is left, a warning says so,
/// and the next validation chooses a best network as if there had been none.
fn restore_lost_best(
    config: &Config,
    checkpoints: &Checkpoints,
    learner: &mut Learner,
    state: &mut State,
    ranks: &Ranks,
) -> Result<()> {
    let is_lost = ranks.is_first()
        && state.validation.early_stopping.best.is_some()
        && !is_best_restored(config, checkpoints, learner, state)?;
    let [is_lost] = ranks.any([is_lost])?;
    if is_lost {
        state.validation.early_stopping = Patience::default();
    }
    Ok(())
}

/// Returns whether there is a best network, if necessary after restoring it: from the folder of best networks, from the
/// checkpoint of its step, or from `learner`, which holds the network of the resumed step.
fn is_best_restored(
    config: &Config,
    checkpoints: &Checkpoints,
    learner: &mut Learner,
    state: &State,
) -> Result<bool> {
    let (run, step) = (&config.train.run, state.validation.best_step);
    let Some(damage) = best::damage(run)? else { return Ok(true) };
    if step == state.step {
        learner.export(&run.join(BEST))?;
        tracing::warn!("{damage}: restored, since the best network is that of the checkpoint");
        return Ok(true);
    }
    let mut copies = vec![best::path(run, step)];
    // A checkpoint of a run with a moving average, which is what is validated, holds it in another form.
    if config.train.ema == 0.0 {
        copies.push(checkpoints.path(step).join(NETWORK));
    }
    let copy = best::restore_from(run, &copies)?;
    match &copy {
        Some(copy) => tracing::warn!("{damage}: restored from {}", copy.display()),
        None => tracing::warn!(
            "{damage}, and no copy of the network of step {step} is left: the next validation chooses the best network anew"
        ),
    }
    Ok(copy.is_some())
}

/// Reverts what the final validation changed, if the run is extended after it ended between two planned validations, so
/// that it continues as if it had never ended.
fn undo_final_validation(
    config: &Config,
    checkpoints: &Checkpoints,
    state: &mut State,
    ranks: &Ranks,
) -> Result<()> {
    let Some(before) = state.before_end.clone() else { return Ok(()) };
    state.validation = before;
    // In the file the final validation is pending again, in case the next resume does not extend the run after all.
    state.pending = true;
    checkpoints.update(state)?;
    (state.pending, state.before_end) = (false, None);
    if !ranks.is_first() {
        return Ok(());
    }
    let (destination, saved) =
        (config.train.run.join(BEST), checkpoints.path(state.step).join(BEST_BEFORE_END));
    best::remove_unlisted(&config.train.run, state.validation.ranking.iter());
    if !saved.exists() {
        // There was no best network before the end. The next validation will be the best so far and replace the file.
        return Ok(());
    }
    let bytes = std::fs::read(&saved).with_context(|| format!("cannot read {}", saved.display()))?;
    atomic::write(&destination, bytes)
}
