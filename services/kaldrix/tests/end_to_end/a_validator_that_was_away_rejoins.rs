//! A validator that was paused, killed, or lost its disk for longer than the others keep blocks: it rejoins under load, by a certified snapshot
//! where it must, and its region's reads go on meanwhile.

use crate::common::{DevNetwork, run_service, signal};
use crate::load::Load;
use kaldrix_crypto::KeyFile;
use kaldrix_crypto_service::core::guard::{Guard, Origin};
use rustix::process::Signal;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

const GAP_MAX: Duration = Duration::from_secs(2);
/// v1 stands in us-west-2, whose API is the second.
const AWAY: &str = "v1";
const SERVICES: [&str; 3] = ["crypto-service", "consensus-service", "dag-service"];

/// Signatures that a validator has given so far.
fn signatures(network: &DevNetwork) -> usize {
    let log = std::fs::read_to_string(network.dir.join("validators").join(AWAY).join("audit.jsonl")).unwrap_or_default();
    log.matches(r#""decision":"signed""#).count()
}

/// Waits until the validator has caught up and signs blocks again; says how long that took.
pub(crate) async fn rejoined(network: &DevNetwork, limit: Duration) -> Duration {
    let began = Instant::now();
    let before = signatures(network);
    let goal = network.status("v0").await.unwrap().commit_index;
    loop {
        let status = network.status(AWAY).await;
        if status.as_ref().is_some_and(|s| s.own_seat && !s.catching_up && s.commit_index >= goal) && signatures(network) > before + 3 {
            return began.elapsed();
        }
        assert!(began.elapsed() < limit, "{AWAY} does not rejoin: {status:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Reads through the validator's own region, for as long as the network lives; fails at the first read that does.
async fn read_for(network: &DevNetwork, duration: Duration) {
    let until = Instant::now() + duration;
    while Instant::now() < until {
        let answer = reqwest::get(format!("{}/v1/network", network.apis[1])).await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn stop(children: Vec<Child>) {
    for mut child in children {
        signal(child.id(), Signal::TERM);
        child.wait().unwrap();
    }
}

/// Nothing that was refused: it never tried to sign a second block in a round.
fn assert_never_refused(home: &Path) {
    let log = std::fs::read_to_string(home.join("audit.jsonl")).unwrap();
    let refused = log.lines().find(|line| line.contains("refused"));
    assert!(refused.is_none(), "{refused:?}");
}

/// Kills the whole validator, deletes its store (and its guard), and starts it again after `away`.
async fn lose_the_disk(away: Duration, with_guard: bool) {
    let network = tokio::task::block_in_place(|| DevNetwork::start(&["--processes", "--epoch-seconds", "6"]));
    let load = Load::start(&network.apis, 24, Duration::from_millis(1_000)).await;
    read_for(&network, Duration::from_secs(3)).await;
    let killed: &[&str] = if with_guard { &SERVICES } else { &["dag-service"] };
    let configs: Vec<_> = killed
        .iter()
        .map(|service| {
            let (pid, config) = network.service(&format!("{AWAY}/{service}"));
            signal(pid, Signal::KILL);
            (*service, config)
        })
        .collect();
    let home = network.dir.join("validators").join(AWAY);
    std::fs::remove_dir_all(home.join("db")).unwrap();
    if with_guard {
        // Nobody knows what this key has signed. Its operator says so by making a new guard; the network tells how far it may have been.
        tokio::time::sleep(Duration::from_millis(300)).await;
        std::fs::remove_file(home.join("guard")).unwrap();
        let key = KeyFile::open(&home.join("key.json")).unwrap().public_key().id();
        let chain = network.ready["chain_id"].as_str().unwrap().parse().unwrap();
        Guard::create(&home.join("guard"), key, chain, Origin::ExistingKey).unwrap();
    }
    read_for(&network, away).await;

    let children: Vec<Child> = configs.iter().map(|(service, config)| run_service(service, config)).collect();
    let took = rejoined(&network, Duration::from_secs(60)).await;
    read_for(&network, Duration::from_secs(2)).await;
    let report = load.finish().await;
    eprintln!("disk lost{}: rejoined after {} ms; {}", if with_guard { " with the guard" } else { "" }, took.as_millis(), report.line());
    report.assert_steady(GAP_MAX);
    network.assert_validators_agree().await;
    assert_never_refused(&home);
    assert_nobody_was_slashed(&network);
    tokio::task::block_in_place(|| {
        stop(children);
        network.stop();
    });
}

/// Whoever comes back has not equivocated: its stake is whole, and it is not in jail.
fn assert_nobody_was_slashed(network: &DevNetwork) {
    let list = tokio::task::block_in_place(|| network.cli(&["validator", "list"]));
    for validator in list["validators"].as_array().unwrap() {
        assert_eq!((&validator["status"], &validator["bonded"]), (&"active".into(), &"1000000000000000000000".into()), "{validator}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_that_lost_its_disk_rejoins_under_load() {
    lose_the_disk(Duration::from_secs(2), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_a_validator_that_lost_its_disk_and_its_guard_rejoins_after_several_epochs() {
    lose_the_disk(Duration::from_secs(10), true).await;
}

/// Stops the processes of a validator for longer than the others' garbage collection reaches back.
async fn be_away(away: Duration, how: Signal, back: impl Fn(&DevNetwork) -> Vec<Child>) {
    // Long epochs: absence is not what is tested here.
    let network = tokio::task::block_in_place(|| DevNetwork::start(&["--processes", "--epoch-seconds", "3600"]));
    let load = Load::start(&network.apis, 24, Duration::from_millis(1_000)).await;
    read_for(&network, Duration::from_secs(3)).await;
    let before = network.status("v0").await.unwrap().round;
    for service in SERVICES {
        signal(network.service(&format!("{AWAY}/{service}")).0, how);
    }
    read_for(&network, away).await;
    let rounds = network.status("v0").await.unwrap().round - before;
    let children = back(&network);
    let took = rejoined(&network, Duration::from_secs(60)).await;
    read_for(&network, Duration::from_secs(2)).await;
    let report = load.finish().await;
    eprintln!("{how:?} for {} s ({rounds} rounds): rejoined after {} ms; {}", away.as_secs(), took.as_millis(), report.line());
    assert!(rounds > 60, "not longer than the window of 60 rounds: {rounds}");
    report.assert_steady(GAP_MAX);
    network.assert_validators_agree().await;
    assert_never_refused(&network.dir.join("validators").join(AWAY));
    tokio::task::block_in_place(|| {
        stop(children);
        network.stop();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_a_validator_that_was_paused_longer_than_the_window_rejoins() {
    let resume = |network: &DevNetwork| {
        for service in SERVICES {
            signal(network.service(&format!("{AWAY}/{service}")).0, Signal::CONT);
        }
        Vec::new()
    };
    be_away(Duration::from_secs(15), Signal::STOP, resume).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_a_validator_that_was_killed_longer_than_the_window_rejoins() {
    let restart =
        |network: &DevNetwork| SERVICES.iter().map(|s| run_service(s, &network.service(&format!("{AWAY}/{s}")).1)).collect::<Vec<Child>>();
    be_away(Duration::from_secs(15), Signal::KILL, restart).await;
}
