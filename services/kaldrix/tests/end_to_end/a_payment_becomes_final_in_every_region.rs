//! The first thing a newcomer does, and the shapes that scripts depend on.

use crate::common::DevNetwork;
use serde_json::Value;
use std::time::{Duration, Instant};

const KDX: u128 = 1_000_000_000_000_000_000;
const NATIVE: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fn balance(account: &Value, asset: &str) -> u128 {
    let balances = account["balances"].as_array().unwrap();
    let found = balances.iter().find(|b| b["asset"] == asset);
    found.map_or(0, |b| b["amount"].as_str().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_payment_becomes_final_in_every_region_and_on_every_validator() {
    let network = DevNetwork::start(&[]);
    let (alice_key, alice) = network.funded_key("alice", "100");
    let (_, bob) = network.key("bob");
    let key = alice_key.to_str().unwrap();

    let paid = network.cli(&["transfer", "--key", key, "--to", &bob, "--amount", "12.5"]);
    assert_eq!(paid["status"], "FINAL");
    assert_eq!(paid["id"].as_str().unwrap().len(), 64);
    assert!(paid["commit"].as_u64().unwrap() > 0);
    assert!(paid["latency_ms"].as_u64().unwrap() < 10_000);

    // Whoever was told FINAL sees it in that region at once, and in the others soon.
    assert_eq!(balance(&network.cli(&["account", &bob]), NATIVE), 25 * KDX / 2);
    let deadline = Instant::now() + Duration::from_secs(10);
    for region in 0..network.apis.len() {
        loop {
            let output = network.try_cli(region, &["account", &bob]);
            if output.status.success() && balance(&serde_json::from_slice(&output.stdout).unwrap(), NATIVE) == 25 * KDX / 2 {
                break;
            }
            assert!(Instant::now() < deadline, "region {region} does not show the payment");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert_eq!(balance(&network.cli(&["account", &alice]), NATIVE), 175 * KDX / 2);

    // The second payment carries a key index instead of the key, and goes in through another region.
    let output = network.try_cli(1, &["transfer", "--key", key, "--to", &bob, "--amount", "1"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    // An asset of one's own.
    let created = network.cli(&["asset", "create", "--key", key, "--symbol", "GOLD", "--decimals", "2", "--initial", "1000"]);
    let asset = created["asset"].as_str().unwrap();
    network.cli(&["transfer", "--key", key, "--to", &bob, "--amount", "2.50", "--asset", asset]);
    assert_eq!(balance(&network.cli(&["account", &bob]), asset), 250);

    network.assert_validators_agree().await;
    network.stop();
}

#[tokio::test]
async fn every_rest_endpoint_answers_what_the_issue_names() {
    let network = DevNetwork::start(&["--validators", "5"]);
    let (key, alice) = network.funded_key("alice", "10");
    let (_, bob) = network.key("bob");
    let paid = network.cli(&["transfer", "--key", key.to_str().unwrap(), "--to", &bob, "--amount", "1"]);
    let get = async |path: &str| {
        let response = reqwest::get(format!("{}{path}", network.apis[0])).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let json = async |path: &str| -> Value {
        let (status, text) = get(path).await;
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    };
    let id = paid["id"].as_str().unwrap();
    let transaction = json(&format!("/v1/transactions/{id}")).await;
    assert_eq!(transaction["status"], "FINAL");
    assert_eq!(transaction["sender"], alice);
    let commit = json(&format!("/v1/commits/{}", paid["commit"])).await;
    assert!(commit["transactions"].as_array().unwrap().iter().any(|t| t == id));
    let block = json(&format!("/v1/blocks/{}", transaction["block"].as_str().unwrap())).await;
    assert!(block["transactions"].as_array().unwrap().iter().any(|t| t == id));
    assert_eq!(json(&format!("/v1/accounts/{bob}/transactions?limit=1")).await["transactions"][0]["id"], id);
    assert_eq!(json("/v1/validators").await["validators"].as_array().unwrap().len(), 5);
    assert!(json("/v1/network").await["commit_index"].as_u64().unwrap() > 0);
    assert!(!json("/v1/commits?limit=3").await["commits"].as_array().unwrap().is_empty());
    assert!(json("/openapi.json").await["paths"].as_object().unwrap().contains_key("/v1/transactions"));
    for path in ["/livez", "/readyz", "/metrics", "/docs", "/"] {
        assert_eq!(get(path).await.0, 200, "{path}");
    }
    let (status, problem) = get("/v1/transactions/00").await;
    let problem: Value = serde_json::from_str(&problem).unwrap();
    assert_eq!((status, &problem["code"]), (400, &Value::from("INVALID_ARGUMENT")));
    network.stop();
}
