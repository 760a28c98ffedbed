//! `kaldrix proof` and `kaldrix verify`: what a ledger proves needs no ledger to verify, and nothing about it can be changed.

use crate::common::{BINARY, DevNetwork};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn verify(proof: &Path, genesis: &Path) -> Output {
    Command::new(BINARY).arg("verify").arg(proof).arg("--genesis").arg(genesis).arg("--json").output().unwrap()
}

/// Every text and number in a JSON value, by path.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, v)| leaves(v, &format!("{path}/{name}"), found)),
        Value::Array(items) => items.iter().enumerate().for_each(|(i, v)| leaves(v, &format!("{path}/{i}"), found)),
        Value::String(_) | Value::Number(_) => found.push(path.to_owned()),
        Value::Null | Value::Bool(_) => {}
    }
}

/// Something else of the same kind.
fn change(value: &mut Value) {
    match value {
        Value::Number(number) => *value = Value::from(number.as_u64().unwrap() ^ 1),
        Value::String(text) => {
            let other = if text.pop() == Some('0') { '1' } else { '0' };
            text.push(other);
        }
        _ => unreachable!("only texts and numbers are changed"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_and_a_balance_are_proven_offline_through_changes_of_epoch_and_no_changed_proof_is() {
    let network = tokio::task::block_in_place(|| DevNetwork::start(&["--epoch-seconds", "2"]));
    let (key, _) = network.funded_key("alice", "10");
    let (_, bob) = network.key("bob");
    // Across at least two ends of an epoch.
    let deadline = Instant::now() + Duration::from_secs(40);
    while network.status("v0").await.unwrap().epoch < 2 {
        assert!(Instant::now() < deadline, "epochs do not end");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let offline = tempfile::tempdir().unwrap();
    let at = |name: &str| offline.path().join(name);
    let (genesis, payment, balance, proof) = (at("genesis.json"), at("payment.json"), at("balance.json"), at("proof.json"));
    tokio::task::block_in_place(|| {
        let paid = network.cli(&["transfer", "--key", key.to_str().unwrap(), "--to", &bob, "--amount", "2.5", "--wait", "checkpointed"]);
        assert_eq!(paid["status"], "CHECKPOINTED");
        let id = paid["id"].as_str().unwrap();
        network.cli(&["proof", "tx", id, "--out", payment.to_str().unwrap()]);
        network.cli(&["proof", "account", &bob, "--out", balance.to_str().unwrap()]);
        std::fs::copy(network.dir.join("genesis.json"), &genesis).unwrap();
        network.stop();

        let verified = verify(&payment, &genesis);
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
        let shown: Value = serde_json::from_slice(&verified.stdout).unwrap();
        assert_eq!((&shown["transaction"]["id"], &shown["transaction"]["outcome"]), (&id.into(), &"success".into()), "{shown}");
        let verified = verify(&balance, &genesis);
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
        assert!(String::from_utf8_lossy(&verified.stdout).contains("2500000000000000000"));

        let original: Value = serde_json::from_str(&std::fs::read_to_string(&payment).unwrap()).unwrap();
        let mut paths = Vec::new();
        leaves(&original, "", &mut paths);
        assert!(paths.len() > 20, "{paths:?}");
        // Each changed proof is a process of its own: a sample, at a stride that is no multiple of anything in it. All fields are the library's tests'.
        for path in paths.iter().step_by(paths.len() / 40 + 1) {
            let mut forged = original.clone();
            change(forged.pointer_mut(path).unwrap());
            std::fs::write(&proof, forged.to_string()).unwrap();
            let refused = verify(&proof, &genesis);
            assert!(!refused.status.success(), "{path} was changed, and nobody noticed");
        }
        // Another chain's genesis proves nothing.
        let other = std::fs::read_to_string(&genesis).unwrap().replace("kaldrix-dev", "kaldrix-div");
        std::fs::write(&genesis, other).unwrap();
        assert!(!verify(&payment, &genesis).status.success());
    });
}
