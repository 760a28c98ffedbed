//! What a submitter hears, and when.

use super::fixture::{Api, time_of};
use kaldrix_api::ApiError;
use kaldrix_proto::dag::get_pending_response::State;
use kaldrix_proto::ledger as pb;
use kaldrix_types::{OutcomeStatus, RejectCode};
use serde_json::json;
use std::time::{Duration, Instant};

#[tokio::test]
async fn waiting_for_final_ends_when_the_commit_can_be_read() {
    let api = Api::start().await;
    let tx = api.payment(0);
    let (answer, ()) = tokio::join!(api.submit(tx.bytes(), "FINAL", 5_000), async {
        api.taken(1).await;
        api.commit_all(&[]).await;
        api.commit_all(&[&tx]).await;
    });
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json["status"], json!("FINAL"));
    assert_eq!(answer.json["success"], json!(true));
    assert_eq!(answer.json["id"], json!(tx.id().to_string()));
    assert_eq!(answer.json["commit_index"], json!(2));
    assert_eq!(answer.json["timestamp_ms"], json!(time_of(2)));
    assert_eq!(answer.json["operations"][0]["amount"], json!("5"));
    let mut read = api.get(&format!("/v1/transactions/{}", tx.id())).await.json;
    assert_eq!(read["block"].as_str().map(str::len), Some(64));
    // A submission is answered without a look into the store, which alone knows the block.
    read["block"] = answer.json["block"].clone();
    assert_eq!(answer.json, read, "reading it later says the same");
}

#[tokio::test]
async fn the_same_over_grpc() {
    let api = Api::start().await;
    let tx = api.payment(0);
    let mut grpc = api.grpc().await;
    let message = pb::SubmitTransactionRequest { transaction: tx.bytes().clone(), wait_for: 3, timeout_ms: 5_000 };
    let (answer, ()) = tokio::join!(grpc.submit_transaction(message), async {
        api.taken(1).await;
        api.commit_all(&[&tx]).await;
    });
    let answer = answer.expect("final").into_inner();
    assert_eq!((answer.status(), answer.success, answer.commit_index), (pb::TransactionStatus::Final, true, 1));
}

#[tokio::test]
async fn a_wait_that_runs_out_says_how_far_it_has_come() {
    let api = Api::start().await;
    let tx = api.payment(0);
    let started = Instant::now();
    let answer = api.submit(tx.bytes(), "FINAL", 100).await;
    assert_eq!((answer.status, answer.json["status"].as_str()), (202, Some("ACCEPTED")), "{}", answer.text);
    assert!(started.elapsed() < Duration::from_secs(3));
    assert_eq!(answer.json["success"], json!(null));
    assert_eq!(answer.json["sender"], json!(tx.body().sender.to_string()));
    let read = api.get(&format!("/v1/transactions/{}", tx.id())).await;
    assert_eq!((read.status, read.json["status"].as_str()), (200, Some("ACCEPTED")));
}

#[tokio::test]
async fn accepted_is_the_default_and_does_not_wait_for_more() {
    let api = Api::start().await;
    let message = json!({ "transaction": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, api.payment(0).bytes()) });
    let answer = api.post("/v1/transactions", &message).await;
    assert_eq!((answer.status, answer.json["status"].as_str()), (202, Some("ACCEPTED")));
}

#[tokio::test]
async fn waiting_for_included_ends_when_the_validator_says_so() {
    let api = Api::start().await;
    let tx = api.payment(0);
    let (answer, ()) = tokio::join!(api.submit(tx.bytes(), "INCLUDED", 5_000), async {
        api.taken(1).await;
        api.dag.set_pending(tx.id(), State::Included, "");
    });
    assert_eq!((answer.status, answer.json["status"].as_str()), (202, Some("INCLUDED")), "{}", answer.text);
}

#[tokio::test]
async fn a_transaction_that_the_validator_drops_later_is_an_error_with_its_code() {
    let api = Api::start().await;
    let tx = api.payment(7);
    let started = Instant::now();
    let (answer, ()) = tokio::join!(api.submit(tx.bytes(), "FINAL", 10_000), async {
        api.taken(1).await;
        api.dag.set_pending(tx.id(), State::Dropped, "SEQUENCE_GAP");
    });
    answer.is_problem(409, "SEQUENCE_GAP");
    assert!(started.elapsed() < Duration::from_secs(5), "not only when the wait ran out");
    let read = api.get(&format!("/v1/transactions/{}", tx.id())).await;
    assert_eq!((read.json["status"].as_str(), read.json["code"].as_str()), (Some("REJECTED"), Some("SEQUENCE_GAP")));
}

#[tokio::test]
async fn a_transaction_that_fails_is_final_and_says_why() {
    let api = Api::start().await;
    let tx = api.payment(0);
    let (answer, ()) = tokio::join!(api.submit(tx.bytes(), "FINAL", 5_000), async {
        api.taken(1).await;
        api.commit(&[(&tx, OutcomeStatus::Failed(RejectCode::InsufficientBalance))]).await;
    });
    assert_eq!((answer.status, answer.json["status"].as_str()), (200, Some("FINAL")), "{}", answer.text);
    assert_eq!((answer.json["success"].as_bool(), answer.json["code"].as_str()), (Some(false), Some("INSUFFICIENT_BALANCE")));
}

#[tokio::test]
async fn a_transaction_that_was_ordered_but_discarded_is_rejected() {
    let api = Api::start().await;
    let tx = api.payment(5);
    let (answer, ()) = tokio::join!(api.submit(tx.bytes(), "FINAL", 5_000), async {
        api.taken(1).await;
        api.commit(&[(&tx, OutcomeStatus::Discarded(RejectCode::SequenceGap))]).await;
    });
    answer.is_problem(409, "SEQUENCE_GAP");
    let read = api.get(&format!("/v1/transactions/{}", tx.id())).await;
    assert_eq!((read.json["status"].as_str(), read.json["code"].as_str()), (Some("REJECTED"), Some("SEQUENCE_GAP")));
}

#[tokio::test]
async fn when_consensus_time_passes_valid_until_the_transaction_has_expired_for_good() {
    let api = Api::start().await;
    let tx = api.payment_until(0, time_of(2) - 1);
    let (answer, ()) = tokio::join!(api.submit(tx.bytes(), "FINAL", 10_000), async {
        api.taken(1).await;
        api.commit_all(&[]).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        api.commit_all(&[]).await;
    });
    answer.is_problem(422, "EXPIRED");
    let read = api.get(&format!("/v1/transactions/{}", tx.id())).await;
    assert_eq!((read.json["status"].as_str(), read.json["code"].as_str()), (Some("EXPIRED"), Some("EXPIRED")));
}

#[tokio::test]
async fn submitting_again_returns_the_first_outcome_whatever_the_validator_says_now() {
    let api = Api::start().await;
    let (tx, failed) = (api.payment(0), api.payment(1));
    api.commit(&[(&tx, OutcomeStatus::Success), (&failed, OutcomeStatus::Failed(RejectCode::InsufficientBalance))]).await;
    api.dag.refuse("SEQUENCE_REPLAYED", 0);
    for _ in 0..2 {
        let answer = api.submit(tx.bytes(), "ACCEPTED", 1_000).await;
        assert_eq!((answer.status, answer.json["status"].as_str(), answer.json["commit_index"].as_u64()), (200, Some("FINAL"), Some(1)));
    }
    let answer = api.submit(failed.bytes(), "FINAL", 1_000).await;
    assert_eq!((answer.status, answer.json["code"].as_str()), (200, Some("INSUFFICIENT_BALANCE")));
    assert!(api.dag.taken.lock().is_empty(), "nothing was handed over again");
}

#[tokio::test]
async fn a_replay_the_read_model_has_not_caught_up_with_still_gets_its_first_outcome() {
    let api = Api::start().await;
    let tx = api.payment(0);
    // The validator has executed commit 1 already; the read model is a moment late.
    api.dag.commit_index.store(1, std::sync::atomic::Ordering::SeqCst);
    api.dag.refuse("SEQUENCE_REPLAYED", 0);
    let (answer, _) = tokio::join!(api.submit(tx.bytes(), "FINAL", 5_000), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        api.commit_all(&[&tx]).await
    });
    assert_eq!((answer.status, answer.json["status"].as_str()), (200, Some("FINAL")), "{}", answer.text);
}

#[tokio::test]
async fn many_submitters_of_the_same_bytes_get_the_same_outcome() {
    let api = Api::start().await;
    let tx = api.payment(0);
    let submits = futures::future::join_all((0..8).map(|_| api.submit(tx.bytes(), "FINAL", 5_000)));
    let (answers, ()) = tokio::join!(submits, async {
        api.taken(1).await;
        api.commit_all(&[&tx]).await;
    });
    assert!(answers.iter().all(|a| a.status == 200 && a.json == answers[0].json), "{answers:?}");
}

#[tokio::test]
async fn an_outcome_whose_notice_was_lost_is_found_in_the_store() {
    let api = Api::start().await;
    let tx = api.payment(0);
    let (answer, ()) = tokio::join!(api.submit(tx.bytes(), "FINAL", 5_000), async {
        api.taken(1).await;
        api.project(&[(&tx, OutcomeStatus::Success)]).await;
        api.dag.set_pending(tx.id(), State::Unknown, "");
    });
    assert_eq!((answer.status, answer.json["status"].as_str()), (200, Some("FINAL")), "{}", answer.text);
}

#[tokio::test]
async fn watching_shows_each_change_and_ends_with_the_outcome() {
    let api = Api::start().await;
    let tx = api.payment(0);
    let mut grpc = api.grpc().await;
    api.submit(tx.bytes(), "ACCEPTED", 1_000).await;
    let mut stream = grpc.watch_transaction(pb::GetTransactionRequest { id: tx.id().to_string() }).await.expect("known").into_inner();
    let first = stream.message().await.expect("a status").expect("one");
    assert_eq!(first.status(), pb::TransactionStatus::Accepted);
    api.dag.set_pending(tx.id(), State::Included, "");
    let second = stream.message().await.expect("a status").expect("one");
    assert_eq!(second.status(), pb::TransactionStatus::Included);
    api.commit_all(&[&tx]).await;
    let last = stream.message().await.expect("a status").expect("one");
    assert_eq!((last.status(), last.commit_index), (pb::TransactionStatus::Final, 1));
    assert!(stream.message().await.expect("a clean end").is_none());
}

#[tokio::test]
async fn a_transaction_that_another_api_submitted_is_found_with_the_validator() {
    let api = Api::start().await;
    let tx = api.payment(0);
    api.dag.set_pending(tx.id(), State::Queued, "");
    let mut grpc = api.grpc().await;
    let found = grpc.get_transaction(pb::GetTransactionRequest { id: tx.id().to_string() }).await.expect("pending").into_inner();
    assert_eq!(found.status(), pb::TransactionStatus::Accepted);
    let mut stream = grpc.watch_transaction(pb::GetTransactionRequest { id: tx.id().to_string() }).await.expect("known").into_inner();
    assert_eq!(stream.message().await.expect("a status").expect("one").status(), pb::TransactionStatus::Accepted);
    api.dag.set_pending(tx.id(), State::Dropped, "SEQUENCE_GAP");
    let last = stream.message().await.expect("a status").expect("one");
    assert_eq!((last.status(), last.code.as_str()), (pb::TransactionStatus::Rejected, "SEQUENCE_GAP"));
    let error = grpc.get_transaction(pb::GetTransactionRequest { id: "00".repeat(32) }).await.expect_err("unknown");
    assert_eq!(ApiError::from_status(&error).code.as_str(), "TRANSACTION_NOT_FOUND");
}
