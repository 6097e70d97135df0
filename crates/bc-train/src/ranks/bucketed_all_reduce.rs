//! Sums gradients on the CPU over ranks, bucket by bucket, while the backward pass continues.
//!
//! The parameters are grouped into buckets in the order in which a backward pass reaches them, the last ones first. A
//! bucket whose gradients are complete is sent to a thread that sums it over the ranks. Buckets are sent in one order,
//! the same in all ranks, whatever the order in which they are filled.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bc_nn::{GradientListener, Gradients};
use bc_ranks::{Ranks, Values};

use super::reduction_cost::ReductionCost;

/// Minimum number of values of a bucket: 1 MiB. Smaller ones would cost more messages, larger ones would be sent later.
const BUCKET: usize = 1 << 18;

/// Gradients of some parameters: their values, then for each parameter whether there is one (1 or 0), so that the sum
/// tells whether any rank has one.
struct Bucket {
    /// For each parameter, its index and the offset of its first value in `values`.
    parameters: Vec<(usize, usize)>,
    values: Vec<f32>,
    /// Offset at which the values end.
    end: usize,
    /// Number of parameters whose gradients are not complete yet.
    missing: usize,
}

impl Bucket {
    /// Creates an empty bucket for these parameters, whose values end at `end`.
    fn new(parameters: Vec<(usize, usize)>, end: usize) -> Self {
        let missing = parameters.len();
        Self { values: vec![0.0; end + missing], parameters, end, missing }
    }

    /// Empties the bucket for the next step.
    fn empty(&mut self) {
        self.values.fill(0.0);
        self.missing = self.parameters.len();
    }

    /// Replaces the gradients of the bucket's parameters by the sums in the bucket.
    fn write_sums_to(&self, gradients: &mut Gradients) -> Result<()> {
        let ends = self.parameters.iter().skip(1).map(|(_, from)| *from).chain([self.end]);
        for (slot, (&(index, from), to)) in self.parameters.iter().zip(ends).enumerate() {
            let written = self.values[self.end + slot] > 0.0;
            gradients.replace(index, written.then(|| &self.values[from..to]))?;
        }
        Ok(())
    }

    /// Writes the gradient of the parameter at `slot`.
    fn fill(&mut self, slot: usize, values: &[f32]) {
        let from = self.parameters[slot].1;
        self.values[from..from + values.len()].copy_from_slice(values);
        self.values[self.end + slot] = 1.0;
    }
}

/// The buckets that are being filled.
struct PendingBuckets {
    /// `None` while a bucket is being summed.
    buckets: Vec<Option<Bucket>>,
    /// Bucket and slot of each parameter.
    slots: Vec<(usize, usize)>,
    /// Which parameters are complete already.
    complete: Vec<bool>,
    /// The next bucket to send.
    next: usize,
    sender: Sender<Bucket>,
}

impl PendingBuckets {
    /// Groups parameters of these sizes into buckets, the last parameter first.
    fn new(sizes: &[usize], sender: Sender<Bucket>) -> Self {
        let mut slots = vec![(0, 0); sizes.len()];
        let (mut buckets, mut parameters, mut end) = (Vec::new(), Vec::new(), 0);
        for (index, size) in sizes.iter().enumerate().rev() {
            slots[index] = (buckets.len(), parameters.len());
            parameters.push((index, end));
            end += size;
            if end >= BUCKET || index == 0 {
                buckets.push(Some(Bucket::new(std::mem::take(&mut parameters), std::mem::take(&mut end))));
            }
        }
        Self { buckets, slots, complete: vec![false; sizes.len()], next: 0, sender }
    }

    /// Puts the complete gradient of a parameter (`None` if it has none) into its bucket, and sends all buckets whose turn
    /// it is and that are complete.
    fn add(&mut self, index: usize, values: Option<&[f32]>) {
        let (number, slot) = self.slots[index];
        let Some(bucket) = &mut self.buckets[number] else { return };
        if std::mem::replace(&mut self.complete[index], true) {
            return;
        }
        if let Some(values) = values {
            bucket.fill(slot, values);
        }
        bucket.missing -= 1;
        while let Some(bucket) = self.buckets.get_mut(self.next).and_then(|b| b.take_if(|b| b.missing == 0)) {
            self.next += 1;
            // If the thread has ended, its error is returned when the sums are received.
            let _ = self.sender.send(bucket);
        }
    }

    /// Empties all buckets for the next pass.
    fn reset(&mut self) {
        self.complete.fill(false);
        self.next = 0;
    }
}

/// A listener that puts gradients into the pending buckets.
struct BucketListener(Arc<Mutex<PendingBuckets>>);

impl GradientListener for BucketListener {
    fn complete(&mut self, index: usize, values: &[f32]) -> Result<()> {
        lock(&self.0).add(index, Some(values));
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A bucket that was summed, and how long that took.
type Summed = Result<(Bucket, Duration)>;

/// Sums gradients over ranks in buckets, on a thread of its own.
pub(super) struct BucketedAllReduce {
    channel: Ranks,
    /// `None` before the first step.
    running: Option<Running>,
    cost: ReductionCost,
}

/// The thread that sums buckets, with the channels to and from it.
struct Running {
    pending: Arc<Mutex<PendingBuckets>>,
    summed: Receiver<Summed>,
    thread: JoinHandle<()>,
}

impl Running {
    /// Starts the thread, for gradients of these sizes.
    fn start(channel_of_ranks: Ranks, sizes: &[usize]) -> Result<Self> {
        let (sender, buckets) = channel();
        let (summed_sender, summed) = channel();
        let thread = std::thread::Builder::new()
            .name("gradients".to_owned())
            .spawn(move || sum_all(&channel_of_ranks, &buckets, &summed_sender))
            .context("cannot start the thread that sums gradients")?;
        Ok(Self { pending: Arc::new(Mutex::new(PendingBuckets::new(sizes, sender))), summed, thread })
    }
}

/// Sums the buckets that arrive over the ranks and returns them, until a sum fails or the channels are closed.
fn sum_all(ranks: &Ranks, buckets: &Receiver<Bucket>, summed: &Sender<Summed>) {
    while let Ok(mut bucket) = buckets.recv() {
        let started = Instant::now();
        let sum = ranks.sum(Values::F32(&mut bucket.values));
        let failed = sum.is_err();
        if summed.send(sum.map(|()| (bucket, started.elapsed()))).is_err() || failed {
            return;
        }
    }
}

impl BucketedAllReduce {
    /// Sums gradients over `channel`, which must not be used by anything else.
    pub fn new(channel: Ranks) -> Self {
        Self { channel, running: None, cost: ReductionCost::default() }
    }

    /// Returns the running thread; the first call starts it.
    fn running(&mut self, gradients: &Gradients) -> Result<&Running> {
        if self.running.is_none() {
            let sizes = gradients.sizes();
            let running = Running::start(self.channel.clone(), &sizes)?;
            self.cost.buckets = lock(&running.pending).buckets.len();
            self.cost.bytes = size_of::<f32>() * sizes.iter().sum::<usize>();
            self.running = Some(running);
        }
        self.running.as_ref().context("the reduction has started")
    }

    /// Sends gradients as soon as they are complete, from the next backward pass on.
    pub fn send_when_complete(&mut self, gradients: &mut Gradients) -> Result<()> {
        let pending = self.running(gradients)?.pending.clone();
        gradients.set_listener(Some(Box::new(BucketListener(pending))));
        Ok(())
    }

    /// Sends the remaining gradients and replaces all gradients by their sums.
    pub fn finish(&mut self, gradients: &mut Gradients) -> Result<()> {
        gradients.set_listener(None);
        let buckets = self.running(gradients)?.pending.clone();
        send_remaining(&mut lock(&buckets), gradients)?;
        for number in 0..self.cost.buckets {
            let started = Instant::now();
            let summed = self.running(gradients)?.summed.recv();
            let (mut bucket, took) = summed.context("the thread that sums gradients has ended")??;
            self.cost.waiting += started.elapsed();
            self.cost.summing += took;
            bucket.write_sums_to(gradients)?;
            bucket.empty();
            lock(&buckets).buckets[number] = Some(bucket);
        }
        lock(&buckets).reset();
        self.cost.steps += 1;
        Ok(())
    }

    /// Returns the cost so far.
    pub fn cost(&self) -> ReductionCost {
        self.cost
    }
}

/// Sends the gradients of parameters that the last backward pass did not reach: those of earlier passes, or none.
fn send_remaining(pending: &mut PendingBuckets, gradients: &Gradients) -> Result<()> {
    for index in 0..pending.complete.len() {
        if !pending.complete[index] {
            pending.add(index, gradients.values(index)?.as_deref());
        }
    }
    Ok(())
}

impl Drop for BucketedAllReduce {
    fn drop(&mut self) {
        let Some(Running { pending, summed, thread }) = self.running.take() else { return };
        // A thread in the middle of a sum may wait for a rank that has ended, and must not be waited for.
        let idle = lock(&pending).next == 0;
        drop((pending, summed));
        if idle && !std::thread::panicking() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bc_nn::{Backend, Parameters};

    /// One parameter of more than a bucket, and small ones around it.
    fn gradients() -> Gradients {
        let sizes = [3, BUCKET + 1, 2, 1];
        let zeros = sizes.map(|size| (size.to_string(), vec![size], vec![0f32; size]));
        Gradients::new(&Parameters::of(&Backend::cpu(), zeros).unwrap()).unwrap()
    }

    /// The sums of two ranks, each of which writes its gradients with `write`.
    fn summed(
        write: impl Fn(usize, &mut Gradients, &mut BucketedAllReduce) + Sync,
    ) -> Vec<Vec<Option<Vec<f32>>>> {
        std::thread::scope(|scope| {
            let write = &write;
            let rank = |ranks: Ranks| {
                scope.spawn(move || {
                    let (mut gradients, mut all) = (gradients(), Vec::new());
                    let mut reduction = BucketedAllReduce::new(ranks.channel(true).unwrap());
                    for _ in 0..2 {
                        gradients.clear().unwrap();
                        write(ranks.rank(), &mut gradients, &mut reduction);
                        reduction.finish(&mut gradients).unwrap();
                        all = (0..4).map(|index| gradients.values(index).unwrap()).collect();
                    }
                    assert_eq!((reduction.cost().steps, reduction.cost().buckets), (2, 2));
                    all
                })
            };
            let started: Vec<_> = bc_ranks::threads(2).into_iter().map(rank).collect();
            started.into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    #[test]
    fn gradients_are_summed_and_absent_gradient_stays_absent() {
        let all = summed(|rank, gradients, reduction| {
            let value = rank as f32 + 1.0;
            // From an earlier pass, and in one rank only.
            if rank == 1 {
                gradients.replace(0, Some(&[1.0, 2.0, 3.0])).unwrap();
            }
            reduction.send_when_complete(gradients).unwrap();
            gradients.replace(1, Some(&vec![value; BUCKET + 1])).unwrap();
            gradients.replace(3, Some(&[10.0 * value])).unwrap();
        });
        for rank in all {
            assert_eq!(rank[0].as_deref(), Some(&[1.0, 2.0, 3.0][..]));
            assert!(rank[1].as_ref().is_some_and(|values| values.iter().all(|value| *value == 3.0)));
            assert_eq!(rank[2], None);
            assert_eq!(rank[3].as_deref(), Some(&[30.0][..]));
        }
    }
}
