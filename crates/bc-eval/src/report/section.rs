//! The frame of a section of the page.

use std::fmt::Write;

use super::text::escaped;

/// Opens a section, which the caller must close.
pub fn heading(page: &mut String, id: &str, title: &str, note: &str) {
    let _ = write!(page, "<section id=\"{id}\"><h2>{}</h2>", escaped(title));
    if !note.is_empty() {
        let _ = write!(page, "<p class=\"note\">{}</p>", escaped(note));
    }
}
