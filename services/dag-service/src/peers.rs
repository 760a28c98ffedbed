//! How this validator shows the others who it is: its libp2p identity, bound to its session key.

use crate::core::EpochView;
use crate::error::DagError;
use crate::tasks::members::membership;
use bytes::Bytes;
use kaldrix_api::clients::CryptoServiceClient;
use kaldrix_crypto::Verifier;
use kaldrix_p2p::{Candidate, P2pConfig, PeerBinding, binding_digest};
use kaldrix_proto::crypto::{GetPublicKeyRequest, SignPeerBindingRequest};
use kaldrix_service_kit::Config;
use kaldrix_types::{ChainId, PublicKey};
use libp2p::PeerId;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Makes the statement "this peer id belongs to this session key", again whenever the session key changes.
pub(crate) struct Binder {
    chain: ChainId,
    peer_id: PeerId,
    key: PublicKey,
    crypto: CryptoServiceClient<Channel>,
}

impl Binder {
    /// The session key of the last statement.
    pub(crate) const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// A statement for `key`; asks until crypto-service signs it.
    pub(crate) async fn bind(&mut self, key: &PublicKey) -> PeerBinding {
        let digest = binding_digest(&self.peer_id, key.id());
        let request = SignPeerBindingRequest {
            chain_id: Bytes::copy_from_slice(self.chain.as_bytes()),
            digest: Bytes::copy_from_slice(digest.as_bytes()),
            key_id: Bytes::copy_from_slice(key.id().as_bytes()),
        };
        let mut pause = Duration::from_millis(50);
        loop {
            match self.crypto.sign_peer_binding(kaldrix_service_kit::telemetry::request(request.clone())).await {
                Ok(signature) => {
                    self.key = key.clone();
                    return PeerBinding::new(key.clone(), &self.peer_id, signature.into_inner().signature);
                }
                Err(status) => tracing::info!(code = ?status.code(), reason = status.message(), "waiting for crypto-service"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }
}

/// The network's settings, once crypto-service has signed who this is.
pub(crate) async fn configure(
    config: &Config,
    epoch: &EpochView,
    verifier: &Verifier,
    crypto: CryptoServiceClient<Channel>,
    token: &CancellationToken,
) -> anyhow::Result<(P2pConfig, Binder)> {
    let identity = libp2p::identity::Keypair::generate_ed25519();
    let listen = config.dag.p2p_listen.parse().map_err(|e| DagError::Config(format!("dag.p2p_listen {:?}: {e}", config.dag.p2p_listen)))?;
    let mut peers = Vec::with_capacity(config.dag.peers.len());
    for peer in config.dag.peers.iter().filter(|p| p.name != config.dag.validator) {
        let address = peer.address.parse().map_err(|e| DagError::Config(format!("dag.peers {}: {e}", peer.name)))?;
        peers.push((peer.name.clone(), address));
    }
    let bound = async {
        let key = match epoch.committee.get(epoch.own) {
            Some(seat) => seat.key.clone(),
            None => default_key(crypto.clone()).await?,
        };
        let chain = epoch.committee.chain();
        let mut binder = Binder { chain, peer_id: identity.public().to_peer_id(), key: key.clone(), crypto };
        let binding = binder.bind(&key).await;
        Ok::<_, DagError>((binder, binding))
    };
    let (binder, binding) = tokio::select! {
        () = token.cancelled() => return Err(DagError::Stopped.into()),
        bound = bound => bound?,
    };
    let own = Candidate { name: config.dag.validator.clone(), key: binder.key.clone() };
    let p2p = P2pConfig {
        listen,
        own_name: config.dag.validator.clone(),
        membership: Arc::new(membership(&epoch.committee, epoch.has_seat(), vec![own])),
        peers,
        identity,
        binding,
        verifier: Arc::new(verifier.clone()),
    };
    Ok((p2p, binder))
}

/// The session key of a validator that has no seat yet.
async fn default_key(mut crypto: CryptoServiceClient<Channel>) -> Result<PublicKey, DagError> {
    loop {
        match crypto.get_public_key(kaldrix_service_kit::telemetry::request(GetPublicKeyRequest {})).await {
            Ok(answer) => return answer.into_inner().key.parse().map_err(|e| DagError::Config(format!("crypto-service's key: {e}"))),
            Err(status) => tracing::info!(code = ?status.code(), reason = status.message(), "waiting for crypto-service"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
