//! Kills programs at random moments and checks what they leave.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Pseudo-random numbers from 0 to 1, the same in every run: moments as shares of a duration.
#[derive(Debug)]
pub struct RandomTimes(u64);

impl RandomTimes {
    /// Creates an independent sequence for each seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    /// Returns the next number.
    pub fn next_share(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f64 / (1u64 << 24) as f64
    }
}

/// Starts a command without output and ends it with SIGKILL after `life`. Returns whether it was still running.
pub fn kill_after(command: &mut Command, life: Duration) -> bool {
    let mut child = spawn_without_output(command);
    std::thread::sleep(life);
    let running = child.try_wait().expect("a child").is_none();
    child.kill().expect("a killed child");
    child.wait().expect("a child");
    running
}

/// Starts a command, sends it SIGTERM (as Slurm does before a time limit) after `life`, and waits until it ends. Returns
/// its output, and the time from the signal to the end.
pub fn terminate_after(command: &mut Command, life: Duration) -> (Output, Duration) {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a child");
    std::thread::sleep(life);
    let sent = Instant::now();
    let kill = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(kill.is_ok_and(|status| status.success()), "the program had ended before SIGTERM");
    let output = child.wait_with_output().expect("a child");
    (output, sent.elapsed())
}

/// Kills `command` `kills` times, at moments spread over `duration`, the length of an undisturbed run; each start
/// continues where the last was killed. `check` runs after each kill. Returns how many kills hit a running process.
pub fn kill_often(
    mut command: impl FnMut() -> Command,
    kills: u32,
    duration: Duration,
    mut check: impl FnMut(),
) -> u32 {
    let mut random_times = RandomTimes::new(1);
    let mut running = 0;
    for _ in 0..kills {
        // Each process lives for a small share of an undisturbed run, since it begins where the last one ended.
        let life =
            Duration::from_millis(15) + duration.mul_f64(4.0 * random_times.next_share() / f64::from(kills));
        running += u32::from(kill_after(&mut command(), life));
        check();
    }
    running
}

/// Returns how many kills a test makes: `BYTECOVER_KILLS`, or `usual` where it is not set.
///
/// # Panics
/// `BYTECOVER_KILLS` is no number.
pub fn count(usual: u32) -> u32 {
    std::env::var("BYTECOVER_KILLS").map_or(usual, |text| text.parse().expect("BYTECOVER_KILLS is a number"))
}

/// A test of commands that are killed and run again.
pub struct KillTest<'a> {
    /// The name in the output.
    pub what: &'a str,
    /// Number of tries ([`count`]).
    pub tries: u32,
    /// Exit codes that the commands may have when they are not killed.
    pub codes: &'a [i32],
    /// Restores the folder to its state before the commands, and returns its path.
    pub reset: &'a dyn Fn() -> PathBuf,
    /// The commands, which run at the same time.
    pub commands: &'a dyn Fn(&Path) -> Vec<Command>,
    /// The content that has to be the same afterwards, by name: [`bytes_of`], or less where bytes may differ.
    pub content: &'a dyn Fn(&Path) -> BTreeMap<PathBuf, Vec<u8>>,
}

impl KillTest<'_> {
    /// Runs the commands undisturbed. Then, `tries` times: resets the folder, kills all of them (SIGKILL) at a random moment
    /// of that time, runs them again, and compares the content. Prints tries, kills of running processes and differences.
    ///
    /// # Panics
    /// The content differs, a temporary file is left, a command ends with another exit code, or no kill hit a running process.
    pub fn run(&self) {
        let started = Instant::now();
        let folder = (self.reset)();
        self.finish(&folder);
        let mut duration = started.elapsed();
        let expected = (self.content)(&folder);
        let (mut random_times, mut running, mut with_partial_files) = (RandomTimes::new(11), 0, 0);
        for number in 0..self.tries {
            let folder = (self.reset)();
            let before = files(&folder).len();
            let life = duration.mul_f64(random_times.next_share());
            let hit = self.kill(&folder, life);
            // The time of a run depends on the load of the machine, which changes.
            duration = duration.mul_f64(if hit { 1.05 } else { 0.8 });
            running += u32::from(hit);
            with_partial_files += u32::from(hit && files(&folder).len() > before);
            self.finish(&folder);
            self.compare(&folder, &expected, &format!("{}, try {number}, killed after {life:?}", self.what));
        }
        println!(
            "{}: {} tries, {running} hit a running process, {with_partial_files} of them with partial files, 0 differences",
            self.what, self.tries
        );
        assert!(running > 0 || self.tries == 0, "{}: no kill hit a running process", self.what);
    }

    /// Kills all commands after `life`, or when the last has ended; returns whether one of them was running.
    fn kill(&self, folder: &Path, life: Duration) -> bool {
        let mut children: Vec<Child> = (self.commands)(folder).iter_mut().map(spawn_without_output).collect();
        let started = Instant::now();
        let ended = |child: &mut Child| child.try_wait().expect("a child").is_some();
        while started.elapsed() < life && !children.iter_mut().all(ended) {
            std::thread::sleep(Duration::from_millis(1));
        }
        for child in &mut children {
            // A command that has ended cannot be killed.
            let _ = child.kill();
        }
        // A killed process has no exit code.
        let codes: Vec<_> = children.iter_mut().map(|child| child.wait().expect("a child").code()).collect();
        // Processes that it started end by themselves shortly afterwards.
        std::thread::sleep(Duration::from_millis(100));
        codes.contains(&None)
    }

    fn finish(&self, folder: &Path) {
        let pipe = |command: &mut Command| {
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("a child")
        };
        let children: Vec<Child> = (self.commands)(folder).iter_mut().map(pipe).collect();
        for child in children {
            let output = child.wait_with_output().expect("a child");
            let stderr = String::from_utf8_lossy(&output.stderr);
            let ended_well = output.status.code().is_some_and(|code| self.codes.contains(&code));
            assert!(ended_well, "{}: {:?}: {stderr}", self.what, output.status);
        }
    }

    fn compare(&self, folder: &Path, expected: &BTreeMap<PathBuf, Vec<u8>>, context: &str) {
        let found = (self.content)(folder);
        let [found_names, expected_names] = [&found, expected].map(|files| files.keys().collect::<Vec<_>>());
        assert_eq!(found_names, expected_names, "{context}: the names of the files differ");
        for (name, bytes) in &found {
            assert!(*bytes == expected[name], "{context}: {} differs", name.display());
        }
        assert_eq!(leftover_files(folder), Vec::<PathBuf>::new(), "{context}");
    }
}

/// Returns whether a file is a lock, which stays when its process ends.
pub fn is_lock(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "lock")
}

/// Copies a folder and its content; replaces `to`.
pub fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).expect("a folder");
    for path in files(from) {
        let target = to.join(path.strip_prefix(from).expect("a path below the folder"));
        std::fs::create_dir_all(target.parent().expect("a folder")).expect("a folder");
        std::fs::copy(path, target).expect("a copied file");
    }
}

/// Returns the bytes of all files below `folder` whose relative path `include` accepts.
pub fn bytes_of(folder: &Path, include: impl Fn(&Path) -> bool) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for path in files(folder) {
        let name = path.strip_prefix(folder).expect("a path below the folder");
        if include(name) {
            all.insert(name.to_owned(), std::fs::read(&path).expect("a file that can be read"));
        }
    }
    all
}

/// Returns the files below `folder` that look unfinished.
pub fn leftover_files(folder: &Path) -> Vec<PathBuf> {
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

fn spawn_without_output(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a child")
}
