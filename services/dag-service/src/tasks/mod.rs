//! One background task per file.

pub(crate) mod boot;
pub(crate) mod catch_up;
pub(crate) mod consensus_link;
pub(crate) mod evidence;
pub(crate) mod execute;
pub(crate) mod fetch;
pub(crate) mod follow;
pub(crate) mod members;
pub(crate) mod network;
pub(crate) mod persist;
pub(crate) mod propose;
pub(crate) mod serve;

/// A span in the trace of a transaction; nothing when no traced transaction is part of the work.
fn span(name: &str, traceparent: Option<&str>) -> tracing::Span {
    match traceparent {
        Some(_) => kaldrix_service_kit::telemetry::span_in_trace(name, "dag-service", traceparent),
        None => tracing::Span::none(),
    }
}
