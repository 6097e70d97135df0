//! Names of feature files, which show which of two files is newer.

use std::fmt;

/// The name of a part: `part-<number>-<content>.parquet`. A writer takes a number above those of all existing parts when it begins
/// a part, so a part that was started after another was finished has the higher number. `<content>` is the beginning of the
/// content's fingerprint; it distinguishes the parts of concurrent writers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartName {
    /// The number; if a version has two rows, the one in the part with the higher number counts.
    pub number: u64,
    /// The rest of the name after the number, without the extension.
    pub rest: String,
}

impl PartName {
    /// Returns the name of a part with this content.
    pub fn new(number: u64, fingerprint: &str) -> Self {
        Self { number, rest: fingerprint.chars().take(8).collect() }
    }

    /// Parses the name of a file; `None` if it is not that of a part. Before version 0.2 the names were
    /// `part-00000.parquet` and `part-2of7-00000.parquet`; other programs may write any `part-*.parquet`.
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.strip_prefix("part-")?.strip_suffix(".parquet")?;
        let (first, rest) = name.split_once('-').unwrap_or((name, ""));
        let parsed = match (first.parse(), rest.parse()) {
            (Ok(number), _) => Self { number, rest: rest.to_owned() },
            (_, Ok(number)) if first.contains("of") => Self { number, rest: first.to_owned() },
            _ => Self { number: 0, rest: name.to_owned() },
        };
        Some(parsed)
    }
}

impl fmt::Display for PartName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "part-{:05}-{}.parquet", self.number, self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_names_of_all_versions_are_numbered() {
        let number = |name: &str| PartName::parse(name).map(|name| name.number);
        assert_eq!(number("part-00012-0123abcd.parquet"), Some(12));
        assert_eq!(number("part-00003.parquet"), Some(3));
        assert_eq!(number("part-2of7-00004.parquet"), Some(4));
        assert_eq!(number("part-x.parquet"), Some(0));
        assert_eq!(number("failures.parquet"), None);
        assert_eq!(number(".part-3of8.parquet.Ab3.tmp"), None);
        let name = PartName::new(7, "0123456789abcdef");
        assert_eq!(name.to_string(), "part-00007-01234567.parquet");
        assert_eq!(PartName::parse(&name.to_string()), Some(name));
    }
}
