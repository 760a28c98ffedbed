//! Keys and signatures: how Kaldrix makes them, checks them, and keeps the secret ones.
//!
//! ```text
//!   PublicKey ──prepare──▶ VerifyingKey ──verify(message, signature)──▶ Ok | Err
//!       │                      ▲
//!       └── KeyCache (bounded) ┘        Verifier = the cache + the ledger's rules (transactions, blocks)
//!
//!   32 or 64 bytes of seed ──▶ SecretKey: Signer ──sign(message)──▶ signature
//!              ▲                  (a PKCS#11 token is another Signer)
//!   keystore::KeyFile (Argon2id + XChaCha20-Poly1305, or plain)
//! ```
//!
//! Which library decides validity: aws-lc-rs for ML-DSA, ed25519-dalek's `verify_strict` for Ed25519. One implementation per scheme decides on every
//! validator, because two that differ in a single verdict would split the chain; another implementation only gives a second opinion in the tests.
//!
//! What this crate never does: decide whether something is worth signing (that is crypto-service's policy), read a clock, start a thread, hash a
//! signature into an identifier (ML-DSA signatures are randomised), or take prepared key state from anybody else: it is always derived here, from the
//! encoded key.

mod cache;
pub mod keystore;
mod secret;
mod sign;
mod verifier;
mod verifying_key;

pub use cache::KeyCache;
pub use keystore::{KdfCost, KeyFile, Keystore, KeystoreError};
pub use secrecy::{ExposeSecret, SecretString};
pub use secret::{SecretKey, SecretKeyError};
pub use sign::{SignError, Signer, sign_transaction};
pub use verifier::Verifier;
pub use verifying_key::{SignatureError, UnacceptableKey, VerifyingKey};
