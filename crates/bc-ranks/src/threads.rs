//! Ranks that are threads of one process, so that tests of several ranks need no MPI.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, bail, ensure};

use crate::{Ranks, Transport, Values, add_in_order, name, values_of};

/// Creates ranks for `size` threads. A rank has ended when all its handles are dropped; a rank that waits for it then gets an error
/// that names it.
pub fn threads(size: usize) -> Vec<Ranks> {
    let group = Arc::new(Group { size, channels: Mutex::default(), ended: Mutex::default() });
    let first = group.channel(0);
    let rank = |rank| {
        let _guard = Some(RankGuard { rank, group: group.clone() });
        let opened = Arc::new(Mutex::new(1));
        Ranks(Arc::new(ThreadRank { rank, group: group.clone(), opened, rendezvous: first.clone(), _guard }))
    };
    (0..size).map(rank).collect()
}

/// All ranks and their channels.
struct Group {
    size: usize,
    /// All channels, in the order in which they were opened, which is the same in all ranks.
    channels: Mutex<Vec<Arc<Rendezvous>>>,
    /// The first rank that has ended.
    ended: Mutex<Option<usize>>,
}

impl Group {
    fn channel(&self, number: usize) -> Arc<Rendezvous> {
        let mut channels = locked(&self.channels);
        while channels.len() <= number {
            channels.push(Arc::new(Rendezvous::new(self.size)));
        }
        channels[number].clone()
    }
}

/// Marks a rank as ended when the last handle of its first channel is dropped, even if a thread still waits in another channel.
struct RankGuard {
    rank: usize,
    group: Arc<Group>,
}

impl Drop for RankGuard {
    fn drop(&mut self) {
        locked(&self.group.ended).get_or_insert(self.rank);
        for rendezvous in locked(&self.group.channels).iter() {
            // Notified under its lock, when no thread is between its check and its wait.
            let _lock = locked(&rendezvous.state);
            rendezvous.changed.notify_all();
        }
    }
}

/// The rendezvous at which ranks exchange their bytes.
struct Rendezvous {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    round: u64,
    submitted: Vec<Option<Vec<u8>>>,
    all: Arc<Vec<Vec<u8>>>,
}

impl Rendezvous {
    fn new(size: usize) -> Self {
        let state = State { round: 0, submitted: vec![None; size], all: Arc::default() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn exchange(&self, rank: usize, group: &Group, own: Vec<u8>) -> Result<Arc<Vec<Vec<u8>>>> {
        let mut state = locked(&self.state);
        let round = state.round;
        state.submitted[rank] = Some(own);
        if state.submitted.iter().all(Option::is_some) {
            state.all =
                Arc::new(state.submitted.iter_mut().map(|own| own.take().unwrap_or_default()).collect());
            state.round += 1;
            self.changed.notify_all();
            return Ok(state.all.clone());
        }
        while state.round == round {
            if let Some(ended) = *locked(&group.ended) {
                bail!("{} has ended", name(ended, group.size));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(state.all.clone())
    }
}

fn locked<T>(cell: &Mutex<T>) -> MutexGuard<'_, T> {
    cell.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One channel of one rank.
struct ThreadRank {
    rank: usize,
    group: Arc<Group>,
    /// Number of channels that this rank has opened.
    opened: Arc<Mutex<usize>>,
    rendezvous: Arc<Rendezvous>,
    _guard: Option<RankGuard>,
}

impl ThreadRank {
    fn sum_of<T: bytemuck::Pod + Into<f64>>(&self, values: &mut [T], rounded: fn(f64) -> T) -> Result<()> {
        let all = self.rendezvous.exchange(self.rank, &self.group, bytemuck::cast_slice(values).to_vec())?;
        let parts: Vec<Vec<T>> = all.iter().map(|bytes| values_of(bytes)).collect();
        ensure!(
            parts.iter().all(|part| part.len() == values.len()),
            "ranks add up different numbers of values"
        );
        add_in_order(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>(), rounded, values);
        Ok(())
    }
}

impl Transport for ThreadRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.group.size
    }

    fn sum(&self, values: Values<'_>) -> Result<()> {
        match values {
            Values::F32(values) => self.sum_of(values, |sum| sum as f32),
            Values::F64(values) => self.sum_of(values, |sum| sum),
        }
    }

    fn gather(&self, own: &[u8], lengths: &[usize]) -> Result<Vec<u8>> {
        let all = self.rendezvous.exchange(self.rank, &self.group, own.to_vec())?;
        ensure!(
            all.iter().map(Vec::len).eq(lengths.iter().copied()),
            "a rank has other lengths than expected"
        );
        Ok(all.concat())
    }

    fn channel(&self, _: bool) -> Result<Arc<dyn Transport>> {
        let mut opened = locked(&self.opened);
        let rendezvous = self.group.channel(*opened);
        *opened += 1;
        Ok(Arc::new(Self {
            rank: self.rank,
            group: self.group.clone(),
            opened: self.opened.clone(),
            rendezvous,
            _guard: None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `work` in each of `size` ranks and returns the results.
    fn in_each<T: Send>(size: usize, work: impl Fn(Ranks) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let work = &work;
            let started: Vec<_> =
                threads(size).into_iter().map(|ranks| scope.spawn(move || work(ranks))).collect();
            started.into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    #[test]
    fn all_ranks_get_the_same_sums_rows_and_decisions() {
        let results = in_each(4, |ranks| {
            let rank = ranks.rank();
            let mut sums = [rank as f32, 1.0];
            let mut wide = [0.1f64 * rank as f64];
            ranks.sum(Values::F32(&mut sums)).unwrap();
            ranks.sum(Values::F64(&mut wide)).unwrap();
            let rows = ranks.gather(&vec![rank as u32; rank], &[0, 1, 2, 3]).unwrap();
            let texts = ranks.texts(&"ab"[..rank % 3]).unwrap();
            (sums, wide, rows, texts, ranks.any([rank == 2, false]).unwrap())
        });
        for result in results {
            let texts = ["", "a", "ab", ""].map(str::to_owned).to_vec();
            assert_eq!(
                result,
                ([6.0, 4.0], [0.1 + 0.2 + 0.1 * 3.0], vec![1, 2, 2, 3, 3, 3], texts, [true, false])
            );
        }
    }

    #[test]
    fn error_for_a_difference_names_the_rank_and_both_values() {
        for error in
            in_each(3, |ranks| ranks.require_same("the seed", if ranks.rank() == 2 { "7" } else { "1" }))
        {
            assert_eq!(
                error.unwrap_err().to_string(),
                "the seed of rank 2 of 3 (7) differs from that of rank 0 (1)"
            );
        }
    }

    #[test]
    fn waiting_for_an_ended_rank_is_an_error_with_its_name() {
        let results = in_each(3, |ranks| {
            if ranks.rank() == 1 {
                return None;
            }
            let other = ranks.channel(true).unwrap();
            let work = if ranks.rank() == 0 { &ranks } else { &other };
            Some(work.wait().unwrap_err().to_string())
        });
        assert_eq!(results[1], None);
        for error in [&results[0], &results[2]] {
            assert_eq!(error.as_deref(), Some("rank 1 of 3 has ended"));
        }
    }

    #[test]
    fn other_ranks_begin_after_rank_0() {
        let started = std::sync::atomic::AtomicUsize::new(0);
        let next_number = |_: &Ranks| started.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let order_of_ranks = in_each(3, |ranks| ranks.first_then_others(|| Ok(next_number(&ranks))).unwrap());
        assert_eq!(order_of_ranks[0], 0);
        let failed = in_each(2, |ranks| ranks.first_then_others(|| -> Result<()> { bail!("no data") }));
        assert_eq!(failed[0].as_ref().unwrap_err().to_string(), "no data");
        assert_eq!(failed[1].as_ref().unwrap_err().to_string(), "rank 0 could not begin");
    }
}
