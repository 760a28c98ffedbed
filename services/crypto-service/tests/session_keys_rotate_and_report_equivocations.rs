//! Several session keys of one validator: made by its operator, used by its dag-service, each guarded on its own.
#![allow(clippy::unwrap_used, reason = "clippy knows test functions, not the helpers of a test file")]

mod common;

use common::{DOMAIN, Service0, World};
use kaldrix_api::clients::CryptoServiceClient;
use kaldrix_crypto::{SecretKey, SecretString, Verifier};
use kaldrix_crypto_service::provision;
use kaldrix_proto::crypto::{
    GetPublicKeyRequest, NewSessionKeyRequest, ProveSessionKeyRequest, SessionKeyProof, SignBlockRequest, SignEvidenceRequest,
};
use kaldrix_service_kit::identity::{Identity, Service};
use kaldrix_types::{
    Address, EquivocationProof, Header, Operation, PublicKey, Purpose, Scheme, SignedHeader, TxBody, ValidatorIndex, encode,
    signing_message, validator_key_digest,
};
use tonic::Code;
use tonic::transport::Channel;

const OPERATOR: Address = Address([6; 32]);

fn operator(world: &World, service: &Service0) -> CryptoServiceClient<Channel> {
    world.client(service, &Identity::region(DOMAIN, "local", Service::Operator))
}

fn new_key() -> NewSessionKeyRequest {
    NewSessionKeyRequest { operator: OPERATOR.as_bytes().to_vec().into(), scheme: String::new() }
}

fn by(key: &PublicKey, request: SignBlockRequest) -> SignBlockRequest {
    SignBlockRequest { key_id: key.id().as_bytes().to_vec().into(), ..request }
}

fn verify(key: &PublicKey, message: &[u8], signature: &[u8]) {
    assert_eq!(Verifier::new(1).verify_message(key, message, signature), Ok(()));
}

/// What the ledger checks when the key is registered.
fn check_proof(world: &World, answer: &SessionKeyProof) -> PublicKey {
    let key: PublicKey = answer.key.parse().unwrap();
    verify(&key, &signing_message(Purpose::ValidatorKey, world.chain, validator_key_digest(OPERATOR, &key)), &answer.proof);
    key
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_session_key_signs_beside_the_old_one_and_is_there_after_a_restart() {
    let world = World::new();
    let service = world.start().await;
    let made = operator(&world, &service).new_session_key(new_key()).await.unwrap().into_inner();
    let new = check_proof(&world, &made);
    assert_ne!(new, *world.key.public_key());
    assert_eq!(new.scheme(), Scheme::MlDsa65);

    let mut service = Some(service);
    for round in [10, 20] {
        let running = match service.take() {
            Some(running) => running,
            None => world.start().await,
        };
        let mut dag = world.own_dag(&running);
        let keys = dag.get_public_key(GetPublicKeyRequest {}).await.unwrap().into_inner();
        assert_eq!(keys.keys, [world.key.public_key().to_string(), new.to_string()]);
        assert_eq!(keys.key, keys.keys[0]);
        let signature = dag.sign_block(world.block(round, 1)).await.unwrap().into_inner().signature;
        assert!(world.holds(Purpose::Block, 1, &signature), "the old one where none is named");
        let signature = dag.sign_block(by(&new, world.block(round - 5, 2))).await.unwrap().into_inner().signature;
        verify(&new, &signing_message(Purpose::Block, world.chain, kaldrix_types::Digest([2; 32])), &signature);
        let conflict = dag.sign_block(by(&new, world.block(round - 5, 3))).await.unwrap_err();
        assert_eq!(conflict.code(), Code::AlreadyExists, "{conflict}");
        drop(dag);
        running.stop().await;
    }
    let log = world.audit_lines();
    assert_eq!(log.iter().filter(|l| l.contains("key_proof") && l.contains("operator")).count(), 1, "{log:?}");
    assert_eq!(log.iter().filter(|l| l.contains(&new.id().to_string())).count(), 5, "{log:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_made_for_operators_only_and_operators_get_no_blocks_signed() {
    let world = World::new();
    let service = world.start().await;
    let mut dag = world.own_dag(&service);
    let prove = ProveSessionKeyRequest { operator: OPERATOR.as_bytes().to_vec().into(), ..Default::default() };
    assert_eq!(dag.new_session_key(new_key()).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(dag.prove_session_key(prove.clone()).await.unwrap_err().code(), Code::PermissionDenied);
    let mut operator = operator(&world, &service);
    assert_eq!(operator.sign_block(world.block(1, 1)).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(operator.sign_evidence(SignEvidenceRequest::default()).await.unwrap_err().code(), Code::PermissionDenied);
    let proof = operator.prove_session_key(prove.clone()).await.unwrap().into_inner();
    assert_eq!(check_proof(&world, &proof), *world.key.public_key());
    let unknown = ProveSessionKeyRequest { key_id: vec![1; 32].into(), ..prove };
    assert_eq!(operator.prove_session_key(unknown).await.unwrap_err().code(), Code::NotFound);
    let short = NewSessionKeyRequest { operator: vec![1; 31].into(), ..new_key() };
    let strange = NewSessionKeyRequest { scheme: "rsa".to_owned(), ..new_key() };
    for request in [short, strange] {
        assert_eq!(operator.new_session_key(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let hybrid = NewSessionKeyRequest { scheme: "hybrid".to_owned(), ..new_key() };
    let made = operator.new_session_key(hybrid).await.unwrap().into_inner();
    assert_eq!(check_proof(&world, &made).scheme(), Scheme::Hybrid);
    drop((dag, operator));
    service.stop().await;
}

fn report(world: &World) -> TxBody {
    let header = |timestamp_ms| Header {
        version: Header::VERSION,
        chain_id: world.chain,
        epoch: 0,
        round: 9,
        author: ValidatorIndex(1),
        timestamp_ms,
        parents: Vec::new(),
        transactions_root: kaldrix_types::Digest::ZERO,
        transaction_count: 0,
        body_bytes: 0,
        commit_votes: Vec::new(),
        checkpoint_votes: Vec::new(),
    };
    let signed = |timestamp_ms| SignedHeader { header: header(timestamp_ms), signature: vec![1; 10].into() };
    TxBody {
        chain_id: world.chain,
        sender: Address::of_key(world.key.public_key()),
        lane: 3,
        sequence: 4,
        valid_until_ms: 5,
        fee: 0,
        operations: vec![Operation::ReportEquivocation { proof: Box::new(EquivocationProof { first: signed(1), second: signed(2) }) }],
        memo: bytes::Bytes::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_of_an_equivocation_is_signed_as_a_transaction_and_no_other_transaction_is() {
    let world = World::new();
    let service = world.start().await;
    let mut dag = world.own_dag(&service);
    let body = report(&world);
    let request = |body: &TxBody| SignEvidenceRequest { body: encode(body).into(), ..Default::default() };
    let signed = dag.sign_evidence(request(&body)).await.unwrap().into_inner();
    assert_eq!(signed.key, world.key.public_key().to_string());
    verify(world.key.public_key(), &body.signing_message(), &signed.signature);

    let transfer = Operation::Transfer { to: Address([9; 32]), asset: kaldrix_types::AssetId::NATIVE, amount: 1 };
    for refused in [
        TxBody { operations: vec![transfer], ..body.clone() },
        TxBody { fee: 1, ..body.clone() },
        TxBody { sender: Address([9; 32]), ..body.clone() },
        TxBody { chain_id: kaldrix_types::ChainId::default(), ..body.clone() },
    ] {
        let error = dag.sign_evidence(request(&refused)).await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    }
    let damaged = SignEvidenceRequest { body: encode(&body)[..100].to_vec().into(), ..Default::default() };
    assert_eq!(dag.sign_evidence(damaged).await.unwrap_err().code(), Code::InvalidArgument);
    // It is no block: the guard knows nothing of it.
    assert!(dag.sign_block(world.block(1, 1)).await.is_ok());
    drop(dag);
    service.stop().await;
    let log = world.audit_lines();
    let decisions = |what: &str| log.iter().filter(|l| l.contains("\"purpose\":\"evidence\"") && l.contains(what)).count();
    assert_eq!((decisions("\"signed\""), decisions("refused_policy")), (1, 4), "{log:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_that_the_genesis_does_not_know_starts_with_a_key_of_its_own() {
    let mut world = World::new();
    let key = SecretKey::from_seed(Scheme::MlDsa65, &[9; 32]).unwrap();
    let at = |name: &str| world.folder.path().join(name);
    world.config.crypto.key_file = at("late.json");
    world.config.crypto.guard_file = at("late-guard");
    let passphrase = SecretString::from(common::PASSPHRASE);
    provision(&key, world.chain, &world.config.crypto.key_file, &world.config.crypto.guard_file, Some(&passphrase)).unwrap();
    world.config.dag.validator = "v9".to_owned();
    let service = world.start().await;
    // Certificates are still v0's: it may see the key, and a validator's key signs for that validator's services only.
    let mut client = world.own_dag(&service);
    assert_eq!(client.get_public_key(GetPublicKeyRequest {}).await.unwrap().into_inner().key, key.public_key().to_string());
    assert_eq!(client.sign_block(world.block(1, 1)).await.unwrap_err().code(), Code::PermissionDenied);
    drop(client);
    service.stop().await;
}
