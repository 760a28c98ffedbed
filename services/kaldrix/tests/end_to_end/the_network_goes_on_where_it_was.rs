//! Stopping, killing and starting again.

use crate::common::DevNetwork;
use kaldrix_client::{AccountSession, Client, ExecuteOptions, WaitFor};
use kaldrix_crypto::{KeyFile, Signer};
use kaldrix_types::{Address, AssetId, TxId};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[tokio::test]
async fn a_network_that_was_stopped_goes_on_from_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let network = DevNetwork::start_in(folder.path(), &[], &[]);
    let (key, alice) = network.funded_key("alice", "10");
    let chain = network.ready["chain_id"].clone();
    let before = network.status("v0").await.unwrap().commit_index;
    network.stop();

    let network = DevNetwork::start_in(folder.path(), &[], &[]);
    assert_eq!(network.ready["chain_id"], chain);
    assert!(network.status("v0").await.unwrap().commit_index >= before);
    let (_, bob) = network.key("bob");
    network.cli(&["transfer", "--key", key.to_str().unwrap(), "--to", &bob, "--amount", "1"]);
    assert_eq!(network.cli(&["account", &alice])["balances"][0]["amount"], "9000000000000000000");
    network.assert_validators_agree().await;
    network.stop();
}

/// Pays without pause until told to stop; returns every id that was reported final.
async fn pay(api: String, key: std::path::PathBuf, to: Address, stop: Arc<AtomicBool>) -> Vec<TxId> {
    let mut finals = Vec::new();
    let secret: Arc<dyn Signer> = Arc::new(KeyFile::open(&key).unwrap().unlock(None).unwrap());
    let Ok(client) = Client::connect(&api).await else { return finals };
    let Ok(session) = AccountSession::open(client, secret).await else { return finals };
    let options = ExecuteOptions { wait_for: WaitFor::Final, timeout: Duration::from_secs(5), ..ExecuteOptions::default() };
    while !stop.load(Ordering::Relaxed) {
        match session.transfer(to, AssetId::NATIVE, 1, &options).await {
            Ok(receipt) if receipt.is_final_success() => finals.push(receipt.id),
            Ok(_) => {}
            Err(_) => return finals,
        }
    }
    finals
}

async fn kill_and_restart(times: u32, folder: &Path) {
    let mut network = DevNetwork::start_in(folder, &[], &[]);
    let keys: Vec<_> = (0..4).map(|i| network.funded_key(&format!("payer{i}"), "100").0).collect();
    let bob: Address = network.key("bob").1.parse().unwrap();
    let mut finals: Vec<TxId> = Vec::new();
    let seed = std::process::id();
    for round in 0..times {
        let stop = Arc::new(AtomicBool::new(false));
        let payers: Vec<_> = keys
            .iter()
            .enumerate()
            .map(|(i, key)| tokio::spawn(pay(network.apis[i % 3].clone(), key.clone(), bob, Arc::clone(&stop))))
            .collect();
        let pause = 700 + u64::from(seed.wrapping_mul(2_654_435_761).wrapping_add(round * 7_919) % 900);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        network.kill_all();
        stop.store(true, Ordering::Relaxed);
        for payer in payers {
            finals.extend(payer.await.unwrap());
        }
        eprintln!("round {round}, killed after {pause} ms: {} payments are final", finals.len());
        drop(network);
        network = DevNetwork::start_in(folder, &[], &[]);
        let client = Client::connect(&network.apis[0]).await.unwrap();
        for id in &finals {
            let found = client.transaction(*id).await.unwrap();
            assert!(found.status.is_final() && found.success, "round {round}: {id} was final before the kill");
        }
        network.assert_validators_agree().await;
    }
    assert!(finals.len() > 10 * times as usize, "too few payments to mean anything: {}", finals.len());
    network.stop();
    assert_nobody_signed_twice(folder);
}

/// The audit logs hold every signature ever given: one digest per epoch, round and validator. (The last rounds of an epoch, after its last
/// commit, exist again in the next one.)
fn assert_nobody_signed_twice(folder: &Path) {
    for validator in ["v0", "v1", "v2", "v3"] {
        let log = std::fs::read_to_string(folder.join("validators").join(validator).join("audit.jsonl")).unwrap();
        let mut signed = std::collections::HashMap::new();
        for line in log.lines() {
            // A line that a kill cut off is not a signature that left.
            let Ok(entry) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            let (epoch, round) = (entry["epoch"].as_u64(), entry["round"].as_u64());
            let (Some(epoch), Some(round), Some(digest)) = (epoch, round, entry["digest"].as_str()) else { continue };
            if entry["decision"].as_str().is_some_and(|d| d.contains("refused")) {
                continue;
            }
            let first = signed.entry((epoch, round)).or_insert_with(|| digest.to_owned());
            assert_eq!(first, digest, "{validator} signed two blocks of round {round} in epoch {epoch}");
        }
        assert!(!signed.is_empty());
    }
}

#[tokio::test]
async fn nothing_final_is_lost_when_the_whole_network_is_killed_under_load() {
    let folder = tempfile::tempdir().unwrap();
    kill_and_restart(2, folder.path()).await;
}

#[tokio::test]
async fn slow_nothing_final_is_lost_when_the_whole_network_is_killed_ten_times() {
    let folder = tempfile::tempdir().unwrap();
    kill_and_restart(10, folder.path()).await;
}

fn start_and_fail(arguments: &[&str]) -> String {
    let output = Command::new(crate::common::BINARY).arg("dev").args(arguments).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_folder_or_port_that_cannot_be_used_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = start_and_fail(&["--data-dir", dir, "--api", &address]);
    assert!(said.contains("is taken") && said.contains("--api"), "{said}");

    let said = start_and_fail(&["--data-dir", "/proc/kaldrix", "--api", "127.0.0.1:0"]);
    assert!(said.contains("/proc/kaldrix") && said.contains("--data-dir"), "{said}");

    let said = start_and_fail(&["--data-dir", dir, "--api", "0.0.0.0:0"]);
    assert!(said.contains("loopback"), "{said}");
}

#[test]
fn a_data_directory_of_another_chain_or_shape_is_refused() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [&first, &second] {
        let network = DevNetwork::start_in(folder.path(), &[], &[]);
        network.stop();
    }
    let dir = first.path().to_str().unwrap();
    let said = start_and_fail(&["--data-dir", dir, "--api", "127.0.0.1:0", "--validators", "7"]);
    assert!(said.contains("4 validators"), "{said}");
    std::fs::copy(second.path().join("genesis.json"), first.path().join("genesis.json")).unwrap();
    let said = start_and_fail(&["--data-dir", dir, "--api", "127.0.0.1:0"]);
    assert!(said.contains("belongs to chain"), "{said}");
}

#[test]
fn a_data_directory_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let network = DevNetwork::start_in(folder.path(), &[], &[]);
    let said = start_and_fail(&["--data-dir", folder.path().to_str().unwrap(), "--api", "127.0.0.1:0"]);
    assert!(said.contains("running already"), "{said}");
    network.stop();
}
