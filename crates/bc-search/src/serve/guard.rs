//! Middleware for every route: checks the origin of a request, sets headers of the answer, and measures the time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State as Extracted};
use axum::http::header::{HOST, HeaderMap, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::api_error::ApiError;
use super::state::State;
use super::upload;

/// The hosts and origins that a server answers.
#[derive(Clone)]
pub struct Guard {
    state: Arc<State>,
    /// Whether only this machine can reach the server: then a foreign host name indicates an attack (DNS rebinding).
    local: bool,
}

impl Guard {
    /// A guard for a server at `address`.
    pub fn new(state: Arc<State>, address: SocketAddr) -> Self {
        Self { state, local: address.ip().is_loopback() }
    }

    fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let host = text(HOST).unwrap_or_default();
        if self.local
            && !is_local(host)
            && !self.state.options.hosts.iter().any(|known| known == name_of(host))
        {
            return Err(ApiError::new(
                StatusCode::MISDIRECTED_REQUEST,
                format!(
                    "this server does not answer to the host name {host:?}; start it with --allow-host to allow that name"
                ),
            ));
        }
        // A page of another origin can send a form without permission; it only cannot read the answer.
        let foreign = text(ORIGIN).filter(|origin| {
            let own = origin.split_once("://").is_some_and(|(_, authority)| authority == host);
            !own && !self.state.options.origins.iter().any(|known| known == origin)
        });
        match foreign {
            Some(origin) if method != Method::GET && method != Method::HEAD => Err(ApiError::new(
                StatusCode::FORBIDDEN,
                format!(
                    "pages of {origin:?} may not send requests to this server; --allow-origin allows them"
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// A host without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    }
}

fn is_local(host: &str) -> bool {
    let name = name_of(host).trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Forwards or refuses a request, and counts it.
pub async fn guard_middleware(Extracted(guard): Extracted<Guard>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = route.unwrap_or_else(|| "other".to_owned());
    let mut response = match guard.check(&method, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => {
            upload::discard_body(request);
            error.into_response()
        }
    };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if guard.state.options.origins.is_empty() {
        let name = HeaderName::from_static("cross-origin-resource-policy");
        headers.insert(name, HeaderValue::from_static("same-origin"));
    }
    let metrics = &guard.state.metrics;
    // A method that HTTP does not define would add a time series.
    let method = if is_standard_method(&method) { method.as_str() } else { "other" };
    metrics.requests.with_label_values(&[route.as_str(), method, response.status().as_str()]).inc();
    metrics.request_seconds.with_label_values(&[route.as_str()]).observe(started.elapsed().as_secs_f64());
    response
}

fn is_standard_method(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS].contains(method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_host_names_are_local() {
        for host in ["localhost", "localhost:80", "127.0.0.1:9", "127.9.9.9", "[::1]:80", "[::1]"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["", "example.org", "localhost.example.org:80", "127.0.0.1.example.org", "10.0.0.1:80"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
