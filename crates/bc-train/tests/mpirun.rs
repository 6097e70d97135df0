//! Ranks that are processes: `mpirun` starts them, MPI carries what they exchange. Needs a build with
//! `--features mpi`, and is skipped otherwise.
#![cfg(unix)]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use support::{TINY, assert_equal_runs, lines, metrics, state};

/// `mpirun` of `ranks` processes, one thread each. Processes that it ends have ten seconds (twice) before SIGKILL.
fn mpirun(ranks: usize, run: &Path, overrides: &[&str]) -> Command {
    let mut command = Command::new("mpirun");
    command.args(["--oversubscribe", "--allow-run-as-root", "--mca", "odls_base_sigkill_timeout", "10"]);
    command.args(["-n", &ranks.to_string(), env!("CARGO_BIN_EXE_bc-train"), "train"]);
    for text in TINY.iter().chain(overrides) {
        command.args(["--set", text]);
    }
    command.arg("--set").arg(format!("train.run={}", run.display()));
    command
}

/// Whether this build and this machine can run MPI.
fn can_run() -> bool {
    if !cfg!(feature = "mpi") {
        bc_testing::skipped("built without --features mpi");
        return false;
    }
    bc_testing::has_program("mpirun", "--version")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// The same run with threads of this process as ranks.
fn train_with_threads(ranks: usize, run: &Path, overrides: &[&str]) {
    let mut set: Vec<String> = TINY.iter().chain(overrides).map(|text| (*text).to_owned()).collect();
    set.push(format!("train.run={}", run.display()));
    let config = bc_formats::config::load(None, &set).unwrap();
    std::thread::scope(|scope| {
        for rank in bc_ranks::threads(ranks) {
            let config = &config;
            scope.spawn(move || bc_train::train::train_with(config, Default::default(), &rank).unwrap());
        }
    });
}

#[test]
fn mpi_processes_train_like_threads_bit_for_bit() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // More than one bucket of gradients, and sums of more values than one exchange takes.
    let overrides = ["model.width=16", "train.max_steps=4", "train.lengths_s=[10]"];
    for ranks in [2, 4] {
        let (with_mpi, with_threads) =
            (folder.path().join(format!("mpi-{ranks}")), folder.path().join(format!("t-{ranks}")));
        let output = mpirun(ranks, &with_mpi, &overrides).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        assert!(text(&output).contains("of gradients summed in each step"), "{}", text(&output));
        train_with_threads(ranks, &with_threads, &overrides);
        assert_equal_runs(&with_mpi, &with_threads);
        let traffic =
            text(&output).lines().find(|line| line.contains("summed")).unwrap_or_default().to_owned();
        println!("{ranks} processes and {ranks} threads: the same bytes; {traffic}");
    }
}

/// The processes that `mpirun` started, by their rank.
fn ranks_of(mpirun: &Child) -> Vec<u32> {
    let read = |path: PathBuf| std::fs::read(path).unwrap_or_default();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(id) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let status = String::from_utf8_lossy(&read(entry.path().join("status"))).into_owned();
        let parent = format!("PPid:\t{}\n", mpirun.id());
        let variables = read(entry.path().join("environ"));
        let rank = variables.split(|byte| *byte == 0).find_map(|variable| {
            std::str::from_utf8(variable).ok()?.strip_prefix("OMPI_COMM_WORLD_RANK=")?.parse::<u32>().ok()
        });
        if let Some(rank) = rank.filter(|_| status.contains(&parent)) {
            found.push((rank, id));
        }
    }
    found.sort_unstable();
    found.into_iter().map(|(_, id)| id).collect()
}

/// A long run of two ranks that has made some steps.
fn started_run(run: &Path) -> Child {
    let mut child =
        mpirun(2, run, &["train.epochs=1000"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while metrics(run).len() < 3 {
        if child.try_wait().unwrap().is_some() || started.elapsed() > Duration::from_secs(120) {
            let _ = child.kill();
            panic!("no step was done: {}", text(&child.wait_with_output().unwrap()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

fn send(signal: &str, process: u32) {
    assert!(Command::new("kill").args([signal, &process.to_string()]).status().unwrap().success());
}

#[test]
fn killed_rank_is_named_and_ends_the_others() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let child = started_run(&run);
    send("-KILL", ranks_of(&child)[1]);
    let sent = Instant::now();
    let output = child.wait_with_output().unwrap();
    let seconds = sent.elapsed().as_secs_f64();
    let named = text(&output).lines().find(|line| line.contains("rank 1 ")).unwrap_or_default().to_owned();
    println!("all ended {seconds:.1} s after rank 1 was killed: {named}");
    assert!(!output.status.success());
    assert!(text(&output).contains("rank 1 "), "{}", text(&output));
    // The folder is free, and one process continues.
    let steps = format!("train.max_steps={}", metrics(&run).len() + 5);
    let output = support::output(support::train(&run, &[&steps], &[]));
    assert!(output.0, "{}", output.1);
}

#[test]
fn sigterm_to_any_rank_saves_and_another_number_of_ranks_resumes() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let child = started_run(&run);
    send("-TERM", ranks_of(&child)[1]);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    assert_eq!(text(&output).matches("interrupted: stopped after step").count(), 1, "{}", text(&output));
    let saved = state(&run)["step"].as_u64().unwrap();
    assert_eq!(state(&run)["ranks"], 2);
    let steps = format!("train.max_steps={}", saved + 3);
    let (ok, text) = support::output(support::train(&run, &[&steps], &["--resume"]));
    assert!(ok, "{text}");
    assert!(text.contains(&format!("computed by 2 ranks until step {saved} and continues with 1")), "{text}");
    println!(
        "SIGTERM at rank 1: exit code 130, saved after step {saved}; {}",
        text.lines().next().unwrap_or_default()
    );
    assert_eq!(lines(&run).iter().filter(|line| line["kind"] == "step").count() as u64, saved + 3);
}

#[test]
fn error_of_one_rank_names_it_and_ends_the_others() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    // Another process holds the lock, which rank 0 alone takes.
    std::fs::create_dir_all(&run).unwrap();
    let lock = std::fs::File::create(run.join(".train.lock")).unwrap();
    lock.lock().unwrap();
    let output = mpirun(2, &run, &[]).output().unwrap();
    assert!(!output.status.success());
    let text = text(&output);
    assert!(text.contains("error: rank 0 of 2 on ") && text.contains("by another process"), "{text}");
}
