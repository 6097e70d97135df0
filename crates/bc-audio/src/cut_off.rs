//! The rule by which a file counts as cut off, for all stages: it decodes to clearly less audio than it declares.

use std::fmt;

/// The lengths of a file that is cut off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CutOff {
    /// Decoded length in seconds.
    pub duration_s: f64,
    /// Declared length in seconds.
    pub declared_s: f64,
}

impl CutOff {
    /// Checks a file that decodes to `duration_s` seconds; `missing_share` is the share of its declared length that it may lack
    /// (`[verify] missing_share`). Returns `None` for a file that is whole or declares no length.
    #[must_use]
    pub fn check(duration_s: f64, declared_s: Option<f64>, missing_share: f64) -> Option<Self> {
        let declared_s = declared_s?;
        (duration_s < declared_s * (1.0 - missing_share)).then_some(Self { duration_s, declared_s })
    }
}

impl fmt::Display for CutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "is cut off: {:.1} s of {:.1} s", self.duration_s, self.declared_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_cut_off_if_more_than_the_allowed_share_is_missing() {
        let cut_off = CutOff::check(20.5, Some(60.0), 0.05).unwrap();
        assert_eq!(cut_off.to_string(), "is cut off: 20.5 s of 60.0 s");
        assert_eq!(CutOff::check(57.5, Some(60.0), 0.05), None);
        assert_eq!(CutOff::check(70.0, Some(60.0), 0.05), None);
        assert_eq!(CutOff::check(20.5, None, 0.05), None);
    }
}
