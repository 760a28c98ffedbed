//! What exactly is signed: `domain tag ‖ chain id ‖ purpose ‖ digest`.
//!
//! ML-DSA's context argument stays empty (the library offers no other), so the separation is in the message itself.

use crate::hash::Context;
use crate::{Address, ChainId, Digest, PublicKey, codec};

/// What a signature says yes to. A signature of one purpose never holds for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Purpose {
    /// An account authorizes a transaction.
    Transaction = 1,
    /// A validator authors a block.
    Block = 2,
    /// A validator says which libp2p peer id is its own.
    PeerBinding = 3,
    /// A validator votes for a checkpoint outside a block.
    Checkpoint = 4,
    /// A session key says which operator it belongs to.
    ValidatorKey = 5,
}

/// What a session key signs, with [`Purpose::ValidatorKey`], to prove that whoever registers it for `operator` holds it.
#[must_use]
pub fn validator_key_digest(operator: Address, key: &PublicKey) -> Digest {
    Context::ValidatorKey.hash(&[operator.as_bytes(), &codec::encode(key)])
}

const DOMAIN: &[u8; 12] = b"KALDRIX-2026";

/// The 77 bytes that a key signs.
#[must_use]
pub fn signing_message(purpose: Purpose, chain: ChainId, digest: Digest) -> [u8; 77] {
    let mut message = [0; 77];
    message[..12].copy_from_slice(DOMAIN);
    message[12..44].copy_from_slice(chain.as_bytes());
    message[44] = purpose as u8;
    message[45..].copy_from_slice(digest.as_bytes());
    message
}
