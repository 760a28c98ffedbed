//! A signature scheme that costs one hash: keyed BLAKE3. Nobody else in the run has a participant's secret, so nobody can sign for it;
//! sizes on the wire are those of ML-DSA-65.

use bytes::Bytes;
use kaldrix_execution::SignatureChecker;
use kaldrix_types::{BlockVerifier, ChainId, DecodedTransaction, Digest, KeyId, PublicKey, Purpose, RejectCode, Scheme, signing_message};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// What everybody in a run signs with. Names what real keys would be; a length is all they have in common with those.
const SCHEME: Scheme = Scheme::MlDsa65;

/// A key pair of the model.
#[derive(Clone, Debug)]
pub(crate) struct KeyPair {
    secret: [u8; 32],
    pub(crate) public: PublicKey,
}

impl KeyPair {
    fn derive(seed: u64, kind: &str, number: usize) -> Self {
        let secret = *blake3::Hasher::new_derive_key("kaldrix simulation secret")
            .update(&seed.to_le_bytes())
            .update(kind.as_bytes())
            .update(&(number as u64).to_le_bytes())
            .finalize()
            .as_bytes();
        let mut bytes = vec![0; SCHEME.public_key_len()];
        blake3::Hasher::new_keyed(&secret).update(b"public").finalize_xof().fill(&mut bytes[..32]);
        let public = PublicKey::new(SCHEME, bytes).expect("the key is made in its scheme's length");
        Self { secret, public }
    }

    /// A signature of the real scheme's length.
    pub(crate) fn sign(&self, message: &[u8]) -> Bytes {
        let mut signature = vec![0; SCHEME.signature_len()];
        signature[..32].copy_from_slice(tag(&self.secret, message).as_bytes());
        signature.into()
    }

    pub(crate) fn sign_block(&self, chain: ChainId, digest: Digest) -> Bytes {
        self.sign(&signing_message(Purpose::Block, chain, digest))
    }
}

fn tag(secret: &[u8; 32], message: &[u8]) -> blake3::Hash {
    blake3::keyed_hash(secret, message)
}

/// Knows every secret: this is how signatures are checked, and how everybody gets a key to begin with.
#[derive(Debug, Default)]
pub(crate) struct KeyBook {
    seed: u64,
    /// Looked up, never iterated.
    secrets: HashMap<KeyId, [u8; 32]>,
    /// Checks of transaction signatures since this was last asked.
    checked: AtomicU64,
}

impl KeyBook {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// The key pair of this kind and number: always the same one.
    pub(crate) fn issue(&mut self, kind: &str, number: usize) -> KeyPair {
        let pair = KeyPair::derive(self.seed, kind, number);
        self.secrets.insert(pair.public.id(), pair.secret);
        pair
    }

    pub(crate) fn take_checked(&self) -> u64 {
        self.checked.swap(0, Ordering::Relaxed)
    }

    fn holds(&self, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        signature.len() == SCHEME.signature_len()
            && self.secrets.get(&key.id()).is_some_and(|secret| signature[..32] == *tag(secret, message).as_bytes())
    }
}

impl BlockVerifier for KeyBook {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        self.holds(key, message, signature)
    }
}

impl SignatureChecker for KeyBook {
    fn check(&self, tx: &DecodedTransaction, key: &PublicKey) -> Result<(), RejectCode> {
        self.checked.fetch_add(1, Ordering::Relaxed);
        if self.holds(key, &tx.signing_message(), &tx.signature().signature) { Ok(()) } else { Err(RejectCode::BadSignature) }
    }

    fn check_key(&self, key: &PublicKey) -> Result<(), RejectCode> {
        if self.secrets.contains_key(&key.id()) { Ok(()) } else { Err(RejectCode::WeakKey) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_signer_and_message_alone() {
        let mut book = KeyBook::new(1);
        let (mine, other) = (book.issue("validator", 0), book.issue("validator", 1));
        let signature = mine.sign(b"message");
        assert_eq!(signature.len(), 3309);
        assert!(book.verify(&mine.public, b"message", &signature));
        assert!(!book.verify(&mine.public, b"another", &signature));
        assert!(!book.verify(&other.public, b"message", &signature));
        assert!(!book.verify(&mine.public, b"message", &signature[..32]));
    }
}
