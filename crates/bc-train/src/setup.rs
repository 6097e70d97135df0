//! Builds what a run needs before its first step from the configuration: data, batch plans and learning rates.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bc_formats::config::{Batches, Classes, Config, PassOrder, Schedule as ScheduleKind, TrainConfig};
use bc_formats::run::NetworkInput;
use bc_ranks::Ranks;

use crate::data::{Assembler, DataSet};
use crate::learner::{DataFingerprints, Learner};
use crate::sampler::{Composition, Mixture, Order, RankSplit, Sampler};
use crate::schedule::{Schedule, Shape};

/// The data of a run, and how batches and learning rates are made.
pub struct Setup {
    /// The training and validation splits with their features.
    pub data: Arc<DataSet>,
    /// Number of outputs of the classifier.
    pub classes: usize,
    /// How audio becomes the network's input.
    pub input: NetworkInput,
    /// Plans which versions form which batch.
    pub sampler: Sampler,
    /// Turns the plan of a batch into the network's input.
    pub assembler: Arc<Assembler>,
    /// The learning rate of every step.
    pub schedule: Schedule,
}

impl Setup {
    /// Reads the data and checks that the configuration fits it.
    ///
    /// # Errors
    /// The errors of [`DataSet::open`]; fewer classes than cliques; a split too small to fill a batch; crops shorter than
    /// a column of the network's input; fewer cliques or triplets in a batch than there are `ranks`.
    pub fn new(config: &Config, ranks: &Ranks) -> Result<Self> {
        let data = Arc::new(crate::data::open(config, ranks)?);
        let (train, cliques) = (&config.train, data.classes());
        let classes = match train.classes {
            Classes::Auto => cliques,
            Classes::Count(count) if count as usize >= cliques => count as usize,
            Classes::Count(count) => bail!(
                "[train] classes = {count}, but the training split has {cliques} cliques: use \"auto\" or at least {cliques}"
            ),
        };
        let input = NetworkInput { cqt: data.cqt, pool: config.model.pool, scale: config.model.scale };
        let sampler = build_sampler(config, &data, ranks)?;
        let assembler = Assembler::new(
            data.clone(),
            config.augment.clone(),
            input.clone(),
            train.short_tracks,
            train.seed,
            &train.lengths_s,
            RankSplit::new(sampler.composition(), ranks.rank(), ranks.size()),
        )?;
        let assembler = Arc::new(assembler);
        let schedule = build_schedule(config, &sampler);
        Ok(Self { data, classes, input, sampler, assembler, schedule })
    }

    /// Creates a network with weights drawn from the seed.
    ///
    /// # Errors
    /// A device that this build does not support; a rank that has ended.
    pub fn new_learner(&self, config: &Config, ranks: &Ranks) -> Result<Learner> {
        let data_fingerprints =
            DataFingerprints { inputs: self.data.inputs(), cliques: self.data.cliques_fingerprint.clone() };
        Learner::new(config, self.classes, &self.input, &data_fingerprints, ranks)
    }
}

/// Returns the number of steps after which training ends: all epochs, or `[train] max_steps`.
pub(crate) fn last_step(config: &Config, schedule: &Schedule) -> u64 {
    let all = schedule.steps_per_epoch * config.train.epochs;
    if config.train.max_steps > 0 { all.min(config.train.max_steps) } else { all }
}

/// Refuses more ranks than a full batch has cliques or triplets.
fn refuse_too_many_ranks(train: &TrainConfig, ranks: usize) -> Result<()> {
    let (key, units) = match train.batches {
        Batches::Pk => ("cliques_per_batch", train.cliques_per_batch),
        Batches::RandomTriplets => ("triplets_per_batch", train.triplets_per_batch),
    };
    if units < ranks {
        bail!(
            "[train] {key} = {units}, but there are {ranks} ranks, and each needs at least one: use larger batches or fewer ranks"
        );
    }
    Ok(())
}

/// Returns the number of triplets in the smallest batch that batch norm can be trained on, which needs two values: in all
/// ranks together, or in each rank if they do not share their batch norms.
fn min_triplets(train: &TrainConfig, ranks: usize) -> usize {
    let per_norm = if train.separate_forwards { 2 } else { 1 };
    if train.sync_norms { per_norm } else { per_norm * ranks }
}

/// Builds the sampler of painted versions, or of the training split.
fn build_sampler(config: &Config, data: &DataSet, ranks: &Ranks) -> Result<Sampler> {
    let train = &config.train;
    refuse_too_many_ranks(train, ranks.size())?;
    let order = match train.order {
        PassOrder::PerEpochPasses => Order::PerEpochPasses,
        PassOrder::Mixed => Order::Mixed,
    };
    if let Some(painted) = &data.painted {
        let split_name = format!("the training split of {}", config.features.index.display());
        let mixture = Mixture {
            cliques: train.cliques_per_batch,
            versions: train.versions_per_clique,
            pools: data.pools(painted, train.features_share, split_name),
            batches_per_pass: train.batches_per_pass,
        };
        return Sampler::from_mixture(train.seed, order, train.lengths_s.clone(), mixture);
    }
    let composition = match train.batches {
        Batches::RandomTriplets => Composition::RandomTriplets {
            triplets: train.triplets_per_batch,
            min_triplets: min_triplets(train, ranks.size()),
        },
        Batches::Pk => {
            Composition::Pk { cliques: train.cliques_per_batch, versions: train.versions_per_clique }
        }
    };
    let source = || match train.debug {
        true => "the random features of [train] debug".to_owned(),
        false => config.features.index.display().to_string(),
    };
    Sampler::new(train.seed, composition, order, train.lengths_s.clone(), data.cliques()).with_context(source)
}

/// Builds the learning rate schedule of `[train]`.
fn build_schedule(config: &Config, sampler: &Sampler) -> Schedule {
    let train = &config.train;
    let steps_per_pass = sampler.batches_per_pass().div_ceil(train.accumulate);
    let steps_per_epoch = (steps_per_pass * sampler.passes()) as u64;
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
