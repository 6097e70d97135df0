//! The training loop: from a configuration to a finished run, or on from a checkpoint.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bc_cli::progress;
use bc_formats::atomic;
use bc_formats::config::{Batches, Classes, Config, Figure, PassOrder, Schedule as ScheduleKind};
use bc_formats::run::NetworkInput;
use serde_json::{Value, json};

use crate::checkpoint::{Checkpoints, State, differences};
use crate::data::{Assembler, Batch, DataSet, Loader};
use crate::learner::{Learner, Losses};
use crate::record::{Line, Recorder, StepLine, ValidationLine, now};
use crate::sampler::{Composition, Order, Sampler};
use crate::schedule::{Schedule, Shape};
use crate::validate::{Figures, validate};

/// The best network of a run.
pub const BEST: &str = "best.safetensors";
/// The resolved configuration of a run.
const CONFIG: &str = "config.toml";

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

/// What a run is made of, before its first step.
pub struct Setup {
    /// Training and validation splits.
    pub data: Arc<DataSet>,
    /// Outputs of the classifier.
    pub classes: usize,
    /// How audio becomes the network's input.
    pub input: NetworkInput,
    /// Plans batches.
    pub sampler: Sampler,
    /// Makes batches.
    pub assembler: Arc<Assembler>,
    /// The learning rate.
    pub schedule: Schedule,
}

impl Setup {
    /// Reads the data and checks that the configuration fits it.
    pub fn new(config: &Config) -> Result<Self> {
        let data = Arc::new(DataSet::open(config)?);
        let (train, found) = (&config.train, data.classes());
        let classes = match train.classes {
            Classes::Auto => found,
            Classes::Count(count) if count as usize >= found => count as usize,
            Classes::Count(count) => bail!(
                "[train] classes = {count}, but the training split has {found} cliques: use \"auto\" or at least {found}"
            ),
        };
        let input = NetworkInput { cqt: data.cqt, pool: config.model.pool, scale: config.model.scale };
        let composition = match train.batches {
            Batches::RandomTriplets => Composition::RandomTriplets { triplets: train.triplets_per_batch },
            Batches::Pk => {
                Composition::Pk { cliques: train.cliques_per_batch, versions: train.versions_per_clique }
            }
        };
        let order = match train.order {
            PassOrder::PerEpochPasses => Order::PerEpochPasses,
            PassOrder::Mixed => Order::Mixed,
        };
        let sampler = Sampler::new(train.seed, composition, order, train.lengths_s.clone(), data.cliques())
            .with_context(|| config.features.index.display().to_string())?;
        let assembler = Arc::new(Assembler::new(
            data.clone(),
            config.augment.clone(),
            input.clone(),
            train.short_tracks,
            train.seed,
            &train.lengths_s,
        )?);
        let schedule = schedule(config, &sampler);
        Ok(Self { data, classes, input, sampler, assembler, schedule })
    }

    /// A network as the run begins with it.
    pub fn learner(&self, config: &Config) -> Result<Learner> {
        Learner::new(config, self.classes, &self.input, &self.data.fingerprint)
    }

    /// Everything that the course of training depends on.
    fn settings(&self, config: &Config) -> Result<Value> {
        let mut train = serde_json::to_value(&config.train)?;
        if let Some(keys) = train.as_object_mut() {
            for key in MAY_CHANGE {
                keys.remove(*key);
            }
        }
        Ok(json!({
            "model": serde_json::to_value(&config.model)?,
            "train": train,
            "augment": serde_json::to_value(&config.augment)?,
            "features": { "cqt": serde_json::to_value(self.data.cqt)?, "fingerprint": self.data.fingerprint },
        }))
    }
}

/// Keys of `[train]` that do not change the steps of a run, or that say how long it goes on.
const MAY_CHANGE: &[&str] = &[
    "run",
    "device",
    "workers",
    "map_features",
    "epochs",
    "max_steps",
    "early_stopping",
    "checkpoint_every_steps",
    "keep_checkpoints",
];

/// Trains, or goes on with a run that is not complete.
///
/// # Errors
/// Data that cannot be trained on; a run folder of other settings; a loss that is not
/// finite; a full disk.
pub fn train(config: &Config, options: Options) -> Result<Outcome> {
    let run = &config.train.run;
    if options.fresh {
        remove_run(run)?;
    }
    let setup = Setup::new(config)?;
    let settings = setup.settings(config)?;
    let checkpoints = Checkpoints::of(run, config.train.keep_checkpoints);
    let found = checkpoints.latest()?;
    if found.is_none() && options.resume {
        bail!("{}: there is no checkpoint to resume from; start without --resume", run.display());
    }
    let mut learner = setup.learner(config)?;
    let mut state = State { settings, ..State::default() };
    if let Some((folder, saved)) = found {
        refuse_other_settings(run, &saved.settings, &state.settings)?;
        if saved.stopped_early && config.train.early_stopping > 0 || at_end(config, &saved) {
            progress::line(format!(
                "{}: nothing to do, training is complete ({} steps, best {}); --fresh starts again",
                run.display(),
                saved.step,
                best(config, &saved)
            ));
            return Ok(Outcome::NothingToDo);
        }
        learner.load(&folder)?;
        progress::line(format!("{}: resuming after step {}", run.display(), saved.step));
        state = saved;
    }
    std::fs::create_dir_all(run).with_context(|| format!("cannot make the folder {}", run.display()))?;
    atomic::write(&run.join(CONFIG), config.to_commented_toml())?;
    let recorder = Recorder::open(run, state.step)?;
    Run { config, setup, learner, state, checkpoints, recorder }.go_on()
}

struct Run<'a> {
    config: &'a Config,
    setup: Setup,
    learner: Learner,
    state: State,
    checkpoints: Checkpoints,
    recorder: Recorder,
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
        let per_pass = self.setup.sampler.batches_per_pass();
        let per_epoch = self.setup.sampler.batches_per_epoch();
        let mut loader = Loader::start(
            self.setup.assembler.clone(),
            self.setup.sampler.clone(),
            config.workers,
            self.state.epoch,
            self.state.batch,
            config.epochs,
        );
        let bar = progress::bar(last_step(self.config, &self.setup.schedule), "train", "steps");
        bar.set_position(self.state.step);
        let (began, mut items_done) = (Instant::now(), 0usize);
        let mut finished = at_end(self.config, &self.state);
        while !finished {
            let (started, waited) = (Instant::now(), loader.waited);
            let (mut sum, mut batches, mut items) = (Losses::default(), 0, 0);
            let (epoch, rate) = (self.state.epoch, self.rate());
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
                if batches == config.accumulate || self.state.batch.is_multiple_of(per_pass) {
                    let norm = self.learner.step(rate, batches)?;
                    sum.gradient_norm = norm;
                    if !norm.is_finite() {
                        bail!("{}", self.not_finite("the gradient", norm, &batch));
                    }
                    break batch.length_s;
                }
            };
            self.state.step += 1;
            let pass_ended = self.state.batch.is_multiple_of(per_pass);
            if pass_ended {
                self.state.passes += 1;
            }
            if self.state.batch == per_epoch {
                self.state.epoch += 1;
                self.state.batch = 0;
            }
            items_done += items;
            let seconds = started.elapsed().as_secs_f64();
            let line = StepLine {
                step: self.state.step,
                epoch,
                length_s,
                loss: sum.sum / batches as f32,
                classification: sum.classification / batches as f32,
                triplet: sum.triplet / batches as f32,
                gradient_norm: sum.gradient_norm,
                learning_rate: rate,
                samples_per_s: items as f64 / seconds,
                waiting_share: (loader.waited - waited).as_secs_f64() / seconds,
                time: now(),
            };
            bar.set_position(self.state.step);
            bar.set_message(format!(
                "epoch {} loss {:.3} (ce {:.3}, triplet {:.3}) {:.0}/s best {}",
                epoch + 1,
                line.loss,
                line.classification,
                line.triplet,
                items_done as f64 / began.elapsed().as_secs_f64(),
                best(self.config, &self.state),
            ));
            self.recorder.add(Line::Step(line))?;

            finished = at_end(self.config, &self.state);
            let due = pass_ended
                && config.validate_every_passes > 0
                && self.state.passes.is_multiple_of(config.validate_every_passes);
            if can_validate && (due || finished) {
                let stop = self.validate(epoch)?;
                self.state.stopped_early = stop;
                finished |= stop;
            } else if finished {
                self.learner.save_best(&self.config.train.run.join(BEST))?;
                self.state.best_step = self.state.step;
            }
            let stop = bc_cli::interrupt::requested();
            let periodic = self.state.step.is_multiple_of(config.checkpoint_every_steps);
            if finished || stop || periodic || self.state.validated_step == Some(self.state.step) {
                self.save()?;
            }
            if stop && !finished {
                bar.abandon();
                self.recorder.draw()?;
                progress::line(format!(
                    "stopped after step {}, saved in {}; the same command with --resume goes on",
                    self.state.step,
                    self.checkpoints.path(self.state.step).display()
                ));
                return Ok(Outcome::Interrupted);
            }
        }
        bar.finish_and_clear();
        self.recorder.draw()?;
        let seconds = began.elapsed().as_secs_f64();
        progress::line(format!(
            "{}: {} steps in {seconds:.0} s ({:.1} samples/s, {:.1} % of the time waiting for data), best {}{}\n\
             the network: {}",
            self.config.train.run.display(),
            self.state.step,
            items_done as f64 / seconds,
            100.0 * loader.waited.as_secs_f64() / seconds,
            best(self.config, &self.state),
            if self.state.stopped_early { ", stopped early" } else { "" },
            self.config.train.run.join(BEST).display()
        ));
        Ok(Outcome::Finished)
    }

    fn rate(&self) -> f64 {
        self.setup.schedule.rate(self.state.step, self.state.reductions)
    }

    /// Measures, keeps the best network, moves the plateau schedule; true to stop early.
    fn validate(&mut self, epoch: u64) -> Result<bool> {
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
        self.recorder.draw()?;
        Ok(config.early_stopping > 0 && self.state.best.waited >= config.early_stopping)
    }

    fn save(&self) -> Result<()> {
        self.checkpoints.save(&self.state, |folder| self.learner.save(folder)).map(drop)
    }

    fn not_finite(&self, what: &str, value: f32, batch: &Batch) -> String {
        let tracks = self.setup.data.store.tracks();
        let ids: Vec<&str> =
            batch.items.iter().map(|&item| tracks[item as usize].version_id.as_str()).collect();
        let saved = match self.checkpoints.latest() {
            Ok(Some((folder, _))) => {
                format!(
                    "the last good checkpoint is {}; resume from it with another seed or a lower learning rate in a new run",
                    folder.display()
                )
            }
            _ => "there is no checkpoint yet; try a lower learning rate or clip_norm".to_owned(),
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

fn best(config: &Config, state: &State) -> String {
    let name = match config.train.figure {
        Figure::Map => "mAP",
        Figure::Loss => "triplet loss",
    };
    state.best.best.map_or_else(|| "-".to_owned(), |figure| format!("{name} {figure:.4}"))
}

fn at_end(config: &Config, state: &State) -> bool {
    state.epoch >= config.train.epochs || config.train.max_steps > 0 && state.step >= config.train.max_steps
}

pub(crate) fn last_step(config: &Config, schedule: &Schedule) -> u64 {
    let all = schedule.steps_per_epoch * config.train.epochs;
    if config.train.max_steps > 0 { all.min(config.train.max_steps) } else { all }
}

fn schedule(config: &Config, sampler: &Sampler) -> Schedule {
    let train = &config.train;
    let per_pass = sampler.batches_per_pass().div_ceil(train.accumulate);
    let steps_per_epoch = (per_pass * sampler.passes()) as u64;
    let shape = match train.schedule {
        ScheduleKind::Constant => Shape::Constant,
        ScheduleKind::Cosine => Shape::Cosine,
        ScheduleKind::Step => Shape::Step { every_epochs: train.step_epochs, factor: train.factor },
        ScheduleKind::Plateau => Shape::Plateau { patience: train.plateau_patience, factor: train.factor },
    };
    let mut schedule = Schedule {
        base: train.learning_rate,
        floor: train.floor,
        warmup_steps: train.warmup_steps,
        shape,
        steps_per_epoch,
        total_steps: 0,
    };
    schedule.total_steps = last_step(config, &schedule);
    schedule
}

fn refuse_other_settings(run: &Path, old: &Value, new: &Value) -> Result<()> {
    let differences = differences(old, new);
    if differences.is_empty() {
        return Ok(());
    }
    bail!(
        "{} holds a run of other settings:\n  {}\n  (first the run's value, then the configuration's); give the new \
         run another name (--set train.run=runs/…), or replace the old one with --fresh",
        run.display(),
        differences.join("\n  ")
    )
}

/// Removes what a run left in its folder, and nothing else that lies there.
fn remove_run(run: &Path) -> Result<()> {
    for name in ["checkpoints", BEST, CONFIG, "metrics.jsonl", "curves.png", "events.out.tfevents.bytecover"]
    {
        let path = run.join(name);
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}
