//! Probes, metrics, the OpenAPI document, and the two small pages. All files are part of the program: nothing is loaded from elsewhere.

use super::Operations;
use super::problem::Refusal;
use super::views;
use crate::core::Ledger;
use axum::extract::Extension;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Json, body::Body};
use kaldrix_api::ErrorCode;
use std::sync::{Arc, LazyLock};

/// Scripts and styles of our own only; no page may be framed.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn file(content_type: &'static str, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// Files of the pages, by path.
pub(super) fn assets() -> Vec<(&'static str, MethodRouter<Arc<Ledger>>)> {
    vec![
        ("/assets/page.css", get(|| async { file(STYLE, include_str!("../../assets/page.css")) })),
        ("/assets/status.js", get(|| async { file(SCRIPT, include_str!("../../assets/status.js")) })),
        ("/assets/docs.js", get(|| async { file(SCRIPT, include_str!("../../assets/docs.js")) })),
    ]
}

/// Whether the process answers.
#[utoipa::path(get, path = "/livez", tag = "operations", responses((status = 200, description = "It does.", content_type = "text/plain", body = String)))]
pub(super) async fn live() -> &'static str {
    "live\n"
}

/// Whether this API can do its work: the read model is readable, commits flow, a validator answers.
#[utoipa::path(
    get, path = "/readyz", tag = "operations",
    responses((status = 200, description = "Ready.", body = views::Readiness), (status = 503, description = "Not ready.", body = views::Readiness))
)]
pub(super) async fn ready(Extension(operations): Extension<Operations>) -> Response {
    let obstacles = operations.readiness.obstacles();
    if obstacles.is_empty() {
        return Json(views::Readiness { status: "ready", obstacles }).into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(views::Readiness { status: "not_ready", obstacles })).into_response()
}

/// Metrics (OpenMetrics text).
#[utoipa::path(
    get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "The metrics.", content_type = "application/openmetrics-text", body = String))
)]
pub(super) async fn metrics(Extension(operations): Extension<Operations>) -> Result<Response, Refusal> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &operations.registry).map_err(|error| {
        tracing::error!(%error, "metrics cannot be written");
        ErrorCode::Internal
    })?;
    let content_type = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, content_type)], text).into_response())
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "operations", responses((status = 200, description = "OpenAPI 3.1.", content_type = "application/json", body = Object)))]
pub(super) async fn openapi_json() -> Response {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| super::openapi().to_string());
    file("application/json", DOCUMENT.as_str())
}

/// This document for people; works offline.
#[utoipa::path(get, path = "/docs", tag = "operations", responses((status = 200, description = "A page.", content_type = "text/html", body = String)))]
pub(super) async fn docs() -> Response {
    file(HTML, include_str!("../../assets/docs.html"))
}

/// A small page that shows the network live.
#[utoipa::path(get, path = "/", tag = "operations", responses((status = 200, description = "A page.", content_type = "text/html", body = String)))]
pub(super) async fn status() -> Response {
    file(HTML, include_str!("../../assets/index.html"))
}
