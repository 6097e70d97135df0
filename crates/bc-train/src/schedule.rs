//! The learning rate over a run, and the patience of early stopping and of plateaus.

use serde::{Deserialize, Serialize};

/// How the learning rate changes after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// It stays constant.
    Constant,
    /// Half a cosine from the full rate down to the floor at the last step
    /// (Loshchilov and Hutter 2017).
    Cosine,
    /// Times `factor` after every `every_epochs` epochs.
    Step {
        /// Epochs between two changes.
        every_epochs: u64,
        /// Factor on the rate.
        factor: f64,
    },
    /// Times `factor` whenever the validation figure has not improved for `patience`
    /// validations.
    Plateau {
        /// Validations to wait.
        patience: u64,
        /// Factor on the rate.
        factor: f64,
    },
}

/// A schedule: a function of the step, and for [`Shape::Plateau`] of the validation figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The full rate.
    pub base: f64,
    /// The rate never falls below this.
    pub floor: f64,
    /// Steps over which the rate rises linearly from 0.
    pub warmup_steps: u64,
    /// How the rate changes after the warm-up.
    pub shape: Shape,
    /// Optimiser steps per epoch.
    pub steps_per_epoch: u64,
    /// Optimiser steps of the whole run.
    pub total_steps: u64,
}

impl Schedule {
    /// Returns the learning rate of step `step` (from 0); `reductions` is the number
    /// of times that [`Shape::Plateau`] has reduced it so far.
    pub fn rate(&self, step: u64, reductions: u64) -> f64 {
        if step < self.warmup_steps {
            return self.base * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let rate = match self.shape {
            Shape::Constant => self.base,
            Shape::Cosine => {
                let span = self.total_steps.saturating_sub(self.warmup_steps).max(1);
                let done = ((step - self.warmup_steps) as f64 / span as f64).min(1.0);
                let floor = self.floor.min(self.base);
                floor + (self.base - floor) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
            Shape::Step { every_epochs, factor } => {
                let changes = step / self.steps_per_epoch.max(1) / every_epochs.max(1);
                self.base * factor.powi(i32::try_from(changes).unwrap_or(i32::MAX))
            }
            Shape::Plateau { factor, .. } => {
                self.base * factor.powi(i32::try_from(reductions).unwrap_or(i32::MAX))
            }
        };
        rate.max(self.floor.min(self.base))
    }
}

/// The best figure so far, and the number of observations since.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Patience {
    /// The best figure so far.
    #[serde(with = "exact_text")]
    pub best: Option<f64>,
    /// Observations since then.
    pub waited: u64,
}

impl Patience {
    /// Records a figure; true if it is the best so far, which NaN never is.
    pub fn observe(&mut self, figure: f64, higher_is_better: bool) -> bool {
        let better = !figure.is_nan()
            && self.best.is_none_or(|best| if higher_is_better { figure > best } else { figure < best });
        if better {
            self.best = Some(figure);
            self.waited = 0;
        } else {
            self.waited += 1;
        }
        better
    }
}

/// Numbers as text: JSON numbers may be read back one unit in the last place off, and a
/// resumed run has to compare with the exact figure of the killed one.
mod exact_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(|v| v.to_string()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|t| t.parse().map_err(serde::de::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(shape: Shape) -> Schedule {
        Schedule { base: 1.0, floor: 0.01, warmup_steps: 4, shape, steps_per_epoch: 10, total_steps: 104 }
    }

    #[test]
    fn warm_up_rises_linearly_to_the_full_rate() {
        let s = schedule(Shape::Constant);
        assert_eq!((0..5).map(|i| s.rate(i, 0)).collect::<Vec<_>>(), [0.25, 0.5, 0.75, 1.0, 1.0]);
    }

    #[test]
    fn cosine_schedule_is_half_way_in_the_middle_and_ends_at_the_floor() {
        let s = schedule(Shape::Cosine);
        assert_eq!(s.rate(4, 0), 1.0);
        assert!((s.rate(54, 0) - 0.505).abs() < 1e-12);
        assert!((s.rate(104, 0) - 0.01).abs() < 1e-12);
        assert!((s.rate(999, 0) - 0.01).abs() < 1e-12);
    }

    #[test]
    fn step_and_plateau_schedules_multiply_the_rate_down_to_the_floor() {
        let s = schedule(Shape::Step { every_epochs: 2, factor: 0.1 });
        assert_eq!(s.rate(19, 0), 1.0);
        assert!((s.rate(20, 0) - 0.1).abs() < 1e-12);
        assert!((s.rate(90, 0) - 0.01).abs() < 1e-12);
        let s = schedule(Shape::Plateau { patience: 3, factor: 0.2 });
        assert!((s.rate(50, 1) - 0.2).abs() < 1e-12);
        assert!((s.rate(50, 9) - 0.01).abs() < 1e-12);
    }

    #[test]
    fn best_figure_round_trips_through_json_exactly() {
        for figure in [1.0 / 3.0, 0.1 + 0.2, f64::MIN_POSITIVE, 123_456.789_012_345_67] {
            let p = Patience { best: Some(figure), waited: 3 };
            let text = serde_json::to_string(&p).unwrap();
            assert_eq!(serde_json::from_str::<Patience>(&text).unwrap(), p);
        }
    }

    #[test]
    fn patience_restarts_with_every_new_best() {
        let mut p = Patience::default();
        let seen: Vec<bool> = [0.5, 0.4, f64::NAN, 0.6, 0.6].map(|f| p.observe(f, true)).to_vec();
        assert_eq!(seen, [true, false, false, true, false]);
        assert_eq!(p, Patience { best: Some(0.6), waited: 1 });
        let mut p = Patience::default();
        assert!(p.observe(2.0, false) && p.observe(1.0, false) && !p.observe(1.5, false));
    }
}
