//! From genesis to today's validators, by certificates only.
//!
//! ```text
//!   Genesis ──▶ committee 0 ──quorum──▶ last checkpoint of epoch 0 ──next_epoch──▶ committee 1 ──quorum──▶ … ──▶ committee e
//!                                                                                         any checkpoint of epoch e ◀──quorum──┘
//! ```

use crate::proof::{Item, Proof};
use kaldrix_types::{
    BlockVerifier, CertifiedCheckpoint, Checkpoint, CheckpointError, Committee, CommitteeError, Epoch, Genesis, GenesisError,
};

/// Why a proof, or a checkpoint, is not to be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Not JSON of a proof, or too much of it.
    #[error("not a proof: {0}")]
    Json(String),
    /// Another format.
    #[error("proof version {0} is not supported: update this verifier, or ask for an older format")]
    Version(u16),
    /// The genesis defines no chain.
    #[error("the genesis cannot be used: {0}")]
    Genesis(#[from] GenesisError),
    /// A checkpoint that its validators did not vouch for.
    #[error("checkpoint {index} of epoch {epoch}: {reason}; check that the genesis is the one of this chain")]
    Checkpoint {
        /// Its index.
        index: u64,
        /// Its epoch.
        epoch: Epoch,
        /// What is wrong.
        reason: CheckpointError,
    },
    /// A certificate with votes beyond the quorum: they could be changed without anybody noticing.
    #[error("the certificate of checkpoint {0} has more votes than a quorum needs")]
    SurplusVotes(u64),
    /// A link of the chain of epochs does not end its epoch.
    #[error("checkpoint {index} does not end epoch {epoch}: the chain of epochs has a gap")]
    NotAnEpochEnd {
        /// Its index.
        index: u64,
        /// The epoch it was to end.
        epoch: Epoch,
    },
    /// A checkpoint that does not come after the one before it.
    #[error("checkpoint {0} does not follow the checkpoints before it")]
    Order(u64),
    /// The next validators form no committee.
    #[error("the validators of epoch {epoch} form no committee: {reason}")]
    Committee {
        /// The epoch.
        epoch: Epoch,
        /// Why.
        reason: CommitteeError,
    },
    /// What is to be proven is not under the checkpoint's root.
    #[error("the {0} is not what the checkpoint holds")]
    Item(&'static str),
}

/// The validators of one epoch, known for sure, and the checkpoint that named them. A light client keeps it and goes on from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochChain {
    committee: Committee,
    last: Option<Checkpoint>,
}

impl EpochChain {
    /// At epoch 0.
    ///
    /// # Errors
    /// [`ProofError::Genesis`].
    pub fn from_genesis(genesis: &Genesis) -> Result<Self, ProofError> {
        Ok(Self { committee: genesis.committee()?, last: None })
    }

    /// At the epoch that `end` begins: a checkpoint that ends an epoch and was verified before.
    ///
    /// # Errors
    /// [`ProofError::NotAnEpochEnd`] or [`ProofError::Committee`] when it does not name validators.
    pub fn after(end: Checkpoint) -> Result<Self, ProofError> {
        let epoch = end.epoch;
        let next = end.next_committee().ok_or(ProofError::NotAnEpochEnd { index: end.index, epoch })?;
        let committee = next.map_err(|reason| ProofError::Committee { epoch: epoch + 1, reason })?;
        Ok(Self { committee, last: Some(end) })
    }

    /// The validators of the newest epoch known.
    #[must_use]
    pub const fn committee(&self) -> &Committee {
        &self.committee
    }

    /// The checkpoint that named them; `None` for epoch 0, whose genesis did.
    #[must_use]
    pub const fn last_end(&self) -> Option<&Checkpoint> {
        self.last.as_ref()
    }

    /// Whether `certified` is a checkpoint of this epoch, with votes of a quorum and no more.
    ///
    /// # Errors
    /// [`ProofError`], the first rule broken; signatures come last.
    pub fn check(&self, certified: &CertifiedCheckpoint, verifier: &impl BlockVerifier) -> Result<(), ProofError> {
        let (checkpoint, committee) = (&certified.checkpoint, &self.committee);
        let (index, epoch) = (checkpoint.index, checkpoint.epoch);
        let (before, commits, time_ms) = self.last.as_ref().map_or((0, 0, 0), |last| (last.index, last.last_commit, last.timestamp_ms));
        if index <= before || checkpoint.first_commit <= commits || checkpoint.timestamp_ms < time_ms {
            return Err(ProofError::Order(index));
        }
        let stakes = || certified.votes.iter().map(|vote| committee.stake(vote.header.author));
        let (sum, least) = (stakes().fold(0, u64::saturating_add), stakes().min().unwrap_or(0));
        if sum.saturating_sub(least) >= committee.quorum() {
            return Err(ProofError::SurplusVotes(index));
        }
        certified.verify(committee, verifier).map_err(|reason| ProofError::Checkpoint { index, epoch, reason })
    }

    /// Goes on to the epoch that `end` begins, after [`Self::check`].
    ///
    /// # Errors
    /// [`ProofError`]; the chain stays where it was.
    pub fn advance(&mut self, end: &CertifiedCheckpoint, verifier: &impl BlockVerifier) -> Result<(), ProofError> {
        if end.checkpoint.next_epoch.is_none() {
            return Err(ProofError::NotAnEpochEnd { index: end.checkpoint.index, epoch: self.committee.epoch() });
        }
        self.check(end, verifier)?;
        *self = Self::after(end.checkpoint.clone())?;
        Ok(())
    }
}

/// What a proof has shown.
#[derive(Clone, Copy, Debug)]
pub struct Verified<'a> {
    /// The checkpoint that a quorum of its epoch's validators vouched for.
    pub checkpoint: &'a Checkpoint,
    /// What is true at that checkpoint.
    pub item: &'a Item,
}

/// Checks a proof from its first link to its last, with nothing but the chain's genesis: no network, no clock, no trust in who sent it.
///
/// Costs a quorum of signatures for each epoch since genesis and for the checkpoint.
///
/// # Errors
/// [`ProofError`], the first rule broken.
pub fn verify_proof<'a>(genesis: &Genesis, proof: &'a Proof, verifier: &impl BlockVerifier) -> Result<Verified<'a>, ProofError> {
    proof.check_version()?;
    let mut chain = EpochChain::from_genesis(genesis)?;
    for end in &proof.epochs {
        chain.advance(end, verifier)?;
    }
    verify_proof_in(&chain, proof, verifier)
}

/// As [`verify_proof`] for one who has followed the chain to the checkpoint's epoch: `proof.epochs` is not looked at.
///
/// # Errors
/// [`ProofError`], the first rule broken.
pub fn verify_proof_in<'a>(chain: &EpochChain, proof: &'a Proof, verifier: &impl BlockVerifier) -> Result<Verified<'a>, ProofError> {
    proof.check_version()?;
    // Hashing one path is cheaper than a quorum of signatures.
    proof.item.check(&proof.checkpoint.checkpoint)?;
    chain.check(&proof.checkpoint, verifier)?;
    Ok(Verified { checkpoint: &proof.checkpoint.checkpoint, item: &proof.item })
}
