//! Streams and endpoint lists, against fake ledgers on real sockets.

#![allow(clippy::unwrap_used, reason = "a test helper that fails is a failed test")]

mod fake_ledger;

use fake_ledger::FakeLedger;
use futures::StreamExt;
use kaldrix_client::{AccountSession, Client, ClientOptions, ExecuteOptions, TransactionStatus};
use kaldrix_crypto::{SecretKey, Signer};
use kaldrix_types::{Address, AssetId, Digest, Scheme, TxId};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn a_subscription_that_is_cut_goes_on_without_gaps_or_repeats() {
    let ledger = FakeLedger::default();
    ledger.state.lock().unwrap().stream_length = 3;
    let commits = ledger.client().await.subscribe_commits(5);
    let indices: Vec<u64> = commits.take(10).map(|c| c.unwrap().index).collect().await;
    assert_eq!(indices, (5..15).collect::<Vec<_>>());
    assert!(ledger.state.lock().unwrap().subscriptions.len() >= 3, "it was cut in between");
}

#[tokio::test]
async fn a_stream_without_a_ledger_ends_with_an_error_after_its_patience() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let options = ClientOptions { stream_patience: Duration::from_millis(200), ..Default::default() };
    let items: Vec<_> = Client::new(&free, options).unwrap().subscribe_commits(1).collect().await;
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].as_ref().unwrap_err().code(), "NO_LEDGER");
}

#[tokio::test]
async fn the_next_endpoint_answers_when_the_first_does_not() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let alive = FakeLedger::default().serve().await;
    let client = Client::connect(&format!("{dead},{alive}")).await.unwrap();
    assert_eq!(client.network().await.unwrap().name, "fake");
}

#[tokio::test]
async fn a_watch_shows_each_status_once_and_ends_with_the_definite_one() {
    let ledger = FakeLedger::default();
    let client = ledger.client().await;
    let key: Arc<dyn Signer> = Arc::new(SecretKey::generate(Scheme::Ed25519).unwrap());
    let session = AccountSession::open(client.clone(), key).await.unwrap();
    let id = session.transfer(Address([9; 32]), AssetId::NATIVE, 1, &ExecuteOptions::default()).await.unwrap().id;
    let statuses: Vec<_> = client.watch(id).map(|t| t.unwrap().status).collect().await;
    assert_eq!(statuses, [TransactionStatus::Accepted, TransactionStatus::Final]);
    let unknown: Vec<_> = client.watch(TxId(Digest([9; 32]))).collect().await;
    assert_eq!(unknown[0].as_ref().unwrap_err().code(), "TRANSACTION_NOT_FOUND");
}

#[tokio::test]
async fn the_ledgers_codes_reach_the_caller() {
    let client = FakeLedger::default().client().await;
    assert_eq!(client.commit(9).await.unwrap_err().code(), "COMMIT_NOT_FOUND");
    assert_eq!(client.account(Address([3; 32])).await.unwrap_err().code(), "ACCOUNT_NOT_FOUND");
    assert_eq!(client.faucet(Address([3; 32]), 1).await.unwrap_err().code(), "FAUCET_DISABLED");
}
