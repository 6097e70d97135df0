//! What the tests of the binary share.

use std::path::Path;
use std::process::Command;

/// A network and batches so small that a step takes milliseconds, on made-up features.
pub const TINY: &[&str] = &[
    "model.width=2",
    "model.blocks=[1,1,1,1]",
    "model.variant=plain",
    "train.debug=true",
    "train.device=cpu",
    "train.threads=1",
    "train.cliques_per_batch=4",
    "train.versions_per_clique=2",
    "train.lengths_s=[10,20]",
    "train.learning_rate=0.001",
    "augment.stretch_probability=0.5",
    "augment.transpose_probability=0.5",
    "augment.specaugment_probability=0.5",
];

/// `bc-train train` on [`TINY`] with more overrides, in `run`.
pub fn train(run: &Path, overrides: &[&str], flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bc-train"));
    command.arg("train");
    for text in TINY.iter().chain(overrides) {
        command.args(["--set", text]);
    }
    command.arg("--set").arg(format!("train.run={}", run.display()));
    command.args(flags);
    command
}

/// Runs to the end; what it printed, standard output then error.
pub fn output(mut command: Command) -> (bool, String) {
    let output = command.output().expect("the binary starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}
