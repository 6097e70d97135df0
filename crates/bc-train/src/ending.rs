//! When training is complete, and the state of a run as a line of text.

use bc_formats::config::{Config, Figure};

use crate::checkpoint::State;
use crate::schedule::{Schedule, Shape};

/// Returns why training is complete and which setting would continue it, or `None` if it is not complete.
pub(crate) fn completion_reason(config: &Config, state: &State) -> Option<String> {
    let train = &config.train;
    if state.epoch >= train.epochs {
        return Some(format!("all {} epochs are done (a larger train.epochs continues)", state.epoch));
    }
    if train.max_steps > 0 && state.step >= train.max_steps {
        return Some(format!(
            "train.max_steps = {} is reached (a larger one, or 0, continues)",
            train.max_steps
        ));
    }
    // Checked again on a resume: early_stopping may have been raised or switched off since.
    let waited = state.validation.early_stopping.waited;
    (state.stopped_early && train.early_stopping > 0 && waited >= train.early_stopping).then(|| {
        format!(
            "stopped early after {waited} validations without a better figure (--resume with a larger \
             train.early_stopping, or 0, continues)"
        )
    })
}

/// Returns the best validation figure so far, `-` if there is none.
pub(crate) fn best_figure(config: &Config, state: &State) -> String {
    let name = match config.train.figure {
        Figure::Map => "mAP",
        Figure::Loss => "triplet loss",
    };
    state
        .validation
        .early_stopping
        .best
        .map_or_else(|| "-".to_owned(), |figure| format!("{name} {figure:.4}"))
}

/// Warns if the planned number of steps changed and the schedule is a cosine, whose learning rates depend on it.
pub(crate) fn warn_of_other_length(schedule: &Schedule, saved: &State) {
    if schedule.shape != Shape::Cosine || [0, schedule.total_steps].contains(&saved.total_steps) {
        return;
    }
    let before = Schedule { total_steps: saved.total_steps, ..*schedule };
    let rate = |schedule: &Schedule| schedule.rate(saved.step, saved.validation.reductions);
    tracing::warn!(
        "the run was planned for {} steps and is now for {}: its cosine continues at a rate of {:.1e} instead of {:.1e}",
        saved.total_steps,
        schedule.total_steps,
        rate(schedule),
        rate(&before)
    );
}

/// Warns if a resumed run continues with another instruction set: results depend on it in their last bits.
pub(crate) fn warn_of_other_machine(saved: &State, instruction_set: &str) {
    if !saved.instruction_set.is_empty() && saved.instruction_set != instruction_set {
        tracing::warn!(
            "the run was computed with {} until step {} and continues with {instruction_set}: from here on its figures are not, \
             to the last bit, those of a run on one kind of machine",
            saved.instruction_set,
            saved.step
        );
    }
}

/// Warns if a resumed run continues with another number of ranks: sums over ranks are rounded differently for each
/// number.
pub(crate) fn warn_of_other_ranks(config: &Config, saved: &State, ranks: usize) {
    let before = saved.ranks.max(1);
    if before == ranks {
        return;
    }
    let norms = if config.train.sync_norms {
        "batches, norms and losses stay the same"
    } else {
        "batches stay the same, but each rank's batch norms see another share of them (train.sync_norms = false), \
         which changes what is learnt"
    };
    tracing::warn!(
        "the run was computed by {before} ranks until step {} and continues with {ranks}: {norms}; from here on \
         its figures are not, to the last bit, those of a run with one number of ranks",
        saved.step
    );
}
