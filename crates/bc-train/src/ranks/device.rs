//! Chooses the device of each rank and connects the GPUs of all ranks.
//!
//! All ranks have the same configuration, and so the same device name. With several ranks on a machine, `cuda` and `cuda:0`
//! stand for a different GPU in each rank: that of the rank's number on its machine. Two ranks must not share a GPU. GPUs are
//! connected by NCCL if all ranks can load it; otherwise they exchange values through the host's memory, and rank 0 warns
//! and gives the reason.

use anyhow::{Context, Result, bail};
use bc_formats::config::TrainConfig;
use bc_nn::Backend;
use bc_nn::backend::gpus::{self, Gpu};
use bc_nn::backend::{Precision, names_gpu};
use bc_ranks::Ranks;

use crate::machine::host;

/// Opens this rank's device, connected with those of the others.
///
/// # Errors
/// An absent device, too few GPUs for the ranks of a machine, or a rank that has ended.
pub fn open(ranks: &Ranks, train: &TrainConfig) -> Result<Backend> {
    let precision = Precision::named(&train.precision)?;
    if ranks.is_alone() || !names_gpu(&train.device) {
        return Backend::open(&train.device, precision);
    }
    let local = LocalRank::find(ranks)?;
    let gpu = Gpu::open(&device_name(&train.device, &local, gpus::count()?)?, precision)?;
    // UUIDs are compared without host names, because containers of one machine may have names of their own.
    refuse_shared_gpu(ranks, &gpu.uuid()?)?;
    let own = match ranks.is_first() {
        true => gpus::new_id(),
        false => gpus::require_connection().map(|()| Vec::new()),
    };
    match share_connection_id(ranks, own)? {
        Some(id) => gpu.connected(&id, [ranks.rank(), ranks.size()], train.deterministic),
        None => Ok(gpu.alone()),
    }
}

/// The position of a rank among those of its machine.
#[derive(Debug)]
struct LocalRank {
    host: String,
    /// Its number among the ranks of its machine.
    number: usize,
    /// Number of ranks on its machine.
    ranks: usize,
}

impl LocalRank {
    /// Takes the number from the launcher or, if it gives none, from the order of the ranks whose machines have the
    /// same name.
    fn find(ranks: &Ranks) -> Result<Self> {
        let host = host();
        let hosts = ranks.texts(&host)?;
        let on_host = hosts.iter().filter(|other| **other == host).count();
        let before = hosts[..ranks.rank()].iter().filter(|other| **other == host).count();
        let number = bc_ranks::local_rank().unwrap_or(before);
        // Containers of one machine may have names of their own.
        Ok(Self { host, number, ranks: on_host.max(number + 1) })
    }
}

/// Returns the name of the GPU of a rank, among the `gpus` that it sees.
fn device_name(device: &str, local: &LocalRank, gpus: usize) -> Result<String> {
    let LocalRank { host, number, ranks } = local;
    if *ranks == 1 {
        return Ok(device.to_owned());
    }
    if device != "cuda" && device != "cuda:0" {
        bail!(
            "device = \"{device}\" would be the GPU of all {ranks} ranks on {host}: say device = \"cuda\", by which each \
             rank takes the one of its number there (CUDA_VISIBLE_DEVICES chooses among GPUs and orders them)"
        );
    }
    // A launcher may show each rank only its own GPU (srun --gpus-per-task=1). Whether ranks share it is checked later.
    if gpus == 1 {
        return Ok("cuda:0".to_owned());
    }
    if *number >= gpus {
        bail!(
            "{ranks} ranks on {host}, but they see {gpus} GPUs (CUDA_VISIBLE_DEVICES may hide some): start one rank for each \
             GPU"
        );
    }
    Ok(format!("cuda:{number}"))
}

/// Refuses ranks that share a GPU; `own` is the UUID of this rank's GPU.
fn refuse_shared_gpu(ranks: &Ranks, own: &str) -> Result<()> {
    let all = ranks.texts(own)?;
    for (rank, gpu) in all.iter().enumerate() {
        if let Some(other) = all[..rank].iter().position(|other| other == gpu) {
            bail!(
                "ranks {other} and {rank} of {} have one GPU ({gpu}): start one rank for each GPU, and let each see all \
                 GPUs of its machine or its own alone",
                all.len()
            );
        }
    }
    Ok(())
}

/// Distributes the id by which the GPUs are connected. In rank 0, `own` is the new id; in the others, it is empty, or the
/// error why they cannot be connected. Returns `None` if any rank has an error; rank 0 then warns.
fn share_connection_id(ranks: &Ranks, own: Result<Vec<u8>>) -> Result<Option<Vec<u8>>> {
    let reason = own.as_ref().map_or_else(|error| format!("{error:#}"), |_| String::new());
    let reasons = ranks.texts(&reason)?;
    if let Some(rank) = reasons.iter().position(|reason| !reason.is_empty()) {
        if ranks.is_first() {
            tracing::warn!(
                "the ranks exchange values through the hosts' memory, which is slower than between GPUs; rank {rank} of \
                 {}: {}",
                ranks.size(),
                reasons[rank]
            );
        }
        return Ok(None);
    }
    let own = own.context("a rank without a reason")?;
    let lengths = ranks.gather(&[own.len() as u64], &vec![1; ranks.size()])?;
    let lengths: Vec<usize> = lengths.iter().map(|length| *length as usize).collect();
    Ok(Some(ranks.gather(&own, &lengths)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    fn chosen_device(device: &str, number: usize, ranks: usize, gpus: usize) -> Result<String, String> {
        let local = LocalRank { host: "node7".to_owned(), number, ranks };
        device_name(device, &local, gpus).map_err(|error| error.to_string())
    }

    #[test]
    fn each_rank_takes_the_gpu_of_its_local_number() {
        for device in ["cuda", "cuda:0"] {
            let all: Vec<String> =
                (0..4).map(|number| chosen_device(device, number, 4, 8).unwrap()).collect();
            assert_eq!(all, ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]);
            // Each rank sees only its own GPU.
            assert_eq!(chosen_device(device, 3, 4, 1).unwrap(), "cuda:0");
            let error = chosen_device(device, 2, 4, 2).unwrap_err();
            assert!(error.contains("4 ranks on node7") && error.contains("see 2 GPUs"), "{error}");
        }
        // One rank on each machine: the name is as good as it is for one process.
        assert_eq!(chosen_device("cuda:2", 0, 1, 4).unwrap(), "cuda:2");
        let error = chosen_device("cuda:2", 1, 4, 4).unwrap_err();
        assert!(error.contains("\"cuda:2\"") && error.contains("say device = \"cuda\""), "{error}");
    }

    /// Runs `work` in each of `size` ranks and returns the results.
    fn in_each<T: Send>(size: usize, work: impl Fn(Ranks) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let work = &work;
            let started: Vec<_> =
                bc_ranks::threads(size).into_iter().map(|ranks| scope.spawn(move || work(ranks))).collect();
            started.into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    #[test]
    fn local_ranks_are_numbered_in_order() {
        let local_ranks = in_each(3, |ranks| LocalRank::find(&ranks).unwrap());
        for (rank, local) in local_ranks.iter().enumerate() {
            assert_eq!((local.number, local.ranks), (rank, 3));
        }
    }

    #[test]
    fn two_ranks_on_one_gpu_are_refused() {
        let gpus = ["GPU-a of one", "GPU-b of one", "GPU-a of one"];
        for refused in in_each(3, |ranks| refuse_shared_gpu(&ranks, gpus[ranks.rank()])) {
            let error = refused.unwrap_err().to_string();
            assert!(error.contains("ranks 0 and 2 of 3") && error.contains("GPU-a"), "{error}");
        }
        in_each(2, |ranks| refuse_shared_gpu(&ranks, gpus[ranks.rank()]))
            .into_iter()
            .for_each(Result::unwrap);
    }

    #[test]
    fn all_ranks_get_the_id_of_rank_0_unless_one_lacks_nccl() {
        let own = |ranks: &Ranks| if ranks.is_first() { vec![7u8; 128] } else { Vec::new() };
        for id in in_each(3, |ranks| share_connection_id(&ranks, Ok(own(&ranks))).unwrap()) {
            assert_eq!(id, Some(vec![7; 128]));
        }
        for without in [0, 2] {
            let lacks = |ranks: &Ranks| match ranks.rank() == without {
                true => Err(anyhow!("cannot load libnccl.so")),
                false => Ok(own(ranks)),
            };
            assert_eq!(
                in_each(3, |ranks| share_connection_id(&ranks, lacks(&ranks)).unwrap()),
                [None, None, None]
            );
        }
    }
}
