//! What a server says of itself: health, metrics, description, page.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extracted;
use axum::http::{HeaderName, header};
use axum::response::{Html, IntoResponse};

use super::{recordings, works};
use crate::serve::answers::HealthAnswer;
use crate::serve::refusal::{Refusal, Refused};
use crate::serve::state::State;

const PAGE: &str = include_str!("../page/page.html");
const STYLE: &str = include_str!("../page/page.css");
const SCRIPTS: [&str; 4] = [
    include_str!("../page/ask.js"),
    include_str!("../page/player.js"),
    include_str!("../page/beside.js"),
    include_str!("../page/page.js"),
];

/// Whether the server is there, what its index holds, and what it allows.
#[utoipa::path(get, path = "/health", responses((status = 200, body = HealthAnswer), (status = 500, body = Refused)))]
pub async fn health(Extracted(state): Extracted<Arc<State>>) -> Result<Json<HealthAnswer>, Refusal> {
    // The works of a new generation are grouped once, which takes a while for millions.
    recordings::blocking(move || Ok(answer(&state))).await.map(Json)
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
        most_bytes: state.options.most_bytes,
        longest_s: state.options.longest_s,
    }
}

/// Counters and times in Prometheus's text format.
#[utoipa::path(
    get,
    path = "/metrics",
    responses(
        (status = 200, description = "one line per figure", content_type = "text/plain", body = String),
        (status = 500, body = Refused),
    )
)]
pub async fn metrics(Extracted(state): Extracted<Arc<State>>) -> Result<impl IntoResponse, Refusal> {
    let text = state.metrics.text().map_err(|error| Refusal::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(super::description())
}

/// The page to listen on.
#[utoipa::path(
    get,
    path = "/",
    responses((status = 200, description = "one page that loads nothing", content_type = "text/html", body = String))
)]
pub async fn page() -> impl IntoResponse {
    // What a title or file name holds is never run: scripts and styles need a word that only this answer knows.
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
