//! Logs and traces: one subscriber per process, one trace per request through all services.
//!
//! ```text
//!   client span ──(traceparent | x-amzn-trace-id)──▶ TraceLayer: server span, named by the RPC, `kaldrix.service` = who serves
//!        ▲                                               │
//!   telemetry::request(message) or traced(channel) ◀─────┘ handler calls on
//! ```
//!
//! Several services may share a process (`kaldrix dev`): the service is an attribute of each server span, not of the process.
//! Without an OTLP endpoint no span leaves the process and no trace id is made; the layers then cost next to nothing.

mod layers;

pub use layers::{ClientTrace, ServerTrace, TraceLayer, traced};

use crate::config::{LogFormat, Propagation, Telemetry};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_aws::trace::{XrayIdGenerator, XrayPropagator};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use std::collections::HashMap;
use std::time::Duration;
use tracing::Span;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Why telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log filter is no filter.
    #[error("[telemetry] log = {filter:?} is no filter: {reason}; write a level (\"info\") or \"info,kaldrix_dag_service=debug\"")]
    Filter {
        /// What was given.
        filter: String,
        /// Why not.
        reason: String,
    },
    /// The exporter cannot be made.
    #[error("[telemetry] otlp_endpoint: {0}; write it as http://host:4317")]
    Exporter(String),
    /// Somebody else installed a subscriber.
    #[error("logging was set up twice in this process")]
    AlreadySet,
}

/// Parts of the process that carry spans to the collector themselves: exporting theirs would never end.
const NOT_EXPORTED: [&str; 9] = ["h2", "hyper", "hyper_util", "tonic", "tower", "rustls", "reqwest", "opentelemetry", "opentelemetry_sdk"];

/// Keeps the exporter; what is still queued is sent at [`Guard::shutdown`] or when it is dropped.
#[derive(Debug)]
#[must_use = "spans are flushed when the guard goes away"]
pub struct Guard {
    provider: Option<SdkTracerProvider>,
}

impl Guard {
    /// Sends what is queued, at most five seconds, without blocking the runtime.
    pub async fn shutdown(mut self) {
        if let Some(provider) = self.provider.take() {
            let _ = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(Duration::from_secs(5))).await;
        }
    }

    /// Sends what is queued now and goes on.
    pub async fn flush(&self) {
        if let Some(provider) = self.provider.clone() {
            let _ = tokio::task::spawn_blocking(move || provider.force_flush()).await;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(provider) = self.provider.take() {
            let _ = provider.shutdown_with_timeout(Duration::from_secs(2));
        }
    }
}

/// Sets up logs (to stderr) and, when an endpoint is given, traces for this process. Call it once, inside a multi-threaded tokio runtime.
///
/// # Errors
/// [`TelemetryError`] when the filter or the endpoint is wrong, or a subscriber is installed already.
pub fn init(config: &Telemetry, service_name: &str) -> Result<Guard, TelemetryError> {
    let filter =
        EnvFilter::try_new(&config.log).map_err(|e| TelemetryError::Filter { filter: config.log.clone(), reason: e.to_string() })?;
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let log = match config.log_format {
        LogFormat::Text => log.with_target(true).boxed(),
        LogFormat::Json => log.json().flatten_event(true).boxed(),
    };
    match config.propagation {
        Propagation::W3c => global::set_text_map_propagator(TraceContextPropagator::new()),
        Propagation::Xray => global::set_text_map_propagator(XrayPropagator::new()),
    }
    let provider = config.otlp_endpoint.as_ref().map(|endpoint| provider(config, endpoint.expose(), service_name)).transpose()?;
    let export = provider.as_ref().map(|provider| {
        let silent = NOT_EXPORTED.map(|target| (target, LevelFilter::OFF));
        let targets = Targets::new().with_default(LevelFilter::INFO).with_targets(silent);
        tracing_opentelemetry::layer().with_tracer(provider.tracer("kaldrix")).with_location(false).with_threads(false).with_filter(targets)
    });
    tracing_subscriber::registry().with(export).with(log.with_filter(filter)).try_init().map_err(|_| TelemetryError::AlreadySet)?;
    Ok(Guard { provider })
}

fn provider(config: &Telemetry, endpoint: &str, service_name: &str) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(Duration::from_secs(5))
        .build()
        .map_err(|e| TelemetryError::Exporter(e.to_string()))?;
    let mut attributes = vec![KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))];
    if !config.region.is_empty() {
        attributes.push(KeyValue::new("kaldrix.region", config.region.clone()));
    }
    if !config.validator.is_empty() {
        attributes.push(KeyValue::new("kaldrix.validator", config.validator.clone()));
    }
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample_ratio)));
    let builder = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(sampler)
        .with_resource(Resource::builder().with_service_name(service_name.to_owned()).with_attributes(attributes).build());
    Ok(match config.propagation {
        Propagation::W3c => builder.build(),
        Propagation::Xray => builder.with_id_generator(XrayIdGenerator::default()).build(),
    })
}

/// Wraps a message in a request that carries the current span's trace to the called service.
pub fn request<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let mut headers = http::HeaderMap::new();
    inject(&Span::current(), &mut headers);
    if !headers.is_empty() {
        request.metadata_mut().as_mut().extend(headers);
    }
    request
}

/// The current span in W3C text form (`00-…-…-01`), whatever [`Propagation`] is set: for carrying a trace through queues and stores.
/// `None` when traces are not exported.
#[must_use]
pub fn traceparent() -> Option<String> {
    let context = Span::current().context();
    if !context.span().span_context().is_valid() {
        return None;
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut carrier);
    carrier.remove("traceparent")
}

/// A span of background work that belongs to the trace `traceparent` (see [`traceparent()`]); without one, or with one that is malformed, it
/// begins a trace of its own.
#[must_use]
pub fn span_in_trace(name: &str, service: &str, traceparent: Option<&str>) -> Span {
    let span = tracing::info_span!(target: "kaldrix::work", "work", otel.name = name, kaldrix.service = service);
    if let Some(traceparent) = traceparent {
        let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
        adopt(&span, TraceContextPropagator::new().extract(&carrier));
    }
    span
}

/// Gives `span` a parent from elsewhere; without an exporting layer there is nothing to give.
fn adopt(span: &Span, context: Context) {
    if context.span().span_context().is_valid() {
        let _ = span.set_parent(context);
    }
}

fn inject(span: &Span, headers: &mut http::HeaderMap) {
    let context = span.context();
    if context.span().span_context().is_valid() {
        global::get_text_map_propagator(|propagator| propagator.inject_context(&context, &mut HeaderInjector(headers)));
    }
}

fn extract(headers: &http::HeaderMap) -> Context {
    // A fresh context, not the current one: a request begins where its caller says, never where this thread happens to be.
    global::get_text_map_propagator(|propagator| propagator.extract_with_context(&Context::new(), &HeaderExtractor(headers)))
}

struct HeaderInjector<'a>(&'a mut http::HeaderMap);

impl Injector for HeaderInjector<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (http::HeaderName::from_bytes(key.as_bytes()), http::HeaderValue::from_str(&value)) {
            self.0.insert(name, value);
        }
    }
}

struct HeaderExtractor<'a>(&'a http::HeaderMap);

impl Extractor for HeaderExtractor<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }
    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
