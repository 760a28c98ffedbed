//! `--processes`: each service of one validator is killed in turn; the others never stop, and it catches up when it is started again.

use crate::common::{DevNetwork, run_service, signal};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// Pays once a while through `api` and returns the longest time a payment took.
async fn pay_for(network: &DevNetwork, key: &str, bob: &str, api: usize, duration: Duration) -> Duration {
    let (until, mut longest) = (Instant::now() + duration, Duration::ZERO);
    while Instant::now() < until {
        let started = Instant::now();
        let output = network.try_cli(api, &["transfer", "--key", key, "--to", bob, "--amount", "0.001"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        longest = longest.max(started.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    longest
}

#[tokio::test]
async fn any_single_service_of_a_validator_can_be_killed_and_comes_back() {
    let network = DevNetwork::start(&["--processes"]);
    let (key, _) = network.funded_key("alice", "100");
    let key = key.to_str().unwrap();
    let (_, bob) = network.key("bob");
    let mut restarted = Vec::new();
    for service in ["dag-service", "consensus-service", "crypto-service"] {
        let (pid, config) = network.service(&format!("v1/{service}"));
        signal(pid, Signal::KILL);
        // v1 stands in us-west-2; us-east-1 and eu-west-1 have validators of their own.
        let longest = pay_for(&network, key, &bob, 0, Duration::from_secs(2)).await;
        assert!(longest < Duration::from_secs(5), "{service} of one validator held everybody up for {longest:?}");
        restarted.push(run_service(service, &config));
        let goal = network.status("v0").await.unwrap().commit_index;
        network.wait_for_commit_everywhere(goal, Duration::from_secs(30)).await;
    }
    // Its own blocks are part of commits again.
    let after = network.status("v1").await.unwrap();
    assert!(after.consensus_connected && after.connected_peers.len() == 3, "{after:?}");
    network.assert_validators_agree().await;

    // A region whose own validator is away reads and writes through the others.
    let (pid, _) = network.service("v2/dag-service");
    signal(pid, Signal::KILL);
    pay_for(&network, key, &bob, 2, Duration::from_secs(1)).await;
    for child in &restarted {
        signal(child.id(), Signal::TERM);
    }
    network.stop();
    for mut child in restarted {
        child.wait().unwrap();
    }
}

#[tokio::test]
async fn a_validator_that_lost_its_store_rejoins_above_everything_it_signed() {
    let network = DevNetwork::start(&["--processes"]);
    let (key, _) = network.funded_key("alice", "100");
    let key = key.to_str().unwrap();
    let (_, bob) = network.key("bob");
    pay_for(&network, key, &bob, 0, Duration::from_secs(2)).await;
    let (pid, config) = network.service("v1/dag-service");
    signal(pid, Signal::KILL);
    let home = network.dir.join("validators/v1");
    std::fs::remove_dir_all(home.join("db")).unwrap();
    pay_for(&network, key, &bob, 0, Duration::from_secs(1)).await;

    let mut restarted = run_service("dag-service", &config);
    let goal = network.status("v0").await.unwrap().commit_index;
    network.wait_for_commit_everywhere(goal, Duration::from_secs(30)).await;
    pay_for(&network, key, &bob, 0, Duration::from_secs(1)).await;
    network.assert_validators_agree().await;
    // It asked the others how far it had been: its guard never had to refuse anything.
    let log = std::fs::read_to_string(home.join("audit.jsonl")).unwrap();
    assert!(log.lines().all(|line| line.contains(r#""decision":"signed"#)), "{log}");
    signal(restarted.id(), Signal::TERM);
    network.stop();
    restarted.wait().unwrap();
}
