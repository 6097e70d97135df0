//! `bc-eval excerpts` and re-ranking on features whose works are known.

mod common;

use bc_formats::index::Split;
use half::f16;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

/// Works of three equal versions of noise that changes every second, in one split.
fn experiment(folder: &std::path::Path, cliques: usize) {
    experiment_with_noise(folder, cliques, 0.0);
}

/// As [`experiment`], with `noise` times other noise added to each version.
fn experiment_with_noise(folder: &std::path::Path, cliques: usize, noise: f32) {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(3);
    let (frames, mut rows, mut versions) = (240usize, Vec::new(), Vec::new());
    let ids: Vec<String> = (0..3 * cliques).map(|number| format!("v{number:02}")).collect();
    for clique in 0..cliques {
        let notes: Vec<f32> = (0..84 * frames.div_ceil(8)).map(|_| random.random::<f32>().powi(8)).collect();
        for id in &ids[3 * clique..3 * clique + 3] {
            let own: Vec<f32> = notes
                .iter()
                .map(|note| if noise == 0.0 { *note } else { note + noise * random.random::<f32>().powi(8) })
                .collect();
            let value = |bin: usize, frame: usize| f16::from_f32(own[bin * frames.div_ceil(8) + frame / 8]);
            let magnitude: Vec<f16> = (0..84)
                .flat_map(|bin| (0..frames).map(move |frame| (bin, frame)))
                .map(|(b, f)| value(b, f))
                .collect();
            rows.push((id.as_str(), magnitude));
            versions.push(common::usable(id, &format!("c{clique}"), Split::Val));
        }
    }
    common::features(folder, &rows);
    common::index(folder, versions);
    common::checkpoint(&folder.join("network.safetensors"), 7);
    common::config(folder);
}

fn read(folder: &std::path::Path, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("eval").join(name)).unwrap()).unwrap()
}

#[test]
fn excerpts_at_any_position_find_the_versions_that_contain_them() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    experiment(folder, 6);
    // A window begins at every column, so that an excerpt's windows are windows of the other versions.
    let settings =
        ["--set", "eval.window_s=4", "--set", "eval.window_step_s=0.1161", "--set", "eval.tempi=[1,0.84]"];
    let words = [&["excerpts", "--config", "c.toml", "--seconds", "6,4"][..], &settings].concat();
    let text = common::succeed(folder, &words);
    assert!(text.find("4 s") < text.find("6 s") && text.contains("excerpts.json"), "{text}");
    let found = read(folder, "excerpts.json");
    for length in ["4", "6"] {
        let figures = &found["splits"]["val"][length];
        assert_eq!(figures["queries"], 18);
        assert!(figures["mAP"].as_f64().unwrap() > 0.999, "{length}: {figures}");
        assert!(figures["chance"]["mAP"].as_f64().unwrap() < 0.4);
    }
    assert!(found["compared"].as_str().unwrap().contains("1, 0.84"), "{}", found["compared"]);
    let again = common::succeed(folder, &words);
    assert_eq!(text, again);
    let none = common::refuse(folder, &["excerpts", "--config", "c.toml", "--seconds", "0"]);
    assert!(none.contains("--seconds takes lengths"), "{none}");
}

#[test]
fn reranked_figures_are_the_main_figures() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    experiment(folder, 6);
    for compare in ["whole", "windows"] {
        let compare = format!("eval.compare={compare}");
        let words = ["run", "--config", "c.toml", "--set", &compare, "--set", "eval.rerank=k-reciprocal"];
        common::succeed(folder, &[&words[..], &["--set", "eval.rerank_k1=4"]].concat());
        let found = read(folder, "metrics.json");
        assert!(
            found["compared"].as_str().unwrap().contains("re-ranked by 4 mutual"),
            "{}",
            found["compared"]
        );
        assert!(found["splits"]["val"]["mAP"].as_f64().unwrap() > 0.999);
        assert!(found["whole_tracks"]["val"]["mAP"].is_number());
    }
}

/// The mean average precision of all queries, from that of their groups.
fn map_of_groups(groups: &Value) -> f64 {
    let groups = groups.as_array().unwrap();
    let queries: f64 = groups.iter().map(|group| group["queries"].as_f64().unwrap()).sum();
    let sum: f64 =
        groups.iter().map(|group| group["queries"].as_f64().unwrap() * group["map"].as_f64().unwrap()).sum();
    sum / queries
}

#[test]
fn report_analyses_the_distances_that_the_figures_are_of() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    experiment_with_noise(folder, 6, 1.0);
    let settings =
        ["--set", "eval.compare=windows", "--set", "eval.window_s=4", "--set", "eval.window_step_s=2"];
    common::succeed(folder, &[&["run", "--config", "c.toml"][..], &settings].concat());
    let found = read(folder, "metrics.json");
    let [windows, whole] =
        ["splits", "whole_tracks"].map(|figures| found[figures]["val"]["mAP"].as_f64().unwrap());
    assert!(windows < 0.99 && (windows - whole).abs() > 0.005, "{windows} {whole}: too alike to tell apart");
    let analysis = &found["analysis"];
    assert_eq!(analysis["split"], "val");
    for groups in ["by_clique_size", "by_duration"] {
        assert!((map_of_groups(&analysis[groups]) - windows).abs() < 1e-9, "{groups}: {}", analysis[groups]);
    }
    let worst = &analysis["hardest"][0];
    assert!(
        worst["first_match_rank"].as_u64().unwrap() > 1 && worst["wrong_above"][0][0]["name"].is_string()
    );

    let page = std::fs::read_to_string(folder.join("eval/report.html")).unwrap();
    assert!(page.contains(worst["query"]["name"].as_str().unwrap()), "the page has another hardest query");
    assert!(page.contains("one vector per recording") && page.contains("compared: windows of 4 s"));
    // `report` has the files alone, and shows the same.
    common::succeed(folder, &["report", "eval", "--out", "again"]);
    let again = std::fs::read_to_string(folder.join("again/report.html")).unwrap();
    let hardest = |page: &str| {
        page.split("id=\"hardest\"").nth(1).unwrap().split("</table>").next().unwrap().to_owned()
    };
    assert!(
        hardest(&again) == hardest(&page),
        "the page made from the files alone has other hardest queries"
    );
}
