//! Reads: the same facts over REST and gRPC.

use super::fixture::{Api, address, time_of};
use kaldrix_proto::ledger as pb;
use kaldrix_types::{AssetId, OutcomeStatus, RejectCode};
use serde_json::json;

#[tokio::test]
async fn an_account_shows_balances_as_text_and_where_they_come_from() {
    let api = Api::start().await;
    let answer = api.get(&format!("/v1/accounts/{}", address(1))).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let kdx = json!({ "asset": "0".repeat(64), "amount": format!("1{}", "0".repeat(30)), "symbol": "KDX", "decimals": 18 });
    assert_eq!(answer.json["balances"], json!([kdx]));
    assert_eq!(answer.json["as_of_commit"], json!(0));
    let mut grpc = api.grpc().await;
    let account = grpc.get_account(pb::GetAccountRequest { address: address(1).to_string() }).await.expect("known").into_inner();
    assert_eq!(account.balances[0].amount, format!("1{}", "0".repeat(30)));
}

#[tokio::test]
async fn a_history_is_paged_newest_first_without_repeats() {
    let api = Api::start().await;
    let transactions: Vec<_> = (0..7).map(|sequence| api.payment(sequence)).collect();
    api.commit_all(&transactions[..3].iter().collect::<Vec<_>>()).await;
    api.commit_all(&transactions[3..].iter().collect::<Vec<_>>()).await;
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("/v1/accounts/{}/transactions?limit=2&after={after}", address(2))).await;
        assert_eq!(page.status, 200, "{}", page.text);
        seen.extend(page.json["transactions"].as_array().expect("a list").iter().map(|t| t["sequence"].as_u64().expect("a number")));
        match page.json["next"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => break,
        }
    }
    assert_eq!(seen, [6, 5, 4, 3, 2, 1, 0]);
    let empty = api.get(&format!("/v1/accounts/{}/transactions", address(9))).await;
    assert_eq!((empty.status, &empty.json["transactions"], &empty.json["next"]), (200, &json!([]), &json!(null)));
}

#[tokio::test]
async fn commits_blocks_and_transactions_lead_to_one_another() {
    let api = Api::start().await;
    let (good, bad) = (api.payment(0), api.payment(1));
    api.commit_all(&[]).await;
    api.commit(&[(&good, OutcomeStatus::Success), (&bad, OutcomeStatus::Failed(RejectCode::InsufficientBalance))]).await;
    let commit = api.get("/v1/commits/2").await;
    assert_eq!(commit.json["transactions"], json!([good.id().to_string(), bad.id().to_string()]));
    assert_eq!((commit.json["transaction_count"].as_u64(), commit.json["timestamp_ms"].as_u64()), (Some(2), Some(time_of(2))));
    assert_eq!(commit.json["previous"], api.get("/v1/commits/1").await.json["digest"]);
    let block = api.get(&format!("/v1/blocks/{}", commit.json["leader"]["digest"].as_str().expect("a digest"))).await;
    assert_eq!((block.json["commit_index"].as_u64(), block.json["author_name"].as_str()), (Some(2), Some("v2")), "{}", block.text);
    assert_eq!(block.json["transactions"], commit.json["transactions"]);
    let list = api.get("/v1/commits?limit=1").await;
    assert_eq!((list.json["commits"][0]["index"].as_u64(), list.json["next"].as_str()), (Some(2), Some("2")));
    assert!(list.json["commits"][0].get("transactions").is_none(), "only one commit's answer lists its transactions");
    let rest = api.get("/v1/commits?limit=1&after=2").await;
    assert_eq!((rest.json["commits"][0]["index"].as_u64(), &rest.json["next"]), (Some(1), &json!(null)));
}

#[tokio::test]
async fn the_network_its_validators_parameters_and_native_asset_are_readable() {
    let api = Api::start().await;
    // What accounts have, and one KDX bonded by each of four validators.
    let supply = (10u128.pow(30) + 4 * 10u128.pow(18)).to_string();
    api.commit_all(&[&api.payment(0)]).await;
    super::fixture::eventually(|| api.dag.commit_index.load(std::sync::atomic::Ordering::SeqCst) == 1).await;
    let network = api.get("/v1/network").await.json;
    assert_eq!((network["name"].as_str(), network["region"].as_str()), (Some("testnet"), Some("us-east-1")));
    assert_eq!(network["chain_id"], json!(api.genesis.chain_id().to_string()));
    assert_eq!((network["commit_index"].as_u64(), network["round"].as_u64()), (Some(1), Some(1)));
    assert_eq!((network["transaction_count"].as_u64(), &network["supply"]), (Some(1), &json!(supply)));
    assert_eq!((network["faucet"].as_bool(), network["validator_count"].as_u64()), (Some(false), Some(4)));
    let mut rounds = serde_json::Value::Null;
    for _ in 0..200 {
        rounds = api.get("/v1/validators").await.json["validators"][1]["last_round"].clone();
        if rounds == json!(1) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(rounds, json!(1), "validator 1 made the block of round 1");
    let parameters = api.get("/v1/parameters").await.json;
    assert_eq!((parameters["transaction_bytes_max"].as_u64(), parameters["hash_algorithm"].as_str()), (Some(131_072), Some("blake3")));
    let asset = api.get(&format!("/v1/assets/{}", AssetId::NATIVE)).await.json;
    assert_eq!((asset["symbol"].as_str(), &asset["supply"], &asset["issuer"]), (Some("KDX"), &json!(supply), &json!(null)));
    let mut grpc = api.grpc().await;
    assert_eq!(grpc.get_network(pb::GetNetworkRequest {}).await.expect("known").into_inner().commit_index, 1);
    assert_eq!(grpc.list_validators(pb::ListValidatorsRequest {}).await.expect("known").into_inner().validators.len(), 4);
    assert_eq!(grpc.get_parameters(pb::GetParametersRequest {}).await.expect("known").into_inner().native_decimals, 18);
}
