//! The whole service over real sockets and mutual TLS: who may call what, what is signed, and what a restart remembers.
#![allow(clippy::unwrap_used, reason = "clippy knows test functions, not the helpers of a test file")]

mod common;

use common::{DOMAIN, World};
use kaldrix_crypto::{SecretKey, Signer};
use kaldrix_proto::crypto::{GetPublicKeyRequest, SignBlockRequest, VerifyBatchRequest, VerifyItem};
use kaldrix_service_kit::config::SignatureAlgorithm;
use kaldrix_service_kit::identity::{Identity, Service};
use kaldrix_types::{Purpose, Scheme};
use std::path::Path;
use std::time::Duration;
use tonic::Code;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_own_dag_service_gets_signatures_that_hold_and_a_restart_forgets_nothing() {
    let world = World::new();
    let service = world.start().await;
    let mut dag = world.own_dag(&service);
    let key = dag.get_public_key(GetPublicKeyRequest {}).await.unwrap().into_inner().key;
    assert_eq!(key, world.key.public_key().to_string());
    let signature = dag.sign_block(world.block(7, 1)).await.unwrap().into_inner().signature;
    assert!(world.holds(Purpose::Block, 1, &signature));
    let signature = dag.sign_peer_binding(world.binding()).await.unwrap().into_inner().signature;
    assert!(world.holds(Purpose::PeerBinding, 9, &signature));
    drop(dag);
    service.stop().await;

    let service = world.start().await;
    let mut dag = world.own_dag(&service);
    let conflict = dag.sign_block(world.block(7, 2)).await.unwrap_err();
    assert_eq!(conflict.code(), Code::AlreadyExists, "{conflict}");
    let past = dag.sign_block(world.block(6, 1)).await.unwrap_err();
    assert_eq!(past.code(), Code::FailedPrecondition, "{past}");
    let again = dag.sign_block(world.block(7, 1)).await.unwrap().into_inner().signature;
    assert!(world.holds(Purpose::Block, 1, &again));
    assert!(dag.sign_block(world.block(8, 2)).await.is_ok());
    drop(dag);
    service.stop().await;
    let log = world.audit_lines();
    assert_eq!(log.len(), 6);
    assert!(log.iter().all(|line| line.contains("spiffe://kaldrix.local/validator/v0/dag-service")), "{log:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_gets_a_signature_and_operators_do_not_even_get_a_verdict() {
    let world = World::new();
    let service = world.start().await;
    let others = [
        Identity::validator(DOMAIN, "v1", Service::DagService),
        Identity::validator(DOMAIN, "v0", Service::ConsensusService),
        Identity::region(DOMAIN, "us-east-1", Service::LedgerApi),
        Identity::region(DOMAIN, "v0", Service::DagService),
    ];
    for identity in &others {
        let mut client = world.client(&service, identity);
        assert_eq!(client.sign_block(world.block(1, 1)).await.unwrap_err().code(), Code::PermissionDenied, "{identity}");
        assert_eq!(client.sign_peer_binding(world.binding()).await.unwrap_err().code(), Code::PermissionDenied, "{identity}");
        assert!(client.get_public_key(GetPublicKeyRequest {}).await.is_ok(), "{identity}");
    }
    let mut operator = world.client(&service, &Identity::validator(DOMAIN, "v0", Service::Operator));
    assert_eq!(operator.verify_batch(VerifyBatchRequest::default()).await.unwrap_err().code(), Code::PermissionDenied);
    service.stop().await;
    assert!(world.audit_lines().is_empty(), "a caller without permission never reaches the desk");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_and_other_chains_are_refused_for_good() {
    let world = World::new();
    let service = world.start().await;
    let mut dag = world.own_dag(&service);
    let short = SignBlockRequest { digest: vec![1; 31].into(), ..world.block(1, 1) };
    let elsewhere = SignBlockRequest { chain_id: vec![1; 32].into(), ..world.block(1, 1) };
    for (request, code) in [
        (short, Code::InvalidArgument),
        (SignBlockRequest::default(), Code::InvalidArgument),
        (world.block(0, 1), Code::InvalidArgument),
        (elsewhere, Code::FailedPrecondition),
    ] {
        assert_eq!(dag.sign_block(request.clone()).await.unwrap_err().code(), code, "{request:?}");
    }
    drop(dag);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_judged_item_by_item_and_bounded() {
    let world = World::new();
    let service = world.start().await;
    let mut client = world.client(&service, &Identity::region(DOMAIN, "us-east-1", Service::RegionSync));
    let key = SecretKey::generate(Scheme::Hybrid).unwrap();
    let item = |key: String, message: &'static [u8], signature: &[u8]| VerifyItem {
        key,
        message: message.into(),
        signature: signature.to_vec().into(),
    };
    let signature = key.sign(b"message").unwrap();
    let text = key.public_key().to_string();
    let items = vec![
        item(text.clone(), b"message", &signature),
        item(text, b"another", &signature),
        item("hybrid:no hex".to_owned(), b"message", &signature),
        item(world.key.public_key().to_string(), b"message", b""),
    ];
    let answer = client.verify_batch(VerifyBatchRequest { items }).await.unwrap().into_inner();
    assert_eq!(answer.valid, [true, false, false, false]);
    let too_many = VerifyBatchRequest { items: vec![VerifyItem::default(); 1001] };
    assert_eq!(client.verify_batch(too_many).await.unwrap_err().code(), Code::InvalidArgument);
    drop(client);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_audit_log_cannot_be_written_nothing_is_signed_and_the_service_stops_by_name() {
    let mut world = World::new();
    // Linux's full disk in one file: every write to it fails.
    world.config.crypto.audit_log = "/dev/full".into();
    let service = world.start().await;
    let mut dag = world.own_dag(&service);
    let error = dag.sign_block(world.block(1, 1)).await.unwrap_err();
    assert_eq!(error.code(), Code::Internal);
    assert!(!error.message().contains("audit"), "callers learn nothing about our insides: {error}");
    drop(dag);
    let failure = service.supervisor.run(Duration::from_secs(5)).await.unwrap_err().to_string();
    assert!(failure.contains("v0/crypto-service/signing") && failure.contains("audit log"), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_key_guard_or_configuration_is_said_before_the_port_is_answered() {
    let remove = |path: &Path| std::fs::remove_file(path).unwrap();

    let world = World::new();
    remove(&world.config.crypto.guard_file);
    assert!(world.start_error().await.contains("double-sign guard"), "a lost guard is no fresh start");

    let world = World::new();
    std::fs::write(world.folder.path().join("passphrase"), "wrong").unwrap();
    assert!(world.start_error().await.contains("passphrase is wrong"));

    let mut world = World::new();
    world.config.crypto.passphrase_file = None;
    assert!(world.start_error().await.contains("passphrase is needed"));

    let mut world = World::new();
    world.config.dag.validator = "v1".to_owned();
    assert!(world.start_error().await.contains("another key than the genesis"));
    world.config.dag.validator = "v9".to_owned();
    assert!(world.start_error().await.contains("it is v0's"), "one that joins later has a key of its own");

    let mut world = World::new();
    world.config.crypto.signature_algorithm = SignatureAlgorithm::MlDsa87;
    assert!(world.start_error().await.contains("ml-dsa-65 key, but crypto.signature_algorithm is ml-dsa-87"));

    let world = World::new();
    let first = world.start().await;
    assert!(world.start_error().await.contains("in use by another process"), "two signers for one key");
    first.stop().await;
}
