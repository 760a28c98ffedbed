//! Traces with W3C headers. A process has one subscriber, so that the X-Ray test is a file of its own.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and shows what it measured")]

mod common;

use kaldrix_service_kit::config::Propagation;

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_one_trace_from_client_to_server_with_w3c_headers() {
    common::traces::one_trace_through_two_services(Propagation::W3c).await;
}
