//! Checkpoints and proofs from a ledger that may lie, against the genesis.

#![allow(clippy::unwrap_used, reason = "a test helper that fails is a failed test")]

mod fake_ledger;

use fake_ledger::FakeLedger;
use kaldrix_client::verify::{Item, Proof, ProofError, verifier, verify_proof};
use kaldrix_client::{Client, ClientOptions};
use kaldrix_crypto::{SecretKey, Signer};
use kaldrix_types::{
    Address, AssetId, CertifiedCheckpoint, Checkpoint, Digest, Genesis, Header, OutcomeStatus, Parameters, Purpose, RejectCode, Scheme,
    SignedHeader, TxId, TxOutcome, Validator, ValidatorIndex, merkle_root, signing_message,
};
use std::time::Duration;

fn session_key(n: u8) -> SecretKey {
    SecretKey::from_seed(Scheme::MlDsa44, &[n; 32]).unwrap()
}

fn genesis() -> Genesis {
    let validator = |n: u8| Validator {
        name: format!("v{n}"),
        region: "here".into(),
        stake: 1,
        key: session_key(n).public_key().clone(),
        operator: Address([n + 10; 32]),
    };
    Genesis {
        name: "small".into(),
        timestamp_ms: 1,
        parameters: Parameters::default(),
        validators: (0..4).map(validator).collect(),
        accounts: Vec::new(),
    }
}

fn outcome(n: u8) -> TxOutcome {
    TxOutcome {
        id: TxId(Digest([n; 32])),
        block: 0,
        position: n.into(),
        sender: Address([7; 32]),
        lane: 0,
        sequence: n.into(),
        status: if n == 2 { OutcomeStatus::Failed(RejectCode::InsufficientBalance) } else { OutcomeStatus::Success },
    }
}

fn certified(genesis: &Genesis, outcomes: &[TxOutcome]) -> CertifiedCheckpoint {
    let leaves: Vec<Digest> = outcomes.iter().map(TxOutcome::leaf).collect();
    let checkpoint = Checkpoint {
        version: Checkpoint::VERSION,
        chain_id: genesis.chain_id(),
        epoch: 0,
        index: 1,
        previous: Digest::ZERO,
        first_commit: 1,
        last_commit: 9,
        last_commit_digest: Digest([1; 32]),
        outcomes_root: merkle_root(&leaves),
        outcome_count: leaves.len() as u64,
        state_root: Digest([2; 32]),
        timestamp_ms: 77,
        next_epoch: None,
    };
    let vote = |n: u8| {
        let header = Header {
            version: Header::VERSION,
            chain_id: genesis.chain_id(),
            epoch: 0,
            round: 30,
            author: ValidatorIndex(n.into()),
            timestamp_ms: 78,
            parents: Vec::new(),
            transactions_root: Digest::ZERO,
            transaction_count: 0,
            body_bytes: 0,
            commit_votes: Vec::new(),
            checkpoint_votes: vec![checkpoint.vote()],
        };
        let message = signing_message(Purpose::Block, genesis.chain_id(), header.digest());
        SignedHeader { signature: session_key(n).sign(&message).unwrap(), header }
    };
    CertifiedCheckpoint { votes: (0..3).map(vote).collect(), checkpoint }
}

fn proof(genesis: &Genesis, n: u8) -> Proof {
    let outcomes: Vec<TxOutcome> = (0..5).map(outcome).collect();
    Proof::new(Vec::new(), certified(genesis, &outcomes), Item::transaction(&outcomes, TxId(Digest([n; 32]))).unwrap())
}

#[tokio::test]
async fn an_honest_proof_holds_and_a_lie_in_it_does_not() {
    let (genesis, ledger) = (genesis(), FakeLedger::default());
    ledger.state.lock().unwrap().proof = proof(&genesis, 2).to_json();
    let client = ledger.client().await;
    let honest = client.transaction_proof(TxId(Digest([2; 32]))).await.unwrap();
    let verified = verify_proof(&genesis, &honest, &verifier()).unwrap();
    let Item::Transaction(item) = verified.item else { panic!("another item") };
    assert_eq!(item.outcome.status, OutcomeStatus::Failed(RejectCode::InsufficientBalance));
    assert_eq!((verified.checkpoint.index, verified.checkpoint.timestamp_ms), (1, 77));

    let mut lie = honest.clone();
    let Item::Transaction(item) = &mut lie.item else { panic!("another item") };
    item.outcome.status = OutcomeStatus::Success;
    ledger.state.lock().unwrap().proof = lie.to_json();
    let lie = client.transaction_proof(TxId(Digest([2; 32]))).await.unwrap();
    assert!(matches!(verify_proof(&genesis, &lie, &verifier()), Err(ProofError::Item(_))));
    let other = Genesis { name: "another".into(), ..genesis };
    assert!(verify_proof(&other, &honest, &verifier()).is_err(), "a proof of another chain");
}

#[tokio::test]
async fn a_proof_that_has_no_checkpoint_yet_is_waited_for_but_not_for_ever() {
    let (genesis, ledger) = (genesis(), FakeLedger::default());
    {
        let mut state = ledger.state.lock().unwrap();
        state.proof = proof(&genesis, 1).to_json();
        state.proof_refusals = 3;
    }
    assert!(ledger.client().await.transaction_proof(TxId(Digest([1; 32]))).await.is_ok());
    ledger.state.lock().unwrap().proof_refusals = u32::MAX;
    let options = ClientOptions { read_timeout: Duration::from_millis(200), ..Default::default() };
    let client = Client::new(&ledger.serve().await, options).unwrap();
    assert_eq!(client.transaction_proof(TxId::default()).await.unwrap_err().code(), "NOT_CHECKPOINTED");
}

#[tokio::test]
async fn a_proof_that_is_none_is_a_bad_answer() {
    let ledger = FakeLedger::default();
    ledger.state.lock().unwrap().proof = "{}".into();
    assert_eq!(ledger.client().await.transaction_proof(TxId::default()).await.unwrap_err().code(), "BAD_RESPONSE");
}

#[tokio::test]
async fn account_proofs_are_of_one_asset_or_of_the_keys() {
    let (genesis, ledger) = (genesis(), FakeLedger::default());
    ledger.state.lock().unwrap().proof = proof(&genesis, 1).to_json();
    let (client, address) = (ledger.client().await, Address([3; 32]));
    client.account_proof(address, None).await.unwrap();
    client.account_proof(address, Some(AssetId::NATIVE)).await.unwrap();
    let asked = ledger.state.lock().unwrap().proofs_of.clone();
    assert_eq!(asked, [(address.to_string(), String::new()), (address.to_string(), "00".repeat(32))]);
}

#[tokio::test]
async fn checkpoints_and_validators_are_told_in_domain_types() {
    let (genesis, ledger) = (genesis(), FakeLedger::default());
    let client = ledger.client().await;
    assert_eq!(client.checkpoint(None).await.unwrap_err().code(), "CHECKPOINT_NOT_FOUND");
    let newest = certified(&genesis, &[outcome(0)]);
    ledger.state.lock().unwrap().checkpoint = Some(newest.clone());
    let info = client.checkpoint(None).await.unwrap();
    assert_eq!((info.index, info.digest, info.last_commit), (1, newest.checkpoint.digest(), 9));
    assert_eq!((&info.voters[..], &info.certified), (&[0, 1, 2].map(ValidatorIndex)[..], &newest));
    assert_eq!(client.checkpoint(Some(2)).await.unwrap_err().code(), "CHECKPOINT_NOT_FOUND");
    let json = serde_json::to_value(&info).unwrap();
    assert_eq!((&json["state_root"], &json["next_epoch"]), (&"02".repeat(32).into(), &serde_json::Value::Null));
    assert!(json.get("certified").is_none());

    let set = client.validator_set().await.unwrap();
    assert_eq!((set.epoch, set.epoch_start_round, set.validators.len()), (7, 40, 2));
    assert_eq!((set.validators[0].index, set.validators[0].bonded), (Some(ValidatorIndex(0)), 5));
    let jailed = &set.validators[1];
    assert_eq!((jailed.index, jailed.status.as_str(), jailed.jailed_until_epoch), (None, "jailed", Some(9)));
}
