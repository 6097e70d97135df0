//! Worker threads that make batches ahead of the network, in order.
//!
//! Batch `n` is made by thread `n mod threads` and waits in that thread's own bounded
//! channel, so the order is the plan's whatever the threads' speed.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{Assembler, Batch};
use crate::sampler::{BatchPlan, Sampler};

/// Number of finished batches that each thread keeps ready.
const AHEAD: usize = 2;

/// Batches from a position to the end of the last epoch.
pub struct Loader {
    /// The channel of each worker thread.
    channels: Vec<Receiver<Batch>>,
    /// Index of the channel that holds the next batch.
    next: usize,
    /// The next batch, if [`Loader::peek`] has received it already.
    peeked: Option<Batch>,
    /// Time that the consumer has waited for batches.
    pub waited: Duration,
}

impl Loader {
    /// Starts `workers` threads at batch `first` of `epoch`; the last epoch is `epochs - 1`.
    pub fn start(
        assembler: Arc<Assembler>,
        sampler: Sampler,
        workers: usize,
        epoch: u64,
        first: usize,
        epochs: u64,
    ) -> Self {
        let plans = Arc::new(Plans { sampler, current: Mutex::new(None) });
        let channels = (0..workers)
            .map(|worker| {
                let (sender, receiver) = sync_channel(AHEAD);
                let (assembler, plans) = (assembler.clone(), plans.clone());
                let task = WorkerTask { worker, workers, epoch, first, epochs };
                std::thread::Builder::new()
                    .name(format!("loader-{worker}"))
                    .spawn(move || run_worker(&assembler, &plans, task, &sender))
                    .expect("the system can start a thread");
                receiver
            })
            .collect();
        Self { channels, next: 0, peeked: None, waited: Duration::ZERO }
    }

    /// Returns the next batch, or `None` after the last one.
    pub fn next_batch(&mut self) -> Option<Batch> {
        let started = Instant::now();
        let batch = self.peeked.take().or_else(|| self.channels[self.next].recv().ok());
        self.waited += started.elapsed();
        self.next = (self.next + 1) % self.channels.len();
        batch
    }

    /// Returns the next batch if it is ready, without waiting and without removing it.
    pub fn peek(&mut self) -> Option<&Batch> {
        if self.peeked.is_none() {
            self.peeked = self.channels[self.next].try_recv().ok();
        }
        self.peeked.as_ref()
    }

    /// Returns the batch at a known position.
    ///
    /// # Errors
    /// A worker thread has died (a bug of the program, whose message was printed before).
    pub fn expect(&mut self, epoch: u64, index: usize) -> Result<Batch> {
        match self.next_batch() {
            Some(batch) if (batch.epoch, batch.index) == (epoch, index) => Ok(batch),
            Some(batch) => {
                bail!("the loader gave batch {}.{} instead of {epoch}.{index}", batch.epoch, batch.index)
            }
            None => bail!("a thread that assembles batches has died at batch {epoch}.{index}"),
        }
    }
}

/// The batches that one worker thread makes.
struct WorkerTask {
    /// Number of this thread.
    worker: usize,
    /// Number of threads.
    workers: usize,
    /// Epoch of the first batch.
    epoch: u64,
    /// Index of the first batch in its epoch.
    first: usize,
    /// Number of epochs; the last one is `epochs - 1`.
    epochs: u64,
}

/// The plan of the current epoch, which all threads share.
struct Plans {
    sampler: Sampler,
    current: Mutex<Option<(u64, Arc<Vec<BatchPlan>>)>>,
}

impl Plans {
    /// Returns the plan of an epoch, and keeps it for the other threads. (They are never more than one epoch apart.)
    fn of(&self, epoch: u64) -> Arc<Vec<BatchPlan>> {
        let mut current = self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*current {
            Some((planned, plan)) if *planned == epoch => plan.clone(),
            _ => {
                let plan = Arc::new(self.sampler.epoch(epoch));
                *current = Some((epoch, plan.clone()));
                plan
            }
        }
    }
}

/// Makes the batches of one worker thread and sends them in order, until the last epoch ends or the loader is dropped.
fn run_worker(assembler: &Assembler, plans: &Plans, task: WorkerTask, sender: &SyncSender<Batch>) {
    let mut number = 0;
    for epoch in task.epoch..task.epochs {
        let plan = plans.of(epoch);
        let first = if epoch == task.epoch { task.first } else { 0 };
        for (index, batch) in plan.iter().enumerate().skip(first) {
            let is_own = number % task.workers == task.worker;
            number += 1;
            if is_own && sender.send(assembler.assemble(epoch, index, batch)).is_err() {
                // The loader was dropped: training has ended.
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::{Composition, Order, RankSplit};
    use bc_formats::config::{AugmentConfig, Config, ShortTracks};
    use bc_formats::run::{NetworkInput, Scale};

    fn loader(workers: usize, epoch: u64, first: usize) -> (Loader, usize) {
        let mut config = Config::default();
        config.train.debug = true;
        let data = Arc::new(crate::data::open(&config, &bc_ranks::Ranks::alone()).unwrap());
        let composition = Composition::Pk { cliques: 4, versions: 2 };
        let lengths = vec![10.0, 20.0];
        let sampler = Sampler::new(1, composition, Order::Mixed, lengths.clone(), data.cliques()).unwrap();
        let input = NetworkInput { cqt: data.cqt, pool: 20, scale: Scale::Max };
        let augment = AugmentConfig { stretch_probability: 0.5, ..AugmentConfig::default() };
        let cut = RankSplit::new(composition, 0, 1);
        let assembler = Assembler::new(data, augment, input, ShortTracks::Repeat, 1, &lengths, cut).unwrap();
        let batches = sampler.batches_per_epoch();
        (Loader::start(Arc::new(assembler), sampler, workers, epoch, first, 2), batches)
    }

    #[test]
    fn batches_do_not_depend_on_the_number_of_threads() {
        let (mut one, batches) = loader(1, 0, 0);
        let (mut three, _) = loader(3, 0, 0);
        for _ in 0..2 * batches {
            assert_eq!(one.next_batch().unwrap(), three.next_batch().unwrap());
        }
        assert!(one.next_batch().is_none() && three.next_batch().is_none());
    }

    #[test]
    fn peeking_does_not_change_batches() {
        let ((mut peeking, batches), (mut plain, _)) = (loader(2, 0, 0), loader(2, 0, 0));
        for _ in 0..2 * batches {
            let seen = peeking.peek().cloned();
            let batch = peeking.next_batch();
            assert!(seen.is_none_or(|seen| Some(seen) == batch));
            assert_eq!(batch, plain.next_batch());
        }
        assert!(peeking.peek().is_none() && peeking.next_batch().is_none());
    }

    #[test]
    fn loader_started_in_the_middle_gives_the_same_batches() {
        let (mut all, batches) = loader(2, 0, 0);
        for _ in 0..batches + 3 {
            all.next_batch();
        }
        let (mut rest, _) = loader(2, 1, 3);
        for index in 3..batches {
            assert_eq!(all.next_batch().unwrap(), rest.expect(1, index).unwrap());
        }
    }
}
