//! Progress bars with ETA on standard error; nothing is drawn where that is no terminal.

use std::io::{self, Write};
use std::sync::LazyLock;

pub use indicatif::ProgressBar;
use indicatif::{MultiProgress, ProgressStyle};

static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// A bar over `length` steps of `unit` (`files`, `steps`). What changes besides the
/// count goes into [`ProgressBar::set_message`].
pub fn bar(length: u64, label: &str, unit: &str) -> ProgressBar {
    let template = format!(
        "{{prefix:>10.bold}} {{bar:28.cyan/238}} {{human_pos}}/{{human_len}} {unit}  {{msg}}  {{elapsed}} (ETA {{eta}})"
    );
    let style = ProgressStyle::with_template(&template).expect("the template is valid").progress_chars("━╸─");
    let bar = BARS.add(ProgressBar::new(length).with_style(style));
    bar.set_prefix(label.to_owned());
    bar.enable_steady_tick(std::time::Duration::from_millis(250));
    bar
}

/// A spinner for work of unknown length.
pub fn spinner(label: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>10.bold} {spinner} {msg}  {elapsed}")
        .expect("the template is valid");
    let bar = BARS.add(ProgressBar::new_spinner().with_style(style));
    bar.set_prefix(label.to_owned());
    bar.enable_steady_tick(std::time::Duration::from_millis(120));
    bar
}

/// Writes a line to standard output without tearing the bars.
pub fn line(text: impl AsRef<str>) {
    BARS.suspend(|| println!("{}", text.as_ref()));
}

/// Standard error that steps aside for the bars; where log lines go.
#[derive(Debug, Default)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        BARS.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
