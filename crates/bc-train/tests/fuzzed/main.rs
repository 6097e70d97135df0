//! Replays the fuzzer's corpus and findings (`fuzz/README.md`) with the assertions of its targets.

mod checks;

use bc_testing::fuzzed::{replay, write_seed};
use bc_train::checkpoint::State;

/// Counts what the parsers take.
#[global_allocator]
static MEMORY: bc_testing::memory::Counting = bc_testing::memory::Counting;

#[test]
fn metrics() {
    replay("metrics", checks::metrics);
}

#[test]
fn training_state() {
    replay("training_state", checks::training_state);
}

#[test]
#[ignore = "rewrites fuzz/corpus"]
fn write_corpus() {
    let metrics = "{\"kind\":\"start\",\"step\":0,\"version\":\"0.2.0\",\"time\":1.5}\n\
        {\"kind\":\"step\",\"step\":1,\"epoch\":0,\"length_s\":10.0,\"loss\":0.5,\"classification\":0.25,\"triplet\":0.25,\
        \"gradient_norm\":2.0,\"learning_rate\":0.0001,\"samples_per_s\":10.0,\"waiting_share\":0.0,\"time\":1.5}\n\
        {\"kind\":\"validation\",\"step\":1,\"epoch\":0,\"map\":0.5,\"mr1\":2.0,\"hit_at_1\":0.5,\"triplet\":null,\
        \"best\":true,\"seconds\":0.5,\"time\":2.5}\n{\"kind\":\"new\"}\n{\"kind\":\"step\",\"step\":9,\"ep";
    write_seed("metrics", "four", metrics.as_bytes());
    let state = State { format: "training-state/1".into(), step: 1, pending: true, ..State::default() };
    write_seed("training_state", "first", &serde_json::to_vec_pretty(&state).unwrap());
    let state = State { before_end: Some(state.validation.clone()), ..state };
    write_seed("training_state", "ended", &serde_json::to_vec(&state).unwrap());
}
