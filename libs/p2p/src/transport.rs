//! The swarm: TCP without delay, TLS 1.3 with a post-quantum key exchange, yamux, and the protocols on top.

use crate::codec::{Codec, PROTOCOL};
use crate::network::P2pError;
use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncWrite, FutureExt};
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::UpgradeInfo;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, Version};
use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{PeerId, Swarm, SwarmBuilder, ping, request_response, tcp, tls, yamux};
use std::io;
use std::time::Duration;

/// Time for one question and its answer, and for hearing an acknowledgement.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams per connection: pushes and requests of both sides, with room for two Hellos.
const STREAMS_MAX: usize = 96;

/// libp2p's TLS, and the handshake must have been hybrid: libp2p itself would accept a peer that only knows X25519.
#[derive(Clone)]
pub(crate) struct HybridTls(tls::Config);

impl HybridTls {
    fn new(identity: &Keypair) -> Result<Self, tls::certificate::GenError> {
        tls::Config::new(identity).map(Self)
    }
}

impl UpgradeInfo for HybridTls {
    type Info = <tls::Config as UpgradeInfo>::Info;
    type InfoIter = <tls::Config as UpgradeInfo>::InfoIter;
    fn protocol_info(&self) -> Self::InfoIter {
        self.0.protocol_info()
    }
}

type Secured<C> = (PeerId, tls::TlsStream<C>);

fn check<C>(secured: Secured<C>) -> io::Result<Secured<C>> {
    let group = secured.1.get_ref().1.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name()));
    if group.as_deref() == Some("X25519MLKEM768") { Ok(secured) } else { Err(io::Error::other(format!("the key exchange {group:?} is not X25519MLKEM768"))) }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> InboundConnectionUpgrade<C> for HybridTls {
    type Output = Secured<C>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Secured<C>>>;
    fn upgrade_inbound(self, socket: C, info: Self::Info) -> Self::Future {
        async move { check(self.0.upgrade_inbound(socket, info).await.map_err(io::Error::other)?) }.boxed()
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> OutboundConnectionUpgrade<C> for HybridTls {
    type Output = Secured<C>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Secured<C>>>;
    fn upgrade_outbound(self, socket: C, info: Self::Info) -> Self::Future {
        async move { check(self.0.upgrade_outbound(socket, info).await.map_err(io::Error::other)?) }.boxed()
    }
}

#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) ping: ping::Behaviour,
    pub(crate) messages: request_response::Behaviour<Codec>,
}

/// A swarm for a committee of `validators`.
pub(crate) fn swarm(identity: Keypair, validators: usize) -> Result<Swarm<Behaviour>, P2pError> {
    let per_committee = |factor: usize, more: usize| u32::try_from(validators * factor + more).ok();
    let limits = ConnectionLimits::default()
        .with_max_pending_incoming(per_committee(1, 32))
        .with_max_pending_outgoing(per_committee(1, 8))
        .with_max_established_incoming(per_committee(2, 32))
        .with_max_established_per_peer(Some(4));
    let behaviour = Behaviour {
        limits: connection_limits::Behaviour::new(limits),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(Duration::from_secs(5)).with_timeout(Duration::from_secs(5))),
        messages: request_response::Behaviour::with_codec(
            Codec::default(),
            [(PROTOCOL, request_response::ProtocolSupport::Full)],
            request_response::Config::default().with_request_timeout(REQUEST_TIMEOUT).with_max_concurrent_streams(STREAMS_MAX),
        ),
    };
    let swarm = SwarmBuilder::with_existing_identity(identity)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), HybridTls::new, yamux::Config::default)
        .map_err(|e| P2pError::Config(e.to_string()))?
        .with_behaviour(|_| behaviour)
        .map_err(|e| P2pError::Config(e.to_string()))?
        .with_swarm_config(|config| {
            config
                // There is one protocol per stream: say its name and go on without waiting for the echo, which saves a round trip per message.
                .with_substream_upgrade_protocol_override(Version::V1Lazy)
                .with_max_negotiating_inbound_streams(STREAMS_MAX)
                // Connections live until one side is gone, which ping notices.
                .with_idle_connection_timeout(Duration::from_secs(365 * 86_400))
        })
        .with_connection_timeout(Duration::from_secs(3))
        .build();
    Ok(swarm)
}
