//! A peer that does everything right but offers no post-quantum key exchange.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Notes, anywhere, committee, identity, node_at};
use libp2p::multiaddr::Protocol;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// libp2p's certificates are self-signed; whose they are is not what this test is about.
#[derive(Debug)]
struct Anybody(CryptoProvider);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".into()))
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

const MULTISTREAM: &[u8] = b"\x13/multistream/1.0.0\n";

/// Agrees on TLS as libp2p does, shakes hands with these key exchanges only, and returns what the other says to "which protocols?":
/// nothing when it has hung up.
async fn answer_after_handshake(address: SocketAddr, groups: Vec<&'static dyn SupportedKxGroup>) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let hello = [MULTISTREAM, b"\x0b/tls/1.0.0\n"].concat();
    socket.write_all(&hello).await.unwrap();
    let mut agreed = vec![0; hello.len()];
    socket.read_exact(&mut agreed).await.unwrap();
    assert_eq!(agreed, hello);
    let provider = CryptoProvider { kx_groups: groups, ..default_provider() };
    let (certificate, key) = libp2p::tls::certificate::generate(&identity(70)).unwrap();
    // Made like this, rustls does not look at libp2p's extension, which webpki does not know.
    let own = CertifiedKey::new(vec![certificate], provider.key_provider.load_private_key(key).unwrap());
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider.clone()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    config.alpn_protocols = vec![b"libp2p".to_vec()];
    let name = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await.expect("TLS itself accepts both");
    let mut answer = vec![0; MULTISTREAM.len()];
    let asked = async {
        stream.write_all(MULTISTREAM).await?;
        stream.read_exact(&mut answer).await
    };
    match tokio::time::timeout(Duration::from_secs(5), asked).await.expect("it answers or hangs up") {
        Ok(_) => answer,
        Err(_) => Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_offers_only_classical_key_exchange_is_hung_up_on() {
    let node = node_at(&committee(4), 0, anywhere(), &[], Notes::default()).await;
    let port = node.address.iter().find_map(|part| if let Protocol::Tcp(port) = part { Some(port) } else { None }).unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    assert_eq!(answer_after_handshake(address, vec![kx_group::X25519MLKEM768]).await, MULTISTREAM);
    // The last one knows the hybrid exchange, but sends its key share for the classical one: TLS takes what needs no second round trip.
    for classical in [vec![kx_group::X25519], vec![kx_group::SECP256R1], vec![kx_group::X25519, kx_group::X25519MLKEM768]] {
        let names: Vec<_> = classical.iter().map(|group| group.name()).collect();
        assert!(answer_after_handshake(address, classical).await.is_empty(), "{names:?}");
    }
    assert!(!node.task.is_finished());
}
