//! Checks that must hold for any bytes in the files that a resumed run reads.

use bc_testing::fuzzed::{in_file, names_file};
use bc_testing::memory::within;
use bc_train::checkpoint::Checkpoints;
use bc_train::record::{Recorder, Resumed};

pub fn metrics(bytes: &[u8]) {
    in_file("metrics.jsonl", bytes, |path| {
        let folder = path.parent().expect("a folder");
        let resumed = Resumed::After { step: 3, validated: true };
        let open = || Recorder::open(folder, resumed).expect("what cannot be read stays").draw();
        within((64 << 20) + 400 * bytes.len(), open);
        // What a resume keeps, the next one keeps.
        let kept = std::fs::read(path).expect("the record");
        assert!(kept.len() <= bytes.len() + 1);
        open();
        assert_eq!(std::fs::read(path).expect("the record"), kept);
    });
}

pub fn training_state(bytes: &[u8]) {
    in_file("checkpoints/step-00000001/state.json", bytes, |path| {
        let run = path.ancestors().nth(3).expect("the run");
        let read = || Checkpoints::of(run, 2).latest();
        names_file(path, within((8 << 20) + 400 * bytes.len(), read));
    });
}
