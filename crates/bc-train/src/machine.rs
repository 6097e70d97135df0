//! The program and the machine of a run: for its record, and because results agree to the last bit only with the
//! same instruction set.

use serde::{Deserialize, Serialize};

/// The program and the machine of one process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// Program and version.
    pub tool: String,
    /// Commit that the program was built from, followed by `-dirty` if files had changed since; empty if it
    /// was built outside a git checkout.
    pub commit: String,
    /// Name of the machine.
    pub host: String,
    /// Model name of its CPU, as the system reports it.
    pub processor: String,
    /// Instruction set of the network's operators: `avx512`, `avx2` or `baseline`.
    pub instruction_set: String,
    /// Threads of the network's operators, of each rank.
    pub threads: usize,
    /// Number of ranks; 0, which earlier versions wrote, means one.
    pub ranks: usize,
}

impl Machine {
    /// This process, one of `ranks`. Fields that the system does not provide are empty.
    pub fn current(ranks: usize) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let model = processors.lines().find_map(|line| line.strip_prefix("model name"));
        Self {
            tool: bc_cli::tool!().to_owned(),
            commit: env!("BYTECOVER_COMMIT").to_owned(),
            host: host(),
            processor: model.unwrap_or_default().trim_start_matches([' ', '\t', ':']).to_owned(),
            instruction_set: bc_nn::instruction_set().to_owned(),
            threads: rayon::current_num_threads(),
            ranks,
        }
    }
}

/// Returns the name of this machine; empty where the system does not say it.
pub(crate) fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}
