//! Communication between the processes of one training run (its *ranks*).
//!
//! **In**: the environment variables that a launcher (`srun`, `mpirun`) sets for each process, and buffers. **Out**: sums over
//! ranks, the values of all ranks, and decisions that are the same in all ranks ([`Ranks`]). Training with one process is the
//! same code with one rank ([`Ranks::alone`]), which costs nothing and needs no MPI.
//!
//! ```text
//! Ranks             the interface of training: sums, gathered values, checks that ranks agree, "rank 0 first"
//!   Transport       exchanges bytes
//!     SingleRank    a single process
//!     threads()     ranks that are threads of one process, for tests without MPI
//!     Mpi           processes connected by the cluster's MPI (feature `mpi`)
//! ```
//!
//! Values in the memory of GPUs are exchanged by NCCL, which is not a [`Transport`] but part of the device (bc-cuda). Its
//! connection id is sent to the ranks by [`Ranks::gather`]; small values and values on the host are exchanged as above.

mod launch;
#[cfg(feature = "mpi")]
mod mpi;
mod single;
mod threads;

use std::sync::Arc;

use anyhow::{Context, Result, bail};

pub use launch::{local_rank, start};
pub use threads::threads;

/// Values that are summed over ranks.
#[derive(Debug)]
pub enum Values<'a> {
    /// 32-bit numbers in the host's memory.
    F32(&'a mut [f32]),
    /// 64-bit numbers in the host's memory.
    F64(&'a mut [f64]),
}

/// The transport of values between ranks. All ranks make the same calls in the same order; one channel is used by one
/// thread at a time.
pub trait Transport: Send + Sync {
    /// Returns the number of this rank, from 0.
    fn rank(&self) -> usize;

    /// Returns the number of ranks.
    fn size(&self) -> usize;

    /// Replaces values by their sums over all ranks, which are the same in all ranks. All ranks must pass equally many values.
    ///
    /// # Errors
    /// A rank that has ended.
    fn sum(&self, values: Values<'_>) -> Result<()>;

    /// Gathers the bytes of all ranks, one rank after the other; `lengths` holds the number of bytes of each rank.
    ///
    /// # Errors
    /// A rank that has ended; more bytes than the transport can count.
    fn gather(&self, own: &[u8], lengths: &[usize]) -> Result<Vec<u8>>;

    /// Opens a channel between the same ranks for another thread. With `in_order`, sums are added in the order of the ranks and so
    /// have the same bits in every run; otherwise in the order that is fastest for the transport.
    ///
    /// # Errors
    /// A rank that has ended.
    fn channel(&self, in_order: bool) -> Result<Arc<dyn Transport>>;

    /// Ends the other ranks, if the transport can. Called if this rank cannot continue, because the others would wait for it for ever.
    fn abort(&self) {}
}

/// The ranks of a run, seen by one of them (what MPI calls a communicator).
#[derive(Clone)]
pub struct Ranks(Arc<dyn Transport>);

impl std::fmt::Debug for Ranks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

impl Ranks {
    /// Creates a single rank.
    pub fn alone() -> Self {
        Self(Arc::new(single::SingleRank))
    }

    /// Creates ranks that are connected by this transport.
    pub fn of(transport: Arc<dyn Transport>) -> Self {
        Self(transport)
    }

    /// Returns the number of this rank, from 0.
    pub fn rank(&self) -> usize {
        self.0.rank()
    }

    /// Returns the number of ranks.
    pub fn size(&self) -> usize {
        self.0.size()
    }

    /// Returns whether there is only one rank.
    pub fn is_alone(&self) -> bool {
        self.size() == 1
    }

    /// Returns whether this is rank 0, the only one that writes and locks files, draws and prints.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Returns the name of this rank in messages.
    pub fn name(&self) -> String {
        name(self.rank(), self.size())
    }

    /// Replaces values by their sums over all ranks; see [`Transport::sum`].
    ///
    /// # Errors
    /// A rank that has ended.
    pub fn sum(&self, values: Values<'_>) -> Result<()> {
        self.0.sum(values)
    }

    /// Opens a channel for another thread; see [`Transport::channel`].
    ///
    /// # Errors
    /// A rank that has ended.
    pub fn channel(&self, in_order: bool) -> Result<Self> {
        self.0.channel(in_order).map(Self)
    }

    /// Ends the other ranks; see [`Transport::abort`].
    pub fn abort(&self) {
        self.0.abort();
    }

    /// Gathers the values of all ranks, one rank after the other; `counts` holds the number of values of each rank.
    ///
    /// # Errors
    /// A rank that has ended.
    pub fn gather<T: bytemuck::Pod>(&self, own: &[T], counts: &[usize]) -> Result<Vec<T>> {
        let lengths: Vec<usize> = counts.iter().map(|count| count * size_of::<T>()).collect();
        let bytes = self.0.gather(bytemuck::cast_slice(own), &lengths)?;
        Ok(values_of(&bytes))
    }

    /// Returns for each of `N` flags whether it is set in any rank.
    ///
    /// # Errors
    /// A rank that has ended.
    pub fn any<const N: usize>(&self, flags: [bool; N]) -> Result<[bool; N]> {
        let all = self.gather(&flags.map(u8::from), &vec![N; self.size()])?;
        Ok(std::array::from_fn(|index| all.iter().skip(index).step_by(N).any(|flag| *flag != 0)))
    }

    /// Gathers the texts of all ranks, in the order of the ranks.
    ///
    /// # Errors
    /// A rank that has ended.
    pub fn texts(&self, own: &str) -> Result<Vec<String>> {
        let lengths = self.gather(&[own.len() as u64], &vec![1; self.size()])?;
        let lengths: Vec<usize> = lengths.iter().map(|length| *length as usize).collect();
        let all = self.0.gather(own.as_bytes(), &lengths)?;
        let mut rest = all.as_slice();
        let text = |length: &usize| {
            let (text, after) = rest.split_at(*length);
            rest = after;
            String::from_utf8_lossy(text).into_owned()
        };
        Ok(lengths.iter().map(text).collect())
    }

    /// Checks that all ranks have the same text as rank 0.
    ///
    /// # Errors
    /// A rank has another text: the error begins with `what`, names the first such rank, and gives both texts if they are
    /// short.
    pub fn require_same(&self, what: &str, own: &str) -> Result<()> {
        let all = self.texts(own)?;
        let Some(other) = all.iter().position(|text| *text != all[0]) else { return Ok(()) };
        let shown = |text: &str| if text.len() <= 32 { format!(" ({text})") } else { String::new() };
        bail!(
            "{what} of {}{} differs from that of rank 0{}",
            name(other, self.size()),
            shown(&all[other]),
            shown(&all[0])
        )
    }

    /// Runs `work`, which may leave a file for all ranks, in rank 0 first and then in the others.
    ///
    /// # Errors
    /// The errors of `work`; a rank that has ended.
    pub fn first_then_others<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.is_first() {
            let done = work()?;
            self.wait()?;
            return Ok(done);
        }
        self.wait().context("rank 0 could not begin")?;
        work()
    }

    /// Waits until every rank has called this method (a barrier).
    ///
    /// # Errors
    /// A rank that has ended.
    pub fn wait(&self) -> Result<()> {
        self.any([false]).map(drop)
    }
}

/// Reads values from bytes, which need not be aligned.
fn values_of<T: bytemuck::Pod>(bytes: &[u8]) -> Vec<T> {
    bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()
}

fn name(rank: usize, size: usize) -> String {
    format!("rank {rank} of {size}")
}

/// Writes the element-wise sums of `parts` (of equal length) to `output`; sums are added in the order of the parts and in 64 bits.
fn add_in_order<T: Copy + Into<f64>>(parts: &[&[T]], round: impl Fn(f64) -> T, output: &mut [T]) {
    for (index, value) in output.iter_mut().enumerate() {
        *value = round(parts.iter().map(|part| part[index].into()).sum());
    }
}
