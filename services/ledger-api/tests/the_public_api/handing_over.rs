//! From the API to a validator: batches, order, failover, limits.

use super::fakes::link;
use super::fixture::{Api, Options};
use futures::future::join_all;
use kaldrix_ledger_api::grpc::Validators;
use kaldrix_ledger_api::metrics::Metrics;
use kaldrix_ledger_api::tasks::batcher::{self, Submitter};
use kaldrix_types::{Address, AssetId, DecodedTransaction, Operation, TxBody};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn the_next_validator_takes_over_when_the_first_does_not_answer() {
    let api = Api::start_with(Options { dead_validators: 2, ..Default::default() }).await;
    let answer = api.submit(api.payment(0).bytes(), "ACCEPTED", 1_000).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    assert_eq!(api.dag.taken.lock().len(), 1);
}

#[tokio::test]
async fn without_any_validator_the_client_is_told_to_try_again() {
    let api = Api::start_with(Options { dead_validators: 1, without_validator: true, ..Default::default() }).await;
    let tx = api.payment(0);
    let answer = api.submit(tx.bytes(), "ACCEPTED", 1_000).await;
    answer.is_problem(503, "NO_VALIDATOR");
    assert!(!answer.header("retry-after").is_empty());
    api.commit_all(&[&tx]).await;
    let answer = api.submit(tx.bytes(), "ACCEPTED", 1_000).await;
    assert_eq!(answer.status, 200, "a known outcome needs no validator: {}", answer.text);
}

#[tokio::test]
async fn a_validator_that_comes_back_is_used_again() {
    let api = Api::start().await;
    api.dag.down.store(true, Ordering::SeqCst);
    api.submit(api.payment(0).bytes(), "ACCEPTED", 1_000).await.is_problem(503, "NO_VALIDATOR");
    api.dag.down.store(false, Ordering::SeqCst);
    assert_eq!(api.submit(api.payment(0).bytes(), "ACCEPTED", 1_000).await.status, 202);
}

#[tokio::test]
async fn concurrent_submissions_travel_in_batches() {
    let api = Api::start().await;
    let transactions: Vec<_> = (0..200).map(|sequence| api.payment(sequence)).collect();
    let answers = join_all(transactions.iter().map(|tx| api.submit(tx.bytes(), "ACCEPTED", 5_000))).await;
    assert!(answers.iter().all(|a| a.status == 202), "{answers:?}");
    let batches = api.dag.batches.lock().clone();
    assert_eq!(batches.iter().sum::<usize>(), 200);
    assert!(batches.len() < 100, "{} calls for 200 transactions", batches.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sender_s_transactions_reach_the_validator_in_the_order_they_were_submitted() {
    let api = Api::start().await;
    let cancel = CancellationToken::new();
    let validators = Arc::new(Validators::new(vec![link(api.dag.serve(&cancel).await)], Metrics::default()));
    let (submitter, queues) = Submitter::new(8_192, 64 << 20, Metrics::default());
    let tasks: Vec<_> = queues
        .into_iter()
        .map(|queue| tokio::spawn(batcher::run(queue, Arc::clone(&validators), Metrics::default(), cancel.clone())))
        .collect();
    let body = |sequence, lane: u8| TxBody { sequence, lane, ..api.payment(0).body().clone() };
    let transactions: Vec<_> = (0..1_000u64).map(|n| api.signed(body(n / 2, u8::from(n % 2 == 0)))).collect();
    // The address decides the shard, so lanes stand for senders here and each keeps its own order.
    let sender = |tx: &DecodedTransaction| Address([tx.body().lane; 32]);
    let handed = join_all(transactions.iter().map(|tx| submitter.submit(sender(tx), tx.bytes().clone(), String::new()))).await;
    assert!(handed.iter().all(Result::is_ok));
    for lane in 0..2 {
        let taken = api.dag.taken.lock();
        let sequences: Vec<u64> = taken.iter().filter(|tx| tx.body().lane == lane).map(|tx| tx.body().sequence).collect();
        assert_eq!(sequences, (0..500).collect::<Vec<_>>(), "lane {lane}");
    }
    assert!(api.dag.batches.lock().len() > 2, "several batches");
    cancel.cancel();
    join_all(tasks).await;
}

#[tokio::test]
async fn a_full_queue_says_so_at_once() {
    let mut options = Options::default();
    options.settings.queue_bytes = 64 * 1024;
    let api = Api::start_with(options).await;
    let big = |sequence| {
        let operation = Operation::Anchor { document: kaldrix_types::Digest([1; 32]), metadata: vec![0; 1_000].into() };
        let operations = (0..60u8).map(|n| match &operation {
            Operation::Anchor { metadata, .. } => {
                Operation::Anchor { document: kaldrix_types::Digest([n; 32]), metadata: metadata.clone() }
            }
            other => other.clone(),
        });
        api.signed(TxBody { sequence, ..api.body(operations.collect()) })
    };
    let transactions: Vec<_> = (0..6).map(big).collect();
    let answers = join_all(transactions.iter().map(|tx| api.submit(tx.bytes(), "ACCEPTED", 5_000))).await;
    let accepted = answers.iter().filter(|a| a.status == 202).count();
    let overloaded: Vec<_> = answers.iter().filter(|a| a.status != 202).collect();
    assert!(accepted > 0 && !overloaded.is_empty(), "{answers:?}");
    for answer in overloaded {
        answer.is_problem(503, "OVERLOADED");
        assert!(!answer.header("retry-after").is_empty());
    }
    let small = Operation::Transfer { to: super::fixture::address(2), asset: AssetId::NATIVE, amount: 1 };
    let after = api.signed(TxBody { sequence: 50, ..api.body(vec![small]) });
    assert_eq!(api.submit(after.bytes(), "ACCEPTED", 1_000).await.status, 202, "room again");
}

#[tokio::test]
async fn a_client_over_its_rate_is_told_when_to_come_back() {
    let mut options = Options::default();
    options.settings.requests_per_second = 5;
    let api = Api::start_with(options).await;
    let answers = join_all((0..20).map(|_| api.get("/v1/parameters"))).await;
    let limited = answers.iter().find(|a| a.status == 429).expect("twenty at once are over five a second");
    limited.is_problem(429, "RATE_LIMITED");
    assert_eq!(limited.header("retry-after"), "1");
}
