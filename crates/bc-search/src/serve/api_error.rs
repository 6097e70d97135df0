//! Error responses: the error, its remedy, and when to retry.

use axum::Json;
use axum::http::header::{CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// The body of an error response.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ErrorBody {
    /// The error and its remedy.
    #[schema(example = "cannot use song.mp3: no known audio format")]
    pub error: String,
    /// Seconds after which to retry the same request; absent if a retry cannot succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
}

/// An error response with its HTTP status.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// The body of the response.
    pub body: ErrorBody,
}

impl ApiError {
    /// An error that a retry of the same request cannot fix.
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, body: ErrorBody { error: error.into(), retry_after_s: None } }
    }

    /// A bad request (400).
    pub fn bad_request(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// A resource that does not exist (404).
    pub fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    /// A busy server (503); retry after `seconds`.
    pub fn busy(error: impl Into<String>, seconds: u64) -> Self {
        let body = ErrorBody { error: error.into(), retry_after_s: Some(seconds) };
        Self { status: StatusCode::SERVICE_UNAVAILABLE, body }
    }

    /// An internal error (500), which is also logged with its causes.
    pub fn internal(error: &anyhow::Error) -> Self {
        let error = bc_cli::describe(error);
        tracing::error!("{error}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error)
    }
}

impl IntoResponse for ApiError {
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
