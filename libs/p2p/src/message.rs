//! What peers say to one another: BCS, one enum each way.

use crate::PeerBinding;
use bytes::Bytes;
use kaldrix_types::{BlockRef, Round, ValidatorIndex, limits};
use serde::{Deserialize, Serialize};

/// Blocks of one [`PeerRequest::Blocks`].
pub const REQUESTED_BLOCKS_MAX: usize = 128;
/// Floors of one [`PeerRequest::BlocksAbove`]: one per validator.
pub const FLOORS_MAX: usize = limits::VALIDATORS_MAX;
/// Blocks of one answer together, bytes.
pub const RESPONSE_BYTES_MAX: usize = 16 * 1024 * 1024;

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
}

impl PeerRequest {
    /// Whether the question keeps its limits.
    #[must_use]
    pub fn is_within_limits(&self) -> bool {
        match self {
            Self::Blocks(blocks) => blocks.len() <= REQUESTED_BLOCKS_MAX,
            Self::BlocksAbove { floors, .. } => floors.len() <= FLOORS_MAX,
            Self::LastOwnBlock(_) => true,
        }
    }
}

impl PeerResponse {
    /// Replaces an answer that the asker would take for garbage by a refusal.
    pub(crate) fn within_limits(self) -> Self {
        match self {
            Self::Blocks(blocks) if blocks.iter().map(Bytes::len).sum::<usize>() > RESPONSE_BYTES_MAX => {
                Self::Refused("the answer is too large".to_owned())
            }
            fine => fine,
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerResponse {
    /// BCS of blocks.
    Blocks(Vec<Bytes>),
    /// Not now, or not at all.
    Refused(String),
}

/// A request on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Call {
    /// Who I am; always first.
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
    /// The block was looked at.
    Ack,
    /// The answer to a question.
    Answer(PeerResponse),
    /// Say hello first.
    Unbound,
}
