//! Sequence numbers, key references and resubmission, against a fake ledger on a real socket.

#![allow(clippy::unwrap_used, reason = "a test helper that fails is a failed test")]

mod fake_ledger;

use fake_ledger::{FakeLedger, Fault};
use kaldrix_client::{AccountSession, ClientError, ExecuteOptions, Receipt, TransactionStatus};
use kaldrix_crypto::{SecretKey, Signer};
use kaldrix_types::{Address, AssetId, RejectCode, Scheme};
use std::sync::Arc;
use std::time::Duration;

async fn session(ledger: &FakeLedger) -> AccountSession {
    let key: Arc<dyn Signer> = Arc::new(SecretKey::generate(Scheme::Ed25519).unwrap());
    AccountSession::open(ledger.client().await, key).await.unwrap()
}

async fn pay(session: &AccountSession) -> Result<Receipt, ClientError> {
    let options = ExecuteOptions { timeout: Duration::from_secs(5), ..Default::default() };
    session.transfer(Address([9; 32]), AssetId::NATIVE, 1, &options).await
}

#[tokio::test]
async fn the_first_transaction_carries_the_key_and_later_ones_its_index() {
    let ledger = FakeLedger::default();
    let session = session(&ledger).await;
    for _ in 0..3 {
        assert!(pay(&session).await.unwrap().is_final_success());
    }
    let shapes: Vec<(u64, bool)> = ledger.seen().iter().map(|(_, sequence, inline)| (*sequence, *inline)).collect();
    assert_eq!(shapes, [(0, true), (1, false), (2, false)]);
}

#[tokio::test]
async fn a_broken_connection_is_answered_by_the_same_bytes() {
    let ledger = FakeLedger::with_faults([Fault::NoValidator, Fault::TakeAndBreak]);
    let receipt = pay(&session(&ledger).await).await.unwrap();
    assert!(receipt.is_final_success());
    let seen = ledger.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|s| *s == seen[0]), "{seen:?}");
    assert_eq!(ledger.state.lock().unwrap().landed.len(), 1);
}

#[tokio::test]
async fn a_sequence_number_taken_by_another_program_is_replaced() {
    let ledger = FakeLedger::default();
    let session = session(&ledger).await;
    pay(&session).await.unwrap();
    ledger.state.lock().unwrap().faults.push_back(Fault::SequenceTaken);
    let receipt = pay(&session).await.unwrap();
    assert!(receipt.is_final_success());
    assert_eq!(ledger.seen().iter().map(|s| s.1).collect::<Vec<_>>(), [0, 1, 2]);
}

#[tokio::test]
async fn a_payment_that_may_have_landed_is_never_signed_again() {
    let ledger = FakeLedger::with_faults([Fault::TakeAndBreak, Fault::ForgetsTheId]);
    let receipt = pay(&session(&ledger).await).await.unwrap();
    assert_eq!((receipt.status, receipt.success), (TransactionStatus::Final, true));
    assert_eq!(ledger.state.lock().unwrap().landed.len(), 1, "one payment, one transaction");
    let seen = ledger.seen();
    assert!(seen.iter().all(|s| s.0 == seen[0].0));
}

#[tokio::test]
async fn a_server_that_waits_less_than_asked_is_asked_again() {
    let ledger = FakeLedger::with_faults([Fault::OnlyAccepted, Fault::OnlyAccepted]);
    let receipt = pay(&session(&ledger).await).await.unwrap();
    assert!(receipt.is_final_success());
    assert_eq!(ledger.seen().len(), 3);
}

#[tokio::test]
async fn a_key_that_is_not_the_accounts_is_told_so() {
    let ledger = FakeLedger::default();
    let owner = session(&ledger).await;
    pay(&owner).await.unwrap();
    let stranger: Arc<dyn Signer> = Arc::new(SecretKey::generate(Scheme::Ed25519).unwrap());
    let error = AccountSession::open_address(owner.client().clone(), stranger, owner.address()).await.unwrap_err();
    assert_eq!(error.code(), RejectCode::WrongKey.as_str());
    assert!(error.to_string().contains("kaldrix account kx1"));
}

#[tokio::test]
async fn tasks_that_share_a_session_never_share_a_sequence_number() {
    let ledger = FakeLedger::default();
    let session = Arc::new(session(&ledger).await);
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            tokio::spawn({
                let session = Arc::clone(&session);
                async move { pay(&session).await }
            })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap().unwrap().is_final_success());
    }
    assert_eq!(ledger.seen().iter().map(|s| s.1).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
}
