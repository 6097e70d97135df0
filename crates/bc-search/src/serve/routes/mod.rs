//! Every route with its OpenAPI description; undocumented routes cannot exist.

mod about;
mod add;
mod compare;
mod identify;
mod recordings;
mod works;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, Method, StatusCode, header};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::CorsLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::api_error::ApiError;
use super::guard::{Guard, guard_middleware};
use super::state::State;

/// The OpenAPI information that all routes share.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "bytecover",
        description = "Finds the work that a recording is a version of, and where two recordings match. Errors are JSON \
                       with the text `error` and, if a retry can help, `retry_after_s` (also the header Retry-After)."
    ),
    modifiers(&Bearer)
)]
struct ApiDoc;

/// Adds the bearer token to the OpenAPI description.
struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
        let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        openapi.components.get_or_insert_default().add_security_scheme("token", scheme);
    }
}

fn documented_routes() -> OpenApiRouter<Arc<State>> {
    OpenApiRouter::with_openapi(ApiDoc::openapi())
        .routes(routes!(identify::identify))
        .routes(routes!(compare::compare))
        .routes(routes!(add::add))
        .routes(routes!(works::works))
        .routes(routes!(recordings::recording))
        .routes(routes!(recordings::audio))
        .routes(routes!(about::health))
        .routes(routes!(about::metrics))
        .routes(routes!(about::openapi))
        .routes(routes!(about::page))
}

/// The OpenAPI description of all routes.
#[must_use]
pub fn description() -> utoipa::openapi::OpenApi {
    documented_routes().to_openapi()
}

/// All routes, for a server at `address`.
pub fn router(state: &Arc<State>, address: SocketAddr) -> Router {
    let (router, _) = documented_routes().split_for_parts();
    let guard = Guard::new(state.clone(), address);
    let router = router
        .fallback(|| async {
            ApiError::not_found("there is nothing at this path; /openapi.json lists the paths")
        })
        .method_not_allowed_fallback(|| async {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path does not allow this method; /openapi.json lists the methods",
            )
        })
        .layer(DefaultBodyLimit::disable())
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            use axum::response::IntoResponse;
            ApiError::internal(&anyhow::anyhow!("this request made the program panic; please report it"))
                .into_response()
        }))
        .layer(axum::middleware::from_fn_with_state(guard, guard_middleware))
        .with_state(state.clone());
    let origins: Vec<HeaderValue> =
        state.options.origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    if origins.is_empty() {
        return router;
    }
    router.layer(
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::GET, Method::POST])
            .allow_headers([header::AUTHORIZATION, header::RANGE]),
    )
}
