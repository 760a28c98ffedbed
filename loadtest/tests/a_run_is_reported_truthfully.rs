//! The whole program against a fake ledger with two regions, and against ledgers that lose, refuse, fork or stall.

#![allow(clippy::unwrap_used, reason = "a test helper that fails is a failed test")]

mod fake_ledger;

use fake_ledger::{Faults, serve};
use serde_json::Value;
use std::process::{Output, Stdio};

/// 300 payments at 300/s among 20 accounts, verified.
async fn run(faults: Faults) -> (Output, Value) {
    let api = serve(faults).await;
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["run", "--rate", "300", "--total", "300", "--accounts", "20", "--scheme", "ed25519", "--verify", "--json", "--api", &api])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    let report = serde_json::from_str(stdout.lines().last().unwrap_or_default()).unwrap_or(Value::Null);
    (output, report)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_ledger_finalises_everything_and_is_verified() {
    let (output, report) = run(Faults::default()).await;
    assert!(output.status.success(), "{}", stderr(&output));
    for (name, value) in [("offered", 300), ("accepted", 300), ("final", 300), ("failed", 0), ("not_offered", 0)] {
        assert_eq!(report[name], value, "{name}: {report}");
    }
    assert_eq!(report["verified"], true);
    let p50 = report["latency_ms"]["p50"].as_f64().unwrap();
    assert!((5.0..500.0).contains(&p50), "the fake answers after 5 ms: {p50}");
    assert_eq!(report["cpu_us_per_tx"], 0.0, "processes that are not ours are not measured");
    assert!(report["rounds_per_s"].as_f64().unwrap() > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_vanishes_is_found() {
    let (output, _) = run(Faults { loses_money: true, ..Faults::default() }).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("smallest units together"), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn regions_that_disagree_about_the_order_are_found() {
    let (output, report) = run(Faults { forks: true, ..Faults::default() }).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!((&report["final"], &report["verified"]), (&300.into(), &false.into()));
    assert!(stderr(&output).contains("another digest"), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_payments_are_counted_with_their_code_and_their_followers_are_not_sent() {
    let (output, report) = run(Faults { refuses: true, ..Faults::default() }).await;
    assert_eq!(output.status.code(), Some(1));
    let number = |name: &str| report[name].as_u64().unwrap();
    assert!(number("refused") > 0 && report["codes"]["FEE_TOO_LOW"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(number("offered") + number("not_offered"), 300, "{report}");
    assert_eq!(number("final") + number("refused"), number("offered"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stall_is_measured_from_the_time_each_payment_was_due() {
    // One funding payment, the root's batch, 20 openings; then 150 quick ones.
    let (_, report) = run(Faults { stalls_after: Some(172), ..Faults::default() }).await;
    assert_eq!(report["final"], 300, "{report}");
    assert!(report["latency_ms"]["p99"].as_f64().unwrap() >= 1_000.0, "{report}");
    assert!(report["latency_ms"]["p50"].as_f64().unwrap() < 1_100.0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_machines_are_refused_before_anything_is_sent() {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["run", "--rate", "1", "--total", "1", "--api", "http://192.0.2.1:8080"])
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--allow-remote"), "{}", stderr(&output));
}
