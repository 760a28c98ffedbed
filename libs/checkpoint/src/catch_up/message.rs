//! What a validator that catches up asks its peers, and what they answer. The same shapes as the messages of `libs/p2p`.

use bytes::Bytes;
use kaldrix_types::{CommitIndex, StateKey};

/// A question to one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatchUpRequest {
    /// Certified checkpoints in ascending order of their indices.
    Checkpoints {
        /// From this index on; 0: the newest certified one only.
        from_index: u64,
        /// Only those that end an epoch.
        epoch_ends_only: bool,
        /// At most so many.
        limit: u32,
    },
    /// The state as it is now, in ascending order of keys.
    StatePage {
        /// Records behind this key; `None`: from the first on.
        after: Option<StateKey>,
        /// At most so many records.
        limit: u32,
    },
    /// Executed commits without gaps.
    Executed {
        /// From this index on.
        from: CommitIndex,
        /// At most so many bytes of them, but at least one.
        limit_bytes: u32,
    },
    /// More of an executed commit that is too large for one answer.
    ExecutedPart {
        /// Which commit.
        index: CommitIndex,
        /// From this byte of its encoding on.
        offset: u64,
    },
}

/// A peer's answer, not looked at yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatchUpAnswer {
    /// BCS of [`kaldrix_types::CertifiedCheckpoint`]s, ascending.
    Checkpoints(Vec<Bytes>),
    /// Records of the state.
    StatePage {
        /// The commit after which they were so. Later pages may be of later commits.
        at: CommitIndex,
        /// BCS of `Vec<(StateKey, StateValue)>`, ascending.
        records: Bytes,
        /// Nothing follows.
        is_last: bool,
    },
    /// BCS of [`kaldrix_types::ExecutedCommit`]s without gaps.
    Executed(Vec<Bytes>),
    /// A piece of the BCS of one [`kaldrix_types::ExecutedCommit`].
    Part {
        /// Length of the whole encoding.
        total_bytes: u64,
        /// The bytes from the offset asked for on (0 for [`CatchUpRequest::Executed`]).
        bytes: Bytes,
    },
    /// Not now, or not at all; also what to say for a peer that cannot be reached.
    Refused,
}

impl CatchUpAnswer {
    /// Its payload, bytes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Checkpoints(items) | Self::Executed(items) => items.iter().map(Bytes::len).sum(),
            Self::StatePage { records, .. } => records.len(),
            Self::Part { bytes, .. } => bytes.len(),
            Self::Refused => 0,
        }
    }
}

/// Limits of a catch-up. Times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatchUpConfig {
    /// Rounds below the last committed leader that a commit still includes: as in the chain's parameters.
    pub gc_depth: u64,
    /// Leader slots per round: as in the chain's parameters.
    pub leaders_per_round: u32,
    /// Payload of one answer; more is a fault. Default 8 MiB, as in `libs/p2p`.
    pub answer_bytes_max: usize,
    /// Records to ask for at a time. Default 65,536.
    pub page_records: u32,
    /// Encoded size of the whole state; more is a fault. The state is held in memory. Default 8 GiB.
    pub state_bytes_max: u64,
    /// Encoded size of the executed commits of one checkpoint. Default 2 GiB.
    pub range_bytes_max: u64,
    /// Commits between the first page and the checkpoint that is installed. Default 1,000,000.
    pub commits_max: u64,
    /// How long a peer may take for one answer. Default 10 s.
    pub answer_ms_max: u64,
    /// Late or refused answers in a row after which a peer is given up. Default 3.
    pub strikes_max: u32,
    /// How long to wait for the peers' newest checkpoints once one of them is known. Default 2 s.
    pub survey_ms: u64,
    /// How often to ask for a newer checkpoint while none covers the pages. Default 1 s.
    pub poll_ms: u64,
    /// How long to wait for one before the source is given up. Default 2 min: an idle network closes a checkpoint every 64 commits.
    pub target_ms_max: u64,
    /// How long one source may take altogether. Default 30 min.
    pub source_ms_max: u64,
}

impl Default for CatchUpConfig {
    fn default() -> Self {
        Self {
            gc_depth: 60,
            leaders_per_round: 1,
            answer_bytes_max: 8 << 20,
            page_records: 65_536,
            state_bytes_max: 8 << 30,
            range_bytes_max: 2 << 30,
            commits_max: 1_000_000,
            answer_ms_max: 10_000,
            strikes_max: 3,
            survey_ms: 2_000,
            poll_ms: 1_000,
            target_ms_max: 120_000,
            source_ms_max: 1_800_000,
        }
    }
}

/// Why a peer was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerFault {
    /// No answer in time, or refusals, several times in a row.
    #[error("it does not answer")]
    Silent,
    /// An answer to another question, or bytes that cannot be decoded.
    #[error("its answer makes no sense: {0}")]
    Malformed(&'static str),
    /// Over one of the limits of [`CatchUpConfig`].
    #[error("its answer is over a limit: {0}")]
    TooLarge(&'static str),
    /// It claims a checkpoint and has no certificate that holds.
    #[error("a checkpoint of its is not certified")]
    NotCertified,
    /// Its commits are not those of the certified checkpoints.
    #[error("its commits are not the certified ones: {0}")]
    WrongCommits(&'static str),
    /// Its state is not that of the certified checkpoint.
    #[error("its state is not the certified one")]
    WrongState,
    /// It has not what it should have: pages of a state that no checkpoint ever covers, or commits that it pruned.
    #[error("it has not got {0}")]
    Missing(&'static str),
    /// Too slow altogether.
    #[error("it takes too long")]
    TooSlow,
}
