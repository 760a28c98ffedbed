//! `kaldrix validator add` and `remove` on a running network: payments flow all the time, and none is lost.

use crate::common::{DevNetwork, names};
use crate::load::{Load, LoadReport};
use serde_json::Value;
use std::process::Command;
use std::time::{Duration, Instant};

/// What the issue allows.
const GAP_MAX: Duration = Duration::from_secs(2);

fn has_seat(network: &DevNetwork, validator: &str) -> bool {
    let list = network.cli(&["validator", "list"]);
    list["validators"].as_array().unwrap().iter().any(|v| v["name"] == validator && v["in_committee"] == true)
}

/// A fifth validator joins, then `leaves` leaves, under load; then all that are left hold the same.
async fn one_joins_and_one_leaves(extra: &[&str], leaves: &str, rest: &[&str]) -> LoadReport {
    let network = tokio::task::block_in_place(|| DevNetwork::start(&[&["--epoch-seconds", "5"], extra].concat()));
    let load = Load::start(&network.apis, 24, Duration::from_millis(1_000)).await;

    let added = network.validator(&["add", "--name", "v4", "--region", "us-east-1", "--stake", "1000"]).await;
    assert_eq!((&added["validator"], &added["has_seat"]), (&Value::from("v4"), &Value::from(true)), "{added}");
    assert!(network.event("validator_added", "v4").is_some());
    tokio::task::block_in_place(|| assert!(has_seat(&network, "v4")));
    // It is one of those that make commits: the newcomer's blocks are in them.
    let before = load.final_count();
    let signed = network.dir.join("validators/v4/audit.jsonl");
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::fs::read_to_string(&signed).unwrap_or_default().matches(r#""decision":"signed""#).count() < 10
        || load.final_count() < before + 20
    {
        assert!(Instant::now() < deadline, "v4 has a seat and signs nothing");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let removed = network.validator(&["remove", leaves]).await;
    assert_eq!((&removed["validator"], &removed["has_seat"]), (&Value::from(leaves), &Value::from(false)), "{removed}");
    assert!(network.event("validator_removed", leaves).is_some());
    tokio::task::block_in_place(|| assert!(!has_seat(&network, leaves)));
    assert!(network.status(leaves).await.is_none(), "its services are stopped");
    tokio::time::sleep(Duration::from_secs(2)).await;

    let report = load.finish().await;
    eprintln!("a validator joined after {} s, {leaves} left after {} s: {}", added["seconds"], removed["seconds"], report.line());
    network.assert_these_agree(&names(rest)).await;
    let audit = tokio::task::block_in_place(|| {
        Command::new(crate::common::BINARY).arg("audit").arg("--data-dir").arg(&network.dir).output().unwrap()
    });
    assert!(audit.status.success(), "{}", String::from_utf8_lossy(&audit.stderr));
    tokio::task::block_in_place(|| network.stop());
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifth_validator_joins_and_one_leaves_while_payments_flow() {
    let report = one_joins_and_one_leaves(&[], "v3", &["v0", "v1", "v2", "v4"]).await;
    report.assert_steady(GAP_MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_a_region_goes_on_when_its_only_validator_leaves() {
    // v1 is the only one in us-west-2: the payments in its mempool are sent again by those who sent them.
    let report = one_joins_and_one_leaves(&["--processes"], "v1", &["v0", "v2", "v3", "v4"]).await;
    report.assert_steady(GAP_MAX);
}

/// Runs the command and gives what it says when it fails.
async fn refused(network: &DevNetwork, arguments: &[&str]) -> Value {
    let output = tokio::process::Command::new(crate::common::BINARY)
        .arg("validator")
        .args(arguments)
        .args(["--json", "--data-dir"])
        .arg(&network.dir)
        .output()
        .await
        .unwrap();
    assert!(!output.status.success());
    serde_json::from_slice(&output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_an_interrupted_addition_goes_on_and_who_left_may_come_back_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let options = ["--epoch-seconds", "4"];
    let network = tokio::task::block_in_place(|| DevNetwork::start_in(folder.path(), &options, &[]));
    let too_few = refused(&network, &["remove", "v1"]).await;
    assert_eq!(too_few["code"], "TOO_FEW_VALIDATORS", "{too_few}");
    let unknown = refused(&network, &["remove", "v9"]).await;
    assert!(unknown["detail"].as_str().unwrap().contains("v0"), "{unknown}");

    // Killed at some moment, again and again: whatever was done stays done.
    for pause in [50, 400, 900, 1_500] {
        let mut add = tokio::process::Command::new(crate::common::BINARY)
            .args(["validator", "add", "--name", "v4", "--region", "us-east-1", "--json", "--data-dir"])
            .arg(folder.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let _ = add.kill().await;
    }
    network.validator(&["add", "--name", "v4", "--region", "us-east-1"]).await;
    network.validator(&["remove", "v2"]).await;
    let not_running = network.dir.clone();
    tokio::task::block_in_place(|| network.stop());

    // What came and went stays so when the network is started again.
    let network = tokio::task::block_in_place(|| DevNetwork::start_in(&not_running, &[], &[]));
    assert!(network.status("v2").await.is_none());
    network.assert_these_agree(&names(&["v0", "v1", "v3", "v4"])).await;
    network.validator(&["add", "--name", "v2", "--region", "eu-west-1"]).await;
    network.assert_these_agree(&names(&["v0", "v1", "v2", "v3", "v4"])).await;
    tokio::task::block_in_place(|| network.stop());
    let output = Command::new(crate::common::BINARY).args(["validator", "remove", "v2", "--data-dir"]).arg(&not_running).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("kaldrix dev"), "{said}");
}
