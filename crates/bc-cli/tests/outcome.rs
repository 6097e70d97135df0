//! All ways to end and their exit codes, tested with a real process (`examples/ending.rs`).

#![allow(unsafe_code, reason = "signals")]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// The example, which cargo builds before it runs tests, next to this test's own folder.
fn ending(arguments: &[&str]) -> Command {
    let test = std::env::current_exe().unwrap();
    let example: PathBuf = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples/ending");
    let mut command = Command::new(example);
    for name in ["ID", "MIN", "MAX", "COUNT"] {
        command.env_remove(format!("SLURM_ARRAY_TASK_{name}"));
    }
    command.args(arguments);
    command
}

/// Exit code and standard error.
fn end(output: Output) -> (i32, String) {
    (output.status.code().expect("an exit code"), String::from_utf8(output.stderr).unwrap())
}

fn run(arguments: &[&str]) -> (i32, String) {
    end(ending(arguments).output().expect("the example, built by `cargo test -p bc-cli`"))
}

#[test]
fn done_exits_0_without_output() {
    assert_eq!(run(&["done"]), (0, String::new()));
    assert_eq!(run(&["failures", "0"]), (0, String::new()));
}

#[test]
fn failure_exits_1_with_its_causes_on_one_line() {
    assert_eq!(run(&["failed"]), (1, "error: cannot read index.parquet: no such file\n".into()));
}

#[test]
fn wrong_usage_exits_2() {
    for wrong in [&["no-such-command"][..], &["failures", "three"], &["done", "--no-such-option"], &[]] {
        let (code, error) = run(wrong);
        assert!(code == 2 && error.contains("--help"), "{wrong:?}: {code} {error}");
    }
    let (code, error) = run(&["part", "--shard", "9/3"]);
    assert!(code == 2 && error.contains("i must be from 1 to n"), "{code} {error}");
}

#[test]
fn done_with_failures_exits_3_and_prints_the_count() {
    assert_eq!(run(&["failures", "17"]), (3, "done with failures: 17\n".into()));
}

#[test]
fn slurm_array_is_used_only_on_request() {
    let in_array = |arguments: &[&str]| {
        let mut command = ending(arguments);
        for (name, value) in [("ID", "3"), ("MIN", "1"), ("MAX", "4")] {
            command.env(format!("SLURM_ARRAY_TASK_{name}"), value);
        }
        let output = command.output().unwrap();
        (String::from_utf8(output.stdout.clone()).unwrap(), end(output))
    };
    assert_eq!(in_array(&["part", "--shard", "slurm"]), ("3/4\n".into(), (0, String::new())));
    assert_eq!(in_array(&["part", "--shard", "2/7"]), ("2/7\n".into(), (0, String::new())));
    let (part, (code, note)) = in_array(&["part"]);
    assert_eq!((part.as_str(), code), ("1/1\n", 0));
    let expected = "SLURM_ARRAY_TASK_ID is set but --shard is not: doing the whole work; give --shard slurm";
    assert!(note.contains(expected) && note.lines().count() == 1, "{note}");
    let (code, error) = run(&["part", "--shard", "slurm"]);
    assert!(code == 1 && error.contains("needs a Slurm job array"), "{code} {error}");
    assert_eq!(run(&["part"]), (0, String::new()));
}

/// Starts a command that waits, and sends it signals, each after the note of the previous one was read.
#[cfg(unix)]
fn with_signals(arguments: &[&str], signals: &[i32], interval: Duration) -> (i32, String) {
    let mut child = ending(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example is built");
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n");
    let mut error = BufReader::new(child.stderr.take().unwrap());
    let mut text = String::new();
    for (index, signal) in signals.iter().enumerate() {
        if index > 0 {
            std::thread::sleep(interval);
        }
        // SAFETY: a signal to a child of ours that was not waited for, so its id is still its own.
        assert_eq!(unsafe { libc::kill(child.id() as i32, *signal) }, 0);
        // An empty line and the note, at the first signal only.
        for _ in 0..if index == 0 { 2 } else { 0 } {
            error.read_line(&mut text).unwrap();
        }
    }
    while error.read_line(&mut text).unwrap() > 0 {}
    (child.wait().unwrap().code().expect("it ended by itself, not by the signal"), text)
}

#[cfg(unix)]
#[test]
fn interrupt_exits_130_and_reports_what_is_saved() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let (code, error) = with_signals(&["wait"], &[signal], Duration::ZERO);
        assert_eq!(code, 130, "{error}");
        assert!(error.starts_with("\nfinishing the step\n"), "{error}");
        assert!(error.ends_with("interrupted: 3 of 9 saved; run the same command again\n"), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn second_signal_exits_130_at_once() {
    for (first, second) in [(libc::SIGINT, libc::SIGINT), (libc::SIGTERM, libc::SIGINT)] {
        let (code, error) = with_signals(&["busy"], &[first, second], Duration::from_millis(1_200));
        assert_eq!((code, error.as_str()), (130, "\nfinishing the step\n"));
    }
}

#[cfg(unix)]
#[test]
fn simultaneous_signals_count_as_one() {
    let (code, error) = with_signals(&["wait"], &[libc::SIGTERM, libc::SIGTERM], Duration::from_millis(20));
    assert_eq!(code, 130, "{error}");
    assert!(error.ends_with("interrupted: 3 of 9 saved; run the same command again\n"), "{error}");
}

#[cfg(unix)]
#[test]
fn signal_ends_a_command_with_nothing_to_save_and_exits_130() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let (code, error) = with_signals(&["unprepared"], &[signal], Duration::ZERO);
        assert_eq!((code, error.as_str()), (130, "\ninterrupted\n"));
    }
}

#[cfg(unix)]
#[test]
fn hangup_under_nohup_stays_ignored() {
    use std::os::unix::process::CommandExt;
    let mut command = ending(&["wait"]);
    // SAFETY: ignoring a signal is allowed between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            Ok(())
        })
    };
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    // SAFETY: as in `with_signals`.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGHUP) }, 0);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(child.try_wait().unwrap(), None, "the hangup ended it");
    // SAFETY: as in `with_signals`.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGTERM) }, 0);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

/// Runs a shell script with the example as `$0` and a file as `$1`; returns the exit code and standard error. The file must have
/// been written.
#[cfg(unix)]
fn print_in_shell(script: &str) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    let mut shell = Command::new("bash");
    shell.args(["-o", "pipefail", "-c", script]).arg(ending(&[]).get_program()).arg(&file);
    let ended = end(shell.output().unwrap());
    assert_eq!(std::fs::read_to_string(file).unwrap_or_default(), "done", "{ended:?}");
    ended
}

#[cfg(unix)]
#[test]
fn work_is_finished_quietly_if_the_reader_of_its_output_goes() {
    let (code, error) = print_in_shell("\"$0\" print \"$1\" | head -1 >&2");
    assert_eq!(code, 0, "{error}");
    assert!(error.contains("line 0\n") && error.ends_with("at line 90000\n"), "{error}");
    assert!(!error.contains("error"), "{error}");
    let (code, error) = print_in_shell("\"$0\" print \"$1\" 2>&1 | head -1 >/dev/null");
    assert_eq!((code, error.as_str()), (0, ""));
}

#[cfg(target_os = "linux")]
#[test]
fn work_is_finished_with_exit_code_1_if_its_output_cannot_be_written() {
    let (code, error) = print_in_shell("\"$0\" print \"$1\" >/dev/full");
    assert_eq!(code, 1, "{error}");
    assert_eq!(error.matches("error: cannot write to standard output: No space left").count(), 1, "{error}");
    assert!(error.ends_with("at line 90000\n"), "{error}");
    let (code, error) = print_in_shell("\"$0\" print \"$1\" >/dev/full 2>/dev/full");
    assert_eq!((code, error.as_str()), (1, ""));
}
