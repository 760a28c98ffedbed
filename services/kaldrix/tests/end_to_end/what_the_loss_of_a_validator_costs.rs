//! A measurement, not a test: what the others feel while one validator is killed, paused, or loses its disk under load.
//!
//! ```text
//!   KALDRIX_MEASURE_RATE=200 cargo nextest run --profile full -p kaldrix slow_measure --no-capture
//! ```
//!
//! Prints one JSON line per fault. It fails only when a payment is lost or the validator does not come back.

use crate::a_validator_that_was_away_rejoins::rejoined;
use crate::common::{DevNetwork, run_service, signal};
use crate::load::{Load, LoadReport};
use rustix::process::Signal;
use serde_json::json;
use std::process::Child;
use std::time::Duration;

const SERVICES: [&str; 3] = ["crypto-service", "consensus-service", "dag-service"];
const BEFORE: Duration = Duration::from_secs(10);
const AFTER: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// `kill -9` of all its services, started again after 5 s.
    Kill,
    /// SIGSTOP for 10 s.
    Pause,
    /// `kill -9`, its store deleted, started again after 5 s.
    LoseTheDisk,
}

fn rate() -> usize {
    std::env::var("KALDRIX_MEASURE_RATE").ok().and_then(|rate| rate.parse().ok()).unwrap_or(50)
}

fn pids(network: &DevNetwork) -> Vec<u32> {
    SERVICES.iter().map(|service| network.service(&format!("v1/{service}")).0).collect()
}

fn restart(network: &DevNetwork) -> Vec<Child> {
    SERVICES.iter().map(|service| run_service(service, &network.service(&format!("v1/{service}")).1)).collect()
}

async fn strike(network: &DevNetwork, fault: Fault) -> Vec<Child> {
    let all = |how: Signal| pids(network).into_iter().for_each(|pid| signal(pid, how));
    match fault {
        Fault::Pause => {
            all(Signal::STOP);
            tokio::time::sleep(Duration::from_secs(10)).await;
            all(Signal::CONT);
            Vec::new()
        }
        Fault::Kill | Fault::LoseTheDisk => {
            all(Signal::KILL);
            if matches!(fault, Fault::LoseTheDisk) {
                std::fs::remove_dir_all(network.dir.join("validators/v1/db")).unwrap();
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
            restart(network)
        }
    }
}

async fn measure(fault: Fault) -> LoadReport {
    let network = tokio::task::block_in_place(|| DevNetwork::start(&["--processes"]));
    let load = Load::start(&network.apis, rate(), Duration::from_secs(1)).await;
    tokio::time::sleep(BEFORE).await;
    let children = strike(&network, fault).await;
    let took = rejoined(&network, Duration::from_secs(120)).await;
    tokio::time::sleep(AFTER).await;
    let report = load.finish().await;
    network.assert_validators_agree().await;
    let (gap, at) = report.longest_gap();
    let line = json!({
        "fault": format!("{fault:?}"), "payments": report.finals.len(), "per_second": report.per_second().round(),
        "gap_max_ms": gap.as_millis(), "gap_at_s": at.as_secs_f64(), "rejoined_ms": took.as_millis(),
        "latency_ms": { "p50": report.latency(0.5).as_millis(), "p99": report.latency(0.99).as_millis(), "max": report.latency(1.0).as_millis() },
        "sent_again": report.retries, "lost": report.lost.len(),
    });
    eprintln!("{line}");
    tokio::task::block_in_place(|| {
        for mut child in children {
            signal(child.id(), Signal::TERM);
            child.wait().unwrap();
        }
        network.stop();
    });
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_measure_the_loss_of_one_validator() {
    for fault in [Fault::Kill, Fault::Pause, Fault::LoseTheDisk] {
        let report = measure(fault).await;
        assert!(report.lost.is_empty(), "{:?}", report.lost.first());
    }
}
