//! Checkpoints: what a quorum of validators vouches for, so that others need not execute to believe.

use crate::hash::{Context, Digest};
use crate::{
    BlockVerifier, ChainId, CheckpointVote, CommitIndex, Committee, CommitteeError, Epoch, Header, Purpose, Round, TimestampMs, Validator,
    codec, signing_message,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A header with its author's signature: what proves that somebody said something, without the block's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedHeader {
    /// What was signed, with [`Purpose::Block`].
    pub header: Header,
    /// The author's signature; hexadecimal in JSON.
    #[serde(with = "hex_bytes")]
    pub signature: Bytes,
}

impl SignedHeader {
    /// Whether the author whom `committee` knows signed this.
    #[must_use]
    pub fn is_signed(&self, committee: &Committee, verifier: &impl BlockVerifier) -> bool {
        let header = &self.header;
        header.chain_id == committee.chain()
            && header.epoch == committee.epoch()
            && committee.get(header.author).is_some_and(|v| self.is_signed_by(&v.key, verifier))
    }

    /// Whether `key` signed this.
    #[must_use]
    pub fn is_signed_by(&self, key: &crate::PublicKey, verifier: &impl BlockVerifier) -> bool {
        verifier.verify(key, &signing_message(Purpose::Block, self.header.chain_id, self.header.digest()), &self.signature)
    }
}

/// Two different headers by one author in one round. Honest validators never make them: crypto-service refuses the second signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EquivocationProof {
    /// One of them.
    pub first: SignedHeader,
    /// The other.
    pub second: SignedHeader,
}

/// Whom an [`EquivocationProof`] accuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Culprit {
    /// The chain.
    pub chain_id: ChainId,
    /// The epoch whose committee the author is of.
    pub epoch: Epoch,
    /// The round.
    pub round: Round,
    /// The author.
    pub author: crate::ValidatorIndex,
}

impl EquivocationProof {
    /// Whom it accuses; `None` when the headers are equal or not of one author, round, epoch and chain. The signatures are still to be checked.
    #[must_use]
    pub fn culprit(&self) -> Option<Culprit> {
        let name = |h: &Header| Culprit { chain_id: h.chain_id, epoch: h.epoch, round: h.round, author: h.author };
        let (first, second) = (&self.first.header, &self.second.header);
        (name(first) == name(second) && first != second).then(|| name(first))
    }
}

/// The validators of the epoch that follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextEpoch {
    /// Where its rounds begin: see [`Committee::start_round`].
    pub start_round: Round,
    /// Its validators, in index order.
    pub validators: Vec<Validator>,
}

/// A summary of the ledger after `last_commit` (PROTOCOL, "Checkpoints and proofs").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Format, 1.
    pub version: u16,
    /// The chain.
    pub chain_id: ChainId,
    /// The epoch whose validators vouch for it.
    pub epoch: Epoch,
    /// Position among checkpoints, from 1.
    pub index: u64,
    /// Digest of checkpoint `index - 1`; zero for the first.
    pub previous: Digest,
    /// First commit it covers.
    pub first_commit: CommitIndex,
    /// Last commit it covers.
    pub last_commit: CommitIndex,
    /// Digest of that commit; through it, of all before.
    pub last_commit_digest: Digest,
    /// Merkle root over the outcomes of its commits' transactions, in order ([`crate::TxOutcome::leaf`]).
    pub outcomes_root: Digest,
    /// How many outcomes.
    pub outcome_count: u64,
    /// Root of the state tree after `last_commit`.
    pub state_root: Digest,
    /// Timestamp of `last_commit`.
    pub timestamp_ms: TimestampMs,
    /// The next committee, when `last_commit` ends its epoch.
    pub next_epoch: Option<NextEpoch>,
}

impl Checkpoint {
    /// Current format.
    pub const VERSION: u16 = 1;

    /// What validators vote for.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Context::CheckpointDigest.hash(&[&codec::encode(self)])
    }

    /// The vote for this checkpoint.
    #[must_use]
    pub fn vote(&self) -> CheckpointVote {
        CheckpointVote { index: self.index, digest: self.digest() }
    }

    /// The committee of the epoch that this checkpoint begins; `None` in the middle of an epoch.
    ///
    /// # Errors
    /// [`CommitteeError`] when what it names is no committee: no correct validator would have voted for that.
    pub fn next_committee(&self) -> Option<Result<Committee, CommitteeError>> {
        let next = self.next_epoch.as_ref()?;
        Some(Committee::new(self.chain_id, self.epoch + 1, next.validators.clone()).map(|c| c.starting_at(next.start_round)))
    }
}

/// Why a checkpoint is not to be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Another format.
    #[error("checkpoint version {0} is not supported")]
    Version(u16),
    /// Of another chain or epoch than the committee.
    #[error("the checkpoint is of another chain or epoch than the committee that should vouch for it")]
    WrongEpoch,
    /// Votes not in ascending order of authors, or one author twice.
    #[error("votes must be in ascending order of their authors, each once")]
    Order,
    /// A header without this vote, of another epoch, or with a signature that does not hold.
    #[error("the vote of validator {0} does not hold")]
    Vote(crate::ValidatorIndex),
    /// Less than a quorum of stake.
    #[error("votes of {stake} stake are no quorum of {quorum}")]
    NoQuorum {
        /// Stake of the votes.
        stake: u64,
        /// What is needed.
        quorum: u64,
    },
}

/// A checkpoint and the headers in which a quorum voted for it. No signature is made for this: the headers are signed anyway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertifiedCheckpoint {
    /// What is certified.
    pub checkpoint: Checkpoint,
    /// One header per voter, ascending by author.
    pub votes: Vec<SignedHeader>,
}

impl CertifiedCheckpoint {
    /// Whether a quorum of `committee` voted for the checkpoint.
    ///
    /// # Errors
    /// [`CheckpointError`], the first rule broken; signatures come last.
    pub fn verify(&self, committee: &Committee, verifier: &impl BlockVerifier) -> Result<(), CheckpointError> {
        let checkpoint = &self.checkpoint;
        if checkpoint.version != Checkpoint::VERSION {
            return Err(CheckpointError::Version(checkpoint.version));
        }
        if checkpoint.chain_id != committee.chain() || checkpoint.epoch != committee.epoch() {
            return Err(CheckpointError::WrongEpoch);
        }
        if self.votes.windows(2).any(|pair| pair[0].header.author >= pair[1].header.author) {
            return Err(CheckpointError::Order);
        }
        let stake: u64 = self.votes.iter().map(|v| committee.stake(v.header.author)).sum();
        let quorum = committee.quorum();
        if stake < quorum {
            return Err(CheckpointError::NoQuorum { stake, quorum });
        }
        let vote = checkpoint.vote();
        let holds = |v: &&SignedHeader| !(v.header.checkpoint_votes.contains(&vote) && v.is_signed(committee, verifier));
        self.votes.iter().find(holds).map_or(Ok(()), |v| Err(CheckpointError::Vote(v.header.author)))
    }
}

/// Bytes as hexadecimal text in JSON, as bytes in BCS.
mod hex_bytes {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(&hex::encode(value)) } else { value.serialize(serializer) }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        if deserializer.is_human_readable() {
            hex::decode(String::deserialize(deserializer)?).map(Bytes::from).map_err(D::Error::custom)
        } else {
            Bytes::deserialize(deserializer)
        }
    }
}
