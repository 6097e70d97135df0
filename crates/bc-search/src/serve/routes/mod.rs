//! Every route with its description: what is not described is not answered.

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

use super::guard::{Guard, around};
use super::refusal::Refusal;
use super::state::State;

/// What all routes have in common.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "bytecover",
        description = "Finds the work that a recording is a version of, and where two recordings match. Errors are JSON \
                       with `error`, in words, and `retry_after_s` (also the header Retry-After) where coming again helps."
    ),
    modifiers(&Bearer)
)]
struct Described;

/// The token, as OpenAPI has it.
struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
        let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        openapi.components.get_or_insert_default().add_security_scheme("token", scheme);
    }
}

fn described() -> OpenApiRouter<Arc<State>> {
    OpenApiRouter::with_openapi(Described::openapi())
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
    described().to_openapi()
}

/// All routes, for a server at `address`.
pub fn router(state: &Arc<State>, address: SocketAddr) -> Router {
    let (router, _) = described().split_for_parts();
    let guard = Guard::new(state.clone(), address);
    let router = router
        .fallback(|| async {
            Refusal::absent("there is nothing at this path; /openapi.json lists what there is")
        })
        .method_not_allowed_fallback(|| async {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "not by this method; /openapi.json says by which")
        })
        .layer(DefaultBodyLimit::disable())
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            use axum::response::IntoResponse;
            Refusal::internal(&anyhow::anyhow!("this request broke the program; please report it"))
                .into_response()
        }))
        .layer(axum::middleware::from_fn_with_state(guard, around))
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
