//! Checkpoints and proofs, asked of a validator; and CHECKPOINTED, which follows from them.

use super::fixture::{Api, Options, address, time_of};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kaldrix_api::ApiError;
use kaldrix_proto::dag::get_pending_response::State;
use kaldrix_proto::ledger as pb;
use kaldrix_types::{AssetId, CertifiedCheckpoint, OutcomeStatus, RejectCode, StateKey, decode};
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_checkpoint_shows_who_vouches_for_it_and_carries_what_can_be_verified() {
    let api = Api::start().await;
    api.certify(1, 1, 10);
    let newest = api.certify(2, 11, 20);
    let latest = api.get("/v1/checkpoints/latest").await;
    assert_eq!((latest.status, latest.json["index"].as_u64()), (200, Some(2)), "{}", latest.text);
    assert_eq!(latest.json, api.get("/v1/checkpoints/2").await.json);
    assert_eq!(latest.json["digest"], json!(newest.checkpoint.digest().to_string()));
    assert_eq!((&latest.json["first_commit"], &latest.json["last_commit"]), (&json!(11), &json!(20)));
    assert_eq!((&latest.json["voters"], &latest.json["timestamp_ms"]), (&json!([0, 1, 2]), &json!(time_of(20))));
    assert_eq!((&latest.json["ends_epoch"], &latest.json["next_validators"]), (&json!(false), &json!(null)));
    let bytes = STANDARD.decode(latest.json["certified"].as_str().expect("text")).expect("base64");
    assert_eq!(decode::<CertifiedCheckpoint>(&bytes, 1 << 20).expect("BCS"), newest);
    api.get("/v1/checkpoints/3").await.is_problem(404, "CHECKPOINT_NOT_FOUND");
    let mut grpc = api.grpc().await;
    let first = grpc.get_checkpoint(pb::GetCheckpointRequest { index: 1 }).await.expect("known").into_inner();
    assert_eq!((first.index, first.last_commit, first.state_root.as_str()), (1, 10, "09".repeat(32).as_str()));
}

#[tokio::test]
async fn a_transaction_s_proof_is_asked_for_with_its_commit() {
    let api = Api::start().await;
    let tx = api.payment(0);
    api.commit_all(&[]).await;
    api.commit_all(&[&tx]).await;
    let path = format!("/v1/transactions/{}/proof", tx.id());
    let early = api.get(&path).await;
    early.is_problem(409, "NOT_CHECKPOINTED");
    assert_eq!((early.header("retry-after"), &early.json["retry_after_ms"]), ("1", &json!(1_000)));
    api.certify(1, 1, 2);
    let proof = api.get(&path).await;
    assert_eq!((proof.status, proof.header("content-type")), (200, "application/json"));
    assert_eq!(proof.json, json!({ "transaction": tx.id().to_string(), "commit": 2 }), "the proof itself is the body");
    let mut grpc = api.grpc().await;
    let message = pb::GetTransactionProofRequest { id: tx.id().to_string() };
    let answer = grpc.get_transaction_proof(message).await.expect("proven").into_inner();
    assert_eq!((answer.proof_json, answer.checkpoint_index), (proof.text, 1));
}

#[tokio::test]
async fn a_transaction_on_its_way_has_no_proof_yet_and_an_unknown_one_never() {
    let api = Api::start().await;
    api.certify(1, 1, 10);
    let (mine, elsewhere) = (api.payment(0), api.payment(1));
    api.submit(mine.bytes(), "ACCEPTED", 1_000).await;
    api.dag.set_pending(elsewhere.id(), State::Included, "");
    for tx in [mine, elsewhere] {
        api.get(&format!("/v1/transactions/{}/proof", tx.id())).await.is_problem(409, "NOT_CHECKPOINTED");
    }
    api.get(&format!("/v1/transactions/{}/proof", "ab".repeat(32))).await.is_problem(404, "TRANSACTION_NOT_FOUND");
}

#[tokio::test]
async fn an_account_s_proof_is_about_its_keys_or_about_one_asset() {
    let api = Api::start().await;
    let path = format!("/v1/accounts/{}/proof", address(9));
    api.get(&path).await.is_problem(409, "NOT_CHECKPOINTED");
    api.certify(1, 1, 10);
    let key = |key: StateKey| json!({ "key": hex::encode(key.to_bytes()) });
    assert_eq!(api.get(&path).await.json, key(StateKey::Account(address(9))));
    let balance = api.get(&format!("{path}?asset={}", AssetId::NATIVE)).await;
    assert_eq!(balance.json, key(StateKey::Balance(address(9), AssetId::NATIVE)), "{}", balance.text);
    let mut grpc = api.grpc().await;
    let message = pb::GetAccountProofRequest { address: address(9).to_string(), asset: AssetId::NATIVE.to_string() };
    let answer = grpc.get_account_proof(message).await.expect("proven").into_inner();
    assert_eq!((answer.proof_json, answer.checkpoint_index), (balance.text, 1));
}

#[tokio::test]
async fn another_validator_is_asked_when_the_first_does_not_answer() {
    let api = Api::start_with(Options { dead_validators: 1, ..Default::default() }).await;
    let tx = api.payment(0);
    api.commit_all(&[&tx]).await;
    api.certify(1, 1, 1);
    assert_eq!(api.get(&format!("/v1/transactions/{}/proof", tx.id())).await.status, 200);
    assert_eq!(api.get("/v1/checkpoints/1").await.status, 200);
    assert_eq!(api.get(&format!("/v1/accounts/{}/proof", address(1))).await.status, 200);
}

#[tokio::test]
async fn without_validators_or_without_history_the_client_is_told_so() {
    let api = Api::start().await;
    let tx = api.payment(0);
    api.commit_all(&[&tx]).await;
    api.certify(1, 1, 1);
    let path = format!("/v1/transactions/{}/proof", tx.id());
    api.dag.pruned.store(true, Ordering::SeqCst);
    api.get(&path).await.is_problem(410, "HISTORY_PRUNED");
    api.get("/v1/checkpoints/1").await.is_problem(410, "HISTORY_PRUNED");
    let mut grpc = api.grpc().await;
    let error = grpc.get_transaction_proof(pb::GetTransactionProofRequest { id: tx.id().to_string() }).await.expect_err("pruned");
    assert_eq!((error.code(), ApiError::from_status(&error).code.as_str()), (tonic::Code::OutOfRange, "HISTORY_PRUNED"));
    api.dag.down.store(true, Ordering::SeqCst);
    for path in [path, "/v1/checkpoints/latest".to_owned(), format!("/v1/accounts/{}/proof", address(1))] {
        let answer = api.get(&path).await;
        answer.is_problem(503, "NO_VALIDATOR");
        assert!(!answer.header("retry-after").is_empty());
    }
}

#[tokio::test]
async fn a_submission_can_wait_until_its_outcome_can_be_proven() {
    let api = Api::start().await;
    let tx = api.payment(0);
    let started = Instant::now();
    let (answer, ()) = tokio::join!(api.submit(tx.bytes(), "CHECKPOINTED", 10_000), async {
        api.taken(1).await;
        api.commit_all(&[&tx]).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        api.certify(1, 1, 1);
    });
    assert_eq!((answer.status, answer.json["status"].as_str()), (200, Some("CHECKPOINTED")), "{}", answer.text);
    assert_eq!((&answer.json["checkpoint_index"], &answer.json["success"]), (&json!(1), &json!(true)));
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(3), "{took:?}");
    // Who asks for less gets the same answer as the first time.
    api.dag.refuse("SEQUENCE_REPLAYED", 0);
    assert_eq!(api.submit(tx.bytes(), "FINAL", 1_000).await.json["status"], json!("FINAL"));
    assert_eq!(api.submit(tx.bytes(), "CHECKPOINTED", 1_000).await.json["status"], json!("CHECKPOINTED"));
}

#[tokio::test]
async fn a_wait_for_the_checkpoint_that_runs_out_says_final() {
    let api = Api::start().await;
    let tx = api.payment(0);
    let (answer, _) = tokio::join!(api.submit(tx.bytes(), "CHECKPOINTED", 400), async {
        api.taken(1).await;
        api.commit_all(&[&tx]).await
    });
    assert_eq!((answer.status, answer.json["status"].as_str()), (200, Some("FINAL")), "{}", answer.text);
    assert_eq!(answer.json["checkpoint_index"], json!(null));
}

#[tokio::test]
async fn a_final_transaction_becomes_checkpointed_and_a_discarded_one_does_not() {
    let api = Api::start().await;
    let (good, failed, discarded, later) = (api.payment(0), api.payment(1), api.payment(9), api.payment(2));
    let failure = OutcomeStatus::Failed(RejectCode::InsufficientBalance);
    let gap = OutcomeStatus::Discarded(RejectCode::SequenceGap);
    api.commit(&[(&good, OutcomeStatus::Success), (&failed, failure), (&discarded, gap)]).await;
    api.certify(1, 1, 1);
    api.commit_all(&[&later]).await;
    let mut network = json!(null);
    for _ in 0..300 {
        network = api.get("/v1/network").await.json["checkpoint_index"].clone();
        if network == json!(1) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(network, json!(1), "it is noticed within a few seconds");
    for (tx, status) in [(&good, "CHECKPOINTED"), (&failed, "CHECKPOINTED"), (&discarded, "REJECTED"), (&later, "FINAL")] {
        let read = api.get(&format!("/v1/transactions/{}", tx.id())).await.json;
        assert_eq!(read["status"], json!(status));
    }
    let history = api.get(&format!("/v1/accounts/{}/transactions", address(1))).await.json;
    let statuses: Vec<_> = history["transactions"].as_array().expect("a list").iter().map(|t| t["status"].clone()).collect();
    assert_eq!(statuses, ["FINAL", "CHECKPOINTED", "CHECKPOINTED"]);
    let mut grpc = api.grpc().await;
    let read = grpc.get_transaction(pb::GetTransactionRequest { id: failed.id().to_string() }).await.expect("known").into_inner();
    assert_eq!((read.status(), read.success, read.checkpoint_index), (pb::TransactionStatus::Checkpointed, false, 1));
}
