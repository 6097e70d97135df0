//! Durations from environment variables.

use std::time::Duration;

/// The duration in seconds in the variable `name`; `None` if it is not set or not a duration.
pub(crate) fn named(name: &str) -> Option<Duration> {
    of_text(&std::env::var(name).ok()?)
}

fn of_text(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.trim().parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_finite_seconds_of_zero_or_more_are_periods() {
        assert_eq!(of_text("0.5"), Some(Duration::from_millis(500)));
        assert_eq!(of_text(" 0"), Some(Duration::ZERO));
        for other in ["", "-1", "nan", "inf", "a minute"] {
            assert_eq!(of_text(other), None, "{other}");
        }
    }
}
