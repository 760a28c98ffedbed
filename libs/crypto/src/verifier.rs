//! The ledger's signature rules over the key cache.

use crate::{KeyCache, SignatureError};
use kaldrix_types::{BlockVerifier, DecodedTransaction, KeyRef, PublicKey, RejectCode};

/// Checks the signatures of transactions and blocks. Cloning is cheap and shares the key cache; every method may run on any thread.
#[derive(Clone, Debug)]
pub struct Verifier {
    keys: KeyCache,
}

impl Verifier {
    /// A verifier that keeps the prepared form of at most about `key_capacity` keys.
    #[must_use]
    pub fn new(key_capacity: u64) -> Self {
        Self::with_cache(KeyCache::new(key_capacity))
    }

    /// A verifier over an existing cache.
    #[must_use]
    pub const fn with_cache(keys: KeyCache) -> Self {
        Self { keys }
    }

    /// The cache, for metrics.
    #[must_use]
    pub const fn keys(&self) -> &KeyCache {
        &self.keys
    }

    /// Whether `key` may be registered on the ledger or put into a genesis.
    ///
    /// # Errors
    /// [`RejectCode::WeakKey`].
    pub fn check_key(&self, key: &PublicKey) -> Result<(), RejectCode> {
        self.keys.get(key)?;
        Ok(())
    }

    /// Checks any signature.
    ///
    /// # Errors
    /// [`RejectCode::WeakKey`] or [`RejectCode::BadSignature`].
    pub fn verify_message(&self, key: &PublicKey, message: &[u8], signature: &[u8]) -> Result<(), RejectCode> {
        // The length is free to look at; the key may have to be prepared first.
        let scheme = key.scheme();
        if signature.len() != scheme.signature_len() {
            return Err(SignatureError::Length { scheme, expected: scheme.signature_len(), found: signature.len() }.into());
        }
        Ok(self.keys.get(key)?.verify(message, signature)?)
    }

    /// Checks a transaction's signature under `key`, which the caller has found to be one of the sender's.
    ///
    /// # Errors
    /// [`RejectCode::WrongKey`] when the transaction carries another key than `key`, [`RejectCode::WeakKey`] or [`RejectCode::BadSignature`].
    pub fn verify_transaction(&self, tx: &DecodedTransaction, key: &PublicKey) -> Result<(), RejectCode> {
        let signature = tx.signature();
        if let KeyRef::Inline(carried) = &signature.key
            && carried != key
        {
            return Err(RejectCode::WrongKey);
        }
        self.verify_message(key, &tx.signing_message(), &signature.signature)
    }
}

impl BlockVerifier for Verifier {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        self.verify_message(key, message, signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SecretKey, Signer, sign_transaction};
    use kaldrix_types::{Address, AssetId, ChainId, Digest, Operation, Purpose, Scheme, TxBody, encode, signing_message};

    fn body(sender: &PublicKey) -> TxBody {
        TxBody {
            chain_id: ChainId(Digest([9; 32])),
            sender: Address::of_key(sender),
            lane: 0,
            sequence: 0,
            valid_until_ms: 1,
            fee: 0,
            operations: vec![Operation::Transfer { to: Address([2; 32]), asset: AssetId::NATIVE, amount: 1 }],
            memo: bytes::Bytes::new(),
        }
    }

    fn signed(key: &SecretKey, reference: KeyRef) -> DecodedTransaction {
        let transaction = sign_transaction(body(key.public_key()), key, reference).unwrap();
        DecodedTransaction::decode(encode(&transaction).into(), ChainId(Digest([9; 32]))).unwrap()
    }

    fn key(scheme: Scheme) -> SecretKey {
        SecretKey::from_seed(scheme, &vec![5; SecretKey::seed_len(scheme)]).unwrap()
    }

    #[test]
    fn a_signed_transaction_of_every_scheme_holds_and_only_under_its_key() {
        let verifier = Verifier::new(16);
        for scheme in Scheme::ALL {
            let signer = key(scheme);
            for reference in [KeyRef::Index(0), KeyRef::Inline(signer.public_key().clone())] {
                let tx = signed(&signer, reference);
                assert_eq!(verifier.verify_transaction(&tx, signer.public_key()), Ok(()), "{scheme}");
            }
            let tx = signed(&signer, KeyRef::Index(0));
            let other = SecretKey::generate(scheme).unwrap();
            assert_eq!(verifier.verify_transaction(&tx, other.public_key()), Err(RejectCode::BadSignature), "{scheme}");
        }
    }

    #[test]
    fn a_key_that_is_not_the_carried_one_or_of_another_scheme_is_refused_with_its_own_code() {
        let verifier = Verifier::new(16);
        let (ed25519, ml_dsa) = (key(Scheme::Ed25519), key(Scheme::MlDsa44));
        let inline = signed(&ed25519, KeyRef::Inline(ed25519.public_key().clone()));
        assert_eq!(verifier.verify_transaction(&inline, ml_dsa.public_key()), Err(RejectCode::WrongKey));
        let by_index = signed(&ed25519, KeyRef::Index(0));
        assert_eq!(verifier.verify_transaction(&by_index, ml_dsa.public_key()), Err(RejectCode::BadSignature));
        let weak = PublicKey::new(Scheme::Ed25519, vec![0; 32]).unwrap();
        assert_eq!(verifier.verify_transaction(&by_index, &weak), Err(RejectCode::WeakKey));
        assert_eq!(verifier.check_key(&weak), Err(RejectCode::WeakKey));
        assert_eq!(verifier.check_key(ml_dsa.public_key()), Ok(()));
    }

    #[test]
    fn a_signature_of_one_purpose_never_holds_for_another() {
        let verifier = Verifier::new(16);
        let signer = key(Scheme::MlDsa65);
        let message = |purpose| signing_message(purpose, ChainId::default(), Digest([1; 32]));
        let signature = signer.sign(&message(Purpose::Block)).unwrap();
        assert!(BlockVerifier::verify(&verifier, signer.public_key(), &message(Purpose::Block), &signature));
        assert!(!BlockVerifier::verify(&verifier, signer.public_key(), &message(Purpose::Checkpoint), &signature));
    }
}
