//! "This peer id is mine", signed by a validator's key.

use bytes::Bytes;
use kaldrix_types::hash::Context;
use kaldrix_types::{BlockVerifier, Committee, Digest, Purpose, ValidatorIndex, signing_message};
use libp2p::PeerId;
use serde::{Deserialize, Serialize};

/// A validator's signed statement about its libp2p peer id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerBinding {
    validator: ValidatorIndex,
    peer_id: Bytes,
    signature: Bytes,
}

/// What [`PeerBinding`] signs under `Purpose::PeerBinding`: BLAKE3 of the peer id's bytes and the validator's index (little endian, at the end).
#[must_use]
pub fn binding_digest(peer_id: &PeerId, validator: ValidatorIndex) -> Digest {
    Context::PeerBinding.hash(&[&peer_id.to_bytes(), &validator.0.to_le_bytes()])
}

impl PeerBinding {
    /// Wraps a signature over [`binding_digest`].
    #[must_use]
    pub fn new(validator: ValidatorIndex, peer_id: &PeerId, signature: Bytes) -> Self {
        Self { validator, peer_id: peer_id.to_bytes().into(), signature }
    }

    /// The validator behind `peer`, if this statement is about `peer` and holds.
    pub(crate) fn check(&self, peer: &PeerId, committee: &Committee, verifier: &dyn BlockVerifier) -> Result<ValidatorIndex, &'static str> {
        let validator = committee.get(self.validator).ok_or("the binding names an unknown validator")?;
        if self.peer_id != peer.to_bytes() {
            return Err("the binding is about another peer id");
        }
        let message = signing_message(Purpose::PeerBinding, committee.chain(), binding_digest(peer, self.validator));
        if verifier.verify(&validator.key, &message, &self.signature) {
            Ok(self.validator)
        } else {
            Err("the binding's signature does not hold")
        }
    }
}
