//! The network with its losses and optimiser: one batch in, gradients out, one step on.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use bc_formats::config::{
    Batches, Classified, Config, Loss, Mining, Optimizer as OptimizerKind, TrainConfig,
};
use bc_formats::fingerprint::Fingerprint;
use bc_formats::provenance::Provenance;
use bc_formats::run::{CHECKPOINT_FORMAT, CLIQUES_KEY, INPUT_KEY, NetworkInput};
use bc_nn::loss::{
    alignment_uniformity, cosine_logits, cross_entropy_smoothed, supervised_contrastive, triplet_margin,
};
use bc_nn::optim::{Adam, AdamSettings, clipping};
use bc_nn::{Gradients, Network, NetworkSettings, Outputs, Pass, weights};
use bc_ranks::Ranks;
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};

use crate::checkpoint;
use crate::data::Batch;
use crate::mining::{self, Distances, Triplets};
use crate::randomness::generator;
use crate::ranks::{Team, Traffic};

/// Losses of one batch, or their sum over several.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Losses {
    /// What is minimised.
    pub sum: f32,
    /// Cross entropy, without its weight.
    pub classification: f32,
    /// Triplet loss, without its weight.
    pub triplet: f32,
    /// Norm of the gradient, once a step was made.
    pub gradient_norm: f32,
}

impl Losses {
    /// Adds those of another batch.
    pub fn add(&mut self, other: &Self) {
        self.sum += other.sum;
        self.classification += other.classification;
        self.triplet += other.triplet;
    }
}

/// Embeddings of several inputs, row after row.
pub struct Embedded {
    /// Before the BNNeck.
    pub f_t: Vec<f32>,
    /// Behind it.
    pub f_c: Vec<f32>,
    /// Length of a row.
    pub dim: usize,
}

/// Fingerprints of what a network learns from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// Of the features and of the works of which versions are painted, by their kind.
    pub inputs: BTreeMap<String, String>,
    /// Of the clique ids that the classifier's outputs are for, in their order.
    pub cliques: String,
}

/// A network being trained.
pub struct Learner {
    network: Network,
    optimizer: Adam,
    average: Option<Vec<Tensor>>,
    /// Summed since the last step.
    gradients: Gradients,
    train: TrainConfig,
    device: Device,
    input: NetworkInput,
    settings: serde_json::Value,
    sources: Sources,
    team: Team,
}

impl Learner {
    /// A network with fresh weights, drawn from the seed, that is trained together with the other `ranks`.
    pub fn new(
        config: &Config,
        classes: usize,
        input: &NetworkInput,
        sources: &Sources,
        ranks: &Ranks,
    ) -> Result<Self> {
        let device = device(&config.train.device)?;
        let bins = input.rows();
        // Losses over pairs need no classifier.
        let classes = if config.train.loss.classifies() { classes } else { 0 };
        let network_settings = NetworkSettings::from_config(&config.model, bins, classes);
        let team = Team::new(ranks, &config.train)?;
        let network = Network::with_peers(&network_settings, config.train.seed, &device, team.peers())?;
        let settings = AdamSettings {
            betas: config.train.betas,
            epsilon: config.train.epsilon,
            weight_decay: config.train.weight_decay,
            decoupled: config.train.optimizer == OptimizerKind::Adamw,
            decay_vectors: config.train.decay_norms_and_biases,
        };
        let optimizer = Adam::new(network.parameters(), settings)?;
        let gradients = Gradients::new(&network.parameters())?;
        let mut learner = Self {
            network,
            optimizer,
            average: None,
            gradients,
            train: config.train.clone(),
            device,
            input: input.clone(),
            settings: serde_json::json!({
                "network": serde_json::to_value(&network_settings)?,
                "input": serde_json::to_value(input)?,
                "train": serde_json::to_value(&config.train)?,
                "augment": serde_json::to_value(&config.augment)?,
            }),
            sources: sources.clone(),
            team,
        };
        if config.train.ema > 0.0 {
            learner.average = Some(learner.values()?);
        }
        Ok(learner)
    }

    /// Begins with the weights of `[train] init`, if it names a file, and returns what it took of it, in words. A
    /// resumed run does not need them any more.
    ///
    /// # Errors
    /// A file that cannot be read, holds another network, or one that was trained on other input.
    pub fn begin(&mut self) -> Result<Option<String>> {
        if self.train.init.as_os_str().is_empty() {
            return Ok(None);
        }
        let path = &self.train.init;
        let metadata = weights::metadata(path).context("[train] init")?;
        self.refuse_other_input(metadata.get(INPUT_KEY).map(String::as_str))?;
        let cliques = metadata.get(CLIQUES_KEY);
        let same = cliques == Some(&self.sources.cliques);
        let taken = self.network.init_from(path, same).context("[train] init")?;
        let classifier = match (taken, cliques) {
            (true, _) => "its classifier too, which is of the same cliques",
            (false, Some(_)) => "its classifier is of other cliques and is drawn anew",
            (false, None) => "it does not say of which cliques its classifier is, which is drawn anew",
        };
        let note = format!("begins with the network {}; {classifier}", path.display());
        if self.average.is_some() {
            self.average = Some(self.values()?);
        }
        Ok(Some(note))
    }

    /// `input` is what the header of `[train] init` says of the network's input.
    fn refuse_other_input(&self, input: Option<&str>) -> Result<()> {
        let path = self.train.init.display();
        let Some(input) = input else {
            tracing::warn!(
                "[train] init: {path} does not say what input it was trained on; it is taken to be that of the \
                 configuration"
            );
            return Ok(());
        };
        let input = NetworkInput::from_key_value(input).with_context(|| format!("[train] init: {path}"))?;
        let differences = input.differences(&self.input);
        if differences.is_empty() {
            return Ok(());
        }
        if self.train.init_other_input {
            tracing::warn!("[train] init: {path} was trained on other input: {}", differences.join("; "));
            return Ok(());
        }
        bail!(
            "[train] init: {path} was trained on other input: {}\n  (first the file's value, then that of [model] \
             and the features); correct these, or say train.init_other_input = true if it is meant to learn the \
             other input",
            differences.join("; ")
        )
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Forward and backward on this rank's share of one batch; its gradients are added to those that wait for
    /// [`Learner::step`], which comes next if this is the `last` batch of a step. The losses are of the whole batch.
    pub fn accumulate(&mut self, batch: &Batch, last: bool) -> Result<Losses> {
        self.team.begin(&batch.shares);
        let passes = self.forward(batch)?;
        let (loss, losses) = match self.train.loss {
            Loss::Bytecover => self.bytecover_losses(
                joined(&passes, |o| Ok(&o.f_t))?,
                &joined(&passes, Outputs::logits)?,
                batch,
            )?,
            Loss::CosineSoftmax => self.cosine_loss(&joined(&passes, |o| Ok(&o.f_c))?, batch)?,
            _ => (self.pair_loss(joined(&passes, |o| Ok(&o.f_c))?, batch)?, Losses::default()),
        };
        let losses = self.of_whole_batch(losses, loss.to_scalar()?)?;
        if losses.sum.is_finite() {
            self.backward(passes, &loss.backward()?, batch, last)?;
        }
        Ok(losses)
    }

    fn forward(&self, batch: &Batch) -> Result<Vec<Pass>> {
        let items = batch.shares.own().len();
        let x = Tensor::from_slice(&batch.values, (items, batch.bins, batch.frames), &self.device)?;
        if !self.train.separate_forwards {
            return Ok(vec![self.network.forward_train(&x)?]);
        }
        let third = items / 3;
        (0..3).map(|part| self.network.forward_train(&x.narrow(0, part * third, third)?)).collect()
    }

    fn backward(&mut self, passes: Vec<Pass>, loss: &GradStore, batch: &Batch, last: bool) -> Result<()> {
        if batch.shares.is_silent() {
            // The others need this rank in their norms; its gradients count for nothing.
            let mut nothing = Gradients::new(&self.network.parameters())?;
            return passes.into_iter().rev().try_for_each(|p| p.backward(&self.network, loss, &mut nothing));
        }
        let count = passes.len();
        // The last pass first: what it kept is freed soonest.
        for (done, pass) in passes.into_iter().rev().enumerate() {
            if last && done + 1 == count {
                self.team.listen(&mut self.gradients)?;
            }
            pass.backward(&self.network, loss, &mut self.gradients)?;
        }
        self.network.backward_classifier(loss, &mut self.gradients)
    }

    /// The losses of all ranks: `own` are those of this one, where the cross entropy is this rank's share of the mean.
    fn of_whole_batch(&self, own: Losses, sum: f32) -> Result<Losses> {
        let classification = self.team.sum(own.classification)?;
        let weight = if self.train.loss == Loss::Bytecover { self.train.classification_weight } else { 1.0 };
        let of_others = f64::from(classification) - f64::from(own.classification);
        // An infinite loss alone is no difference of two.
        let sum = if classification == own.classification { sum } else { sum + (weight * of_others) as f32 };
        Ok(Losses { sum, classification, ..own })
    }

    /// A loss over all pairs of the batch.
    fn pair_loss(&self, f_c: Tensor, batch: &Batch) -> Result<Tensor> {
        let f_c = &self.team.rows_of_all(f_c, &batch.shares)?;
        Ok(match self.train.loss {
            Loss::Clews => alignment_uniformity(f_c, &batch.labels)?,
            _ => supervised_contrastive(f_c, &batch.labels, self.train.temperature)?,
        })
    }

    /// The cross entropy on the cosines of f_c with the classifier's weights.
    fn cosine_loss(&self, f_c: &Tensor, batch: &Batch) -> Result<(Tensor, Losses)> {
        let weight = self.network.classifier().context("a network without a classifier")?;
        let f_c = f_c.narrow(0, 0, self.classified(batch))?;
        let logits = cosine_logits(&f_c, weight.as_tensor(), self.train.cosine_scale)?;
        let loss = self.cross_entropy(&logits, batch)?;
        let losses = Losses { classification: loss.to_scalar()?, ..Losses::default() };
        Ok((loss, losses))
    }

    /// Items, the first of `items`, that the classifier learns from.
    fn classified_of(&self, items: usize) -> usize {
        if self.train.classified == Classified::Anchors { items / 3 } else { items }
    }

    /// Items, the first of this rank's share, that the classifier learns from.
    fn classified(&self, batch: &Batch) -> usize {
        self.classified_of(batch.shares.own().len())
    }

    /// Of the logits of the classified items; this rank's share of the mean over the classified items of all.
    fn cross_entropy(&self, logits: &Tensor, batch: &Batch) -> Result<Tensor> {
        let own = &batch.shares.own()[..self.classified(batch)];
        let labels: Vec<u32> = own.iter().map(|&place| batch.labels[place as usize]).collect();
        let mean = cross_entropy_smoothed(logits, &labels, self.train.label_smoothing)?;
        let counted = if batch.shares.is_silent() { 0 } else { own.len() };
        Ok((mean * (counted as f64 / self.classified_of(batch.items.len()) as f64))?)
    }

    /// The cross entropy and the triplet loss by their weights.
    fn bytecover_losses(&self, f_t: Tensor, logits: &Tensor, batch: &Batch) -> Result<(Tensor, Losses)> {
        let items = batch.items.len();
        let triplets = self.train.batches == Batches::RandomTriplets;
        let mut losses = Losses::default();
        let mut sum = Tensor::zeros((), candle_core::DType::F32, &self.device)?;
        if self.train.classification_weight > 0.0 {
            let loss = self.cross_entropy(&logits.narrow(0, 0, self.classified(batch))?, batch)?;
            losses.classification = loss.to_scalar()?;
            sum = (sum + (loss * self.train.classification_weight)?)?;
        }
        if self.train.triplet_weight > 0.0 {
            let f_t = &self.team.rows_of_all(f_t, &batch.shares)?;
            let chosen = if triplets && self.train.mining == Mining::Random {
                Triplets::in_thirds(items / 3)
            } else {
                self.mine(f_t, batch)?
            };
            if !chosen.is_empty() {
                let rows = |rows: &[u32]| f_t.index_select(&Tensor::new(rows, &self.device)?, 0);
                let loss = triplet_margin(
                    &rows(&chosen.anchors)?,
                    &rows(&chosen.positives)?,
                    &rows(&chosen.negatives)?,
                    self.train.margin,
                )?;
                losses.triplet = loss.to_scalar()?;
                sum = (sum + (loss * self.train.triplet_weight)?)?;
            }
        }
        Ok((sum, losses))
    }

    fn mine(&self, f_t: &Tensor, batch: &Batch) -> Result<Triplets> {
        let labels = &batch.labels;
        if self.train.mining == Mining::Random {
            let mut rng = generator(self.train.seed, "mining", &[batch.epoch, batch.index as u64]);
            return Ok(mining::random(labels, &mut rng));
        }
        let values = f_t.detach().flatten_all()?.to_vec1::<f32>()?;
        let distances = Distances::between(&values, labels.len());
        Ok(match self.train.mining {
            Mining::SemiHard => mining::semi_hard(&distances, labels),
            _ => mining::batch_hard(&distances, labels),
        })
    }

    /// One optimiser step with the mean of the gradients of `batches` batches; returns
    /// their norm before clipping. Nothing is changed if the norm is not finite.
    pub fn step(&mut self, rate: f64, batches: usize) -> Result<f32> {
        self.team.sum_gradients(&mut self.gradients)?;
        let mean = 1.0 / batches as f64;
        let norm = self.gradients.norm()? * mean;
        if norm.is_finite() {
            let factor = mean * clipping(norm, self.train.clip_norm);
            self.optimizer.step(&self.gradients, factor, rate)?;
            self.team.share_running(&self.network.buffers())?;
            self.move_average()?;
        }
        self.gradients.clear();
        Ok(norm as f32)
    }

    /// Refuses to continue if the ranks have come apart.
    ///
    /// # Errors
    /// They have.
    pub fn check_ranks(&self) -> Result<()> {
        self.team.check_same(|| self.fingerprint())
    }

    /// What the sums of gradients over ranks have cost so far; `None` alone.
    pub fn traffic(&self) -> Option<Traffic> {
        self.team.traffic()
    }

    fn move_average(&mut self) -> Result<()> {
        if let Some(average) = self.average.take() {
            let decay = self.train.ema;
            let updated = average
                .iter()
                .zip(self.variables())
                .map(|(old, new)| Ok(((old * decay)? + (new.as_tensor().detach() * (1.0 - decay))?)?));
            self.average = Some(updated.collect::<Result<_>>()?);
        }
        Ok(())
    }

    /// Parameters and running statistics.
    fn variables(&self) -> Vec<Var> {
        let all = self.network.parameters().into_iter().chain(self.network.buffers());
        all.map(|(_, variable)| variable).collect()
    }

    fn values(&self) -> Result<Vec<Tensor>> {
        Ok(self.variables().iter().map(|v| v.as_detached_tensor().copy()).collect::<Result<_, _>>()?)
    }

    /// Calls `work` with the moving average in place of the weights, if there is one.
    pub fn with_average<T>(&mut self, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let Some(average) = self.average.take() else { return work(self) };
        let weights = self.values()?;
        self.put(&average)?;
        let result = work(self);
        self.put(&weights)?;
        self.average = Some(average);
        result
    }

    fn put(&self, values: &[Tensor]) -> Result<()> {
        for (variable, value) in self.variables().iter().zip(values) {
            variable.set(value)?;
        }
        Ok(())
    }

    /// Embeds `items` inputs of `bins x columns`, with running statistics and without a graph.
    pub fn embed(&self, values: Vec<f32>, items: usize, bins: usize, columns: usize) -> Result<Embedded> {
        let x = Tensor::from_vec(values, (items, bins, columns), &self.device)?;
        let outputs = self.network.forward(&x)?;
        let rows = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
        let dim = outputs.f_c.dim(1)?;
        Ok(Embedded { f_t: rows(&outputs.f_t)?, f_c: rows(&outputs.f_c)?, dim })
    }

    /// Writes weights, their average and the optimiser into the folder of a checkpoint.
    pub fn save(&self, folder: &Path) -> Result<()> {
        self.save_network(&folder.join(checkpoint::NETWORK))?;
        if let Some(average) = &self.average {
            let named: HashMap<String, Tensor> =
                average.iter().enumerate().map(|(i, t)| (i.to_string(), t.clone())).collect();
            weights::write(&folder.join(checkpoint::AVERAGE), &named, HashMap::new())?;
        }
        self.optimizer.save(&folder.join(checkpoint::OPTIMIZER))?;
        Ok(())
    }

    /// Reads what [`Learner::save`] wrote.
    ///
    /// # Errors
    /// A damaged checkpoint, one of another schema or of another network.
    pub fn load(&mut self, folder: &Path) -> Result<()> {
        self.load_parts(folder).map_err(|error| checkpoint::with_remedy(error, folder))
    }

    fn load_parts(&mut self, folder: &Path) -> Result<()> {
        self.network.restore(&folder.join(checkpoint::NETWORK))?;
        if let Some(average) = &mut self.average {
            let path = folder.join(checkpoint::AVERAGE);
            let failed = || format!("cannot read {}", path.display());
            let bytes = std::fs::read(&path).with_context(failed)?;
            let named = candle_core::safetensors::load_buffer(&bytes, &self.device).with_context(failed)?;
            let other = || format!("{} holds another network", path.display());
            ensure!(named.len() == average.len(), "{}", other());
            for (i, value) in average.iter_mut().enumerate() {
                *value = named.get(&i.to_string()).with_context(other)?.clone();
            }
        }
        self.optimizer.load(&folder.join(checkpoint::OPTIMIZER))
    }

    /// Writes the network alone (its moving average if there is one), atomically.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn export(&mut self, path: &Path) -> Result<()> {
        self.with_average(|learner| learner.save_network(path))
    }

    fn fingerprint(&self) -> Result<String> {
        let mut fingerprint = Fingerprint::of("network");
        for variable in self.variables() {
            let values = variable.as_tensor().flatten_all()?.to_vec1::<f32>()?;
            fingerprint.add(bytemuck::cast_slice::<f32, u8>(&values));
        }
        Ok(fingerprint.finish())
    }

    fn save_network(&self, path: &Path) -> Result<()> {
        let provenance = Provenance {
            format: CHECKPOINT_FORMAT.to_owned(),
            tool: bc_cli::tool!().to_owned(),
            settings: self.settings.clone(),
            fingerprint: self.fingerprint()?,
            inputs: self.sources.inputs.clone(),
        };
        let mut metadata: HashMap<String, String> = provenance.to_key_values().into_iter().collect();
        metadata.extend([self.input.to_key_value()]);
        metadata.insert(CLIQUES_KEY.to_owned(), self.sources.cliques.clone());
        self.network.save(path, metadata).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// One output of several passes, row after row.
fn joined(passes: &[Pass], get: impl Fn(&Outputs) -> Result<&Tensor>) -> Result<Tensor> {
    let parts = passes.iter().map(|pass| get(pass.outputs())).collect::<Result<Vec<_>>>()?;
    Ok(Tensor::cat(&parts, 0)?)
}

/// Where the network runs. This build knows the CPU.
pub(crate) fn device(name: &str) -> Result<Device> {
    if name == "cpu" || name == "auto" {
        return Ok(Device::Cpu);
    }
    bail!(
        "[train] device = \"{name}\": this build has no CUDA operators yet; use device = \"cpu\" or \"auto\""
    )
}

/// Threads of the network's operators on the CPU; 0: one a core. Call once, first.
pub fn use_threads(threads: usize) -> Result<()> {
    let mut pool = rayon::ThreadPoolBuilder::new();
    if threads > 0 {
        pool = pool.num_threads(threads);
    }
    pool.build_global().context("cannot start the worker threads")
}
