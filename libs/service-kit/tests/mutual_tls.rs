//! Real handshakes on loopback.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and shows what it measured")]

mod common;

use common::{ForLedgerApi, TRUST_DOMAIN, material, start, validator};
use kaldrix_service_kit::dev_ca::DevCa;
use kaldrix_service_kit::tls::Expected;
use kaldrix_service_kit::{GrpcServer, Identity, Owner, Service, TlsMaterial, client, tls};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::TraceServiceServer;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, NamedGroup, RootCertStore};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::service::Routes;
use tonic::transport::Channel;

async fn call(channel: Channel) -> Result<(), tonic::Status> {
    TraceServiceClient::new(channel).export(ExportTraceServiceRequest::default()).await.map(|_| ())
}

#[tokio::test]
async fn both_sides_know_each_other_and_the_key_exchange_is_post_quantum() {
    let ca = DevCa::generate().unwrap();
    let server = start(&validator(&ca, "v0", Service::DagService)).await;
    let api = material(&ca, &Identity::region(TRUST_DOMAIN, "us-east-1", Service::LedgerApi));
    let expected = Expected::of(Owner::Validator("v0".into()), Service::DagService);
    call(client::connect(&server.endpoint(), &api, expected).unwrap()).await.unwrap();
    let seen = server.handler.seen.lock().unwrap();
    let (caller, key_exchange) = &seen[0];
    println!("{} called over {key_exchange} with an ML-DSA-65 certificate", caller.identity());
    assert_eq!(caller.identity(), api.identity());
    assert_eq!(key_exchange, "X25519MLKEM768");
}

#[tokio::test]
async fn an_rpc_answers_only_the_services_it_names() {
    let ca = DevCa::generate().unwrap();
    let server = start(&validator(&ca, "v0", Service::DagService)).await;
    let crypto = validator(&ca, "v0", Service::CryptoService);
    let status = call(client::connect(&server.endpoint(), &crypto, Expected::any(Service::DagService)).unwrap()).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("spiffe://kaldrix.local/validator/v0/crypto-service may not call this"), "{status}");
    assert!(status.message().contains("ledger-api"), "{status}");
}

#[tokio::test]
async fn a_server_that_is_not_the_expected_service_or_validator_is_refused() {
    let ca = DevCa::generate().unwrap();
    let server = start(&validator(&ca, "v0", Service::DagService)).await;
    let api = validator(&ca, "v0", Service::LedgerApi);
    for expected in [Expected::any(Service::CryptoService), Expected::of(Owner::Validator("v1".into()), Service::DagService)] {
        let status = call(client::connect(&server.endpoint(), &api, expected).unwrap()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
    }
    assert!(server.handler.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn another_ca_or_another_trust_domain_is_refused() {
    let (ca, other) = (DevCa::generate().unwrap(), DevCa::generate().unwrap());
    let server = start(&validator(&ca, "v0", Service::DagService)).await;
    // The stranger trusts our CA, but his own certificate is another's.
    let issued = other.issue(&Identity::validator(TRUST_DOMAIN, "v0", Service::LedgerApi), &[], &[]).unwrap();
    let stranger =
        TlsMaterial::from_pem(ca.certificate_pem().as_bytes(), issued.certificate_pem.as_bytes(), issued.key_pem.as_bytes(), TRUST_DOMAIN)
            .unwrap();
    let foreign = material(&ca, &Identity::validator("elsewhere.example", "v0", Service::LedgerApi));
    for tls in [stranger, foreign] {
        let status = call(client::connect(&server.endpoint(), &tls, Expected::any(Service::DagService)).unwrap()).await.unwrap_err();
        assert!(matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled), "{status:?}");
    }
    assert!(server.handler.seen.lock().unwrap().is_empty());
}

/// A client of our own making; answers the negotiated group, or the first error up to the first byte from the server.
async fn raw(address: SocketAddr, ca: &DevCa, provider: CryptoProvider, with_certificate: bool) -> Result<NamedGroup, String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.certificate_pem().as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = if with_certificate {
        let issued = ca.issue(&Identity::validator(TRUST_DOMAIN, "v0", Service::LedgerApi), &[], &[]).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap()];
        builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap()).unwrap()
    } else {
        builder.with_no_client_auth()
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from("dag-service.v0.validator.kaldrix.local").unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|e| e.to_string())?;
    // In TLS 1.3 the server's verdict on the client's certificate comes with the first read; an HTTP/2 server speaks first.
    let mut byte = [0];
    stream.read_exact(&mut byte).await.map_err(|e| e.to_string())?;
    Ok(stream.get_ref().1.negotiated_key_exchange_group().unwrap().name())
}

#[tokio::test]
async fn classical_only_peers_and_clients_without_a_certificate_are_refused() {
    let ca = DevCa::generate().unwrap();
    let server = start(&validator(&ca, "v0", Service::DagService)).await;
    let classical = || CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::X25519], ..aws_lc_rs::default_provider() };

    assert_eq!(raw(server.address, &ca, tls::crypto_provider(), true).await, Ok(NamedGroup::X25519MLKEM768));
    let refused = raw(server.address, &ca, classical(), true).await.unwrap_err();
    assert!(refused.contains("HandshakeFailure"), "{refused}");
    let refused = raw(server.address, &ca, tls::crypto_provider(), false).await.unwrap_err();
    assert!(refused.contains("CertificateRequired"), "{refused}");
}

#[tokio::test]
async fn our_clients_refuse_a_classical_only_server() {
    let ca = DevCa::generate().unwrap();
    let issued = ca.issue(&Identity::validator(TRUST_DOMAIN, "v0", Service::DagService), &[], &[]).unwrap();
    let provider = CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::X25519], ..aws_lc_rs::default_provider() };
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap(),
        )
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let accepted = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(stream).await.map(|_| ())
    });
    let api = validator(&ca, "v0", Service::LedgerApi);
    let status = call(client::connect(&endpoint, &api, Expected::any(Service::DagService)).unwrap()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(accepted.await.unwrap().is_err());
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let ca = DevCa::generate().unwrap();
    let tls = validator(&ca, "v0", Service::DagService);
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = GrpcServer::builder(&tls, address).bind().await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("address {address} is in use")), "{error}");
}

#[tokio::test]
async fn a_channel_finds_its_server_again_after_a_restart() {
    let ca = DevCa::generate().unwrap();
    let tls = validator(&ca, "v0", Service::DagService);
    let first = start(&tls).await;
    let api = validator(&ca, "v0", Service::LedgerApi);
    let channel = client::connect(&first.endpoint(), &api, Expected::any(Service::DagService)).unwrap();
    call(channel.clone()).await.unwrap();
    first.cancel.cancel();
    first.task.await.unwrap();
    assert!(call(channel.clone()).await.is_err());
    let server = GrpcServer::builder(&tls, first.address).bind().await.unwrap();
    let routes = Routes::new(TraceServiceServer::new(ForLedgerApi::default()));
    let serving = tokio::spawn(server.serve(routes, CancellationToken::new()));
    call(channel).await.unwrap();
    serving.abort();
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_client_that_hangs() {
    let ca = DevCa::generate().unwrap();
    let server = start(&validator(&ca, "v0", Service::DagService)).await;
    let api = validator(&ca, "v0", Service::LedgerApi);
    let channel = client::connect(&server.endpoint(), &api, Expected::any(Service::DagService)).unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let mut watch = health.watch(tonic_health::pb::HealthCheckRequest::default()).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    let started = Instant::now();
    server.cancel.cancel();
    server.task.await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[test]
fn the_development_ca_and_its_certificates_outlive_the_process_and_keys_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::validator(TRUST_DOMAIN, "v0", Service::DagService);
    let first = DevCa::open(dir.path()).unwrap();
    let files = first.issue_files(dir.path(), "dag", &identity, &[]).unwrap();
    let before = std::fs::read(&files.certificate).unwrap();
    let again = DevCa::open(dir.path()).unwrap();
    assert_eq!(first.certificate_pem(), again.certificate_pem());
    assert_eq!(again.issue_files(dir.path(), "dag", &identity, &[]).unwrap(), files);
    assert_eq!(std::fs::read(&files.certificate).unwrap(), before);
    // The reopened CA still issues certificates that the first one's certificate vouches for.
    again.issue_files(dir.path(), "api", &Identity::region(TRUST_DOMAIN, "r", Service::LedgerApi), &[]).unwrap();
    let config = kaldrix_service_kit::config::Tls {
        ca: DevCa::certificate_path(dir.path()),
        certificate: files.certificate,
        key: files.key.clone(),
        trust_domain: TRUST_DOMAIN.into(),
    };
    assert_eq!(TlsMaterial::load(&config).unwrap().identity(), &identity);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        for file in [files.key, dir.path().join("ca-key.pem")] {
            assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
