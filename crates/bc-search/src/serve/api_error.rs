//! Error responses: the error, its remedy, and when to retry.

use std::io;

use axum::Json;
use axum::http::header::{CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// Seconds after which to retry a request for which there was no space.
pub const FULL_DISK_RETRY_S: u64 = 30;
/// The text of every internal error.
const INTERNAL: &str = "the server failed at this request, and its log says why; tell who runs it";

/// Whether there was no space for a file.
fn is_full_disk(error: &anyhow::Error) -> bool {
    let kinds = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    kinds.into_iter().any(|kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}

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

    /// An internal error (500; 503 if a disk is full). It is logged with its causes, which the answer leaves out, because they name
    /// files of the server.
    pub fn internal(error: &anyhow::Error) -> Self {
        tracing::error!("{}", bc_cli::describe(error));
        if is_full_disk(error) {
            return Self::busy("the server has no space for the file; try again later", FULL_DISK_RETRY_S);
        }
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL)
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

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn internal_errors_name_no_file_and_a_full_disk_can_be_retried() {
        let answer = |kind: io::ErrorKind| {
            let failed: Result<(), io::Error> = Err(kind.into());
            ApiError::internal(&failed.context("cannot write /music/index/audio/x.wav").unwrap_err())
        };
        let error = answer(io::ErrorKind::PermissionDenied);
        assert_eq!(error.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!error.body.error.contains('/') && error.body.error.contains("log"), "{error:?}");
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            let error = answer(kind);
            assert_eq!(error.status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(error.body.retry_after_s.is_some() && !error.body.error.contains('/'), "{error:?}");
        }
    }
}
