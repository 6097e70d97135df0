//! The training loop: from a configuration to a finished run, or on from a checkpoint.

use std::time::Instant;

use anyhow::{Result, bail};
use bc_cli::progress::{self, ProgressBar};
use bc_formats::atomic;
use bc_formats::config::{Config, Figure};

use crate::checkpoint::{Checkpoints, State};
use crate::data::{Batch, Loader};
use crate::folder::{self, BEST, CONFIG};
use crate::learner::{Learner, Losses};
use crate::record::{Line, Recorder, StepLine, ValidationLine, now};
use crate::schedule::{Schedule, Shape};
use crate::setup::{Setup, last_step};
use crate::validate::{Figures, validate};

/// What to do with a run that is already there.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// There must be something to resume.
    pub resume: bool,
    /// What is there is removed.
    pub fresh: bool,
}

/// How a call of [`train`] ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The run was complete before.
    NothingToDo,
    /// Ctrl-C: saved, to be resumed.
    Interrupted,
    /// Complete.
    Finished,
}

/// Trains, or goes on with a run that is not complete.
///
/// # Errors
/// Data that cannot be trained on; a run folder of other settings, of another process, or with a configuration
/// that is not a run's; a loss that is not
/// finite; a full disk.
pub fn train(config: &Config, options: Options) -> Result<Outcome> {
    let run = &config.train.run;
    let setup = Setup::new(config)?;
    let settings = setup.settings(config)?;
    let checkpoints = Checkpoints::of(run, config.train.keep_checkpoints);
    let found = if options.fresh { None } else { checkpoints.latest()? };
    if found.is_none() && options.resume {
        bail!("{}: there is no checkpoint to resume from; start without --resume", run.display());
    }
    if found.is_none() {
        folder::refuse_foreign_config(run)?;
    }
    let mut learner = setup.learner(config)?;
    let mut state = if let Some((folder, mut saved)) = found {
        folder::refuse_other_settings(run, &saved.settings, &settings)?;
        if let Some(end) = end(config, &saved) {
            progress::line(format!(
                "{}: nothing to do, training is complete ({} steps, best {}): {end}; --fresh starts again",
                run.display(),
                saved.step,
                best(config, &saved)
            ));
            return Ok(Outcome::NothingToDo);
        }
        saved.stopped_early = false;
        learner.load(&folder)?;
        progress::line(format!("{}: resuming after step {}", run.display(), saved.step));
        tell_of_another_end(&setup.schedule, &saved);
        saved
    } else {
        learner.begin()?;
        State { settings, ..State::default() }
    };
    state.total_steps = setup.schedule.total_steps;
    let _lock = folder::lock(run)?;
    if options.fresh {
        // Only now: whatever can be refused was, and a refusal costs no old run.
        folder::empty(run, &setup.data.mapped_file())?;
    } else if checkpoints.latest()?.map_or(0, |(_, state)| state.step) != state.step {
        bail!("{}: another process has trained in it meanwhile; start again", run.display());
    }
    atomic::write(&run.join(CONFIG), config.to_commented_toml())?;
    let recorder = Recorder::open(run, state.step)?;
    let bar = progress::bar(last_step(config, &setup.schedule), "train", "steps");
    Run { config, setup, learner, state, checkpoints, recorder, bar, began: Instant::now(), items: 0 }.go_on()
}

struct Run<'a> {
    config: &'a Config,
    setup: Setup,
    learner: Learner,
    state: State,
    checkpoints: Checkpoints,
    recorder: Recorder,
    bar: ProgressBar,
    /// Since when, and how many items since then: this call's share of the run.
    began: Instant,
    items: usize,
}

impl Run<'_> {
    fn go_on(mut self) -> Result<Outcome> {
        let config = &self.config.train;
        let can_validate = self.setup.data.can_validate();
        if !can_validate {
            tracing::warn!(
                "the validation split has no clique with two versions: no validation, the last network counts as the best"
            );
        }
        let mut loader = Loader::start(
            self.setup.assembler.clone(),
            self.setup.sampler.clone(),
            config.workers,
            self.state.epoch,
            self.state.batch,
            config.epochs,
        );
        self.bar.set_position(self.state.step);
        let mut finished = end(self.config, &self.state).is_some();
        while !finished {
            let line = self.step(&mut loader)?;
            let (epoch, pass_ended) = (line.epoch, self.advance());
            self.show(&line);
            self.recorder.add(Line::Step(line))?;

            finished = end(self.config, &self.state).is_some();
            let due = pass_ended
                && config.validate_every_passes > 0
                && self.state.passes.is_multiple_of(config.validate_every_passes);
            if can_validate && (due || finished) {
                self.validate(epoch)?;
                finished |= self.state.stopped_early;
            } else if finished {
                self.learner.save_best(&config.run.join(BEST))?;
                self.state.best_step = self.state.step;
            }
            let stop = bc_cli::interrupt::requested();
            let periodic = self.state.step.is_multiple_of(config.checkpoint_every_steps);
            if finished || stop || periodic || self.state.validated_step == Some(self.state.step) {
                self.save()?;
            }
            if stop && !finished {
                self.bar.abandon();
                self.recorder.draw()?;
                progress::line(format!(
                    "stopped after step {}, saved in {}; the same command with --resume goes on",
                    self.state.step,
                    self.checkpoints.path(self.state.step).display()
                ));
                return Ok(Outcome::Interrupted);
            }
        }
        self.bar.finish_and_clear();
        self.recorder.draw()?;
        self.tell_the_end(&loader);
        Ok(Outcome::Finished)
    }

    /// One step of the optimiser, from as many batches as it takes.
    fn step(&mut self, loader: &mut Loader) -> Result<StepLine> {
        let (started, waited) = (Instant::now(), loader.waited);
        let per_pass = self.setup.sampler.batches_per_pass();
        let (mut sum, mut batches, mut items) = (Losses::default(), 0, 0);
        let rate = self.setup.schedule.rate(self.state.step, self.state.reductions);
        let length_s = loop {
            let batch = loader.expect(self.state.epoch, self.state.batch)?;
            let losses = self.learner.accumulate(&batch)?;
            if !losses.sum.is_finite() {
                bail!("{}", self.not_finite("the loss", losses.sum, &batch));
            }
            sum.add(&losses);
            batches += 1;
            items += batch.items.len();
            self.state.batch += 1;
            if batches == self.config.train.accumulate || self.state.batch.is_multiple_of(per_pass) {
                sum.gradient_norm = self.learner.step(rate, batches)?;
                if !sum.gradient_norm.is_finite() {
                    bail!("{}", self.not_finite("the gradient", sum.gradient_norm, &batch));
                }
                break batch.length_s;
            }
        };
        self.items += items;
        let seconds = started.elapsed().as_secs_f64();
        Ok(StepLine {
            step: self.state.step + 1,
            epoch: self.state.epoch,
            length_s,
            loss: sum.sum / batches as f32,
            classification: sum.classification / batches as f32,
            triplet: sum.triplet / batches as f32,
            gradient_norm: sum.gradient_norm,
            learning_rate: rate,
            samples_per_s: items as f64 / seconds,
            waiting_share: (loader.waited - waited).as_secs_f64() / seconds,
            time: now(),
        })
    }

    /// Moves the position behind the step just made; whether a pass has ended with it.
    fn advance(&mut self) -> bool {
        self.state.step += 1;
        let pass_ended = self.state.batch.is_multiple_of(self.setup.sampler.batches_per_pass());
        if pass_ended {
            self.state.passes += 1;
        }
        if self.state.batch == self.setup.sampler.batches_per_epoch() {
            self.state.epoch += 1;
            self.state.batch = 0;
        }
        pass_ended
    }

    /// Measures, keeps the best network, moves the plateau schedule, decides on an early stop.
    fn validate(&mut self, epoch: u64) -> Result<()> {
        let started = Instant::now();
        let config = &self.config.train;
        let figures = self.learner.with_average(|learner| {
            validate(
                learner,
                &self.setup.data,
                &self.setup.input,
                config.distance,
                config.margin,
                config.seed,
            )
        })?;
        let (figure, higher) = chosen(config.figure, &figures);
        let better = self.state.best.observe(figure, higher);
        if better {
            self.state.best_step = self.state.step;
            self.learner.save_best(&config.run.join(BEST))?;
        }
        if let Shape::Plateau { patience, .. } = self.setup.schedule.shape {
            self.state.plateau.observe(figure, higher);
            if self.state.plateau.waited > patience {
                self.state.reductions += 1;
                self.state.plateau.waited = 0;
            }
        }
        self.state.validated_step = Some(self.state.step);
        self.state.stopped_early =
            config.early_stopping > 0 && self.state.best.waited >= config.early_stopping;
        let line = ValidationLine {
            step: self.state.step,
            epoch,
            map: figures.map,
            mr1: figures.mr1,
            hit_at_1: figures.hit_at_1,
            triplet: figures.triplet,
            best: better,
            seconds: started.elapsed().as_secs_f64(),
            time: now(),
        };
        progress::line(format!(
            "step {:>6}  epoch {:>4}  validation mAP {:.4}  MR1 {:.2}  hit@1 {:.3}  triplet {:.3}{}",
            line.step,
            epoch + 1,
            line.map,
            line.mr1,
            line.hit_at_1,
            line.triplet,
            if better { "  best" } else { "" }
        ));
        self.recorder.add(Line::Validation(line))?;
        self.recorder.draw()
    }

    fn save(&self) -> Result<()> {
        self.checkpoints.save(&self.state, |folder| self.learner.save(folder)).map(drop)
    }

    fn show(&self, line: &StepLine) {
        self.bar.set_position(line.step);
        self.bar.set_message(format!(
            "epoch {} loss {:.3} (ce {:.3}, triplet {:.3}) {:.0}/s best {}",
            line.epoch + 1,
            line.loss,
            line.classification,
            line.triplet,
            self.items as f64 / self.began.elapsed().as_secs_f64(),
            best(self.config, &self.state),
        ));
    }

    fn tell_the_end(&self, loader: &Loader) {
        let seconds = self.began.elapsed().as_secs_f64();
        let run = &self.config.train.run;
        progress::line(format!(
            "{}: {} steps in {seconds:.0} s ({:.1} samples/s, {:.1} % of the time waiting for data), best {}",
            run.display(),
            self.state.step,
            self.items as f64 / seconds,
            100.0 * loader.waited.as_secs_f64() / seconds,
            best(self.config, &self.state),
        ));
        if let (true, Some(end)) = (self.state.stopped_early, end(self.config, &self.state)) {
            progress::line(end);
        }
        progress::line(format!("the network: {}", run.join(BEST).display()));
    }

    fn not_finite(&self, what: &str, value: f32, batch: &Batch) -> String {
        let tracks = self.setup.data.store.tracks();
        let ids: Vec<&str> =
            batch.items.iter().map(|&item| tracks[item as usize].version_id.as_str()).collect();
        let saved = match self.checkpoints.latest() {
            Ok(Some((folder, _))) => format!(
                "the last good checkpoint is {}; look at the features of these versions, or begin a new run from \
                 its network with a lower learning rate or clip_norm (--set train.init={})",
                folder.display(),
                folder.join(crate::checkpoint::NETWORK).display()
            ),
            _ => {
                "there is no checkpoint yet; look at the features of these versions, or try a lower learning \
                  rate or clip_norm"
                    .to_owned()
            }
        };
        format!(
            "{what} is {value} at step {} (epoch {}, batch {}), whose last batch holds the versions {}; {saved}",
            self.state.step + 1,
            batch.epoch + 1,
            batch.index,
            ids.join(", ")
        )
    }
}

/// The validation figure that chooses, and whether more of it is better.
fn chosen(figure: Figure, figures: &Figures) -> (f64, bool) {
    match figure {
        Figure::Map => (figures.map, true),
        Figure::Loss => (figures.triplet, false),
    }
}

/// A rate that falls to the last step depends on where that is.
fn tell_of_another_end(schedule: &Schedule, saved: &State) {
    if schedule.shape != Shape::Cosine || [0, schedule.total_steps].contains(&saved.total_steps) {
        return;
    }
    let before = Schedule { total_steps: saved.total_steps, ..*schedule };
    let rate = |schedule: &Schedule| schedule.rate(saved.step, saved.reductions);
    tracing::warn!(
        "the run was planned for {} steps and is now for {}: its cosine goes on at a rate of {:.1e} instead of {:.1e}",
        saved.total_steps,
        schedule.total_steps,
        rate(schedule),
        rate(&before)
    );
}

fn best(config: &Config, state: &State) -> String {
    let name = match config.train.figure {
        Figure::Map => "mAP",
        Figure::Loss => "triplet loss",
    };
    state.best.best.map_or_else(|| "-".to_owned(), |figure| format!("{name} {figure:.4}"))
}

/// Why training is complete and what would prolong it, or `None` if it is not.
fn end(config: &Config, state: &State) -> Option<String> {
    let train = &config.train;
    if state.epoch >= train.epochs {
        return Some(format!("all {} epochs are done (a larger train.epochs goes on)", state.epoch));
    }
    if train.max_steps > 0 && state.step >= train.max_steps {
        return Some(format!(
            "train.max_steps = {} is reached (a larger one, or 0, goes on)",
            train.max_steps
        ));
    }
    // Asked anew on a resume: early_stopping may have been raised or switched off since.
    (state.stopped_early && train.early_stopping > 0 && state.best.waited >= train.early_stopping).then(
        || {
            format!(
                "stopped early after {} validations without a better figure (--resume with a larger \
             train.early_stopping, or 0, goes on)",
                state.best.waited
            )
        },
    )
}
