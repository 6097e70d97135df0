//! The record of a run: metrics, TensorBoard events and curves.
//!
//! `metrics.jsonl` holds one line per process that worked on the run, one per step and one per validation;
//! TensorBoard's events and the curves are made from the same lines. A resumed run first drops the lines
//! after its checkpoint, so a record never holds a step twice.

mod curves;
mod events;
mod lines;
mod tfrecord;

pub(crate) use events::now;
pub use lines::{Line, Resumed, StartLine, StepLine, ValidationLine};

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bc_formats::atomic;

use events::EventWriter;

pub(crate) const METRICS: &str = "metrics.jsonl";
pub(crate) const EVENTS: &str = "events.out.tfevents.bytecover";
pub(crate) const CURVES: &str = "curves.png";

/// Writes metrics, events and curves of one run.
pub struct Recorder {
    folder: PathBuf,
    /// `metrics.jsonl`; `None` if another process records.
    metrics: Option<File>,
    /// TensorBoard's event file; `None` after an error, because training does not need it.
    events: Option<EventWriter>,
    /// All lines so far, for the curves.
    lines: Vec<Line>,
    /// Whether the user was warned that the curves cannot be drawn.
    warned: bool,
}

impl Recorder {
    /// Returns a recorder that records nothing, for ranks other than 0.
    pub fn disabled() -> Self {
        Self { folder: PathBuf::new(), metrics: None, events: None, lines: Vec::new(), warned: false }
    }

    /// Opens the record in `folder`, keeping the lines of the part of the run that `resumed` keeps.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn open(folder: &Path, resumed: Resumed) -> Result<Self> {
        let path = folder.join(METRICS);
        let (text, lines): (Vec<Vec<u8>>, Vec<Option<Line>>) =
            lines::read(&path, resumed)?.into_iter().unzip();
        atomic::write(&path, text.concat())?;
        let lines: Vec<Line> = lines.into_iter().flatten().collect();
        let metrics = OpenOptions::new()
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        let events = EventWriter::create(&folder.join(EVENTS)).map_err(|error| warn_of_events(&error)).ok();
        let mut recorder = Self {
            folder: folder.to_owned(),
            metrics: Some(metrics),
            events,
            lines: Vec::new(),
            warned: false,
        };
        lines.iter().for_each(|line| recorder.add_event(line));
        recorder.lines = lines;
        Ok(recorder)
    }

    /// Adds a line to metrics and events.
    pub fn add(&mut self, line: Line) -> Result<()> {
        let Some(metrics) = &mut self.metrics else { return Ok(()) };
        let mut text = Vec::new();
        lines::append(&mut text, &line)?;
        metrics.write_all(&text).with_context(|| {
            format!("cannot write {} (is the disk full?)", self.folder.join(METRICS).display())
        })?;
        self.add_event(&line);
        self.lines.push(line);
        Ok(())
    }

    /// Adds a line to TensorBoard's events, or warns once that they end here.
    fn add_event(&mut self, line: &Line) {
        let scalars = line.scalars();
        if let Some(events) = self.events.as_mut().filter(|_| !scalars.is_empty())
            && let Err(error) = events.write_scalars(line.step(), line.time(), &scalars)
        {
            warn_of_events(&error);
            self.events = None;
        }
    }

    /// Redraws the curves, or warns once that it cannot: training does not need them.
    pub fn draw(&mut self) {
        if self.metrics.is_none() {
            return;
        }
        if let Err(error) = curves::draw(&self.folder.join(CURVES), &self.lines)
            && !std::mem::replace(&mut self.warned, true)
        {
            tracing::warn!(
                "the curves cannot be drawn: {}; training continues, and this warning is not repeated",
                bc_cli::describe(&error)
            );
        }
    }
}

fn warn_of_events(error: &anyhow::Error) {
    tracing::warn!(
        "no more events for TensorBoard: {}; training continues, and `--resume` rewrites them from {METRICS}",
        bc_cli::describe(error)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64) -> Line {
        let text = format!(
            r#"{{"kind":"validation","step":{step},"epoch":0,"map":0.5,"mr1":1.0,"hit_at_1":1.0,"triplet":0.1,"best":true,"seconds":1.0,"time":1.0}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    /// A folder has the name of the events file, so that no process can write it, not even as root.
    #[test]
    fn unwritable_events_do_not_end_training() {
        let run = tempfile::tempdir().unwrap();
        std::fs::create_dir(run.path().join(EVENTS)).unwrap();
        let mut recorder = Recorder::open(run.path(), Resumed::Never).unwrap();
        recorder.add(step(1)).unwrap();
        assert_eq!(std::fs::read_to_string(run.path().join(METRICS)).unwrap().lines().count(), 1);
        // A disk that fills up later: every write to /dev/full fails.
        std::fs::remove_dir(run.path().join(EVENTS)).unwrap();
        if cfg!(target_os = "linux") {
            std::os::unix::fs::symlink("/dev/full", run.path().join(EVENTS)).unwrap();
            let resumed = Resumed::After { step: 1, validated: true };
            let mut recorder = Recorder::open(run.path(), resumed).unwrap();
            recorder.add(step(2)).unwrap();
            assert_eq!(std::fs::read_to_string(run.path().join(METRICS)).unwrap().lines().count(), 2);
        }
    }
}
