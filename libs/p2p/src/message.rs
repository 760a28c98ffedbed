//! What peers say to one another: BCS, one enum each way.

use crate::PeerBinding;
use bytes::Bytes;
use kaldrix_types::{BlockRef, Round, ValidatorIndex};
use serde::{Deserialize, Serialize};

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
