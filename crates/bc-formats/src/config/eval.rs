//! `[eval]`: embedding, metrics, report.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::section::{Check, SectionProblems, section};
use crate::index::Split;

/// Which of the network's outputs is an embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layer {
    /// After the BNNeck: the embedding that the paper uses for retrieval.
    #[serde(rename = "f_c")]
    Fc,
    /// Before it.
    #[serde(rename = "f_t")]
    Ft,
    /// The classifier's outputs.
    #[serde(rename = "logits")]
    Logits,
}

/// What of two recordings is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compare {
    /// What the network's file recommends.
    Auto,
    /// One embedding of each.
    Whole,
    /// The embeddings of their windows.
    Windows,
}

/// Possible lengths of a window, in seconds.
pub const WINDOW_S: RangeInclusive<f64> = 0.1..=36_000.0;
/// Possible distances of the windows' beginnings, in seconds.
pub const WINDOW_STEP_S: RangeInclusive<f64> = 0.01..=36_000.0;
/// Possible numbers of neighbours by which distances are scaled.
pub const NEIGHBOURS: RangeInclusive<usize> = 0..=1_000;

/// Refuses tempi at which windows cannot be embedded; the message follows their name.
///
/// # Errors
/// No tempo, one out of range, or two (the recording's own tempo, 1, is always one) that are the same to three decimals,
/// because the file of a tempo's windows is named by these.
pub fn require_tempi(tempi: &[f64]) -> Result<(), String> {
    if tempi.is_empty() || !tempi.iter().all(|tempo| (0.25..=4.0).contains(tempo)) {
        return Err(format!("are {tempi:?}, but must be at least one factor, each from 0.25 to 4"));
    }
    let mut sorted: Vec<f64> = tempi.iter().copied().chain([1.0]).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.dedup();
    match sorted.windows(2).find(|pair| format!("{:.3}", pair[0]) == format!("{:.3}", pair[1])) {
        Some(pair) => {
            Err(format!("are {tempi:?}, of which {} and {} are the same to three decimals", pair[0], pair[1]))
        }
        None => Ok(()),
    }
}

/// What is done with the distances of all recordings before they are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rerank {
    /// Nothing.
    None,
    /// Overlap of mutual neighbours (Zhong et al. 2017).
    KReciprocal,
}

section! {
    /// Embedding, metrics and report.
    EvalConfig as "eval" {
        /// Folder the embeddings, metrics and report are written to.
        output: PathBuf = "runs/demo/eval".into();
        /// The network, ours or the public PyTorch one's; "" is best.safetensors of [train] run.
        checkpoint: PathBuf = PathBuf::new();
        /// Splits that are embedded and measured: "train", "val", "test", "none"; [] is all of them.
        splits: Vec<Split> = vec![Split::Val, Split::Test];
        /// The file that `bc-eval search` searches: all usable versions of the index, whatever their split; what is
        /// missing in it is embedded at a search. "" is search.parquet in output.
        search_index: PathBuf = PathBuf::new();
        /// The network's output that is compared: "f_c", "f_t" or "logits".
        layer: Layer = Layer::Fc;
        /// Where the network runs: "cpu", "cuda:N" or "auto", which is the CPU.
        device: String = "auto".into();
        /// How a GPU computes: "f32", "tf32" or "bf16" (see [train] precision).
        precision: String = "f32".into();
        /// What `run` measures first: "whole" recordings; "windows", each compared with the windows of the other; "auto" is
        /// what the network's file recommends, and "whole" where it says nothing. Figures of whole recordings are always there.
        compare: Compare = Compare::Auto;
        /// Seconds of a window.
        window_s: f64 = 10.0;
        /// Distance of the windows' beginnings in seconds.
        window_step_s: f64 = 2.5;
        /// Tempi, as factors of the query's own tempo, at which its windows are compared; the best one counts. Each differs from
        /// the others, and from 1, in its first three decimals.
        tempi: Vec<f64> = vec![1.0, 0.71, 0.84, 1.19, 1.41];
        /// Number of nearest others by which distances between windowed recordings are scaled (Conneau et al. 2018), against recordings
        /// that are near to everything; 0: no scaling.
        neighbours: usize = 10;
        /// "none", or "k-reciprocal": what `run` measures first is re-ranked by the overlap of mutual neighbours (Zhong et
        /// al. 2017), but for each query's nearest, which stays. For works of many versions.
        rerank: Rerank = Rerank::None;
        /// Neighbours among which "k-reciprocal" looks for mutual ones.
        rerank_k1: usize = 30;
        /// Neighbours, the recording itself counted, whose sets "k-reciprocal" averages.
        rerank_k2: usize = 2;
        /// Share of the distance itself in what "k-reciprocal" ranks by.
        rerank_weight: f64 = 0.5;
        /// The codebase whose rules the metrics follow; `bc-eval metrics --help` names them.
        policy: String = "default".to_owned();
        /// Seed of the bootstrap intervals.
        seed: u64 = 0;
    }
}

impl EvalConfig {
    /// Returns the path of the network: `checkpoint`, or by default that of the training run in the folder `run`.
    pub fn checkpoint_of(&self, run: &Path) -> PathBuf {
        if self.checkpoint.as_os_str().is_empty() {
            run.join("best.safetensors")
        } else {
            self.checkpoint.clone()
        }
    }

    /// Returns the path of the embeddings that a search uses.
    pub fn search_index_path(&self) -> PathBuf {
        if self.search_index.as_os_str().is_empty() {
            self.output.join("search.parquet")
        } else {
            self.search_index.clone()
        }
    }
}

impl Check for EvalConfig {
    fn check(&self, problems: &mut SectionProblems<'_>) {
        problems.not_empty("output", &self.output);
        super::train::check_device(problems, &self.device, &self.precision);
        problems.within("window_s", self.window_s, WINDOW_S, "s");
        problems.within("window_step_s", self.window_step_s, WINDOW_STEP_S, "s");
        problems.within("neighbours", self.neighbours, NEIGHBOURS, "");
        problems.within("rerank_k1", self.rerank_k1, 1..=1_000, "");
        problems.within("rerank_k2", self.rerank_k2, 1..=1_000, "");
        problems.within("rerank_weight", self.rerank_weight, 0.0..=1.0, "");
        let tempi = require_tempi(&self.tempi);
        problems.require(tempi.is_ok(), "tempi", tempi.err().unwrap_or_default());
        problems.require(
            self.search_index_path() != self.output.join("embeddings.parquet"),
            "search_index",
            "is the embeddings that are measured; name another file",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tempi_whose_files_would_have_one_name_are_refused() {
        require_tempi(&EvalConfig::default().tempi).unwrap();
        require_tempi(&[1.0, 0.84, 0.84]).unwrap();
        require_tempi(&[1.001]).unwrap();
        for tempi in [&[1.0, 1.0003][..], &[1.0003], &[0.71, 0.8401, 0.84]] {
            let error = require_tempi(tempi).unwrap_err();
            assert!(error.contains("the same to three decimals"), "{error}");
        }
        for tempi in [&[][..], &[0.0], &[-1.0], &[f64::NAN]] {
            assert!(require_tempi(tempi).unwrap_err().contains("from 0.25 to 4"));
        }
    }
}
