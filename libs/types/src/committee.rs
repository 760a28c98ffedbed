//! The validators of one epoch and the arithmetic of their stake.

use crate::hash::Context;
use crate::{Address, BlockRef, ChainId, Epoch, PublicKey, Round, ValidatorIndex, limits};
use serde::{Deserialize, Serialize};

/// One validator of a committee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validator {
    /// Operator's name, unique in the committee, as in `spiffe://…/validator/<name>/…`.
    pub name: String,
    /// Region it runs in.
    pub region: String,
    /// Voting weight, above zero.
    pub stake: u64,
    /// Session key: signs blocks.
    pub key: PublicKey,
    /// The account that bonds its stake, is paid and is slashed.
    pub operator: Address,
}

/// Why validators cannot form a committee.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitteeError {
    /// Fewer than one or more than the limit.
    #[error("a committee has 1 to {max} validators, this one {found}", max = limits::VALIDATORS_MAX)]
    Size {
        /// How many there are.
        found: usize,
    },
    /// A stake of zero or a sum beyond u64.
    #[error("every stake must be above zero and their sum must fit 62 bits")]
    Stake,
    /// Two validators share a name, a key or an operator.
    #[error("two validators share the name, the key or the operator of {0}")]
    Duplicate(String),
}

/// What defines a committee, as it is encoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitteeParts {
    /// The chain.
    pub chain: ChainId,
    /// The epoch.
    pub epoch: Epoch,
    /// Round of the epoch's implicit first blocks.
    pub start_round: Round,
    /// Its validators, in index order.
    pub validators: Vec<Validator>,
}

/// The validators of an epoch, in index order. Stake counts per author, never per block.
///
/// Rounds go on through all epochs: an epoch begins at `start_round`, the round of the leader that ended the epoch before, with blocks
/// that exist by definition ([`Self::genesis_blocks`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committee {
    chain: ChainId,
    epoch: Epoch,
    start_round: Round,
    validators: Vec<Validator>,
    total_stake: u64,
}

impl Committee {
    /// Checks and wraps the validators of `epoch`.
    ///
    /// # Errors
    /// [`CommitteeError`] when there are none, too many, a zero stake, or two alike.
    pub fn new(chain: ChainId, epoch: Epoch, validators: Vec<Validator>) -> Result<Self, CommitteeError> {
        if validators.is_empty() || validators.len() > limits::VALIDATORS_MAX {
            return Err(CommitteeError::Size { found: validators.len() });
        }
        let total_stake = validators.iter().try_fold(0u64, |sum, v| sum.checked_add(v.stake)).filter(|sum| *sum < 1 << 62);
        let Some(total_stake) = total_stake.filter(|_| validators.iter().all(|v| v.stake > 0)) else {
            return Err(CommitteeError::Stake);
        };
        for (i, validator) in validators.iter().enumerate() {
            let alike = |v: &Validator| v.name == validator.name || v.key == validator.key || v.operator == validator.operator;
            if validators[..i].iter().any(alike) {
                return Err(CommitteeError::Duplicate(validator.name.clone()));
            }
        }
        Ok(Self { chain, epoch, start_round: 0, validators, total_stake })
    }

    /// The same committee, for an epoch that begins at this round.
    #[must_use]
    pub const fn starting_at(mut self, start_round: Round) -> Self {
        self.start_round = start_round;
        self
    }

    /// Round of the epoch's implicit first blocks; every block of the epoch is of a higher one.
    #[must_use]
    pub const fn start_round(&self) -> Round {
        self.start_round
    }

    /// What defines this committee, to be encoded.
    #[must_use]
    pub fn parts(&self) -> CommitteeParts {
        CommitteeParts { chain: self.chain, epoch: self.epoch, start_round: self.start_round, validators: self.validators.clone() }
    }

    /// The chain.
    #[must_use]
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// The epoch.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How many validators there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.validators.len()
    }

    /// All validators in index order.
    #[must_use]
    pub fn validators(&self) -> &[Validator] {
        &self.validators
    }

    /// All indices.
    pub fn indices(&self) -> impl Iterator<Item = ValidatorIndex> + use<> {
        (0..u16::try_from(self.validators.len()).unwrap_or(u16::MAX)).map(ValidatorIndex)
    }

    /// The validator at `index`, if there is one.
    #[must_use]
    pub fn get(&self, index: ValidatorIndex) -> Option<&Validator> {
        self.validators.get(index.as_usize())
    }

    /// The index of the validator with this name.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<ValidatorIndex> {
        self.indices().find(|i| self.validators[i.as_usize()].name == name)
    }

    /// Stake of the validator at `index`; 0 for none.
    #[must_use]
    pub fn stake(&self, index: ValidatorIndex) -> u64 {
        self.get(index).map_or(0, |v| v.stake)
    }

    /// Sum of all stake.
    #[must_use]
    pub const fn total_stake(&self) -> u64 {
        self.total_stake
    }

    /// q = ⌊2S/3⌋ + 1 (PROTOCOL, "Commit rule").
    #[must_use]
    pub const fn quorum(&self) -> u64 {
        self.total_stake * 2 / 3 + 1
    }

    /// The least stake that holds one correct validator for sure: S − q + 1.
    #[must_use]
    pub const fn validity(&self) -> u64 {
        self.total_stake - self.quorum() + 1
    }

    /// References of the blocks at [`Self::start_round`] that the epoch begins with: they exist by definition and have no content.
    #[must_use]
    pub fn genesis_blocks(&self) -> Vec<BlockRef> {
        self.indices()
            .map(|author| BlockRef {
                round: self.start_round,
                author,
                digest: Context::BlockDigest.hash(&[b"genesis", self.chain.as_bytes(), &self.epoch.to_le_bytes(), &author.0.to_le_bytes()]),
            })
            .collect()
    }
}

impl TryFrom<CommitteeParts> for Committee {
    type Error = CommitteeError;

    fn try_from(parts: CommitteeParts) -> Result<Self, CommitteeError> {
        Ok(Self::new(parts.chain, parts.epoch, parts.validators)?.starting_at(parts.start_round))
    }
}
