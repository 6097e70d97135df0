//! How a run begins, or continues from a checkpoint.

use anyhow::{Context, Result, bail};
use bc_cli::progress;
use bc_formats::atomic;
use bc_formats::config::Config;

use crate::best::{self, BEST};
use crate::checkpoint::{BEST_BEFORE_END, Checkpoints, State};
use crate::ending::{best_figure, end, note_another_end, note_another_machine};
use crate::folder::{self, CONFIG};
use crate::learner::Learner;
use crate::machine::Machine;
use crate::record::{Line, Recorder, Resumed, StartLine, now};
pub use crate::session::Outcome;
use crate::session::Session;
use crate::settings;
use crate::setup::Setup;

/// What to do with a run that is already there.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// There must be something to resume.
    pub resume: bool,
    /// What is there is removed.
    pub fresh: bool,
}

/// Trains, or continues with a run that is not complete.
///
/// # Errors
/// Data that cannot be trained on; a run folder of other settings, of another process, or with a configuration
/// that is not a run's; a loss that is not finite; a full disk.
pub fn train(config: &Config, options: Options) -> Result<Outcome> {
    let run = &config.train.run;
    let setup = Setup::new(config)?;
    let settings = settings::of(config, &setup.data)?;
    let checkpoints = Checkpoints::of(run, config.train.keep_checkpoints);
    let saved = if options.fresh { None } else { checkpoints.latest()? };
    if saved.is_none() && options.resume {
        bail!("{}: there is no checkpoint to resume from; start without --resume", run.display());
    }
    if saved.is_none() {
        folder::refuse_foreign_config(run)?;
    }
    let mut learner = setup.learner(config)?;
    let machine = Machine::here();
    let (mut state, resumed) = match saved {
        None => (begin(config, &setup, &mut learner)?, Resumed::Never),
        Some((folder, saved)) => {
            folder::refuse_other_settings(run, &saved.settings, &settings)?;
            if is_complete(config, &saved) {
                return Ok(Outcome::NothingToDo);
            }
            learner.load(&folder)?;
            progress::line(format!("{}: resuming after step {}", run.display(), saved.step));
            note_another_end(&setup.schedule, &saved);
            note_another_machine(&saved, &machine.instruction_set);
            let state = State { stopped_early: false, ..saved };
            let prolonged = end(config, &state).is_none();
            let validated = !state.pending || (prolonged && state.before_end.is_some());
            let resumed = Resumed::After { step: state.step, validated };
            (state, resumed)
        }
    };
    state.settings = settings;
    state.total_steps = setup.schedule.total_steps;
    state.instruction_set.clone_from(&machine.instruction_set);
    let _lock = folder::lock(run)?;
    if options.fresh {
        // Only now: whatever can be refused was, and a refusal costs no old run.
        folder::empty(run, &setup.data.mapped_file())?;
    } else if checkpoints.latest()?.map_or(0, |(_, state)| state.step) != state.step {
        bail!("{}: another process has trained in it meanwhile; start again", run.display());
    }
    if resumed != Resumed::Never && end(config, &state).is_none() {
        take_back_the_end(config, &checkpoints, &mut state)?;
    }
    atomic::write(&run.join(CONFIG), config.to_commented_toml())?;
    let mut recorder = Recorder::open(run, resumed)?;
    recorder.add(Line::Start(StartLine { step: state.step, machine, time: now() }))?;
    Session::new(config, setup, learner, state, checkpoints, recorder).work()
}

/// Before the first step.
fn begin(config: &Config, setup: &Setup, learner: &mut Learner) -> Result<State> {
    if let Some(note) = learner.begin()? {
        progress::line(note);
    }
    let pending = config.train.validate_at_start && setup.data.why_no_validation().is_none();
    Ok(State { pending, ..State::default() })
}

/// Whether there is nothing left to do, which is then said with what would prolong the run.
fn is_complete(config: &Config, saved: &State) -> bool {
    let end = end(config, saved).filter(|_| !saved.pending);
    if let Some(end) = &end {
        progress::line(format!(
            "{}: nothing to do, training is complete ({} steps, best {}): {end}; --fresh starts again",
            config.train.run.display(),
            saved.step,
            best_figure(config, saved)
        ));
    }
    end.is_some()
}

/// Where a run is prolonged that ended between two validations of its plan: what its last validation changed is
/// as it was before, so that the run continues as one that never ended.
fn take_back_the_end(config: &Config, checkpoints: &Checkpoints, state: &mut State) -> Result<()> {
    let Some(before) = state.before_end.clone() else { return Ok(()) };
    state.standing = before;
    // Whoever resumes without prolonging it after all makes the end again.
    state.pending = true;
    checkpoints.update(state)?;
    (state.pending, state.before_end) = (false, None);
    let (at, kept) = (config.train.run.join(BEST), checkpoints.path(state.step).join(BEST_BEFORE_END));
    best::tidy(&config.train.run, state.standing.ranking.iter());
    if !kept.exists() {
        // There was no best one before; the first validation to come is better than none, and writes over it.
        return Ok(());
    }
    let bytes = std::fs::read(&kept).with_context(|| format!("cannot read {}", kept.display()))?;
    atomic::write(&at, bytes)
}
