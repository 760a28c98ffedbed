//! REST: the same handlers as gRPC, as JSON.

mod events;
mod openapi;
mod pages;
mod problem;
mod routes;
pub mod views;

pub use openapi::openapi;
pub use problem::{BodyLimit, Refusal};

use crate::core::Ledger;
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};
use kaldrix_api::ErrorCode;
use kaldrix_service_kit::metrics::Readiness;
use kaldrix_service_kit::telemetry::TraceLayer;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use tower_http::cors::{Any, CorsLayer};

type Route = (&'static str, &'static str, MethodRouter<Arc<Ledger>>);

/// Every route with its method: the router is made of this, and a test holds the OpenAPI document against it.
fn table() -> Vec<Route> {
    vec![
        ("post", "/v1/transactions", post(routes::submit_transaction)),
        ("get", "/v1/transactions/{id}", get(routes::get_transaction)),
        ("get", "/v1/transactions/{id}/proof", get(routes::get_transaction_proof)),
        ("get", "/v1/accounts/{address}", get(routes::get_account)),
        ("get", "/v1/accounts/{address}/transactions", get(routes::list_account_transactions)),
        ("get", "/v1/accounts/{address}/proof", get(routes::get_account_proof)),
        ("get", "/v1/commits", get(routes::list_commits)),
        ("get", "/v1/commits/{index}", get(routes::get_commit)),
        ("get", "/v1/blocks/{digest}", get(routes::get_block)),
        ("get", "/v1/assets/{id}", get(routes::get_asset)),
        ("get", "/v1/checkpoints/{index}", get(routes::get_checkpoint)),
        ("get", "/v1/validators", get(routes::list_validators)),
        ("get", "/v1/network", get(routes::get_network)),
        ("get", "/v1/parameters", get(routes::get_parameters)),
        ("post", "/v1/faucet", post(routes::request_faucet)),
        ("get", "/v1/events", get(events::events)),
        ("get", "/livez", get(pages::live)),
        ("get", "/readyz", get(pages::ready)),
        ("get", "/metrics", get(pages::metrics)),
        ("get", "/openapi.json", get(pages::openapi_json)),
        ("get", "/docs", get(pages::docs)),
        ("get", "/", get(pages::status)),
    ]
}

/// All routes as (method, path).
#[must_use]
pub fn routes() -> Vec<(&'static str, &'static str)> {
    table().into_iter().map(|(method, path, _)| (method, path)).collect()
}

/// What the operational routes show.
#[derive(Clone)]
pub struct Operations {
    /// Metrics.
    pub registry: Arc<Registry>,
    /// Readiness.
    pub readiness: Readiness,
}

/// The REST router.
pub fn router(ledger: Arc<Ledger>, operations: Operations, body_limit: BodyLimit, cors: bool) -> Router {
    let router = table().into_iter().fold(Router::new(), |router, (_, path, handler)| router.route(path, handler));
    let router = pages::assets()
        .into_iter()
        .fold(router, |router, (path, handler)| router.route(path, handler))
        .fallback(|| async { Refusal::from(ErrorCode::RouteNotFound) })
        .method_not_allowed_fallback(|| async { Refusal::from(ErrorCode::MethodNotAllowed) })
        .layer(Extension(operations))
        .layer(Extension(body_limit))
        .layer(middleware::from_fn_with_state(Arc::clone(&ledger), count))
        .layer(TraceLayer::new("ledger-api"))
        .with_state(ledger);
    if !cors {
        return router;
    }
    let cors = CorsLayer::new().allow_origin(Any).allow_methods([Method::GET, Method::POST]).allow_headers(Any);
    router.layer(cors)
}

async fn count(State(ledger): State<Arc<Ledger>>, request: Request, next: Next) -> Response {
    // The template, not the path: metrics must not multiply with ids.
    let path = request.extensions().get::<MatchedPath>().map_or_else(|| "unknown".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    let code = response.extensions().get::<problem::RefusalCode>().map(|refusal| refusal.0);
    ledger.metrics().request("rest", &path, code);
    response
}
