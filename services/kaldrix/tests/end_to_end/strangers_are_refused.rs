//! Internal ports of a running network: who may come in, and who may call what.

use crate::common::DevNetwork;
use kaldrix_api::clients::{CryptoServiceClient, DagServiceClient};
use kaldrix_proto::crypto::SignBlockRequest;
use kaldrix_proto::dag::{GetStatusRequest, SubmitTransactionsRequest};
use kaldrix_service_kit::tls::Expected;
use kaldrix_service_kit::{Config, Service, TlsMaterial};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use tonic::Code;

#[tokio::test]
async fn strangers_and_the_wrong_services_are_refused_at_internal_ports() {
    let network = DevNetwork::start(&[]);
    kaldrix_service_kit::install_crypto_provider();
    let config = Config::load(&network.service("v0/dag-service").1).unwrap();
    let dag = config.dag.listen;

    // Without a certificate: the handshake fails, whatever is said.
    let mut plain = TcpStream::connect(dag).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "a plain-text client got {answer:?}");

    // A certificate of another authority.
    let stranger = kaldrix_service_kit::dev_ca::DevCa::generate().unwrap();
    let identity = kaldrix_service_kit::Identity::validator("kaldrix.local", "v0", Service::LedgerApi);
    let issued = stranger.issue(&identity, &[], &["127.0.0.1".parse().unwrap()]).unwrap();
    let ca = std::fs::read(&config.tls.ca).unwrap();
    let tls = TlsMaterial::from_pem(&ca, issued.certificate_pem.as_bytes(), issued.key_pem.as_bytes(), "kaldrix.local").unwrap();
    let channel = kaldrix_service_kit::client::connect(&dag.to_string(), &tls, Expected::any(Service::DagService)).unwrap();
    let refused = DagServiceClient::new(channel).get_status(GetStatusRequest {}).await.unwrap_err();
    assert_ne!(refused.code(), Code::PermissionDenied, "the connection itself must fail: {refused:?}");

    // The right authority, but a call that is not the caller's to make.
    let region = Config::load(&network.service("us-east-1/region-sync").1).unwrap();
    let tls = TlsMaterial::load(&region.tls).unwrap();
    let channel = kaldrix_service_kit::client::connect(&dag.to_string(), &tls, Expected::any(Service::DagService)).unwrap();
    let refused = DagServiceClient::new(channel).submit_transactions(SubmitTransactionsRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");

    // Another validator's dag-service wants a signature with this validator's key.
    let other = Config::load(&network.service("v1/dag-service").1).unwrap();
    let tls = TlsMaterial::load(&other.tls).unwrap();
    let crypto = kaldrix_service_kit::client::connect(&config.dag.crypto_endpoint, &tls, Expected::any(Service::CryptoService)).unwrap();
    let refused = CryptoServiceClient::new(crypto).sign_block(SignBlockRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");

    // Garbage at the port where validators meet.
    let p2p: u16 = config.dag.p2p_listen.rsplit('/').next().unwrap().parse().unwrap();
    for _ in 0..20 {
        let mut peer = TcpStream::connect(("127.0.0.1", p2p)).unwrap();
        peer.write_all(&[0xa5; 4096]).unwrap();
    }
    let (key, _) = network.funded_key("alice", "2");
    let (_, bob) = network.key("bob");
    network.cli(&["transfer", "--key", key.to_str().unwrap(), "--to", &bob, "--amount", "1"]);
    network.stop();
}
