//! Test money.

use super::fixture::{Api, Options, address, key};
use kaldrix_crypto::Keystore;
use kaldrix_ledger_api::core::faucet::{FAUCET_AMOUNT_MAX, lane_of_region};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

async fn with_faucet() -> (Arc<Api>, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("faucet.json");
    Keystore::create(&path, &key(1), None).expect("written");
    let mut options = Options::default();
    options.settings.faucet_key_file = Some(path);
    (Arc::new(Api::start_with(options).await), folder)
}

/// Commits whatever the validator takes, as a network would.
fn commit_everything(api: &Arc<Api>) -> tokio::task::JoinHandle<()> {
    let api = Arc::clone(api);
    tokio::spawn(async move {
        let mut done = 0;
        loop {
            let new: Vec<_> = api.dag.taken.lock()[done..].to_vec();
            done += new.len();
            if !new.is_empty() {
                api.commit_all(&new.iter().collect::<Vec<_>>()).await;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
}

#[tokio::test]
async fn the_faucet_pays_in_its_region_s_lane_and_waits_until_it_is_final() {
    let (api, _folder) = with_faucet().await;
    let network = commit_everything(&api);
    for expected in 0..3u64 {
        let answer = api.post("/v1/faucet", &json!({ "address": address(3), "amount": "1000" })).await;
        assert_eq!((answer.status, answer.json["status"].as_str()), (200, Some("FINAL")), "{}", answer.text);
        assert_eq!(answer.json["sequence"], json!(expected));
        assert_eq!(answer.json["lane"], json!(lane_of_region("us-east-1")));
        assert_eq!(
            (answer.json["operations"][0]["to"].as_str(), answer.json["operations"][0]["amount"].as_str()),
            (Some(address(3).to_string().as_str()), Some("1000"))
        );
    }
    assert_eq!(api.get("/v1/network").await.json["faucet"], json!(true));
    network.abort();
}

#[tokio::test]
async fn many_requests_at_once_share_few_transactions() {
    let (api, _folder) = with_faucet().await;
    let network = commit_everything(&api);
    let body = json!({ "address": address(3), "amount": "7" });
    let answers = futures::future::join_all((0..60).map(|_| api.post("/v1/faucet", &body))).await;
    assert!(answers.iter().all(|a| a.status == 200), "{answers:?}");
    let taken = api.dag.taken.lock();
    assert_eq!(taken.iter().map(|tx| tx.body().operations.len()).sum::<usize>(), 60);
    assert!(taken.len() < 30, "{} transactions", taken.len());
    network.abort();
}

#[tokio::test]
async fn the_faucet_reads_its_sequence_again_when_somebody_else_used_it() {
    let (api, _folder) = with_faucet().await;
    let network = commit_everything(&api);
    let body = json!({ "address": address(3), "amount": "7" });
    assert_eq!(api.post("/v1/faucet", &body).await.status, 200);
    api.dag.refuse("SEQUENCE_REPLAYED", 0);
    let (answer, ()) = tokio::join!(api.post("/v1/faucet", &body), async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        *api.dag.refusal.lock() = None;
    });
    assert_eq!((answer.status, answer.json["sequence"].as_u64()), (200, Some(1)), "{}", answer.text);
    network.abort();
}

#[tokio::test]
async fn the_faucet_has_a_limit_and_wants_a_sensible_request() {
    let (api, _folder) = with_faucet().await;
    let over = (FAUCET_AMOUNT_MAX + 1).to_string();
    let post = |address: String, amount: &str| {
        let body = json!({ "address": address, "amount": amount });
        let api = Arc::clone(&api);
        async move { api.post("/v1/faucet", &body).await }
    };
    let me = address(3).to_string();
    post(me.clone(), &over).await.is_problem(422, "FAUCET_LIMIT");
    post(me.clone(), &"9".repeat(60)).await.is_problem(422, "FAUCET_LIMIT");
    for amount in ["0", "", "-1", "1.5", "1e3", "many"] {
        post(me.clone(), amount).await.is_problem(400, "INVALID_ARGUMENT");
    }
    post("kx1nobody".into(), "1").await.is_problem(400, "INVALID_ARGUMENT");
    post(kaldrix_types::Address::FEE_POOL.to_string(), "1").await.is_problem(422, "BAD_RECIPIENT");
    api.post("/v1/faucet", &json!({ "address": me })).await.is_problem(400, "MALFORMED_JSON");
}
