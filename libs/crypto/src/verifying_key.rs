//! A public key made ready for checking many signatures.

use aws_lc_rs::signature::{ML_DSA_44, ML_DSA_65, ML_DSA_87, ParsedPublicKey, PqdsaVerificationAlgorithm};
use kaldrix_types::{PublicKey, RejectCode, Scheme};
use std::fmt;

/// Length of an Ed25519 public key and of the Ed25519 part of a hybrid key, in bytes.
pub(crate) const ED25519_KEY_BYTES: usize = 32;
/// Length of an Ed25519 signature and of the Ed25519 part of a hybrid signature, in bytes.
pub(crate) const ED25519_SIGNATURE_BYTES: usize = 64;

/// The encoded key is not one that this ledger accepts: not a curve point, a non-canonical encoding, or a point of small order, under
/// which signatures hold for messages nobody signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {scheme} public key is weak or not a key at all: generate another one")]
pub struct UnacceptableKey {
    /// The scheme that the key claims.
    pub scheme: Scheme,
}

impl From<UnacceptableKey> for RejectCode {
    fn from(_: UnacceptableKey) -> Self {
        Self::WeakKey
    }
}

/// Why a signature does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not the scheme's signature length.
    #[error("a {scheme} signature has {expected} bytes, this one {found}: was it made with another scheme?")]
    Length {
        /// The key's scheme.
        scheme: Scheme,
        /// Bytes of its signatures.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The key did not sign this message.
    #[error("the signature does not hold for this message and key")]
    Mismatch,
}

impl From<SignatureError> for RejectCode {
    fn from(_: SignatureError) -> Self {
        Self::BadSignature
    }
}

/// A public key with what its scheme can prepare once and use for every signature.
///
/// Today that is the decompressed point (Ed25519) and the parsed key (ML-DSA). Most of an ML-DSA verification expands the matrix **A** from the
/// key (FIPS 204, algorithm 8, line 5); when a library offers to keep it, it is kept here and nothing outside this file changes.
pub struct VerifyingKey {
    scheme: Scheme,
    prepared: Prepared,
}

enum Prepared {
    Ed25519(ed25519_dalek::VerifyingKey),
    MlDsa(ParsedPublicKey),
    Hybrid(ed25519_dalek::VerifyingKey, ParsedPublicKey),
}

impl VerifyingKey {
    /// Derives the prepared form of `key`.
    ///
    /// # Errors
    /// [`UnacceptableKey`] for a key that must not be registered: see there.
    pub fn prepare(key: &PublicKey) -> Result<Self, UnacceptableKey> {
        let scheme = key.scheme();
        let unacceptable = UnacceptableKey { scheme };
        let prepared = match scheme {
            Scheme::Ed25519 => Prepared::Ed25519(prepare_ed25519(key.bytes()).ok_or(unacceptable)?),
            Scheme::MlDsa44 => Prepared::MlDsa(prepare_ml_dsa(&ML_DSA_44, key.bytes()).ok_or(unacceptable)?),
            Scheme::MlDsa65 => Prepared::MlDsa(prepare_ml_dsa(&ML_DSA_65, key.bytes()).ok_or(unacceptable)?),
            Scheme::MlDsa87 => Prepared::MlDsa(prepare_ml_dsa(&ML_DSA_87, key.bytes()).ok_or(unacceptable)?),
            Scheme::Hybrid => {
                let (classical, post_quantum) = key.bytes().split_at(ED25519_KEY_BYTES);
                let classical = prepare_ed25519(classical).ok_or(unacceptable)?;
                Prepared::Hybrid(classical, prepare_ml_dsa(&ML_DSA_65, post_quantum).ok_or(unacceptable)?)
            }
        };
        Ok(Self { scheme, prepared })
    }

    /// How this key signs.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Checks `signature` over `message`: RFC 8032 with the strict rules for Ed25519 (no small-order points, canonical `S`, no cofactor), FIPS 204
    /// algorithm 3 with an empty context for ML-DSA; for the hybrid both over the same message.
    ///
    /// # Errors
    /// [`SignatureError`] when the length is wrong or any part does not hold.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        let expected = self.scheme.signature_len();
        if signature.len() != expected {
            return Err(SignatureError::Length { scheme: self.scheme, expected, found: signature.len() });
        }
        match &self.prepared {
            Prepared::Ed25519(key) => verify_ed25519(key, message, signature),
            Prepared::MlDsa(key) => verify_ml_dsa(key, message, signature),
            Prepared::Hybrid(classical, post_quantum) => {
                let (first, second) = signature.split_at(ED25519_SIGNATURE_BYTES);
                verify_ed25519(classical, message, first)?;
                verify_ml_dsa(post_quantum, message, second)
            }
        }
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

fn prepare_ed25519(bytes: &[u8]) -> Option<ed25519_dalek::VerifyingKey> {
    let bytes: &[u8; ED25519_KEY_BYTES] = bytes.try_into().ok()?;
    let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).ok()?;
    // A second encoding of one point (y ≥ p) would give one key two addresses.
    let canonical = key.to_edwards().compress().to_bytes() == *bytes;
    (canonical && !key.is_weak()).then_some(key)
}

fn prepare_ml_dsa(algorithm: &'static PqdsaVerificationAlgorithm, bytes: &[u8]) -> Option<ParsedPublicKey> {
    // The library also parses SubjectPublicKeyInfo; `PublicKey` has fixed the length to the raw form's, which no such structure of this key has.
    ParsedPublicKey::new(algorithm, bytes).ok()
}

fn verify_ed25519(key: &ed25519_dalek::VerifyingKey, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
    let signature = ed25519_dalek::Signature::from_slice(signature).map_err(|_| SignatureError::Mismatch)?;
    key.verify_strict(message, &signature).map_err(|_| SignatureError::Mismatch)
}

fn verify_ml_dsa(key: &ParsedPublicKey, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
    key.verify_sig(message, signature).map_err(|_| SignatureError::Mismatch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SecretKey, Signer};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn arbitrary_keys_and_signatures_never_panic_and_never_hold(scheme in 0..Scheme::ALL.len(), fill: [u8; 32], message: Vec<u8>) {
            let scheme = Scheme::ALL[scheme];
            // Pseudo-random bytes of the right lengths: anything shorter is refused before a library sees it.
            let mut stream = blake3::Hasher::new_keyed(&fill).finalize_xof();
            let (mut key, mut signature) = (vec![0; scheme.public_key_len()], vec![0; scheme.signature_len()]);
            stream.fill(&mut key);
            stream.fill(&mut signature);
            if let Ok(key) = VerifyingKey::prepare(&PublicKey::new(scheme, key).unwrap()) {
                prop_assert!(key.verify(&message, &signature).is_err());
            }
        }

        #[test]
        fn one_flipped_bit_anywhere_breaks_a_signature(scheme in 0..Scheme::ALL.len(), position: prop::sample::Index, bit in 0..8u8) {
            let scheme = Scheme::ALL[scheme];
            let key = SecretKey::from_seed(scheme, &vec![8; SecretKey::seed_len(scheme)]).unwrap();
            let mut signature = key.sign(b"message").unwrap().to_vec();
            let position = position.index(signature.len());
            signature[position] ^= 1 << bit;
            prop_assert!(VerifyingKey::prepare(key.public_key()).unwrap().verify(b"message", &signature).is_err());
        }
    }

    #[test]
    fn points_of_small_order_and_second_encodings_are_not_keys() {
        // The neutral element, a point of order 2, one of order 4 (y = 0), and y = p + 1, a second encoding of the neutral element.
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut order_2 = [0xff; 32];
        order_2[0] = 0xec;
        order_2[31] = 0x7f;
        let mut second_identity = order_2;
        second_identity[0] = 0xee;
        // y = p + 3 (a point of large order) written non-canonically: small values of y that are on the curve are found by trying.
        let non_canonical = (0u8..19).filter_map(|y| {
            let mut bytes = [0xff; 32];
            bytes[0] = 0xed + y.min(0x12);
            bytes[31] = 0x7f;
            ed25519_dalek::VerifyingKey::from_bytes(&bytes).ok().map(|_| bytes)
        });
        let mut tried = 0;
        for bytes in [identity, order_2, [0; 32], second_identity].into_iter().chain(non_canonical) {
            let key = PublicKey::new(Scheme::Ed25519, bytes.to_vec()).unwrap();
            assert_eq!(VerifyingKey::prepare(&key).unwrap_err().scheme, Scheme::Ed25519, "{bytes:02x?}");
            tried += 1;
        }
        assert!(tried > 6, "some of the 19 non-canonical encodings are points, or this test shows nothing");
    }

    #[test]
    fn a_hybrid_key_with_a_weak_classical_half_is_refused() {
        let good = SecretKey::from_seed(Scheme::Hybrid, &[7; 64]).unwrap();
        let mut bytes = good.public_key().bytes().to_vec();
        assert!(VerifyingKey::prepare(good.public_key()).is_ok());
        bytes[..32].copy_from_slice(&[0; 32]);
        assert!(VerifyingKey::prepare(&PublicKey::new(Scheme::Hybrid, bytes).unwrap()).is_err());
    }

    #[test]
    fn a_hybrid_signature_needs_both_halves() {
        let key = SecretKey::from_seed(Scheme::Hybrid, &[7; 64]).unwrap();
        let verifying = VerifyingKey::prepare(key.public_key()).unwrap();
        let good = key.sign(b"message").unwrap();
        let other = key.sign(b"another").unwrap();
        verifying.verify(b"message", &good).unwrap();
        let first_half_wrong = [&other[..64], &good[64..]].concat();
        let second_half_wrong = [&good[..64], &other[64..]].concat();
        assert_eq!(verifying.verify(b"message", &first_half_wrong), Err(SignatureError::Mismatch));
        assert_eq!(verifying.verify(b"message", &second_half_wrong), Err(SignatureError::Mismatch));
    }

    #[test]
    fn a_signature_of_another_schemes_length_is_told_apart_from_a_wrong_one() {
        let key = VerifyingKey::prepare(SecretKey::from_seed(Scheme::MlDsa65, &[1; 32]).unwrap().public_key()).unwrap();
        assert_eq!(key.verify(b"", &[0; 64]), Err(SignatureError::Length { scheme: Scheme::MlDsa65, expected: 3309, found: 64 }));
        assert_eq!(key.verify(b"", &[0; 3309]), Err(SignatureError::Mismatch));
    }
}
