//! Counts the frames (packets) of a file that decode.

/// Frames of a file that decode, and those that do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Frames {
    /// Decoded.
    pub decoded: u32,
    /// Skipped: replaced by silence, or left out.
    pub failed: u32,
}

impl Frames {
    /// Returns the share of frames that do not decode.
    #[must_use]
    pub fn error_share(&self) -> f64 {
        f64::from(self.failed) / (f64::from(self.decoded) + f64::from(self.failed)).max(1.0)
    }
}

/// Returns two shares in per cent with two significant digits (`2.3 %`, `0.04 %`, `1 %`), or with as many more as show that they
/// differ.
pub(super) fn percents_apart(one: f64, other: f64) -> [String; 2] {
    let shown = |more_digits| [percent(one, more_digits), percent(other, more_digits)];
    let apart = (0..12).map(shown).find(|[one, other]| one != other);
    apart.unwrap_or_else(|| shown(0))
}

/// Returns a share in per cent with two significant digits and some more.
fn percent(share: f64, more_digits: usize) -> String {
    let percent = 100.0 * share;
    let digits = more_digits
        + if percent >= 10.0 || percent == 0.0 {
            0
        } else {
            (1.0 - percent.log10().floor()).max(0.0) as usize
        };
    let text = format!("{percent:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_share_is_relative_to_all_frames() {
        assert_eq!(Frames::default().error_share(), 0.0);
        assert_eq!(Frames { decoded: 3, failed: 1 }.error_share(), 0.25);
        let shown = [0.023, 0.000_4, 0.01, 1.0, 0.999, 0.0, 0.105, 0.2].map(|share| percent(share, 0));
        assert_eq!(shown, ["2.3 %", "0.04 %", "1 %", "100 %", "100 %", "0 %", "10 %", "20 %"]);
        assert_eq!(percents_apart(0.0104, 0.01), ["1.04 %", "1 %"]);
        assert_eq!(percents_apart(0.010_000_2, 0.01), ["1.00002 %", "1 %"]);
        assert_eq!(percents_apart(0.038, 0.01), ["3.8 %", "1 %"]);
    }
}
