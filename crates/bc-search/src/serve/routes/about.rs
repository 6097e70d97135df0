//! Routes about the server: health, metrics, OpenAPI description, page.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extracted;
use axum::http::{HeaderName, header};
use axum::response::{Html, IntoResponse};

use super::{recordings, works};
use crate::serve::answers::HealthAnswer;
use crate::serve::api_error::{ApiError, ErrorBody};
use crate::serve::state::State;

const PAGE: &str = include_str!("../page/page.html");
const STYLE: &str = include_str!("../page/page.css");
const SCRIPTS: [&str; 4] = [
    include_str!("../page/request.js"),
    include_str!("../page/player.js"),
    include_str!("../page/compare.js"),
    include_str!("../page/page.js"),
];

/// The state of the server, the size of its index, and its limits.
#[utoipa::path(get, path = "/health", responses((status = 200, body = HealthAnswer), (status = 500, body = ErrorBody)))]
pub async fn health(Extracted(state): Extracted<Arc<State>>) -> Result<Json<HealthAnswer>, ApiError> {
    // The works of a new generation are grouped once, which takes a while for millions.
    recordings::run_blocking(move || Ok(answer(&state))).await.map(Json)
}

fn answer(state: &State) -> HealthAnswer {
    let searcher = state.searcher();
    let works = works::all(state, &searcher);
    HealthAnswer {
        status: "ok".to_owned(),
        tool: bc_cli::tool!().to_owned(),
        recordings: works.iter().map(Vec::len).sum(),
        works: works.len(),
        generation: searcher.index.manifest.generation,
        calibrated: searcher.calibration().is_some(),
        adds: state.options.token.is_some() && state.index.is_dir(),
        max_file_bytes: state.options.max_file_bytes,
        longest_s: state.options.longest_s,
    }
}

/// Counters and times in Prometheus's text format.
#[utoipa::path(
    get,
    path = "/metrics",
    responses(
        (status = 200, description = "one line per figure", content_type = "text/plain", body = String),
        (status = 500, body = ErrorBody),
    )
)]
pub async fn metrics(Extracted(state): Extracted<Arc<State>>) -> Result<impl IntoResponse, ApiError> {
    let text = state.metrics.text().map_err(|error| ApiError::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}

/// The OpenAPI description of this server.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(super::description())
}

/// The web page.
#[utoipa::path(
    get,
    path = "/",
    responses((status = 200, description = "one page without external resources", content_type = "text/html", body = String))
)]
pub async fn page() -> impl IntoResponse {
    // Titles and file names are never executed: scripts and styles need a nonce that is unique to this answer.
    let nonce = format!("{:032x}", rand::random::<u128>());
    let page = PAGE
        .replace("{{nonce}}", &nonce)
        .replace("{{style}}", STYLE)
        .replace("{{script}}", &SCRIPTS.join("\n"));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' data: blob:; \
         media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let headers = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (HeaderName::from_static("permissions-policy"), "microphone=(self)".to_owned()),
    ];
    (headers, Html(page))
}
