//! Tower layers that open spans: one for servers (tonic and axum), one for channels.

use super::{adopt, extract, inject};
use axum::extract::MatchedPath;
use http::{HeaderMap, Request, Response, StatusCode};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tower::{Layer, Service};
use tracing::field::Empty;
use tracing::{Instrument, Span};

type BoxFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// Opens a server span per request, in the caller's trace. For tonic's `Server::layer` and for axum's `Router::layer`.
#[derive(Clone, Copy, Debug)]
pub struct TraceLayer {
    service: &'static str,
}

impl TraceLayer {
    /// Spans carry `kaldrix.service = service`.
    #[must_use]
    pub const fn new(service: &'static str) -> Self {
        Self { service }
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = ServerTrace<S>;
    fn layer(&self, inner: S) -> ServerTrace<S> {
        ServerTrace { inner, service: self.service }
    }
}

/// See [`TraceLayer`].
#[derive(Clone, Debug)]
pub struct ServerTrace<S> {
    inner: S,
    service: &'static str,
}

impl<S, B, R> Service<Request<B>> for ServerTrace<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    R: 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = BoxFuture<Response<R>, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if is_probe(request.uri().path()) {
            return Box::pin(self.inner.call(request));
        }
        let span = server_span(self.service, &request);
        adopt(&span, extract(request.headers()));
        let future = span.in_scope(|| self.inner.call(request));
        observe(span, future)
    }
}

/// Probes and scrapes would drown the requests that people look for.
fn is_probe(path: &str) -> bool {
    path.starts_with("/grpc.health.") || matches!(path, "/livez" | "/readyz" | "/metrics")
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(http::header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn server_span<B>(service: &str, request: &Request<B>) -> Span {
    let method = request.method().as_str();
    if is_grpc(request.headers()) {
        let name = request.uri().path().trim_start_matches('/');
        return tracing::info_span!(
            target: "kaldrix::rpc", "rpc", otel.name = name, otel.kind = "server", kaldrix.service = service,
            rpc.system = "grpc", rpc.grpc.status_code = Empty, http.response.status_code = Empty, otel.status_code = Empty
        );
    }
    // The route's template, not the path: names must not multiply with ids.
    let name = request.extensions().get::<MatchedPath>().map_or_else(|| method.to_owned(), |path| format!("{method} {}", path.as_str()));
    tracing::info_span!(
        target: "kaldrix::rpc", "http", otel.name = name, otel.kind = "server", kaldrix.service = service,
        http.request.method = method, rpc.grpc.status_code = Empty, http.response.status_code = Empty, otel.status_code = Empty
    )
}

/// Runs the call inside its span and notes how it ended. A gRPC status that only comes in the trailers (a stream that breaks) is not seen here.
fn observe<F, R, E>(span: Span, future: F) -> BoxFuture<Response<R>, E>
where
    F: Future<Output = Result<Response<R>, E>> + Send + 'static,
{
    let noted = span.clone();
    Box::pin(
        async move {
            let result = future.await;
            match &result {
                Ok(response) => note_status(&noted, response.status(), response.headers()),
                Err(_) => drop(noted.record("otel.status_code", "ERROR")),
            }
            result
        }
        .instrument(span),
    )
}

fn note_status(span: &Span, status: StatusCode, headers: &HeaderMap) {
    span.record("http.response.status_code", status.as_u16());
    let grpc = headers.get("grpc-status").and_then(|code| code.to_str().ok()).and_then(|code| code.parse::<u32>().ok());
    if let Some(code) = grpc {
        span.record("rpc.grpc.status_code", code);
    }
    if status.is_server_error() || grpc.is_some_and(|code| code != 0) {
        span.record("otel.status_code", "ERROR");
    }
}

/// Wraps a channel so that each call opens a client span and carries it to the server. Generated clients take it in place of the channel.
pub const fn traced<S>(channel: S) -> ClientTrace<S> {
    ClientTrace { inner: channel }
}

/// See [`traced`].
#[derive(Clone, Debug)]
pub struct ClientTrace<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for ClientTrace<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    R: 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = BoxFuture<Response<R>, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let name = request.uri().path().trim_start_matches('/');
        let span = tracing::info_span!(
            target: "kaldrix::rpc", "call", otel.name = name, otel.kind = "client", rpc.system = "grpc",
            rpc.grpc.status_code = Empty, http.response.status_code = Empty, otel.status_code = Empty
        );
        inject(&span, request.headers_mut());
        let future = span.in_scope(|| self.inner.call(request));
        observe(span, future)
    }
}
