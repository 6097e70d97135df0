//! What a run was computed by and on: for its record, and because results agree to the last bit only with the
//! same instruction set.

use serde::{Deserialize, Serialize};

/// The program and the machine of one process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// Program and version.
    pub tool: String,
    /// Commit that the program was built from, with `-dirty` behind it if files had changed since; empty where it
    /// was built outside a git checkout.
    pub commit: String,
    /// Name of the machine.
    pub host: String,
    /// Its processor, as the system calls it.
    pub processor: String,
    /// Instruction set of the network's operators: `avx512`, `avx2` or `baseline`.
    pub instruction_set: String,
    /// Threads of the network's operators.
    pub threads: usize,
}

impl Machine {
    /// This process. What the system does not say is empty.
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let model = processors.lines().find_map(|line| line.strip_prefix("model name"));
        Self {
            tool: bc_cli::tool!().to_owned(),
            commit: env!("BYTECOVER_COMMIT").to_owned(),
            host: read("/proc/sys/kernel/hostname").trim().to_owned(),
            processor: model.unwrap_or_default().trim_start_matches([' ', '\t', ':']).to_owned(),
            instruction_set: bc_nn::instruction_set().to_owned(),
            threads: rayon::current_num_threads(),
        }
    }
}
