//! Which device a rank takes, and how the GPUs of all ranks are connected.
//!
//! All ranks have one configuration, so one name of a device: with several ranks on a machine, `cuda` and `cuda:0` are
//! the GPU of the rank's number there. No two ranks may have one GPU. GPUs are connected by NCCL where all ranks can
//! load it; else what they exchange goes by way of the host, and rank 0 says why.

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
/// A device that is not there, too few GPUs for the ranks of a machine; a rank that has ended.
pub fn open(ranks: &Ranks, train: &TrainConfig) -> Result<Backend> {
    let precision = Precision::named(&train.precision)?;
    if ranks.is_alone() || !names_gpu(&train.device) {
        return Backend::open(&train.device, precision);
    }
    let place = Place::of(ranks)?;
    let gpu = Gpu::open(&name(&train.device, &place, gpus::count()?)?, precision)?;
    // By the UUID alone: containers of one machine may have host names of their own.
    refuse_shared(ranks, &gpu.uuid()?)?;
    let own = match ranks.is_first() {
        true => gpus::new_id(),
        false => gpus::require_connection().map(|()| Vec::new()),
    };
    match id_of_all(ranks, own)? {
        Some(id) => gpu.connected(&id, [ranks.rank(), ranks.size()], train.deterministic),
        None => Ok(gpu.alone()),
    }
}

/// Where a rank is.
#[derive(Debug)]
struct Place {
    host: String,
    /// Its number among the ranks of its machine.
    number: usize,
    /// How many these are.
    ranks: usize,
}

impl Place {
    /// As the launcher says it, or else by the order of the ranks whose machines have one name.
    fn of(ranks: &Ranks) -> Result<Self> {
        let host = host();
        let hosts = ranks.texts(&host)?;
        let beside = hosts.iter().filter(|other| **other == host).count();
        let before = hosts[..ranks.rank()].iter().filter(|other| **other == host).count();
        let number = bc_ranks::local_rank().unwrap_or(before);
        // Containers of one machine may have names of their own.
        Ok(Self { host, number, ranks: beside.max(number + 1) })
    }
}

/// The GPU of a rank, of the `gpus` that it sees.
fn name(device: &str, place: &Place, gpus: usize) -> Result<String> {
    let Place { host, number, ranks } = place;
    if *ranks == 1 {
        return Ok(device.to_owned());
    }
    if device != "cuda" && device != "cuda:0" {
        bail!(
            "device = \"{device}\" would be the GPU of all {ranks} ranks on {host}: say device = \"cuda\", by which each \
             rank takes the one of its number there (CUDA_VISIBLE_DEVICES chooses among GPUs and orders them)"
        );
    }
    // A launcher may show each rank its own alone (srun --gpus-per-task=1). That it is not everybody's is checked later.
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

/// No two ranks may have one GPU, which `own` names.
fn refuse_shared(ranks: &Ranks, own: &str) -> Result<()> {
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

/// The id that rank 0 has made (`own`; in others whether they can use it); `None` if a rank cannot, which rank 0 says.
fn id_of_all(ranks: &Ranks, own: Result<Vec<u8>>) -> Result<Option<Vec<u8>>> {
    let why_not = own.as_ref().map_or_else(|error| format!("{error:#}"), |_| String::new());
    let reasons = ranks.texts(&why_not)?;
    if let Some(rank) = reasons.iter().position(|reason| !reason.is_empty()) {
        if ranks.is_first() {
            tracing::warn!(
                "what the ranks exchange goes by way of the hosts' memory and is slower than between GPUs; rank {rank} of \
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

    fn of(device: &str, number: usize, ranks: usize, gpus: usize) -> Result<String, String> {
        let place = Place { host: "node7".to_owned(), number, ranks };
        name(device, &place, gpus).map_err(|error| error.to_string())
    }

    #[test]
    fn each_rank_of_a_machine_takes_the_gpu_of_its_number() {
        for device in ["cuda", "cuda:0"] {
            let all: Vec<String> = (0..4).map(|number| of(device, number, 4, 8).unwrap()).collect();
            assert_eq!(all, ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]);
            // Each sees its own alone.
            assert_eq!(of(device, 3, 4, 1).unwrap(), "cuda:0");
            let error = of(device, 2, 4, 2).unwrap_err();
            assert!(error.contains("4 ranks on node7") && error.contains("see 2 GPUs"), "{error}");
        }
        // One rank on each machine: the name is as good as it is for one process.
        assert_eq!(of("cuda:2", 0, 1, 4).unwrap(), "cuda:2");
        let error = of("cuda:2", 1, 4, 4).unwrap_err();
        assert!(error.contains("\"cuda:2\"") && error.contains("say device = \"cuda\""), "{error}");
    }

    /// What `work` gives in each of some ranks.
    fn in_each<T: Send>(size: usize, work: impl Fn(Ranks) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let work = &work;
            let started: Vec<_> =
                bc_ranks::threads(size).into_iter().map(|ranks| scope.spawn(move || work(ranks))).collect();
            started.into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    #[test]
    fn ranks_of_one_machine_are_numbered_in_their_order() {
        let places = in_each(3, |ranks| Place::of(&ranks).unwrap());
        for (rank, place) in places.iter().enumerate() {
            assert_eq!((place.number, place.ranks), (rank, 3));
        }
    }

    #[test]
    fn two_ranks_with_one_gpu_are_refused() {
        let gpus = ["GPU-a of one", "GPU-b of one", "GPU-a of one"];
        for refused in in_each(3, |ranks| refuse_shared(&ranks, gpus[ranks.rank()])) {
            let error = refused.unwrap_err().to_string();
            assert!(error.contains("ranks 0 and 2 of 3") && error.contains("GPU-a"), "{error}");
        }
        in_each(2, |ranks| refuse_shared(&ranks, gpus[ranks.rank()])).into_iter().for_each(Result::unwrap);
    }

    #[test]
    fn the_id_of_rank_0_goes_round_and_one_rank_without_nccl_is_enough_for_none() {
        let own = |ranks: &Ranks| if ranks.is_first() { vec![7u8; 128] } else { Vec::new() };
        for id in in_each(3, |ranks| id_of_all(&ranks, Ok(own(&ranks))).unwrap()) {
            assert_eq!(id, Some(vec![7; 128]));
        }
        for without in [0, 2] {
            let lacks = |ranks: &Ranks| match ranks.rank() == without {
                true => Err(anyhow!("cannot load libnccl.so")),
                false => Ok(own(ranks)),
            };
            assert_eq!(in_each(3, |ranks| id_of_all(&ranks, lacks(&ranks)).unwrap()), [None, None, None]);
        }
    }
}
