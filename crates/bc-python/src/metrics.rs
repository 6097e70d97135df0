//! Retrieval metrics.

use std::collections::HashMap;

use bc_retrieval::{Chance, Metrics, Policy, Vectors};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::floats;
use crate::errors::to_py_error;

/// Number of bootstrap samples for the intervals, as in `bc-eval metrics`.
const SAMPLES: u32 = 1000;

/// Metrics with every version as a query against all others: a dictionary with `mAP`, `MR1`, `MRR`, `hit@1`, `hit@10`, `P@10`, `NAR` (%), `queries`,
/// `intervals` (95 %, over cliques, by figure), `chance` (of a random order) and `rules` (as a sentence).
///
/// x: embeddings, shape (versions, dim), or with distances=True a matrix of distances, shape (versions, versions), one
/// row per query. labels: the clique of each version, anything with an equal repr. policy: "default", or the rules of a codebase
/// ("orfium", "clews", "coverhunter", "cqtnet", "re-move", "discogs-vinet").
#[pyfunction]
#[pyo3(signature = (x, labels, policy = "default", distances = false, seed = 0))]
pub fn metrics<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    labels: Vec<Bound<'py, PyAny>>,
    policy: &str,
    distances: bool,
    seed: u64,
) -> PyResult<Bound<'py, PyDict>> {
    let policy = Policy::named(policy).map_err(to_py_error)?;
    let x = floats(x, 2, "an array of embeddings or distances")?;
    let cliques = numbers(&labels)?;
    if distances && x.shape[0] != x.shape[1] {
        return Err(PyValueError::new_err(format!(
            "a matrix of distances must be square, not {:?}",
            x.shape
        )));
    }
    let (metrics, intervals, chance) = py
        .detach(|| -> Result<_, bc_retrieval::Error> {
            let ranked = if distances {
                bc_retrieval::rank_matrix(&x.values, &cliques, &policy)?
            } else {
                bc_retrieval::rank_all(&Vectors { vectors: &x.values, dim: x.shape[1] }, &cliques, &policy)?
            };
            let intervals = bc_retrieval::intervals(&ranked, &cliques, &policy, SAMPLES, seed)?;
            Ok((Metrics::from_results(&ranked, &policy)?, intervals, Chance::of(&ranked, &policy)))
        })
        .map_err(to_py_error)?;
    let (result, interval_figures, chance_figures) = (PyDict::new(py), PyDict::new(py), PyDict::new(py));
    for ((name, value), interval) in Metrics::NAMES.into_iter().zip(metrics.values()).zip(intervals) {
        result.set_item(name, value)?;
        interval_figures.set_item(name, (interval.low, interval.high))?;
    }
    chance_figures.set_item("mAP", chance.map)?;
    chance_figures.set_item("MR1", chance.mr1)?;
    chance_figures.set_item("hit@1", chance.hit_at_1)?;
    result.set_item("queries", metrics.queries)?;
    result.set_item("intervals", interval_figures)?;
    result.set_item("chance", chance_figures)?;
    result.set_item("rules", policy.statement())?;
    Ok(result)
}

/// The clique number of each version; cliques are numbered in order of their first version.
fn numbers(labels: &[Bound<'_, PyAny>]) -> PyResult<Vec<u32>> {
    let mut known: HashMap<String, u32> = HashMap::new();
    let mut numbers = Vec::with_capacity(labels.len());
    for label in labels {
        let next = known.len() as u32;
        numbers.push(*known.entry(label.repr()?.to_string()).or_insert(next));
    }
    Ok(numbers)
}
