//! Software keys: a seed and the key objects expanded from it once.

use crate::verifying_key::{ED25519_KEY_BYTES, ED25519_SIGNATURE_BYTES};
use crate::{SignError, Signer};
use aws_lc_rs::signature::{KeyPair, ML_DSA_44_SIGNING, ML_DSA_65_SIGNING, ML_DSA_87_SIGNING, PqdsaKeyPair, PqdsaSigningAlgorithm};
use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use kaldrix_types::{PublicKey, Scheme};
use std::fmt;
use zeroize::Zeroizing;

/// Bytes of one algorithm's seed (RFC 8032, section 5.1.5; FIPS 204, algorithm 6: ξ).
const SEED_BYTES: usize = 32;

/// Why there is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretKeyError {
    /// The seed has the wrong length.
    #[error("a {scheme} seed has {expected} bytes, this one {found}")]
    SeedLength {
        /// The scheme.
        scheme: Scheme,
        /// Its seed's length in bytes.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The operating system gave no randomness.
    #[error("the operating system's random generator failed: {0}")]
    Randomness(String),
    /// The library refused the seed.
    #[error("the {0} library could not expand the seed")]
    Expansion(Scheme),
}

/// A private key in this process's memory. The seed is wiped when it is dropped, and so are the objects made from it; `Debug` shows the public half
/// only. Not `Clone`: share it behind an `Arc`.
pub struct SecretKey {
    public: PublicKey,
    seed: Zeroizing<Vec<u8>>,
    // Boxed variants keep the enum small; expanded once, used for every signature.
    pair: Pair,
}

enum Pair {
    Ed25519(Box<SigningKey>),
    MlDsa(PqdsaKeyPair),
    Hybrid(Box<SigningKey>, PqdsaKeyPair),
}

impl SecretKey {
    /// Bytes of a seed of `scheme`: 32, and 64 for the hybrid (Ed25519 part first).
    #[must_use]
    pub const fn seed_len(scheme: Scheme) -> usize {
        match scheme {
            Scheme::Hybrid => 2 * SEED_BYTES,
            Scheme::Ed25519 | Scheme::MlDsa44 | Scheme::MlDsa65 | Scheme::MlDsa87 => SEED_BYTES,
        }
    }

    /// A new key from the operating system's randomness.
    ///
    /// # Errors
    /// [`SecretKeyError::Randomness`] or [`SecretKeyError::Expansion`].
    pub fn generate(scheme: Scheme) -> Result<Self, SecretKeyError> {
        let mut seed = Zeroizing::new(vec![0; Self::seed_len(scheme)]);
        getrandom::fill(&mut seed).map_err(|e| SecretKeyError::Randomness(e.to_string()))?;
        Self::from_seed(scheme, &seed)
    }

    /// The key of a seed; the same seed always gives the same key.
    ///
    /// # Errors
    /// [`SecretKeyError::SeedLength`] or [`SecretKeyError::Expansion`].
    pub fn from_seed(scheme: Scheme, seed: &[u8]) -> Result<Self, SecretKeyError> {
        let expected = Self::seed_len(scheme);
        if seed.len() != expected {
            return Err(SecretKeyError::SeedLength { scheme, expected, found: seed.len() });
        }
        let ml_dsa = |algorithm: &'static PqdsaSigningAlgorithm, seed: &[u8]| {
            PqdsaKeyPair::from_seed(algorithm, seed).map_err(|_| SecretKeyError::Expansion(scheme))
        };
        let ed25519 = |seed: &[u8]| SigningKey::try_from(seed).map(Box::new).map_err(|_| SecretKeyError::Expansion(scheme));
        let pair = match scheme {
            Scheme::Ed25519 => Pair::Ed25519(ed25519(seed)?),
            Scheme::MlDsa44 => Pair::MlDsa(ml_dsa(&ML_DSA_44_SIGNING, seed)?),
            Scheme::MlDsa65 => Pair::MlDsa(ml_dsa(&ML_DSA_65_SIGNING, seed)?),
            Scheme::MlDsa87 => Pair::MlDsa(ml_dsa(&ML_DSA_87_SIGNING, seed)?),
            Scheme::Hybrid => {
                let (classical, post_quantum) = seed.split_at(SEED_BYTES);
                Pair::Hybrid(ed25519(classical)?, ml_dsa(&ML_DSA_65_SIGNING, post_quantum)?)
            }
        };
        let public = PublicKey::new(scheme, pair.public_bytes()).map_err(|_| SecretKeyError::Expansion(scheme))?;
        Ok(Self { public, seed: Zeroizing::new(seed.to_vec()), pair })
    }

    /// The secret itself, for writing it into a keystore. Do not copy it into anything that is not wiped.
    #[must_use]
    pub fn seed(&self) -> &[u8] {
        &self.seed
    }

    /// The public half.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.public
    }
}

impl Pair {
    fn public_bytes(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(key) => key.verifying_key().to_bytes().to_vec(),
            Self::MlDsa(key) => key.public_key().as_ref().to_vec(),
            Self::Hybrid(classical, post_quantum) => {
                let mut bytes = Vec::with_capacity(ED25519_KEY_BYTES + post_quantum.public_key().as_ref().len());
                bytes.extend_from_slice(&classical.verifying_key().to_bytes());
                bytes.extend_from_slice(post_quantum.public_key().as_ref());
                bytes
            }
        }
    }
}

impl Signer for SecretKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// ML-DSA as FIPS 204's hedged variant with an empty context; Ed25519 as RFC 8032.
    fn sign(&self, message: &[u8]) -> Result<Bytes, SignError> {
        let mut signature = vec![0; self.public.scheme().signature_len()];
        match &self.pair {
            Pair::Ed25519(key) => signature.copy_from_slice(&sign_ed25519(key, message)?),
            Pair::MlDsa(key) => sign_ml_dsa(key, message, &mut signature)?,
            Pair::Hybrid(classical, post_quantum) => {
                let (first, second) = signature.split_at_mut(ED25519_SIGNATURE_BYTES);
                first.copy_from_slice(&sign_ed25519(classical, message)?);
                sign_ml_dsa(post_quantum, message, second)?;
            }
        }
        Ok(signature.into())
    }
}

fn sign_ed25519(key: &SigningKey, message: &[u8]) -> Result<[u8; ED25519_SIGNATURE_BYTES], SignError> {
    key.try_sign(message).map(|s| s.to_bytes()).map_err(|e| SignError::Backend(e.to_string()))
}

fn sign_ml_dsa(key: &PqdsaKeyPair, message: &[u8], signature: &mut [u8]) -> Result<(), SignError> {
    let written = key.sign(message, signature).map_err(|e| SignError::Backend(e.to_string()))?;
    // A short write would leave zeroes that look like a signature of the right length.
    if written == signature.len() { Ok(()) } else { Err(SignError::Backend(format!("{written} bytes of signature"))) }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey").field("public", &self.public).field("seed", &"[redacted]").finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_of_the_wrong_length_is_refused_for_every_scheme() {
        for scheme in Scheme::ALL {
            let expected = SecretKey::seed_len(scheme);
            for found in [0, expected - 1, expected + 1] {
                assert_eq!(
                    SecretKey::from_seed(scheme, &vec![1; found]).unwrap_err(),
                    SecretKeyError::SeedLength { scheme, expected, found }
                );
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_key_and_generated_ones_differ() {
        for scheme in Scheme::ALL {
            let first = SecretKey::generate(scheme).unwrap();
            let again = SecretKey::from_seed(scheme, first.seed()).unwrap();
            assert_eq!(first.public_key(), again.public_key());
            assert_ne!(first.public_key(), SecretKey::generate(scheme).unwrap().public_key());
        }
    }

    #[test]
    fn debug_output_does_not_show_the_seed() {
        let key = SecretKey::from_seed(Scheme::Ed25519, &[0xab; 32]).unwrap();
        let text = format!("{key:?}");
        assert!(text.contains("redacted") && !text.to_lowercase().contains("abab") && !text.contains("171, 171"), "{text}");
    }
}
