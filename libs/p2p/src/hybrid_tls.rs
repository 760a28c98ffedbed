//! libp2p's TLS, and the handshake must have been hybrid: libp2p prefers X25519MLKEM768, but it would accept a peer that only knows X25519.

use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncWrite, FutureExt};
use libp2p::core::UpgradeInfo;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use libp2p::identity::Keypair;
use libp2p::{PeerId, tls};
use std::io;

/// The TLS upgrade of a connection that refuses classical key exchanges.
#[derive(Clone)]
pub(crate) struct HybridTls(tls::Config);

impl HybridTls {
    pub(crate) fn new(identity: &Keypair) -> Result<Self, tls::certificate::GenError> {
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
    if group.as_deref() == Some("X25519MLKEM768") {
        Ok(secured)
    } else {
        Err(io::Error::other(format!("the peer's key exchange is {group:?}, only X25519MLKEM768 is accepted")))
    }
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
