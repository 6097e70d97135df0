//! Finds out from the environment which launcher started this process.

use anyhow::{Result, bail};

use crate::Ranks;

/// The launch that the launcher's environment variables describe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Launch {
    pub launcher: &'static str,
    pub size: usize,
    /// Number of this process among those of its machine, from 0.
    pub local: Option<usize>,
}

/// The launchers' environment variables: the launcher's name, the variable of the number of processes, another variable that must be
/// set, and the variable of the number of this process on its machine.
const LAUNCHERS: &[(&str, &str, &str, &str)] = &[
    ("mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("mpiexec", "PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID"),
    // The variables of a job step: a batch script that requested many tasks but starts one program has none.
    ("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID"),
    ("torchrun", "WORLD_SIZE", "MASTER_ADDR", "LOCAL_RANK"),
];

/// Returns the launch that the environment describes; `None` if this process is the only one.
pub(crate) fn launch(variable: impl Fn(&str) -> Option<String>) -> Option<Launch> {
    let found = LAUNCHERS.iter().find_map(|&(launcher, size, required, local)| {
        let size = variable(size)?.parse().ok()?;
        variable(required)?;
        // With some launchers, a script around the program sets the local rank.
        let local = variable(local).or_else(|| variable("LOCAL_RANK"));
        Some(Launch { launcher, size, local: local.and_then(|number| number.parse().ok()) })
    });
    found.filter(|launch| launch.size > 1)
}

/// Joins the processes that a launcher started together. Returns a single rank if it started one, or if there is no launcher.
///
/// # Errors
/// There are several processes that this build or their launcher cannot connect. Unconnected, all of them would train the same run.
pub fn start() -> Result<Ranks> {
    match launch(|name| std::env::var(name).ok()) {
        None => Ok(Ranks::alone()),
        Some(launch) => join(&launch),
    }
}

/// Returns the number of this process among those of its machine, from 0; `None` if the launcher does not set it.
pub fn local_rank() -> Option<usize> {
    launch(|name| std::env::var(name).ok())?.local
}

fn join(launch: &Launch) -> Result<Ranks> {
    let Launch { launcher, size, .. } = launch;
    if *launcher == "torchrun" {
        bail!(
            "WORLD_SIZE = {size} and MASTER_ADDR, as torchrun sets them, ask for {size} processes, but this build \
             connects processes only by MPI: start it with mpirun or srun, or unset WORLD_SIZE"
        );
    }
    #[cfg(feature = "mpi")]
    return crate::mpi::join(launch);
    #[cfg(not(feature = "mpi"))]
    bail!(
        "{launcher} started {size} processes, and this build cannot connect them: build it with `cargo build \
         --release -p bc-train --features mpi`, or start one process"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launched(variables: &[(&str, &str)]) -> Option<Launch> {
        launch(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn launchers_are_recognised_by_their_variables() {
        let launcher = |launcher, size| Some(Launch { launcher, size, local: None });
        assert_eq!(
            launched(&[("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_RANK", "1")]),
            launcher("mpirun", 4)
        );
        assert_eq!(launched(&[("PMI_SIZE", "2"), ("PMI_RANK", "0")]), launcher("mpiexec", 2));
        assert_eq!(launched(&[("SLURM_STEP_NUM_TASKS", "8"), ("SLURM_PROCID", "0")]), launcher("srun", 8));
        assert_eq!(launched(&[("WORLD_SIZE", "2"), ("MASTER_ADDR", "node1")]), launcher("torchrun", 2));
        // One process, or a batch script that starts no step.
        for alone in [
            &[("OMPI_COMM_WORLD_SIZE", "1"), ("OMPI_COMM_WORLD_RANK", "0")][..],
            &[("SLURM_NTASKS", "8"), ("SLURM_PROCID", "0")],
            &[("WORLD_SIZE", "2")],
            &[],
        ] {
            assert_eq!(launched(alone), None);
        }
    }

    #[test]
    fn local_rank_is_that_of_the_launcher() {
        let local = |variables: &[(&str, &str)]| launched(variables).unwrap().local;
        // The batch script's own number, which its processes inherit, is not theirs.
        let mpirun = [("OMPI_COMM_WORLD_SIZE", "8"), ("OMPI_COMM_WORLD_RANK", "5"), ("SLURM_LOCALID", "0")];
        assert_eq!(local(&[&mpirun[..], &[("OMPI_COMM_WORLD_LOCAL_RANK", "1")]].concat()), Some(1));
        assert_eq!(local(&mpirun), None);
        let mpiexec = [("PMI_SIZE", "2"), ("PMI_RANK", "1")];
        assert_eq!(local(&[&mpiexec[..], &[("MPI_LOCALRANKID", "3")]].concat()), Some(3));
        assert_eq!(local(&[&mpiexec[..], &[("LOCAL_RANK", "2")]].concat()), Some(2));
        let srun = [("SLURM_STEP_NUM_TASKS", "8"), ("SLURM_PROCID", "7"), ("SLURM_LOCALID", "3")];
        assert_eq!(local(&srun), Some(3));
    }

    #[test]
    fn processes_that_cannot_be_connected_are_refused() {
        let error = join(&Launch { launcher: "torchrun", size: 2, local: None }).unwrap_err().to_string();
        assert!(error.contains("mpirun or srun"), "{error}");
        if cfg!(not(feature = "mpi")) {
            let error = join(&Launch { launcher: "srun", size: 2, local: None }).unwrap_err().to_string();
            assert!(
                error.contains("srun started 2 processes") && error.contains("--features mpi"),
                "{error}"
            );
        }
    }
}
