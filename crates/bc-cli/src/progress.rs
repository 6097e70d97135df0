//! Shows progress on standard error: bars with the remaining time on a terminal, else (as in the log of a cluster's job) a line
//! from time to time.
//!
//! A line is printed every minute (or every `BYTECOVER_PROGRESS_SECONDS`; 0: never), so work that takes less prints none:
//! `features: 1,200 of 5,000 files, 3,800 left, 41.2 files/s, about 92 s left; 5.1 h, 900x real time`. With
//! `BYTECOVER_PROGRESS=json` lines are JSON objects: `label`, `unit`, `done`, `total`, `left`, `per_second`, `eta_s`
//! (null while it is not known), `elapsed_s`, `message`.

use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

pub use indicatif::ProgressBar;
use indicatif::{HumanCount, MultiProgress, ProgressStyle, WeakProgressBar};

use crate::period;

static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Environment variable with the seconds between two lines.
const PERIOD: &str = "BYTECOVER_PROGRESS_SECONDS";
/// Environment variable with the form of the lines: `json`, or text by default.
const FORM: &str = "BYTECOVER_PROGRESS";

/// Creates a bar of `length` items of `unit` (`files`, `steps`). Further text, such as a loss, is set with
/// [`ProgressBar::set_message`].
pub fn bar(length: u64, label: &str, unit: &str) -> ProgressBar {
    let template = format!(
        "{{prefix:>10.bold}} {{bar:28.cyan/238}} {{human_pos}}/{{human_len}} {unit}  {{msg}}  {{elapsed}} (ETA {{eta}})"
    );
    let style = ProgressStyle::with_template(&template).expect("the template is valid").progress_chars("━╸─");
    let bar = BARS.add(ProgressBar::new(length).with_style(style));
    bar.set_prefix(label.to_owned());
    if io::stderr().is_terminal() {
        bar.enable_steady_tick(Duration::from_millis(250));
    } else {
        print_lines(&bar, label, unit);
    }
    bar
}

/// Creates a spinner for work of unknown length.
pub fn spinner(label: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>10.bold} {spinner} {msg}  {elapsed}")
        .expect("the template is valid");
    let bar = BARS.add(ProgressBar::new_spinner().with_style(style));
    bar.set_prefix(label.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Writes a line to standard output without tearing the bars.
pub fn line(text: impl AsRef<str>) {
    BARS.suspend(|| crate::println!("{}", text.as_ref()));
}

/// Prints the position of `bar` from time to time, until it is finished or dropped.
fn print_lines(bar: &ProgressBar, label: &str, unit: &str) {
    let period = period::from_environment(PERIOD).unwrap_or(Duration::from_secs(60));
    if period.is_zero() {
        return;
    }
    let as_json = std::env::var(FORM).is_ok_and(|form| form == "json");
    let (bar, label, unit) = (bar.downgrade(), label.to_owned(), unit.to_owned());
    // Without a thread there are no lines, and nothing else is lost.
    let _ = std::thread::Builder::new().name("progress".into()).spawn(move || {
        let (started, mut first) = (Instant::now(), None);
        while let Some(state) = state_after(period, &bar, started, &mut first) {
            let text = if as_json { state.json(&label, &unit) } else { state.text(&label, &unit) };
            crate::eprintln!("{text}");
        }
    });
}

/// Waits for `period` and returns the state of the bar; `None` once the bar is finished. `first` is set to the first position above 0
/// and its time, from which the rate is computed: a resumed run does not begin at 0.
fn state_after(
    period: Duration,
    bar: &WeakProgressBar,
    started: Instant,
    first: &mut Option<(u64, Duration)>,
) -> Option<State> {
    let end = Instant::now() + period;
    loop {
        let rest = end.saturating_duration_since(Instant::now());
        std::thread::sleep(rest.min(Duration::from_millis(500)));
        let bar = bar.upgrade().filter(|bar| !bar.is_finished())?;
        let (done, elapsed) = (bar.position(), started.elapsed());
        if done > 0 {
            first.get_or_insert((done, elapsed));
        }
        if Instant::now() >= end {
            let (total, first) = (bar.length().unwrap_or(0), first.unwrap_or_default());
            return Some(State { done, total, elapsed, first, message: bar.message() });
        }
    }
}

/// The progress of some work.
struct State {
    done: u64,
    total: u64,
    elapsed: Duration,
    /// The position and time from which the rate is computed.
    first: (u64, Duration),
    message: String,
}

impl State {
    fn left(&self) -> u64 {
        self.total.saturating_sub(self.done)
    }

    fn per_second(&self) -> f64 {
        let (done, since) = self.first;
        self.done.saturating_sub(done) as f64 / self.elapsed.saturating_sub(since).as_secs_f64().max(1e-9)
    }

    /// Estimates the remaining seconds at the rate so far; `None` before anything is done.
    fn eta_s(&self) -> Option<f64> {
        (self.done > self.first.0).then(|| self.left() as f64 / self.per_second())
    }

    fn text(&self, label: &str, unit: &str) -> String {
        let [done, total, left] = [self.done, self.total, self.left()].map(HumanCount);
        let eta = match self.eta_s() {
            None => "time left not known".to_owned(),
            Some(seconds) if seconds < 120.0 => format!("about {seconds:.0} s left"),
            Some(seconds) if seconds < 7200.0 => format!("about {:.0} min left", seconds / 60.0),
            Some(seconds) => format!("about {:.1} h left", seconds / 3600.0),
        };
        let rate = self.per_second();
        let rate = if rate >= 0.1 {
            format!("{rate:.1} {unit}/s")
        } else {
            format!("{:.1} {unit}/h", rate * 3600.0)
        };
        let message = if self.message.is_empty() { String::new() } else { format!("; {}", self.message) };
        format!("{label}: {done} of {total} {unit}, {left} left, {rate}, {eta}{message}")
    }

    fn json(&self, label: &str, unit: &str) -> String {
        serde_json::json!({
            "label": label, "unit": unit, "done": self.done, "total": self.total, "left": self.left(),
            "per_second": self.per_second(), "eta_s": self.eta_s(), "elapsed_s": self.elapsed.as_secs_f64(),
            "message": self.message,
        })
        .to_string()
    }
}

/// A writer to standard error for log lines, which are printed above the bars.
#[derive(Debug, Default)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // What cannot be logged is left out.
        let _ = BARS.suspend(|| io::stderr().write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_shows_progress_rate_and_time_left() {
        let state = |done, seconds, message: &str| State {
            done,
            total: 5_000,
            elapsed: Duration::from_secs(seconds),
            first: (0, Duration::ZERO),
            message: message.into(),
        };
        assert_eq!(
            state(1_000, 100, "5.1 h").text("features", "files"),
            "features: 1,000 of 5,000 files, 4,000 left, 10.0 files/s, about 7 min left; 5.1 h"
        );
        assert!(state(0, 60, "").text("verify", "files").ends_with("0.0 files/h, time left not known"));
        let json: serde_json::Value =
            serde_json::from_str(&state(1_000, 100, "").json("features", "files")).unwrap();
        assert_eq!((&json["left"], &json["eta_s"]), (&serde_json::json!(4_000), &serde_json::json!(400.0)));
        let json: serde_json::Value =
            serde_json::from_str(&state(0, 9, "").json("features", "files")).unwrap();
        assert!(json["eta_s"].is_null());
        // Resumed at 600: forty seconds for 400 of them.
        let first = (600, Duration::from_secs(60));
        let resumed = State { first, ..state(1_000, 100, "") }.text("train", "steps");
        assert_eq!(resumed, "train: 1,000 of 5,000 steps, 4,000 left, 10.0 steps/s, about 7 min left");
    }

    #[test]
    fn lines_stop_when_the_bar_ends() {
        let bar = ProgressBar::hidden();
        let weak = bar.downgrade();
        let period = Duration::from_millis(1);
        let mut first = None;
        bar.set_position(7);
        assert!(
            state_after(period, &weak, Instant::now(), &mut first)
                .is_some_and(|state| state.eta_s().is_none())
        );
        assert!(first.is_some_and(|(position, _)| position == 7));
        bar.finish();
        assert!(state_after(period, &weak, Instant::now(), &mut first).is_none());
        drop(bar);
        assert!(state_after(period, &weak, Instant::now(), &mut first).is_none());
    }
}
