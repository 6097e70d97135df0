//! One process's part of a run: steps, checkpoints and validations, until the end, a time limit or a signal.
//!
//! Whatever follows a step (its checkpoint, its validation, the end of the run) is completed before the next
//! one. The checkpoint comes first and marks the rest as pending; a process that resumes from it does
//! the rest again, with the same result.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bc_cli::interrupt;
use bc_cli::progress::{self, ProgressBar};
use bc_formats::atomic;
use bc_formats::config::{Config, Figure};
use bc_ranks::Ranks;

use crate::best::{self, BEST, RankedNetwork};
use crate::checkpoint::{BEST_BEFORE_END, Checkpoints, State};
use crate::data::{Batch, Loader};
use crate::ending::{best_figure, completion_reason};
use crate::folder::LAST;
use crate::learner::{Learner, Losses};
use crate::ranks::{SharedError, print_once};
use crate::record::{Line, Recorder, StepLine, ValidationLine, now};
use crate::schedule::Shape;
use crate::setup::{Setup, last_step};
use crate::validate::{Figures, validate};

/// How a call of [`crate::train::train`] ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The run was already complete.
    NothingToDo,
    /// Ctrl-C or SIGTERM: the run was saved and can be resumed; the text says where.
    Interrupted(String),
    /// `[train] max_minutes` are over: the run was saved and can be resumed.
    OutOfTime,
    /// The run is complete.
    Finished,
}

/// A run while a process works on it.
pub(crate) struct Session<'a> {
    config: &'a Config,
    setup: Setup,
    learner: Learner,
    state: State,
    checkpoints: Checkpoints,
    recorder: Recorder,
    bar: ProgressBar,
    /// When this process began to train.
    began: Instant,
    /// Number of items that this process has trained on.
    items: usize,
    /// When this process saved the last checkpoint, or began to train.
    saved: Instant,
    /// Whether the validation split suffices for a validation.
    can_validate: bool,
    ranks: Ranks,
}

impl<'a> Session<'a> {
    /// Creates a session that continues from `state`, whose tensors are in `learner`.
    pub(crate) fn new(
        config: &'a Config,
        setup: Setup,
        learner: Learner,
        state: State,
        checkpoints: Checkpoints,
        recorder: Recorder,
        ranks: Ranks,
    ) -> Self {
        let obstacle = setup.data.validation_obstacle();
        if let Some(reason) = obstacle {
            tracing::warn!(
                "the validation split {reason}: no validation, the last network counts as the best"
            );
        }
        let bar = match ranks.is_first() {
            true => progress::bar(last_step(config, &setup.schedule), "train", "steps"),
            false => ProgressBar::hidden(),
        };
        let now = Instant::now();
        Self {
            config,
            setup,
            learner,
            state,
            checkpoints,
            recorder,
            bar,
            began: now,
            items: 0,
            saved: now,
            can_validate: obstacle.is_none(),
            ranks,
        }
    }

    /// Trains until the run is complete, its time is over, or a signal comes.
    pub(crate) fn run(mut self) -> Result<Outcome> {
        let config = &self.config.train;
        let mut loader = Loader::start(
            self.setup.assembler.clone(),
            self.setup.sampler.clone(),
            config.workers,
            self.state.epoch,
            self.state.batch,
            config.epochs,
        );
        self.bar.set_position(self.state.step);
        loop {
            if self.state.pending && !self.finish_pending()? {
                return self.interrupted();
            }
            if completion_reason(self.config, &self.state).is_some() {
                break;
            }
            let over = config.max_minutes > 0.0 && self.began.elapsed() >= minutes(config.max_minutes);
            let [interrupted, over] = self.ranks.any([interrupt::requested(), over])?;
            if interrupted {
                return self.interrupted();
            }
            if over {
                return self.out_of_time();
            }
            let line = self.step(&mut loader)?;
            self.advance();
            self.update_bar(&line);
            self.recorder.add(Line::Step(line))?;
            let minutes_passed = config.checkpoint_every_minutes > 0.0
                && self.saved.elapsed() >= minutes(config.checkpoint_every_minutes);
            let [minutes_passed] = self.ranks.any([minutes_passed])?;
            let periodic = self.state.step.is_multiple_of(config.checkpoint_every_steps);
            if self.state.pending || periodic || minutes_passed {
                self.save()?;
            }
        }
        self.bar.finish_and_clear();
        self.recorder.draw();
        self.report_end(&loader)?;
        Ok(Outcome::Finished)
    }

    /// Makes one optimiser step, from as many batches as `[train] accumulate` says or the pass still has.
    fn step(&mut self, loader: &mut Loader) -> Result<StepLine> {
        let (started, waited) = (Instant::now(), loader.waited);
        let per_pass = self.setup.sampler.batches_per_pass();
        let (mut sum, mut batches, mut items) = (Losses::default(), 0, 0);
        let rate = self.setup.schedule.rate(self.state.step, self.state.validation.reductions);
        let length_s = loop {
            let batch = loader.expect(self.state.epoch, self.state.batch)?;
            batches += 1;
            items += batch.items.len();
            self.state.batch += 1;
            let last = batches == self.config.train.accumulate || self.state.batch.is_multiple_of(per_pass);
            let losses = self.learner.accumulate(&batch, last, loader.peek())?;
            if !losses.sum.is_finite() {
                return Err(self.not_finite_error("the loss", losses.sum, &batch));
            }
            sum.add(&losses);
            if last {
                sum.gradient_norm = self.learner.step(rate, batches)?;
                if !sum.gradient_norm.is_finite() {
                    return Err(self.not_finite_error("the gradient", sum.gradient_norm, &batch));
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

    /// Advances the position past the step just done, and records what is pending there.
    fn advance(&mut self) {
        self.state.step += 1;
        let pass_ended = self.state.batch.is_multiple_of(self.setup.sampler.batches_per_pass());
        if pass_ended {
            self.state.passes += 1;
        }
        if self.state.batch == self.setup.sampler.batches_per_epoch() {
            self.state.epoch += 1;
            self.state.batch = 0;
        }
        let every = self.config.train.validate_every_passes;
        let due = pass_ended && every > 0 && self.state.passes.is_multiple_of(every) && self.can_validate;
        let finished = completion_reason(self.config, &self.state).is_some();
        self.state.before_end = (finished && !due).then(|| self.state.validation.clone());
        self.state.pending = due || finished;
    }

    /// Completes the pending work of this step: the validation, and at the end of the run also a best
    /// network if no validation chose one. Returns false if a signal came first.
    fn finish_pending(&mut self) -> Result<bool> {
        if self.can_validate && !self.validate()? {
            return Ok(false);
        }
        if self.state.validation.early_stopping.best.is_none()
            && completion_reason(self.config, &self.state).is_some()
        {
            if self.can_validate {
                tracing::warn!("no validation gave a figure; the last network counts as the best");
            }
            export(&mut self.learner, &self.ranks, &self.config.train.run.join(BEST))?;
            self.state.validation.best_step = self.state.step;
        }
        if self.config.train.save_last && completion_reason(self.config, &self.state).is_some() {
            export(&mut self.learner, &self.ranks, &self.config.train.run.join(LAST))?;
        }
        self.state.pending = false;
        self.checkpoints.update(&self.state)?;
        Ok(true)
    }

    /// Validates the network, exports it if it is the best so far, updates the plateau schedule and decides on early
    /// stopping. Returns false, with nothing changed, if a signal came first.
    fn validate(&mut self) -> Result<bool> {
        let started = Instant::now();
        let config = &self.config.train;
        let figures = self.learner.with_average(|learner| {
            let (data, input) = (&self.setup.data, &self.setup.input);
            validate(learner, data, input, config, &self.ranks, &interrupt::requested)
        })?;
        let Some(figures) = figures else { return Ok(false) };
        let (figure, higher) = selection_figure(config.figure, &figures);
        let validation = &mut self.state.validation;
        let better = validation.early_stopping.observe(figure, higher);
        if better {
            validation.best_step = self.state.step;
            export(&mut self.learner, &self.ranks, &config.run.join(BEST))?;
        }
        let ranked = RankedNetwork { step: self.state.step, figure };
        if best::insert(&mut validation.ranking, ranked, higher, config.keep_best) && config.keep_best > 1 {
            export(&mut self.learner, &self.ranks, &best::path(&config.run, self.state.step))?;
        }
        // The networks of the ranking before the end are still needed if the run is extended later.
        let before = self.state.before_end.iter().flat_map(|before| &before.ranking);
        if self.ranks.is_first() {
            best::remove_unlisted(&config.run, validation.ranking.iter().chain(before));
        }
        if let Shape::Plateau { patience, .. } = self.setup.schedule.shape {
            validation.plateau.observe(figure, higher);
            if validation.plateau.waited > patience {
                validation.reductions += 1;
                validation.plateau.waited = 0;
            }
        }
        validation.validated_step = Some(self.state.step);
        self.state.stopped_early =
            config.early_stopping > 0 && validation.early_stopping.waited >= config.early_stopping;
        let line = ValidationLine {
            step: self.state.step,
            epoch: self.epoch_of_last_step(),
            map: figures.map,
            mr1: figures.mr1,
            hit_at_1: figures.hit_at_1,
            triplet: figures.triplet,
            best: better,
            scheduled: self.state.before_end.is_none(),
            seconds: started.elapsed().as_secs_f64(),
            time: now(),
        };
        self.print(format!(
            "step {:>6}  epoch {:>4}  validation mAP {:.4}  MR1 {:.2}  hit@1 {:.3}  triplet {:.3}{}",
            line.step,
            line.epoch + 1,
            line.map,
            line.mr1,
            line.hit_at_1,
            line.triplet,
            if better { "  best" } else { "" }
        ));
        self.recorder.add(Line::Validation(line))?;
        self.recorder.draw();
        Ok(true)
    }

    /// Returns the epoch of the last step, from 0; a step that ends an epoch belongs to it.
    fn epoch_of_last_step(&self) -> u64 {
        if self.state.batch == 0 { self.state.epoch.saturating_sub(1) } else { self.state.epoch }
    }

    /// Saves a checkpoint.
    fn save(&mut self) -> Result<()> {
        self.learner.check_ranks()?;
        let best = self.config.train.run.join(BEST);
        self.checkpoints.save(&self.state, |folder| {
            self.learner.save(folder)?;
            if self.state.before_end.is_some()
                && self.state.validation.early_stopping.best.is_some()
                && best.exists()
            {
                let bytes =
                    std::fs::read(&best).with_context(|| format!("cannot read {}", best.display()))?;
                atomic::write(&folder.join(BEST_BEFORE_END), bytes)?;
            }
            Ok(())
        })?;
        self.saved = Instant::now();
        Ok(())
    }

    /// Saves the run after Ctrl-C or SIGTERM.
    fn interrupted(mut self) -> Result<Outcome> {
        let saved = self.stop()?;
        Ok(Outcome::Interrupted(saved))
    }

    /// Saves the run when `[train] max_minutes` are over.
    fn out_of_time(mut self) -> Result<Outcome> {
        let saved = self.stop()?;
        self.print(format!(
            "{} minutes are over (train.max_minutes): {saved}",
            self.config.train.max_minutes
        ));
        Ok(Outcome::OutOfTime)
    }

    /// Saves a run that is not complete; returns a message that says where it was saved and how to continue.
    fn stop(&mut self) -> Result<String> {
        self.save()?;
        self.bar.abandon();
        self.recorder.draw();
        Ok(format!(
            "stopped after step {}, saved in {}; the same command with --resume continues",
            self.state.step,
            self.checkpoints.path(self.state.step).display()
        ))
    }

    fn update_bar(&self, line: &StepLine) {
        self.bar.set_position(line.step);
        self.bar.set_message(format!(
            "epoch {} loss {:.3} (ce {:.3}, triplet {:.3}) {:.0}/s best {}",
            line.epoch + 1,
            line.loss,
            line.classification,
            line.triplet,
            self.items as f64 / self.began.elapsed().as_secs_f64(),
            best_figure(self.config, &self.state),
        ));
    }

    fn print(&self, text: String) {
        print_once(&self.ranks, text);
    }

    /// Prints steps, speed and the best figure of a complete run.
    fn report_end(&self, loader: &Loader) -> Result<()> {
        let seconds = self.began.elapsed().as_secs_f64();
        let run = &self.config.train.run;
        let waited = self.ranks.gather(&[loader.waited.as_secs_f64()], &vec![1; self.ranks.size()])?;
        let in_slowest_rank = if self.ranks.is_alone() { "" } else { " in the rank that waited most" };
        self.print(format!(
            "{}: {} steps in {seconds:.0} s ({:.1} samples/s, {:.1} % of the time waiting for data{in_slowest_rank}), best {}",
            run.display(),
            self.state.step,
            self.items as f64 / seconds,
            100.0 * waited.into_iter().fold(0.0, f64::max) / seconds,
            best_figure(self.config, &self.state),
        ));
        if let Some(cost) = self.learner.reduction_cost().filter(|cost| cost.steps > 0) {
            self.print(format!("{} ranks: {cost}", self.ranks.size()));
        }
        if let (true, Some(end)) = (self.state.stopped_early, completion_reason(self.config, &self.state)) {
            self.print(end);
        }
        self.print(format!("the network: {}", run.join(BEST).display()));
        Ok(())
    }

    /// Returns the error of a loss or norm that is not finite: all ranks have the same value, and all end with it.
    fn not_finite_error(&self, what: &str, value: f32, batch: &Batch) -> anyhow::Error {
        let ids: Vec<String> = batch.items.iter().map(|&item| self.setup.data.item_name(item)).collect();
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
        let text = format!(
            "{what} is {value} at step {} (epoch {}, batch {}), whose last batch holds the versions {}; {saved}",
            self.state.step + 1,
            batch.epoch + 1,
            batch.index,
            ids.join(", ")
        );
        SharedError(text).into()
    }
}

/// Writes the network to `path`, in rank 0 only.
fn export(learner: &mut Learner, ranks: &Ranks, path: &Path) -> Result<()> {
    if ranks.is_first() { learner.export(path) } else { Ok(()) }
}

/// Returns the validation figure that selects the best network, and whether a higher one is better.
fn selection_figure(figure: Figure, figures: &Figures) -> (f64, bool) {
    match figure {
        Figure::Map => (figures.map, true),
        Figure::Loss => (figures.triplet, false),
    }
}

fn minutes(minutes: f64) -> Duration {
    Duration::from_secs_f64(60.0 * minutes)
}
