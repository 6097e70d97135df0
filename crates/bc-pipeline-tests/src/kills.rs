//! Programs that are ended at any moment, and what they leave.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Numbers from 0 to 1 that look random and are the same in every run.
#[derive(Debug)]
pub struct Moments(u64);

impl Moments {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    /// The next number.
    pub fn next_share(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f64 / (1u64 << 24) as f64
    }
}

/// Starts a command, silent, and ends it with SIGKILL after `life`. True if it was still at work then.
pub fn kill_after(command: &mut Command, life: Duration) -> bool {
    let mut child = silent(command);
    std::thread::sleep(life);
    let at_work = child.try_wait().expect("a child").is_none();
    child.kill().expect("a killed child");
    child.wait().expect("a child");
    at_work
}

/// Starts a command, sends it SIGTERM (as Slurm does before a time limit) after `life`, and waits. Its output, and how
/// long it took from the signal on.
pub fn terminate_after(command: &mut Command, life: Duration) -> (Output, Duration) {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a child");
    std::thread::sleep(life);
    let sent = Instant::now();
    let kill = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(kill.is_ok_and(|status| status.success()), "the program had ended before SIGTERM");
    let output = child.wait_with_output().expect("a child");
    (output, sent.elapsed())
}

/// Kills `command` as often as asked at moments spread over `whole`, the length of an undisturbed run; each start
/// continues where the last was killed. `check` looks at what is there after each kill. Returns how many were at work.
pub fn kill_often(
    mut command: impl FnMut() -> Command,
    kills: u32,
    whole: Duration,
    mut check: impl FnMut(),
) -> u32 {
    let mut moments = Moments::new(1);
    let mut at_work = 0;
    for _ in 0..kills {
        // Each is to live a few `kills`-ths of a whole run, since it begins where the last one ended.
        let life = Duration::from_millis(15) + whole.mul_f64(4.0 * moments.next_share() / f64::from(kills));
        at_work += u32::from(kill_after(&mut command(), life));
        check();
    }
    at_work
}

/// The bytes of all files below `folder` whose path there `wanted` takes.
pub fn bytes_of(folder: &Path, wanted: impl Fn(&Path) -> bool) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for path in files(folder) {
        let name = path.strip_prefix(folder).expect("a path below the folder");
        if wanted(name) {
            all.insert(name.to_owned(), std::fs::read(&path).expect("a file that can be read"));
        }
    }
    all
}

/// Files below `folder` that look unfinished.
pub fn litter(folder: &Path) -> Vec<PathBuf> {
    files(folder)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "tmp"))
        .collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

fn silent(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a child")
}
