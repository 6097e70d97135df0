//! The parts of a run that exist before its first step: data, batches, network, schedule.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bc_formats::config::{Batches, Classes, Config, PassOrder, Schedule as ScheduleKind, TrainConfig};
use bc_formats::run::NetworkInput;
use bc_ranks::Ranks;

use crate::data::{Assembler, DataSet};
use crate::learner::{Learner, Sources};
use crate::sampler::{Composition, Mixture, Order, RankSplit, Sampler};
use crate::schedule::{Schedule, Shape};

/// The parts of a run that exist before its first step.
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
    ///
    /// # Errors
    /// The errors of [`DataSet::open`]; fewer classes than cliques; batches that the split cannot fill;
    /// crops shorter than a column; batches that cannot be divided among the `ranks`.
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
        let sampler = sampler(config, &data, ranks)?;
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
        let schedule = schedule(config, &sampler);
        Ok(Self { data, classes, input, sampler, assembler, schedule })
    }

    /// Creates a network with weights drawn from the seed.
    ///
    /// # Errors
    /// A device that this build does not support; a rank that has ended.
    pub fn learner(&self, config: &Config, ranks: &Ranks) -> Result<Learner> {
        let sources = Sources { inputs: self.data.inputs(), cliques: self.data.cliques_fingerprint.clone() };
        Learner::new(config, self.classes, &self.input, &sources, ranks)
    }
}

/// Returns the step after which training ends.
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

/// Triplets of the smallest batch. Batch norm needs two values: in all ranks together, or in each rank if they do not
/// share their norms.
fn min_triplets(train: &TrainConfig, ranks: usize) -> usize {
    let each = if train.separate_forwards { 2 } else { 1 };
    if train.sync_norms { each } else { each * ranks }
}

fn sampler(config: &Config, data: &DataSet, ranks: &Ranks) -> Result<Sampler> {
    let train = &config.train;
    refuse_too_many_ranks(train, ranks.size())?;
    let order = match train.order {
        PassOrder::PerEpochPasses => Order::PerEpochPasses,
        PassOrder::Mixed => Order::Mixed,
    };
    if let Some(painted) = &data.painted {
        let name = format!("the training split of {}", config.features.index.display());
        let mixture = Mixture {
            cliques: train.cliques_per_batch,
            versions: train.versions_per_clique,
            pools: data.pools(painted, train.features_share, name),
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
    Sampler::new(train.seed, composition, order, train.lengths_s.clone(), data.cliques()).with_context(|| {
        match train.debug {
            true => "the random features of [train] debug".to_owned(),
            false => config.features.index.display().to_string(),
        }
    })
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
