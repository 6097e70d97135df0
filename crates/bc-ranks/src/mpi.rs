//! Ranks that are processes, connected by the cluster's MPI.

#![allow(unsafe_code, reason = "MPI's C interface")]

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use mpi::Threading;
use mpi::collective::{CommunicatorCollectives, SystemOperation};
use mpi::datatype::{Equivalence, Partition, PartitionMut};
use mpi::environment::Universe;
use mpi::topology::{Communicator, SimpleCommunicator};

use crate::launch::Launch;
use crate::{Ranks, Transport, Values, add_in_order};

/// Up to this many values, each rank gathers the values of all ranks and adds them itself, which takes one exchange instead of two.
const MAX_GATHERED_VALUES: usize = 1 << 13;
/// The memory of an empty slice.
static EMPTY: [u8; 1] = [0];

/// Joins the processes of a launcher.
pub(crate) fn join(launch: &Launch) -> Result<Ranks> {
    let (universe, threading) = mpi::initialize_with_threading(Threading::Multiple)
        .context("MPI was initialised before in this process")?;
    let world = universe.world();
    let (size, rank) = (world.size() as usize, world.rank() as usize);
    let session = Arc::new(MpiSession { _universe: universe });
    if threading < Threading::Multiple {
        bail!(
            "this MPI gives {threading:?}, and gradients are sent by a thread of their own: it must be built with \
             MPI_THREAD_MULTIPLE (Debian's Open MPI and MPICH are)"
        );
    }
    if size != launch.size {
        bail!(
            "{} started {} processes, but MPI knows {size}: they were not connected (with srun, use \
             --mpi=pmix or --mpi=pmi2, whichever this MPI was built for; `srun --mpi=list` has them)",
            launch.launcher,
            launch.size
        );
    }
    Ok(Ranks(Arc::new(Mpi { world, size, rank, in_order: true, session })))
}

/// An MPI session, which is finalised when the last channel is dropped.
struct MpiSession {
    _universe: Universe,
}

impl Drop for MpiSession {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The others would wait for this rank for ever.
            SimpleCommunicator::world().abort(101);
        }
    }
}

/// One channel of one rank.
struct Mpi {
    // Freed before `session` leaves MPI.
    world: SimpleCommunicator,
    size: usize,
    rank: usize,
    in_order: bool,
    session: Arc<MpiSession>,
}

// SAFETY: MPI gave MPI_THREAD_MULTIPLE, with which any thread may call it; each channel has its own communicator.
unsafe impl Send for Mpi {}
// SAFETY: as above; that no two threads use one channel at once is the contract of `Transport`.
unsafe impl Sync for Mpi {}

impl Mpi {
    /// Sums values in the order of the ranks: each rank adds up one range of the values and sends the sums to all ranks. A rank
    /// sends and receives as much as in a ring all-reduce.
    fn sum_in_order<T>(&self, values: &mut [T], rounded: fn(f64) -> T) -> Result<()>
    where
        T: Equivalence + Copy + Default + Into<f64>,
    {
        let count = values.len();
        if count == 0 {
            return Ok(());
        }
        if count <= MAX_GATHERED_VALUES {
            let mut all = vec![T::default(); count * self.size];
            self.world.all_gather_into(&*values, &mut all[..]);
            add_in_order(&all.chunks(count.max(1)).collect::<Vec<_>>(), rounded, values);
            return Ok(());
        }
        let first = |rank: usize| rank * count / self.size;
        let firsts = (0..self.size).map(|rank| self.number(first(rank))).collect::<Result<Vec<i32>>>()?;
        let counts = (0..self.size)
            .map(|rank| self.number(first(rank + 1) - first(rank)))
            .collect::<Result<Vec<i32>>>()?;
        let own = first(self.rank + 1) - first(self.rank);
        let mut parts = vec![T::default(); own * self.size];
        {
            let offsets = (0..self.size).map(|rank| self.number(rank * own)).collect::<Result<Vec<i32>>>()?;
            let sent = Partition::new(&*values, &counts[..], &firsts[..]);
            let mut received = PartitionMut::new(&mut parts[..], vec![self.number(own)?; self.size], offsets);
            self.world.all_to_all_varcount_into(&sent, &mut received);
        }
        let mut sums = vec![T::default(); own];
        add_in_order(&parts.chunks(own.max(1)).collect::<Vec<_>>(), rounded, &mut sums);
        let mut received = PartitionMut::new(values, &counts[..], &firsts[..]);
        self.world.all_gather_varcount_into(&sums[..], &mut received);
        Ok(())
    }

    fn sum_of<T>(&self, values: &mut [T], rounded: fn(f64) -> T) -> Result<()>
    where
        T: Equivalence + Copy + Default + Into<f64>,
    {
        if self.in_order {
            return self.sum_in_order(values, rounded);
        }
        self.number(values.len())?;
        let own = values.to_vec();
        self.world.all_reduce_into(&own[..], values, SystemOperation::sum());
        Ok(())
    }

    /// Converts a count to MPI's 32 bits.
    fn number(&self, count: usize) -> Result<i32> {
        i32::try_from(count).with_context(|| format!("MPI cannot exchange {count} values at once"))
    }
}

impl Transport for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn sum(&self, values: Values<'_>) -> Result<()> {
        match values {
            Values::F32(values) => self.sum_of(values, |sum| sum as f32),
            Values::F64(values) => self.sum_of(values, |sum| sum),
        }
    }

    fn gather(&self, own: &[u8], lengths: &[usize]) -> Result<Vec<u8>> {
        ensure!(lengths.get(self.rank) == Some(&own.len()), "a rank has other lengths than expected");
        let total: usize = lengths.iter().sum();
        self.number(total)?;
        let counts: Vec<i32> = lengths.iter().map(|length| *length as i32).collect();
        let firsts: Vec<i32> =
            counts.iter().scan(0, |sum, count| Some(std::mem::replace(sum, *sum + count))).collect();
        if total == 0 {
            return Ok(Vec::new());
        }
        // An empty slice has the address 1, which Open MPI takes for MPI_IN_PLACE.
        let own = if own.is_empty() { &EMPTY[..0] } else { own };
        let mut all = vec![0u8; total];
        let mut received = PartitionMut::new(&mut all[..], &counts[..], &firsts[..]);
        self.world.all_gather_varcount_into(own, &mut received);
        Ok(all)
    }

    fn channel(&self, in_order: bool) -> Result<Arc<dyn Transport>> {
        let world = self.world.duplicate();
        Ok(Arc::new(Self {
            world,
            size: self.size,
            rank: self.rank,
            in_order,
            session: self.session.clone(),
        }))
    }

    fn abort(&self) {
        self.world.abort(1);
    }
}
