//! One port: gRPC and REST side by side, behind the limits that hold for both.
//!
//! ```text
//!   request ─▶ rate limit ─▶ concurrency limit ─▶ content type application/grpc*? ─▶ tonic
//!                                                              └─ else ─▶ axum
//! ```
//!
//! Merging the two routers would not do: each wants the fallback for itself.

use crate::rest::Refusal;
use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use futures::FutureExt as _;
use http::{HeaderMap, Request, Response, header};
use kaldrix_api::{ApiError, ErrorCode};
use parking_lot::Mutex;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tonic::Status;
use tower::ServiceExt as _;

/// Clients whose rate is remembered.
const CLIENTS_MAX: u64 = 65_536;
/// What to tell clients when the server is full.
const RETRY_MS: u32 = 250;

/// What all requests share.
#[derive(Clone)]
pub struct Gateway {
    grpc: Router,
    rest: Router,
    under_way: Arc<Semaphore>,
    rates: Option<Arc<Rates>>,
    request_max: Duration,
}

/// Limits of a [`Gateway`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests under way at most.
    pub concurrent: usize,
    /// Requests per second and client address; 0: no limit.
    pub per_second: u32,
    /// How long a request may take until its response begins.
    pub request_max: Duration,
}

impl Gateway {
    /// Serves `grpc` and `rest` within `limits`.
    #[must_use]
    pub fn new(grpc: Router, rest: Router, limits: Limits) -> Self {
        // `with_state` lets the routers do their preparations once, not per request.
        Self {
            grpc: grpc.with_state(()),
            rest: rest.with_state(()),
            under_way: Arc::new(Semaphore::new(limits.concurrent)),
            rates: (limits.per_second > 0).then(|| Arc::new(Rates::new(limits.per_second))),
            request_max: limits.request_max,
        }
    }

    /// Answers one request of a client at `peer`. Never fails: every refusal is a response of the caller's protocol.
    pub async fn answer(&self, request: Request<Body>, peer: IpAddr) -> Response<Body> {
        let grpc = is_grpc(request.headers());
        match self.try_answer(request, peer, grpc).await {
            Ok(response) => response,
            Err(error) if grpc => Status::from(error).into_http(),
            Err(error) => Refusal(error).into_response(),
        }
    }

    async fn try_answer(&self, request: Request<Body>, peer: IpAddr, grpc: bool) -> Result<Response<Body>, ApiError> {
        if let Some(wait_ms) = self.rates.as_ref().and_then(|rates| rates.take(peer, Instant::now())) {
            return Err(ApiError::from(ErrorCode::RateLimited).retry_after(wait_ms));
        }
        // Held until the response begins; streams are counted by themselves.
        let _permit = self.under_way.try_acquire().map_err(|_| ApiError::from(ErrorCode::Overloaded).retry_after(RETRY_MS))?;
        let router = if grpc { self.grpc.clone() } else { self.rest.clone() };
        let answering = AssertUnwindSafe(router.oneshot(request)).catch_unwind();
        match tokio::time::timeout(self.request_max, answering).await {
            Ok(Ok(Ok(response))) => Ok(response),
            Ok(Ok(Err(never))) => match never {},
            Ok(Err(_)) => {
                tracing::error!("a request's handler panicked");
                Err(ErrorCode::Internal.into())
            }
            Err(_) => {
                tracing::warn!(limit_ms = self.request_max.as_millis(), "a request took too long");
                Err(ApiError::new(ErrorCode::Overloaded, "the request took too long").retry_after(RETRY_MS))
            }
        }
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// A token bucket per client address: a second's worth may be used at once.
struct Rates {
    per_second: f64,
    clients: moka::sync::Cache<IpAddr, Arc<Mutex<Bucket>>>,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Rates {
    fn new(per_second: u32) -> Self {
        let clients = moka::sync::Cache::builder().max_capacity(CLIENTS_MAX).time_to_idle(Duration::from_secs(60)).build();
        Self { per_second: f64::from(per_second), clients }
    }

    /// Takes a token, or says in how many milliseconds there is one.
    fn take(&self, client: IpAddr, now: Instant) -> Option<u32> {
        let bucket = self.clients.get_with(client, || Arc::new(Mutex::new(Bucket { tokens: self.per_second, at: now })));
        let mut bucket = bucket.lock();
        let earned = now.saturating_duration_since(bucket.at).as_secs_f64() * self.per_second;
        bucket.tokens = (bucket.tokens + earned).min(self.per_second);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return None;
        }
        let wait = Duration::from_secs_f64((1.0 - bucket.tokens) / self.per_second);
        Some(u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;

    fn gateway(limits: Limits) -> Gateway {
        let rest = Router::new()
            .route("/panic", get(defect))
            .route("/slow", get(|| tokio::time::sleep(Duration::from_secs(60))))
            .route("/ok", get(|| async { "ok" }));
        Gateway::new(tonic::service::Routes::default().into_axum_router(), rest, limits)
    }

    async fn defect() -> &'static str {
        panic!("a defect")
    }

    const LIMITS: Limits = Limits { concurrent: 1, per_second: 0, request_max: Duration::from_millis(100) };

    async fn get_code(gateway: &Gateway, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let response = gateway.answer(request, IpAddr::from([127, 0, 0, 1])).await;
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.expect("a body");
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        (status, json["code"].as_str().unwrap_or_default().to_owned())
    }

    #[tokio::test]
    async fn a_handler_that_panics_answers_internal_and_the_next_request_works() {
        let gateway = gateway(LIMITS);
        assert_eq!(get_code(&gateway, "/panic").await, (500, "INTERNAL".to_owned()));
        assert_eq!(get_code(&gateway, "/ok").await.0, 200);
    }

    #[tokio::test]
    async fn a_full_server_says_overloaded_and_a_slow_request_ends() {
        let gateway = gateway(LIMITS);
        let (slow, other) = tokio::join!(get_code(&gateway, "/slow"), async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            get_code(&gateway, "/ok").await
        });
        assert_eq!(other, (503, "OVERLOADED".to_owned()));
        assert_eq!(slow, (503, "OVERLOADED".to_owned()));
    }

    #[tokio::test]
    async fn an_unknown_grpc_method_gets_a_grpc_answer() {
        let request = Request::post("/no.Such/Method").header("content-type", "application/grpc").body(Body::empty()).expect("a request");
        let response = gateway(LIMITS).answer(request, IpAddr::from([127, 0, 0, 1])).await;
        assert_eq!(response.headers()["grpc-status"], "12");
    }

    #[test]
    fn a_client_over_its_rate_waits_and_others_do_not() {
        let rates = Rates::new(2);
        let (one, two, start) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]), Instant::now());
        assert_eq!((rates.take(one, start), rates.take(one, start)), (None, None));
        assert_eq!(rates.take(one, start), Some(500));
        assert_eq!(rates.take(two, start), None);
        assert_eq!(rates.take(one, start + Duration::from_millis(501)), None);
    }
}
