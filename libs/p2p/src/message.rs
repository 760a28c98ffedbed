//! What peers say to one another: BCS, one enum each way.

use crate::PeerBinding;
use bytes::Bytes;
use kaldrix_types::{BlockRef, CommitIndex, Round, StateKey, ValidatorIndex, limits};
use serde::{Deserialize, Serialize};

/// Blocks of one [`PeerRequest::Blocks`].
pub const REQUESTED_BLOCKS_MAX: usize = 128;
/// Floors of one [`PeerRequest::BlocksAbove`]: one per validator.
pub const FLOORS_MAX: usize = limits::VALIDATORS_MAX;
/// Blocks of one answer together, bytes.
pub const RESPONSE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Checkpoints, state or executed commits of one answer together, bytes.
pub const CATCH_UP_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Records of one [`PeerRequest::StatePage`].
pub const STATE_PAGE_RECORDS_MAX: u32 = 65_536;
/// Checkpoints of one [`PeerRequest::Checkpoints`].
pub const CHECKPOINTS_MAX: u32 = 256;

/// A question to another validator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerRequest {
    /// These blocks, at most 128.
    Blocks(Vec<BlockRef>),
    /// Blocks above the round given for each author, ascending, up to so many bytes.
    BlocksAbove {
        /// Round per author, in committee order.
        floors: Vec<Round>,
        /// At most so many bytes of blocks.
        limit_bytes: u32,
    },
    /// The newest block by this author that the other side knows.
    LastOwnBlock(ValidatorIndex),
    /// Certified checkpoints in ascending order of their indices; answered by [`PeerResponse::Checkpoints`].
    Checkpoints {
        /// From this index on; 0: the newest certified one only.
        from_index: u64,
        /// Only those that end an epoch: the chain by which the validators of today are known.
        epoch_ends_only: bool,
        /// At most so many, at most [`CHECKPOINTS_MAX`].
        limit: u32,
    },
    /// The state as it is now, in ascending order of keys; answered by [`PeerResponse::StatePage`].
    StatePage {
        /// Records behind this key; `None`: from the first on.
        after: Option<StateKey>,
        /// At most so many records, at most [`STATE_PAGE_RECORDS_MAX`]; the other side may send fewer, by bytes.
        limit: u32,
    },
    /// Executed commits without gaps; answered by [`PeerResponse::Executed`], or by [`PeerResponse::Part`] of the first one when that is too
    /// large for one answer.
    Executed {
        /// From this index on.
        from: CommitIndex,
        /// At most so many bytes of them, but at least one.
        limit_bytes: u32,
    },
    /// More of an executed commit that is too large for one answer; answered by [`PeerResponse::Part`].
    ExecutedPart {
        /// Which commit.
        index: CommitIndex,
        /// From this byte of its encoding on.
        offset: u64,
    },
}

impl PeerRequest {
    /// Whether the question keeps its limits.
    #[must_use]
    pub fn is_within_limits(&self) -> bool {
        match self {
            Self::Blocks(blocks) => blocks.len() <= REQUESTED_BLOCKS_MAX,
            Self::BlocksAbove { floors, .. } => floors.len() <= FLOORS_MAX,
            Self::Checkpoints { limit, .. } => *limit <= CHECKPOINTS_MAX,
            Self::StatePage { limit, .. } => *limit <= STATE_PAGE_RECORDS_MAX,
            Self::LastOwnBlock(_) | Self::Executed { .. } | Self::ExecutedPart { .. } => true,
        }
    }
}

impl PeerResponse {
    /// Replaces an answer that the asker would take for garbage by a refusal.
    pub(crate) fn within_limits(self) -> Self {
        let (bytes, limit) = match &self {
            Self::Blocks(blocks) => (blocks.iter().map(Bytes::len).sum(), RESPONSE_BYTES_MAX),
            Self::Checkpoints(items) | Self::Executed(items) => (items.iter().map(Bytes::len).sum(), CATCH_UP_BYTES_MAX),
            Self::StatePage { records, .. } => (records.len(), CATCH_UP_BYTES_MAX),
            Self::Part { bytes, .. } => (bytes.len(), CATCH_UP_BYTES_MAX),
            Self::Refused(_) => return self,
        };
        if bytes <= limit { self } else { Self::Refused("the answer is too large".to_owned()) }
    }
}

/// An answer. What is in it proves itself, or not: this crate does not look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerResponse {
    /// BCS of blocks.
    Blocks(Vec<Bytes>),
    /// Not now, or not at all.
    Refused(String),
    /// BCS of `kaldrix_types::CertifiedCheckpoint`s, ascending.
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
    /// BCS of `kaldrix_types::ExecutedCommit`s without gaps; none when there is none from that index on.
    Executed(Vec<Bytes>),
    /// A piece of the BCS of one `kaldrix_types::ExecutedCommit`.
    Part {
        /// Length of the whole encoding.
        total_bytes: u64,
        /// The bytes from the offset asked for on (0 for [`PeerRequest::Executed`]).
        bytes: Bytes,
    },
}

/// A request on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Call {
    /// Who I am; always first, and again when my session key has changed.
    Hello(PeerBinding),
    /// A block of mine.
    Push(Bytes),
    /// A question.
    Ask(PeerRequest),
    /// What the codec makes of bytes that are none of these. libp2p tells nobody about a request that could not be read.
    #[serde(skip)]
    Garbage(String),
}

/// A response on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// Who I am.
    Hello(PeerBinding),
    /// The block was looked at, or is not wanted.
    Ack,
    /// The answer to a question.
    Answer(PeerResponse),
    /// Say hello first.
    Unbound,
}
