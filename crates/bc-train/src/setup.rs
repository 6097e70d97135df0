//! What a run is made of before its first step: data, batches, network, schedule.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bc_formats::config::{Batches, Classes, Config, PassOrder, Schedule as ScheduleKind};
use bc_formats::run::NetworkInput;
use serde_json::{Value, json};

use crate::data::{Assembler, DataSet};
use crate::learner::Learner;
use crate::sampler::{Composition, Order, Sampler};
use crate::schedule::{Schedule, Shape};

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
    ///
    /// # Errors
    /// As [`DataSet::open`]; fewer classes than cliques; batches that the split cannot fill;
    /// crops shorter than a column.
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
            .with_context(|| match train.debug {
            true => "the random features of [train] debug".to_owned(),
            false => config.features.index.display().to_string(),
        })?;
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

    /// A network with weights drawn from the seed.
    ///
    /// # Errors
    /// A device that this build does not know.
    pub fn learner(&self, config: &Config) -> Result<Learner> {
        Learner::new(config, self.classes, &self.input, &self.data.fingerprint)
    }

    /// Everything that the course of training depends on.
    pub(crate) fn settings(&self, config: &Config) -> Result<Value> {
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
            "features": {
                "cqt": serde_json::to_value(self.data.cqt)?,
                "fingerprint": self.data.fingerprint,
                "splits": self.data.splits,
            },
        }))
    }
}

/// Keys of `[train]` that do not change the steps of a run, or that say how long it goes on (which a
/// cosine's rate depends on, and a resume says so).
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

/// The step after which training ends.
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
