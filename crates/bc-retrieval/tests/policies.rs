//! Checks the rules of the codebases on cases where their figures differ.

use bc_retrieval::{Error, Metrics, Policy, Vectors, evaluate, rank_matrix};

/// Two pairs and a version without a match, on a line.
const CLIQUES: [u32; 5] = [0, 1, 0, 1, 2];

fn metrics(policy: &str) -> Result<Metrics, Error> {
    let positions = [0.0f32, 1.0, 2.5, 4.5, 9.0];
    let distances: Vec<f32> =
        positions.iter().flat_map(|a| positions.iter().map(move |b| (a - b).abs())).collect();
    let policy = Policy::named(policy)?;
    Metrics::from_results(&rank_matrix(&distances, &CLIQUES, &policy)?, &policy)
}

fn assert_near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
}

// By hand, first ranks: 0 finds 2 second, 1 finds 3 third, 2 finds 0 third, 3 finds 1 second.
const MAP: f64 = (0.5 + 1.0 / 3.0 + 1.0 / 3.0 + 0.5) / 4.0;

#[test]
fn unmatched_queries_are_left_out_by_default() {
    let found = metrics("default").unwrap();
    assert_eq!(found.queries, 4);
    assert_near(found.map, MAP);
    assert_near(found.mr1, 2.5);
    assert_near(found.p_at_10, 0.1);
    // Three candidates are not relevant; one or two of them lie above.
    assert_near(found.nar, 50.0);
}

#[test]
fn unmatched_queries_count_as_zero_in_coverhunter_and_cqtnet() {
    for name in ["coverhunter", "cqtnet"] {
        let found = metrics(name).unwrap();
        assert_near(found.map, MAP * 4.0 / 5.0);
        assert_near(found.mr1, 10.0 / 5.0);
    }
}

#[test]
fn clews_refuses_unmatched_queries() {
    assert!(matches!(metrics("clews"), Err(Error::Unmatched { query: 4 })));
}

#[test]
fn re_move_gives_unmatched_queries_rank_one_in_mr1_alone() {
    let found = metrics("re-move").unwrap();
    assert_near(found.map, MAP);
    assert_near(found.mr1, 11.0 / 5.0);
}

#[test]
fn discogs_vinet_counts_the_query_among_the_candidates() {
    let found = metrics("discogs-vinet").unwrap();
    assert_near(found.map, MAP);
    assert_near(found.nar, 37.5);
}

#[test]
fn orfium_counts_from_zero_and_has_no_map_with_unmatched_queries() {
    let found = metrics("orfium").unwrap();
    assert!(found.map.is_nan());
    assert_near(found.mr1, (1.0 + 2.0 + 2.0 + 1.0) / 5.0);
}

#[test]
fn orfium_drops_a_twin_of_the_query_that_comes_first_in_the_file() {
    // Rows 0 and 1 are the same vector: for row 1 the nearest, which is dropped, is row 0.
    let vectors = [0.0f32, 0.0, 1.0, 3.0];
    let cliques = [7, 8, 8, 7];
    let orfium = Policy::named("orfium").unwrap();
    let found = evaluate(&Vectors { vectors: &vectors, dim: 1 }, &cliques, &orfium).unwrap();
    // Query 1 then finds itself first (its own entry is of its clique), then row 2.
    // Query 0: rows 1, 2, 3 -> rank 3. Query 2: rows 0, 1 -> rank 2. Query 3: rows 2, 0 -> rank 2.
    assert_near(found.map, (1.0 / 3.0 + 1.0 + 0.5 + 0.5) / 4.0);
    assert_near(found.mr1, (2.0 + 0.0 + 1.0 + 1.0) / 4.0);
}

#[test]
fn unknown_policies_and_bad_numbers_are_errors() {
    assert!(metrics("nobody").unwrap_err().to_string().contains("discogs-vinet"));
    let vectors = [0.0, f32::NAN];
    let found = evaluate(&Vectors { vectors: &vectors, dim: 1 }, &[0, 0], &Policy::default());
    assert!(matches!(found, Err(Error::NotFinite { row: 1 })));
}
