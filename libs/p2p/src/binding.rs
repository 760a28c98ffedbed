//! "This peer id is mine", signed by a validator's session key.

use bytes::Bytes;
use kaldrix_types::hash::Context;
use kaldrix_types::{BlockVerifier, ChainId, Digest, KeyId, PublicKey, Purpose, signing_message};
use libp2p::PeerId;
use serde::{Deserialize, Serialize};

/// A validator's signed statement about its libp2p peer id. It carries the whole session key, so that one who has been away, and knows none
/// of today's keys, can still tell who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerBinding {
    key: PublicKey,
    peer_id: Bytes,
    signature: Bytes,
}

/// What [`PeerBinding`] signs under `Purpose::PeerBinding`: BLAKE3 of the peer id's bytes and the session key's id (32 bytes, at the end).
#[must_use]
pub fn binding_digest(peer_id: &PeerId, key: KeyId) -> Digest {
    Context::PeerBinding.hash(&[&peer_id.to_bytes(), key.as_bytes()])
}

impl PeerBinding {
    /// Wraps a signature over [`binding_digest`].
    #[must_use]
    pub fn new(key: PublicKey, peer_id: &PeerId, signature: Bytes) -> Self {
        Self { key, peer_id: peer_id.to_bytes().into(), signature }
    }

    /// The session key that signed this, if the statement holds.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Whether this statement is about `peer` and holds on `chain`.
    pub(crate) fn check(&self, peer: &PeerId, chain: ChainId, verifier: &dyn BlockVerifier) -> Result<(), &'static str> {
        if self.peer_id != peer.to_bytes() {
            return Err("the binding is about another peer id");
        }
        let message = signing_message(Purpose::PeerBinding, chain, binding_digest(peer, self.key.id()));
        if verifier.verify(&self.key, &message, &self.signature) { Ok(()) } else { Err("the binding's signature does not hold") }
    }
}
