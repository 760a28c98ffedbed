//! Traces with X-Ray headers and ids.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and shows what it measured")]

mod common;

use kaldrix_service_kit::config::Propagation;
use std::time::{SystemTime, UNIX_EPOCH};

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_one_trace_from_client_to_server_with_xray_headers_and_time_stamped_ids() {
    let span = common::traces::one_trace_through_two_services(Propagation::Xray).await;
    // An X-Ray trace id begins with the seconds since 1970.
    let seconds = u64::from(u32::from_be_bytes(span.trace_id[..4].try_into().unwrap()));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(seconds) < 60, "{seconds} is not now");
}
