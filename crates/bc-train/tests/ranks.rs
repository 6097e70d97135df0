//! Several ranks train like one: the same losses within rounding, and the same bytes in every repetition.
//!
//! Ranks are threads of the test (`bc_ranks::threads`); `mpirun.rs` does the same with processes.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use bc_formats::config::Config;
use bc_ranks::{Ranks, Transport, Values};
use bc_train::ranks::SharedError;
use bc_train::train::{Options, Outcome, train_with};
use support::{TOLERANCE, assert_equal_runs, config, difference, lines, metrics, waves};

const RATE: &str = "train.learning_rate=0.0001";
const STEPS: usize = 20;

/// Trains as these ranks, each with its own configuration.
fn train_as(ranks: Vec<Ranks>, config: impl Fn(usize) -> Config + Sync) -> Vec<Result<Outcome>> {
    std::thread::scope(|scope| {
        let config = &config;
        let rank =
            |ranks: Ranks| scope.spawn(move || train_with(&config(ranks.rank()), Options::default(), &ranks));
        let started: Vec<_> = ranks.into_iter().map(rank).collect();
        started.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

fn train(run: &Path, overrides: &[&str], ranks: usize) {
    for outcome in train_as(bc_ranks::threads(ranks), |_| config(run, overrides)) {
        assert_eq!(outcome.unwrap_or_else(|error| panic!("{error:#}")), Outcome::Finished);
    }
}

/// A line's figures that are compared.
fn figures(line: &serde_json::Value) -> Vec<f64> {
    let keys = match line["kind"].as_str() {
        Some("step") => &["loss", "classification", "triplet", "gradient_norm"][..],
        _ => &["triplet", "map", "mr1"],
    };
    keys.iter().map(|key| line[key].as_f64().unwrap()).collect()
}

fn curve(run: &Path) -> Vec<Vec<f64>> {
    lines(run).iter().filter(|line| line["kind"] != "start").map(figures).collect()
}

/// Prints and checks the differences of two and four ranks from one.
fn compare(what: &str, overrides: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let data = waves(folder.path());
    let data: Vec<&str> = data.iter().map(String::as_str).collect();
    let steps = format!("train.max_steps={STEPS}");
    let overrides = [&data, overrides, &[&steps, RATE, "train.validate_every_passes=2"]].concat();
    let run = |ranks: usize| {
        let run = folder.path().join(ranks.to_string());
        train(&run, &overrides, ranks);
        curve(&run)
    };
    let single = run(1);
    assert!(single.iter().filter(|figures| figures.len() == 4).count() == STEPS);
    assert!(single.first().unwrap()[0] != single[STEPS - 1][0], "{what}: nothing is learnt");
    for ranks in [2, 4] {
        let worst = difference(&single, &run(ranks));
        println!("{what}: {ranks} ranks differ from one by {worst:.1e}");
        assert!(worst <= TOLERANCE, "{what}: {ranks} ranks differ from one by {worst:.1e}");
    }
}

const RING: &[&str] = &["model.kind=ring", "model.scale=log-centred", "model.projection=8"];

#[test]
fn several_ranks_train_bytecover_like_one() {
    compare("bytecover", &["train.mining=semi-hard", "train.clip_norm=5", "train.ema=0.9"]);
    compare(
        "bytecover, uneven shares",
        &["train.cliques_per_batch=5", "train.accumulate=2", "train.mining=random"],
    );
}

#[test]
fn several_ranks_train_random_triplets_like_one() {
    // A pass has 24 triplets: of seven in a batch three are left for the last one, in which one of four ranks has no share.
    let triplets = ["train.batches=random-triplets", "train.classified=anchors", "train.mining=random"];
    let separate = ["train.separate_forwards=true", "train.triplets_per_batch=7"];
    compare("separate triplets", &[&triplets[..], &separate].concat());
    let together = ["train.accumulate=2", "train.triplets_per_batch=5"];
    compare("triplets together", &[&triplets[..], &together].concat());
}

#[test]
fn several_ranks_train_the_key_invariant_network_like_one_with_every_loss() {
    // With a warm-up: at the full rate the steep losses amplify rounding to 2e-4 within the twenty steps. CLEWS' loss is the
    // steepest: with the warm-up of the others its difference was 1.6e-5.
    for loss in ["bytecover", "supervised-contrastive", "clews", "cosine-softmax"] {
        let chosen = format!("train.loss={loss}");
        let warmup = format!("train.warmup_steps={}", if loss == "clews" { 400 } else { 200 });
        compare(&format!("ring, {loss}"), &[RING, &[&chosen, &warmup]].concat());
    }
}

/// A rank whose messages are delayed by random times, or that fails after a number of messages.
struct DelayedRanks {
    inner: Ranks,
    random: Arc<AtomicU64>,
    messages_left: Arc<AtomicU64>,
}

impl DelayedRanks {
    fn ranks(inner: Ranks, seed: u64, messages: u64) -> Ranks {
        let random = Arc::new(AtomicU64::new(seed));
        Ranks::of(Arc::new(Self { inner, random, messages_left: Arc::new(AtomicU64::new(messages)) }))
    }

    fn wait(&self) -> Result<()> {
        if self.messages_left.fetch_sub(1, Ordering::SeqCst) == 0 {
            bail!("this rank fails on purpose");
        }
        let next = |x: u64| x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let drawn = self.random.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |x| Some(next(x))).unwrap();
        std::thread::sleep(Duration::from_micros(drawn >> 54));
        Ok(())
    }
}

impl Transport for DelayedRanks {
    fn rank(&self) -> usize {
        self.inner.rank()
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn sum(&self, values: Values<'_>) -> Result<()> {
        self.wait()?;
        self.inner.sum(values)
    }

    fn gather(&self, own: &[u8], lengths: &[usize]) -> Result<Vec<u8>> {
        self.wait()?;
        self.inner.gather(own, lengths)
    }

    fn channel(&self, in_order: bool) -> Result<Arc<dyn Transport>> {
        let inner = self.inner.channel(in_order)?;
        Ok(Arc::new(Self { inner, random: self.random.clone(), messages_left: self.messages_left.clone() }))
    }
}

#[test]
fn result_does_not_depend_on_the_order_of_messages() {
    let folder = tempfile::tempdir().unwrap();
    let overrides = ["train.epochs=2", "train.ema=0.9", "train.weight_decay=0.01", "train.optimizer=adamw"];
    let run = |seed: u64| {
        let run = folder.path().join(seed.to_string());
        let delayed = |ranks: Ranks| {
            let rank = ranks.rank() as u64;
            DelayedRanks::ranks(ranks, 1000 * seed + rank, u64::MAX)
        };
        let ranks = bc_ranks::threads(3).into_iter().map(delayed).collect();
        train_as(ranks, |_| config(&run, &overrides)).into_iter().for_each(|outcome| {
            outcome.unwrap();
        });
        run
    };
    let (single, several) = (run(1), run(2));
    assert_equal_runs(&single, &several);
}

#[test]
fn run_of_two_ranks_is_resumed_by_one_and_by_four() {
    let folder = tempfile::tempdir().unwrap();
    let straight = folder.path().join("straight");
    let data = waves(folder.path());
    let train = |run: &Path, steps: &str, ranks: usize| {
        let data = data.iter().map(String::as_str);
        let overrides = data.chain(["train.accumulate=2", "train.ema=0.9", RATE, steps]);
        train(run, &overrides.collect::<Vec<_>>(), ranks);
    };
    train(&straight, "train.max_steps=16", 1);
    for ranks in [1, 4] {
        let run = folder.path().join(ranks.to_string());
        train(&run, "train.max_steps=8", 2);
        train(&run, "train.max_steps=16", ranks);
        let scheduled = |run: &Path| -> Vec<Vec<f64>> {
            lines(run)
                .iter()
                .filter(|line| line["kind"] != "start" && line["scheduled"] != false)
                .map(figures)
                .collect()
        };
        let worst = difference(&scheduled(&straight), &scheduled(&run));
        assert!(worst <= TOLERANCE, "{worst:.1e}");
        let starts: Vec<_> = lines(&run)
            .into_iter()
            .filter(|line| line["kind"] == "start")
            .map(|line| line["ranks"].clone())
            .collect();
        assert_eq!(starts, [2, ranks]);
    }
}

#[test]
fn unshared_norms_change_the_result_and_ranks_stay_equal() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, overrides: &[&str], ranks: usize| {
        let run = folder.path().join(name);
        train(&run, &[overrides, &["train.max_steps=8"]].concat(), ranks);
        run
    };
    // Every checkpoint compares the networks of the ranks, running statistics and all.
    let own = run("own", &["train.sync_norms=false", "train.checkpoint_every_steps=1"], 2);
    let shared = run("shared", &[], 2);
    assert!(difference(&curve(&own), &curve(&shared)) > 1e-3);
    // Alone the key changes nothing.
    assert_equal_steps(&run("own alone", &["train.sync_norms=false"], 1), &run("alone", &[], 1));
}

#[test]
fn ranks_with_recomputed_activations_have_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, overrides: &[&str]| {
        let run = folder.path().join(name);
        // Five cliques for two ranks, and gradients that leave while the backward pass recomputes.
        let common =
            ["train.cliques_per_batch=5", "train.accumulate=2", "train.max_steps=6", "train.ema=0.9"];
        train(&run, &[&common[..], overrides].concat(), 2);
        run
    };
    let recompute = "train.recompute_activations=true";
    assert_equal_runs(&run("kept", &[]), &run("recomputed", &[recompute]));
    assert_equal_runs(&run("ring kept", RING), &run("ring recomputed", &[RING, &[recompute]].concat()));
    // If only some of the ranks recompute, they would wait for the others for ever.
    let only_rank_1 = |rank: usize| {
        let set: &[&str] = if rank == 1 { &[recompute] } else { &[] };
        config(&folder.path().join("refused"), set)
    };
    for outcome in train_as(bc_ranks::threads(2), only_rank_1) {
        let error = format!("{:#}", outcome.unwrap_err());
        assert!(error.contains("recompute_activations"), "{error}");
    }
}

fn assert_equal_steps(first: &Path, second: &Path) {
    assert_eq!(metrics(first), metrics(second));
}

#[test]
fn ranks_with_different_settings_and_too_many_ranks_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let other_seed = |rank: usize| {
        let seed = format!("train.seed={}", 1 + rank / 2);
        config(&folder.path().join("run"), &[&seed])
    };
    for outcome in train_as(bc_ranks::threads(3), other_seed) {
        let error = format!("{:#}", outcome.unwrap_err());
        assert!(error.contains("the configuration or the data of rank 2 of 3 differs"), "{error}");
    }
    let many = train_as(bc_ranks::threads(5), |_| config(&folder.path().join("run"), &[]));
    let error = format!("{:#}", many[0].as_ref().unwrap_err());
    assert!(error.contains("cliques_per_batch = 4") && error.contains("5 ranks"), "{error}");
    assert!(many.iter().all(Result::is_err));
}

#[test]
fn rank_that_fails_is_named_and_ends_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let delayed = |ranks: Ranks| {
        // In the middle of a step, a few steps on.
        let messages = if ranks.rank() == 1 { 300 } else { u64::MAX };
        DelayedRanks::ranks(ranks, 7, messages)
    };
    let ranks = bc_ranks::threads(3).into_iter().map(delayed).collect();
    let outcomes = train_as(ranks, |_| config(&run, &[]));
    let errors: Vec<String> =
        outcomes.into_iter().map(|outcome| format!("{:#}", outcome.unwrap_err())).collect();
    assert!(errors[1].contains("this rank fails on purpose"), "{errors:?}");
    for other in [&errors[0], &errors[2]] {
        assert!(other.contains("rank 1 of 3 has ended"), "{errors:?}");
    }
    // What is on the disk is whole: one process continues.
    train(&run, &["train.max_steps=6"], 1);
}

#[test]
fn non_finite_loss_is_a_shared_error_that_names_the_versions() {
    let folder = tempfile::tempdir().unwrap();
    let data = waves(folder.path());
    let data: Vec<&str> = data.iter().map(String::as_str).collect();
    let run = folder.path().join("run");
    let with = |steps: &'static str| [&data[..], &[steps]].concat();
    train(&run, &with("train.max_steps=2"), 2);
    support::fill_with_nan(&support::last_checkpoint(&run).join("network.safetensors"), "fc.weight");
    for outcome in train_as(bc_ranks::threads(2), |_| config(&run, &with("train.max_steps=4"))) {
        let error = outcome.unwrap_err();
        assert!(error.is::<SharedError>(), "{error:#}");
        assert!(error.to_string().contains("train-"), "{error:#}");
    }
}
