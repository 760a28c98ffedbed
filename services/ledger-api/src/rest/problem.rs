//! Errors as RFC 9457 problem details, and extractors that refuse with them.

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use kaldrix_api::{ApiError, ErrorCode};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// What of an oversized body is still read, so that its sender gets the answer instead of a broken connection.
const DISCARD_BYTES_MAX: usize = 8 << 20;

/// An [`ApiError`] as a response.
#[derive(Clone, Debug)]
pub struct Refusal(pub ApiError);

/// The code of a refusal, for metrics.
#[derive(Clone, Copy, Debug)]
pub(super) struct RefusalCode(pub(super) ErrorCode);

impl<E: Into<ApiError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let problem = self.0.problem();
        let body = serde_json::to_vec(&problem).expect("a problem holds only text and numbers");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(ms) = problem.retry_after_ms {
            // Whole seconds, rounded up (RFC 9110, section 10.2.3); the body has the milliseconds.
            headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
        }
        response.extensions_mut().insert(RefusalCode(self.0.code));
        response
    }
}

/// The largest body that is read, in bytes; an extension of every request.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimit(pub usize);

/// One path parameter as text.
pub(super) struct Segment(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(text)) => Ok(Self(text)),
            Err(rejection) => Err(ApiError::new(ErrorCode::InvalidArgument, format!("path: {}", rejection.body_text())).into()),
        }
    }
}

/// Query parameters.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let result: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, state).await;
        match result {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => Err(ApiError::new(ErrorCode::InvalidArgument, format!("query: {}", rejection.body_text())).into()),
        }
    }
}

/// A JSON body.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        if !is_json(request.headers()) {
            return Err(ErrorCode::UnsupportedMediaType.into());
        }
        let limit = request.extensions().get::<BodyLimit>().map_or(256 * 1024, |l| l.0);
        let bytes = tokio::time::timeout(BODY_TIMEOUT, read_body(request.into_body(), limit))
            .await
            .unwrap_or_else(|_| Err(ApiError::new(ErrorCode::MalformedJson, "the body did not arrive in time")))?;
        // serde_json stops at 128 levels, so depth is an error and never a stack overflow.
        let value = serde_json::from_slice(&bytes).map_err(|error| ApiError::new(ErrorCode::MalformedJson, error.to_string()))?;
        Ok(Self(value))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

async fn read_body(mut body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let too_large = || ApiError::new(ErrorCode::BodyTooLarge, format!("the body is over {limit} bytes"));
    let (mut bytes, mut seen) = (BytesMut::new(), 0usize);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::new(ErrorCode::MalformedJson, "the body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        seen += data.len();
        if seen <= limit {
            bytes.extend_from_slice(&data);
        } else {
            bytes = BytesMut::new();
            if seen > DISCARD_BYTES_MAX {
                return Err(too_large());
            }
        }
    }
    if seen > limit { Err(too_large()) } else { Ok(bytes.freeze()) }
}
