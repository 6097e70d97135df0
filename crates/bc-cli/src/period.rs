//! Reads durations from environment variables.

use std::time::Duration;

/// Returns the duration in seconds in the variable `name`; `None` if it is not set or not a duration.
pub(crate) fn from_environment(name: &str) -> Option<Duration> {
    parse(&std::env::var(name).ok()?)
}

fn parse(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.trim().parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_finite_seconds_of_zero_or_more() {
        assert_eq!(parse("0.5"), Some(Duration::from_millis(500)));
        assert_eq!(parse(" 0"), Some(Duration::ZERO));
        for other in ["", "-1", "nan", "inf", "a minute"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
