//! The parsed TOML file, with the line of each key and the overrides by `--set`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use toml::Table;
use toml::de::DeTable;

use super::section::{Key, Problems, Section};

/// A parsed file with its overrides applied.
#[derive(Default)]
pub(super) struct Document {
    path: Option<PathBuf>,
    table: Table,
    /// Line of a section (key empty) or key, from 1.
    lines: HashMap<(String, String), usize>,
    /// Keys that `--set` gave.
    overridden: HashMap<(String, String), String>,
}

impl Document {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| {
            format!(
                "cannot read the configuration {}; `ls configs` lists the ones of the project",
                path.display()
            )
        })?;
        let parsed = match DeTable::parse(&text) {
            Ok(parsed) => parsed,
            Err(error) => bail!("{} is not valid TOML: {}", path.display(), error.to_string().trim_end()),
        };
        let line = |offset: usize| text[..offset].bytes().filter(|&byte| byte == b'\n').count() + 1;
        let mut lines = HashMap::new();
        for (section, value) in parsed.get_ref().iter() {
            let name = section.get_ref().to_string();
            lines.insert((name.clone(), String::new()), line(section.span().start));
            if let Some(table) = value.get_ref().as_table() {
                for key in table.keys() {
                    lines.insert((name.clone(), key.get_ref().to_string()), line(key.span().start));
                }
            }
        }
        let table = text.parse::<Table>().with_context(|| format!("{} is not valid TOML", path.display()))?;
        Ok(Self { path: Some(path.to_owned()), table, lines, overridden: HashMap::new() })
    }

    pub(super) fn refuse_unknown(&self, sections: &[(&str, &[Key])], problems: &mut Problems) {
        for (name, value) in &self.table {
            let Some((_, keys)) = sections.iter().find(|(section, _)| section == name) else {
                let known = sections.iter().map(|(section, _)| *section);
                problems.add(name, "", format!("is not a section{}", suggestion(name, known, "[", "]")));
                continue;
            };
            let Some(table) = value.as_table() else {
                problems.add(name, "", "must be a section (a table)");
                continue;
            };
            for key in table.keys() {
                if !keys.iter().any(|known| known.name == key) {
                    problems.add(name, key, unknown_key(key, keys));
                }
            }
        }
    }

    pub(super) fn override_with(&mut self, text: &str, sections: &[(&str, &[Key])], problems: &mut Problems) {
        let parts = text.split_once('=').and_then(|(name, value)| {
            let (section, key) = name.trim().split_once('.')?;
            Some((section.trim().to_owned(), key.trim().to_owned(), value.trim()))
        });
        let Some((section, key, value)) = parts else {
            problems.add("", "", format!("--set `{text}` is not of the form section.key=value"));
            return;
        };
        self.overridden.insert((section.clone(), key.clone()), text.to_owned());
        let Some((_, keys)) = sections.iter().find(|(name, _)| *name == section) else {
            let known = sections.iter().map(|(name, _)| *name);
            problems.add(
                &section,
                &key,
                format!("is in no section{}", suggestion(&section, known, "[", "]")),
            );
            return;
        };
        if !keys.iter().any(|known| known.name == key) {
            problems.add(&section, &key, unknown_key(&key, keys));
            return;
        }
        // `--set index.source=folder` means a string: shells remove the quotes that people write.
        let value = format!("value = {value}")
            .parse::<Table>()
            .ok()
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(|| toml::Value::String(value.to_owned()));
        let entry = self.table.entry(section).or_insert_with(|| toml::Value::Table(Table::new()));
        if let Some(table) = entry.as_table_mut() {
            table.insert(key, value);
        }
    }

    /// Returns the struct of a section; wrong types and values out of range are added to `problems`.
    pub(super) fn section<S: Section>(&self, problems: &mut Problems) -> S {
        let Some(table) = self.table.get(S::NAME).and_then(|value| value.as_table()) else {
            return S::default();
        };
        let known: Table =
            table.iter().filter(|(key, _)| S::KEYS.iter().any(|known| known.name == *key)).map(own).collect();
        // Each key is parsed alone to find all that have the wrong type; the whole section would name only the first.
        let mut fitting = Table::new();
        for (key, value) in &known {
            let alone: Table = [own((key, value))].into_iter().collect();
            match alone.try_into::<S>() {
                Ok(_) => {
                    fitting.insert(key.clone(), value.clone());
                }
                Err(error) => {
                    let message = error.message().replace('\n', " ");
                    problems.add(S::NAME, key, format!("= {value}: {message}"));
                }
            }
        }
        let section: S = fitting.try_into().unwrap_or_default();
        problems.check(&section);
        section
    }

    /// Returns where a key was set, for error messages: `file:line`, or the `--set` option.
    pub(super) fn source_of(&self, section: &str, key: &str) -> String {
        let name = (section.to_owned(), key.to_owned());
        if let Some(text) = self.overridden.get(&name) {
            return format!("--set {text}");
        }
        let file = match &self.path {
            Some(path) => path.display().to_string(),
            None => return "default".to_owned(),
        };
        let line = self.lines.get(&name).or_else(|| self.lines.get(&(section.to_owned(), String::new())));
        line.map_or(file.clone(), |line| format!("{file}:{line}"))
    }
}

fn own((key, value): (&String, &toml::Value)) -> (String, toml::Value) {
    (key.clone(), value.clone())
}

fn unknown_key(key: &str, keys: &[Key]) -> String {
    format!("is not a key here{}", suggestion(key, keys.iter().map(|known| known.name), "`", "`"))
}

/// Returns `; did you mean …?` with the nearest known word, or a list of all words.
fn suggestion<'a>(
    word: &str,
    known: impl Iterator<Item = &'a str> + Clone,
    open: &str,
    close: &str,
) -> String {
    let nearest = known
        .clone()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(similarity, _)| *similarity > 0.75);
    match nearest {
        Some((_, candidate)) => format!("; did you mean {open}{candidate}{close}?"),
        None => {
            let all: Vec<String> = known.map(|word| format!("{open}{word}{close}")).collect();
            format!("; the known ones are {}", all.join(", "))
        }
    }
}
