//! The one way to a signature: policy, guard, audit, signer, in this order.

use crate::core::audit::{AuditLog, Outcome};
use crate::core::guard::{Decision, Guard, GuardError};
use crate::core::policy::{Policy, PolicyError, Request};
use bytes::Bytes;
use kaldrix_crypto::{SignError, Signer};
use kaldrix_types::{Digest, Epoch, PublicKey, Round, TimestampMs, signing_message};
use std::io;
use std::sync::Arc;

/// Why a request was not signed.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// Against the key's policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Another block of this round was signed: signing this one would be an equivocation.
    #[error("round {round} of epoch {epoch} was signed with another digest ({signed}); a second one would be an equivocation")]
    Conflict {
        /// The epoch.
        epoch: Epoch,
        /// The round.
        round: Round,
        /// What was signed.
        signed: Digest,
    },
    /// Below the last signed round.
    #[error("this key has signed up to round {round} of epoch {epoch} already; propose above it")]
    Past {
        /// Last signed epoch.
        epoch: Epoch,
        /// Last signed round.
        round: Round,
    },
    /// The guard cannot decide.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The audit log cannot be written, and nothing is signed without a line in it.
    #[error("the audit log cannot be written: {0}")]
    Audit(#[source] io::Error),
    /// The key failed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// A signature, and whether it was made for the first time.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The signature.
    pub signature: Bytes,
    /// [`Outcome::Signed`] or [`Outcome::SignedAgain`].
    pub outcome: Outcome,
}

/// One key and everything that stands before it. `&mut self` is the order: one request at a time. Blocks on the disk.
pub struct SigningDesk {
    signer: Arc<dyn Signer>,
    policy: Policy,
    guard: Guard,
    audit: AuditLog,
}

impl SigningDesk {
    /// A desk over an open guard and log of `signer`'s key.
    #[must_use]
    pub fn new(signer: Arc<dyn Signer>, policy: Policy, guard: Guard, audit: AuditLog) -> Self {
        Self { signer, policy, guard, audit }
    }

    /// The public half of the key.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        self.signer.public_key()
    }

    /// Last signed (epoch, round); round 0 when nothing was signed yet.
    #[must_use]
    pub const fn last_signed(&self) -> (Epoch, Round) {
        self.guard.last()
    }

    /// Signs `request` for `caller` at `now_ms`, or says why not.
    ///
    /// # Errors
    /// [`DeskError`]; the first four kinds are verdicts about the request, the others are failures of this machine.
    pub fn sign(&mut self, request: &Request, caller: &str, now_ms: TimestampMs) -> Result<Signed, DeskError> {
        if let Err(refusal) = self.policy.check(request) {
            self.record(now_ms, caller, request, Outcome::RefusedPolicy)?;
            return Err(refusal.into());
        }
        let outcome = match *request {
            Request::PeerBinding { .. } => Outcome::Signed,
            Request::Block { epoch, round, digest, .. } => match self.guard.check_and_record(epoch, round, digest)? {
                Decision::Recorded => Outcome::Signed,
                Decision::Repeated => Outcome::SignedAgain,
                Decision::Conflict { signed } => {
                    self.record(now_ms, caller, request, Outcome::RefusedConflict)?;
                    return Err(DeskError::Conflict { epoch, round, signed });
                }
                Decision::Past { epoch, round } => {
                    self.record(now_ms, caller, request, Outcome::RefusedPast)?;
                    return Err(DeskError::Past { epoch, round });
                }
            },
        };
        self.record(now_ms, caller, request, outcome)?;
        let signature = self.signer.sign(&signing_message(request.purpose(), request.chain(), request.digest()))?;
        Ok(Signed { signature, outcome })
    }

    fn record(&mut self, now_ms: TimestampMs, caller: &str, request: &Request, outcome: Outcome) -> Result<(), DeskError> {
        self.audit.append(now_ms, caller, request, outcome).map_err(DeskError::Audit)
    }
}

impl std::fmt::Debug for SigningDesk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningDesk").field("key", self.public_key()).field("last_signed", &self.last_signed()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kaldrix_crypto::{SecretKey, Verifier};
    use kaldrix_types::{ChainId, Purpose, Scheme};
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tempfile::TempDir;

    const CHAIN: ChainId = ChainId(Digest([2; 32]));

    fn block(round: Round, digest: u8) -> Request {
        Request::Block { chain: CHAIN, epoch: 0, round, digest: Digest([digest; 32]) }
    }

    struct Counting(SecretKey, AtomicUsize);

    impl Signer for Counting {
        fn public_key(&self) -> &PublicKey {
            self.0.public_key()
        }
        fn sign(&self, message: &[u8]) -> Result<Bytes, SignError> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.sign(message)
        }
    }

    fn signer() -> Arc<Counting> {
        Arc::new(Counting(SecretKey::from_seed(Scheme::MlDsa65, &[3; 32]).unwrap(), AtomicUsize::new(0)))
    }

    fn desk(folder: &Path, signer: &Arc<Counting>) -> SigningDesk {
        let (path, id) = (folder.join("guard"), signer.public_key().id());
        let guard = if path.exists() { Guard::open(&path, id, CHAIN) } else { Guard::create(&path, id, CHAIN) };
        let audit = AuditLog::open(&folder.join("audit.jsonl"), 1 << 20).unwrap();
        SigningDesk::new(Arc::clone(signer) as Arc<dyn Signer>, Policy::validator(CHAIN), guard.unwrap(), audit)
    }

    #[test]
    fn a_block_is_signed_over_the_ledgers_message_and_may_be_signed_again_after_a_restart() {
        let (folder, signer) = (TempDir::new().unwrap(), signer());
        let message = signing_message(Purpose::Block, CHAIN, Digest([1; 32]));
        for expected in [Outcome::Signed, Outcome::SignedAgain] {
            let signed = desk(folder.path(), &signer).sign(&block(5, 1), "dag", 1).unwrap();
            assert_eq!(signed.outcome, expected);
            assert_eq!(Verifier::new(1).verify_message(signer.public_key(), &message, &signed.signature), Ok(()));
        }
    }

    #[test]
    fn a_refused_request_never_reaches_the_key_and_leaves_a_line() {
        let (folder, signer) = (TempDir::new().unwrap(), signer());
        let mut desk = desk(folder.path(), &signer);
        desk.sign(&block(5, 1), "dag", 1).unwrap();
        let elsewhere = Request::PeerBinding { chain: ChainId::default(), digest: Digest([1; 32]) };
        assert!(matches!(desk.sign(&block(5, 2), "dag", 2), Err(DeskError::Conflict { round: 5, .. })));
        assert!(matches!(desk.sign(&block(4, 1), "dag", 3), Err(DeskError::Past { round: 5, .. })));
        assert!(matches!(desk.sign(&elsewhere, "dag", 4), Err(DeskError::Policy(PolicyError::WrongChain { .. }))));
        assert_eq!(signer.1.load(Ordering::Relaxed), 1);
        let log = std::fs::read_to_string(folder.path().join("audit.jsonl")).unwrap();
        for expected in ["signed", "refused_conflict", "refused_past", "refused_policy"] {
            assert_eq!(log.matches(&format!("\"decision\":\"{expected}\"")).count(), 1, "{expected}");
        }
    }

    #[test]
    fn peer_bindings_do_not_touch_the_guard() {
        let (folder, signer) = (TempDir::new().unwrap(), signer());
        let mut desk = desk(folder.path(), &signer);
        for byte in 0..3 {
            desk.sign(&Request::PeerBinding { chain: CHAIN, digest: Digest([byte; 32]) }, "dag", 1).unwrap();
        }
        assert_eq!(desk.last_signed(), (0, 0));
    }
}
