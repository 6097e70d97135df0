//! What a run records about itself.
//!
//! `metrics.jsonl` holds one line per process that worked on the run, one per step and one per validation;
//! TensorBoard's events and the curves are made from the same lines. A resumed run first drops the lines
//! behind its checkpoint, so a record never holds a step twice.

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
    metrics: File,
    events: EventWriter,
    lines: Vec<Line>,
    /// Whether it was said that the curves cannot be drawn.
    warned: bool,
}

impl Recorder {
    /// Opens the record in `folder`, keeping what belongs to the part of the run that `resumed` keeps.
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
        let mut events = EventWriter::create(&folder.join(EVENTS))?;
        for line in lines.iter().filter(|line| !line.scalars().is_empty()) {
            events.scalars(line.step(), line.time(), &line.scalars())?;
        }
        Ok(Self { folder: folder.to_owned(), metrics, events, lines, warned: false })
    }

    /// Adds a line to metrics and events.
    pub fn add(&mut self, line: Line) -> Result<()> {
        let mut text = Vec::new();
        lines::push(&mut text, &line)?;
        self.metrics.write_all(&text).with_context(|| {
            format!("cannot write {} (is the disk full?)", self.folder.join(METRICS).display())
        })?;
        if !line.scalars().is_empty() {
            self.events.scalars(line.step(), line.time(), &line.scalars())?;
        }
        self.lines.push(line);
        Ok(())
    }

    /// Draws the curves anew, or says once that it cannot: training does not need them.
    pub fn draw(&mut self) {
        if let Err(error) = curves::draw(&self.folder.join(CURVES), &self.lines)
            && !std::mem::replace(&mut self.warned, true)
        {
            tracing::warn!(
                "the curves cannot be drawn: {}; training continues, and this is not said again",
                bc_cli::describe(&error)
            );
        }
    }
}
