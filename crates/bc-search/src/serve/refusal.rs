//! An error response: what is wrong, what helps, and when to retry.

use axum::Json;
use axum::http::header::{CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Refused {
    /// What is wrong, and what helps.
    #[schema(example = "cannot use song.mp3: no known audio format")]
    pub error: String,
    /// Seconds after which the same request may be answered; absent where it will not be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
}

/// A request that is refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// The body of the response.
    pub body: Refused,
}

impl Refusal {
    /// A request that will never be answered as it is.
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, body: Refused { error: error.into(), retry_after_s: None } }
    }

    /// A request that is not understood.
    pub fn bad(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// Something that is not there.
    pub fn absent(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    /// Too many requests at once: to be retried after so many seconds.
    pub fn busy(error: impl Into<String>, seconds: u64) -> Self {
        let body = Refused { error: error.into(), retry_after_s: Some(seconds) };
        Self { status: StatusCode::SERVICE_UNAVAILABLE, body }
    }

    /// The server's own fault. The causes go to its log as well.
    pub fn internal(error: &anyhow::Error) -> Self {
        let error = bc_cli::describe(error);
        tracing::error!("{error}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let retry = self.body.retry_after_s;
        let mut response = (self.status, Json(self.body)).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = retry {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(self.status, StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE) {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
