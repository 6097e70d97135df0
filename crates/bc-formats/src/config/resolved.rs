//! Prints a resolved configuration with a comment for each key.

use super::section::Section;

/// The first lines of every printed configuration.
pub const HEAD: &str = "# Every key with its value in force. Relative paths are relative to the \
working directory.\n# A key can be overridden on the command line: --set section.key=value\n";

/// Appends `section` as TOML.
pub(super) fn push_section<S: Section>(text: &mut String, section: &S) {
    text.push('\n');
    push_comment(text, S::DOC);
    text.push_str(&format!("[{}]\n", S::NAME));
    let table = toml::Table::try_from(section).expect("a section is a TOML table");
    for key in S::KEYS {
        push_comment(text, key.doc);
        match table.get(key.name) {
            Some(value) => text.push_str(&format!("{} = {value}\n", key.name)),
            None => text.push_str(&format!("# {} is not set\n", key.name)),
        }
    }
}

fn push_comment(text: &mut String, lines: &[&str]) {
    for line in lines {
        text.push_str(&format!("# {}\n", line.trim()).replace(" \n", "\n"));
    }
}
