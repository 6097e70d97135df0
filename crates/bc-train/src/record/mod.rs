//! What a run tells about itself while it goes on.
//!
//! `metrics.jsonl` holds a line a step and a line a validation; TensorBoard's events and
//! the curves are made from the same lines. A resumed run first drops the lines behind its
//! checkpoint, so a record never holds a step twice.

mod curves;
mod events;
mod lines;
mod tfrecord;

pub(crate) use events::now;
pub use lines::{Line, StepLine, ValidationLine};

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
    metrics: File,
    events: EventWriter,
    lines: Vec<Line>,
}

impl Recorder {
    /// Opens the record in `folder`, keeping what it tells of steps up to `kept_steps`.
    pub fn open(folder: &Path, kept_steps: u64) -> Result<Self> {
        let path = folder.join(METRICS);
        let (text, lines): (String, Vec<Line>) = lines::read(&path, kept_steps)?.into_iter().unzip();
        atomic::write(&path, text)?;
        let metrics = OpenOptions::new()
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        let mut events = EventWriter::create(&folder.join(EVENTS))?;
        for line in &lines {
            events.scalars(line.step(), line.time(), &line.scalars())?;
        }
        Ok(Self { folder: folder.to_owned(), metrics, events, lines })
    }

    /// Adds a line to metrics and events.
    pub fn add(&mut self, line: Line) -> Result<()> {
        let mut text = Vec::new();
        lines::push(&mut text, &line)?;
        self.metrics.write_all(&text).with_context(|| {
            format!("cannot write {} (is the disk full?)", self.folder.join(METRICS).display())
        })?;
        self.events.scalars(line.step(), line.time(), &line.scalars())?;
        self.lines.push(line);
        Ok(())
    }

    /// Draws the curves anew.
    pub fn draw(&self) -> Result<()> {
        curves::draw(&self.folder.join(CURVES), &self.lines)
    }
}
