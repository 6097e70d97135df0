//! Sections of the configuration: keys with defaults, explanations and checks.

use anyhow::{Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A key of a section.
#[derive(Debug)]
pub struct Key {
    /// Its name in the TOML file.
    pub name: &'static str,
    /// Its explanation, one string per line.
    pub doc: &'static [&'static str],
}

/// A section of the configuration. Declare one with `section!` and add `check`
/// through [`Check`].
pub trait Section: Default + Serialize + DeserializeOwned + Check {
    /// Name of the section in the TOML file.
    const NAME: &'static str;
    /// Its explanation, one string per line.
    const DOC: &'static [&'static str];
    /// Its keys, in the order of declaration.
    const KEYS: &'static [Key];
}

/// Value checks of a section, beyond types.
pub trait Check {
    /// Adds a problem for every value out of range.
    fn check(&self, problems: &mut SectionProblems<'_>);
}

/// Collects the problems of one section.
pub struct SectionProblems<'a> {
    section: &'static str,
    problems: &'a mut Problems,
}

impl SectionProblems<'_> {
    /// Adds a problem for the value of `key` unless `holds` is true; `rule` says what the value must be and why.
    pub fn require(&mut self, holds: bool, key: &'static str, rule: impl Into<String>) {
        if !holds {
            self.problems.add(self.section, key, rule);
        }
    }

    /// Adds a problem for the value of `key` if it is outside `range`; `unit` may be empty.
    pub fn within<T>(&mut self, key: &'static str, value: T, range: std::ops::RangeInclusive<T>, unit: &str)
    where
        T: PartialOrd + std::fmt::Display,
    {
        let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
        let rule = format!("is {value}{unit}, but must be from {} to {}{unit}", range.start(), range.end());
        self.require(range.contains(&value), key, rule);
    }

    /// Adds a problem for an empty path or text.
    pub fn not_empty(&mut self, key: &'static str, value: impl AsRef<std::ffi::OsStr>) {
        self.require(!value.as_ref().is_empty(), key, "is empty");
    }
}

/// All problems of a configuration.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

#[derive(Debug)]
struct Problem {
    section: String,
    key: String,
    message: String,
}

impl Problems {
    pub(super) fn add(&mut self, section: &str, key: &str, message: impl Into<String>) {
        self.0.push(Problem { section: section.into(), key: key.into(), message: message.into() });
    }

    pub(super) fn check<S: Section>(&mut self, section: &S) {
        section.check(&mut SectionProblems { section: S::NAME, problems: self });
    }

    /// Returns one error with one line per problem, if there are any; `source_of` says where a key was set.
    pub(super) fn into_result(self, source_of: impl Fn(&str, &str) -> String) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> = self
            .0
            .iter()
            .map(|problem| {
                let key = if problem.key.is_empty() { String::new() } else { format!(" `{}`", problem.key) };
                let section =
                    if problem.section.is_empty() { String::new() } else { format!("[{}]", problem.section) };
                let source = source_of(&problem.section, &problem.key);
                format!("{source}: {section}{key} {}", problem.message).replace("  ", " ")
            })
            .collect();
        bail!("the configuration has {} problem(s)\n  {}", lines.len(), lines.join("\n  "))
    }
}

/// Declares a section: `section! { /// doc  Name as "name" { /// doc  key: type = default; } }`.
macro_rules! section {
    (
        $(#[doc = $doc:literal])*
        $name:ident as $section:literal {
            $($(#[doc = $key_doc:literal])* $key:ident : $type:ty = $default:expr;)*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name { $($(#[doc = $key_doc])* pub $key: $type,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }

        impl $crate::config::section::Section for $name {
            const NAME: &'static str = $section;
            const DOC: &'static [&'static str] = &[$($doc,)*];
            const KEYS: &'static [$crate::config::section::Key] = &[
                $($crate::config::section::Key { name: stringify!($key), doc: &[$($key_doc,)*] },)*
            ];
        }
    };
}
pub(super) use section;
