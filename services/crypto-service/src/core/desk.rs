//! The one way to a signature: policy, the key's guard, audit, the key, in this order.

use crate::core::audit::{AuditLog, Entry, Outcome};
use crate::core::guard::{Decision, Guard, GuardError};
use crate::core::policy::{Policy, PolicyError, Request};
use bytes::Bytes;
use kaldrix_crypto::{SignError, Signer};
use kaldrix_types::{Digest, Epoch, KeyId, PublicKey, Round, TimestampMs, signing_message};
use std::collections::BTreeMap;
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
    /// The request names a key that is not here.
    #[error("there is no session key {0} here; GetPublicKey says which there are")]
    UnknownKey(KeyId),
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
    /// Whose it is.
    pub key: PublicKey,
}

/// What a guard knows of its key's past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastSigned {
    /// Of the last signed block.
    pub epoch: Epoch,
    /// Of the last signed block; 0 for none.
    pub round: Round,
    /// Whether nothing else can have been signed: see [`Guard::is_complete`].
    pub is_complete: bool,
}

/// A key and its guard.
struct Held {
    signer: Arc<dyn Signer>,
    guard: Guard,
}

/// The session keys of one validator and everything that stands before them. `&mut self` is the order: one request at a time. Blocks on the
/// disk.
pub struct SigningDesk {
    /// The key of requests that name none.
    main: KeyId,
    keys: BTreeMap<KeyId, Held>,
    policy: Policy,
    audit: AuditLog,
}

impl SigningDesk {
    /// A desk over an open guard and log of `signer`'s key.
    #[must_use]
    pub fn new(signer: Arc<dyn Signer>, policy: Policy, guard: Guard, audit: AuditLog) -> Self {
        let main = signer.public_key().id();
        Self { main, keys: BTreeMap::from([(main, Held { signer, guard })]), policy, audit }
    }

    /// Puts another key on the desk, with its own guard. It signs when a request names it.
    pub fn add(&mut self, signer: Arc<dyn Signer>, guard: Guard) {
        self.keys.insert(signer.public_key().id(), Held { signer, guard });
    }

    /// The public halves of all keys; first the one of requests that name none.
    #[must_use]
    pub fn public_keys(&self) -> Vec<PublicKey> {
        let mut keys: Vec<PublicKey> = self.keys.values().map(|held| held.signer.public_key().clone()).collect();
        keys.sort_by_key(|key| (key.id() != self.main, key.id()));
        keys
    }

    /// Last signed (epoch, round) of any key; round 0 when nothing was signed yet.
    #[must_use]
    pub fn last_signed(&self) -> (Epoch, Round) {
        self.keys.values().map(|held| held.guard.last()).max().unwrap_or_default()
    }

    /// What the guard of `key` (`None`: the main one) knows; `None` for a key that is not here.
    #[must_use]
    pub fn last_signed_with(&self, key: Option<KeyId>) -> Option<LastSigned> {
        self.keys.get(&key.unwrap_or(self.main)).map(|held| {
            let (epoch, round) = held.guard.last();
            LastSigned { epoch, round, is_complete: held.guard.is_complete() }
        })
    }

    /// Signs `request` for `caller` at `now_ms` with `key` (`None`: the main one), or says why not.
    ///
    /// # Errors
    /// [`DeskError`]; the first four kinds are verdicts about the request, the others are failures of this machine.
    pub fn sign(&mut self, key: Option<KeyId>, request: &Request, caller: &str, now_ms: TimestampMs) -> Result<Signed, DeskError> {
        let id = key.unwrap_or(self.main);
        let entry = |digest, decision| Entry { time_ms: now_ms, caller, key: id, request, digest, decision };
        let audit = &mut self.audit;
        let Some(held) = self.keys.get_mut(&id) else {
            audit.append(&entry(None, Outcome::RefusedUnknownKey)).map_err(DeskError::Audit)?;
            return Err(DeskError::UnknownKey(id));
        };
        let key = held.signer.public_key().clone();
        let digest = request.digest(&key);
        let mut record = |decision| audit.append(&entry(Some(digest), decision)).map_err(DeskError::Audit);
        if let Err(refusal) = self.policy.check(request, &key) {
            record(Outcome::RefusedPolicy)?;
            return Err(refusal.into());
        }
        let outcome = match *request {
            Request::PeerBinding { .. } | Request::Evidence(_) | Request::KeyProof { .. } => Outcome::Signed,
            Request::Block { epoch, round, digest, .. } => match held.guard.check_and_record(epoch, round, digest)? {
                Decision::Recorded => Outcome::Signed,
                Decision::Repeated => Outcome::SignedAgain,
                Decision::Conflict { signed } => {
                    record(Outcome::RefusedConflict)?;
                    return Err(DeskError::Conflict { epoch, round, signed });
                }
                Decision::Past { epoch, round } => {
                    record(Outcome::RefusedPast)?;
                    return Err(DeskError::Past { epoch, round });
                }
            },
        };
        record(outcome)?;
        let signature = held.signer.sign(&signing_message(request.purpose(), request.chain(), digest))?;
        Ok(Signed { signature, outcome, key })
    }
}

impl std::fmt::Debug for SigningDesk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningDesk").field("keys", &self.public_keys()).field("last_signed", &self.last_signed()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::guard::Origin;
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

    fn signer_of(seed: u8) -> Arc<Counting> {
        Arc::new(Counting(SecretKey::from_seed(Scheme::MlDsa65, &[seed; 32]).unwrap(), AtomicUsize::new(0)))
    }

    fn signer() -> Arc<Counting> {
        signer_of(3)
    }

    fn desk(folder: &Path, signer: &Arc<Counting>) -> SigningDesk {
        let (path, id) = (folder.join("guard"), signer.public_key().id());
        let guard = if path.exists() { Guard::open(&path, id, CHAIN) } else { Guard::create(&path, id, CHAIN, Origin::NewKey) };
        let audit = AuditLog::open(&folder.join("audit.jsonl"), 1 << 20).unwrap();
        SigningDesk::new(Arc::clone(signer) as Arc<dyn Signer>, Policy::validator(CHAIN), guard.unwrap(), audit)
    }

    #[test]
    fn a_block_is_signed_over_the_ledgers_message_and_may_be_signed_again_after_a_restart() {
        let (folder, signer) = (TempDir::new().unwrap(), signer());
        let message = signing_message(Purpose::Block, CHAIN, Digest([1; 32]));
        for expected in [Outcome::Signed, Outcome::SignedAgain] {
            let signed = desk(folder.path(), &signer).sign(None, &block(5, 1), "dag", 1).unwrap();
            assert_eq!(signed.outcome, expected);
            assert_eq!(Verifier::new(1).verify_message(signer.public_key(), &message, &signed.signature), Ok(()));
        }
    }

    #[test]
    fn a_refused_request_never_reaches_the_key_and_leaves_a_line() {
        let (folder, signer) = (TempDir::new().unwrap(), signer());
        let mut desk = desk(folder.path(), &signer);
        desk.sign(None, &block(5, 1), "dag", 1).unwrap();
        let elsewhere = Request::PeerBinding { chain: ChainId::default(), digest: Digest([1; 32]) };
        assert!(matches!(desk.sign(None, &block(5, 2), "dag", 2), Err(DeskError::Conflict { round: 5, .. })));
        assert!(matches!(desk.sign(None, &block(4, 1), "dag", 3), Err(DeskError::Past { round: 5, .. })));
        assert!(matches!(desk.sign(None, &elsewhere, "dag", 4), Err(DeskError::Policy(PolicyError::WrongChain { .. }))));
        assert_eq!(signer.1.load(Ordering::Relaxed), 1);
        let log = std::fs::read_to_string(folder.path().join("audit.jsonl")).unwrap();
        for expected in ["signed", "refused_conflict", "refused_past", "refused_policy"] {
            assert_eq!(log.matches(&format!("\"decision\":\"{expected}\"")).count(), 1, "{expected}");
        }
    }

    #[test]
    fn each_key_has_its_own_guard_and_signs_only_when_it_is_named() {
        let (folder, old, new) = (TempDir::new().unwrap(), signer(), signer_of(4));
        let mut desk = desk(folder.path(), &old);
        let guard = Guard::create(&folder.path().join("new-guard"), new.public_key().id(), CHAIN, Origin::ExistingKey).unwrap();
        assert!(!guard.is_complete(), "a guard made for an old key knows nothing of its past");
        desk.add(Arc::clone(&new) as Arc<dyn Signer>, guard);
        let ids: Vec<KeyId> = desk.public_keys().iter().map(PublicKey::id).collect();
        assert_eq!(ids, [old.public_key().id(), new.public_key().id()]);
        desk.sign(None, &block(9, 1), "dag", 1).unwrap();
        assert_eq!(new.1.load(Ordering::Relaxed), 0);
        // Other rounds, other digests: the two keys are two authors to the guard.
        let signed = desk.sign(Some(ids[1]), &block(5, 2), "dag", 2).unwrap();
        assert_eq!(signed.key, *new.public_key());
        let message = signing_message(Purpose::Block, CHAIN, Digest([2; 32]));
        assert_eq!(Verifier::new(1).verify_message(new.public_key(), &message, &signed.signature), Ok(()));
        assert!(matches!(desk.sign(Some(ids[1]), &block(5, 3), "dag", 3), Err(DeskError::Conflict { .. })));
        assert!(matches!(desk.sign(Some(ids[0]), &block(5, 2), "dag", 4), Err(DeskError::Past { round: 9, .. })));
        assert_eq!(desk.last_signed(), (0, 9));
        let last = |round| Some(LastSigned { epoch: 0, round, is_complete: true });
        assert_eq!([None, Some(ids[1])].map(|key| desk.last_signed_with(key)), [last(9), last(5)]);
        let nobody = Digest([1; 32]);
        assert!(matches!(desk.sign(Some(nobody), &block(10, 1), "dag", 5), Err(DeskError::UnknownKey(id)) if id == nobody));
        let log = std::fs::read_to_string(folder.path().join("audit.jsonl")).unwrap();
        assert_eq!(log.matches(&format!("\"key\":\"{}\"", ids[1])).count(), 2);
        assert_eq!(log.matches("refused_unknown_key").count(), 1);
    }

    #[test]
    fn a_key_proof_names_the_operator_and_the_key_that_signs_it() {
        let (folder, signer) = (TempDir::new().unwrap(), signer());
        let operator = kaldrix_types::Address([8; 32]);
        let signed = desk(folder.path(), &signer).sign(None, &Request::KeyProof { chain: CHAIN, operator }, "op", 1).unwrap();
        let digest = kaldrix_types::validator_key_digest(operator, signer.public_key());
        let message = signing_message(Purpose::ValidatorKey, CHAIN, digest);
        assert_eq!(Verifier::new(1).verify_message(signer.public_key(), &message, &signed.signature), Ok(()));
        let log = std::fs::read_to_string(folder.path().join("audit.jsonl")).unwrap();
        assert!(log.contains("key_proof") && log.contains(&digest.to_string()), "{log}");
    }

    #[test]
    fn peer_bindings_do_not_touch_the_guard() {
        let (folder, signer) = (TempDir::new().unwrap(), signer());
        let mut desk = desk(folder.path(), &signer);
        for byte in 0..3 {
            desk.sign(None, &Request::PeerBinding { chain: CHAIN, digest: Digest([byte; 32]) }, "dag", 1).unwrap();
        }
        assert_eq!(desk.last_signed(), (0, 0));
    }
}
