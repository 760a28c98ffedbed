//! Blocks and requests on their way between validators.

use kaldrix_checkpoint::{CatchUpAnswer, CatchUpRequest};
use kaldrix_types::{Block, BlockError, BlockRef, BlockVerifier, Committee, Header, Round, ValidatorIndex, VerifiedBlock, limits};
use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

/// What a frame costs besides its content: length, stream and message headers, TLS records.
const FRAME_BYTES: usize = 64;
/// A block's name as it is encoded.
const REF_BYTES: usize = 42;

/// A block as it travels. All receivers share one copy, and its bytes are checked once; what depends on the receiver is checked by each.
#[derive(Clone, Debug)]
pub(crate) struct Packet(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    bytes: usize,
    reference: BlockRef,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Verified(Arc<VerifiedBlock>),
    /// As a Byzantine validator made it.
    Unchecked(Box<Block>, OnceCell<Result<Arc<VerifiedBlock>, BlockError>>),
}

fn size(block: &Block) -> usize {
    let header = bcs::serialized_size(&block.header).expect("a header encodes");
    FRAME_BYTES + header + block.signature.len() + block.body.len() + 8
}

impl Packet {
    pub(crate) fn verified(block: &Arc<VerifiedBlock>) -> Self {
        let content = Content::Verified(Arc::clone(block));
        Self(Rc::new(Inner { bytes: size(block.block()), reference: block.reference(), content }))
    }

    pub(crate) fn unchecked(block: Block) -> Self {
        let (bytes, reference) = (size(&block), block.header.reference());
        Self(Rc::new(Inner { bytes, reference, content: Content::Unchecked(Box::new(block), OnceCell::new()) }))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes
    }

    pub(crate) fn reference(&self) -> BlockRef {
        self.0.reference
    }

    pub(crate) fn header(&self) -> &Header {
        match &self.0.content {
            Content::Verified(block) => block.header(),
            Content::Unchecked(block, _) => &block.header,
        }
    }

    /// What a receiver with this wall clock makes of it.
    pub(crate) fn open(&self, committee: &Committee, verifier: &impl BlockVerifier, now_ms: u64) -> Result<Arc<VerifiedBlock>, BlockError> {
        if self.header().epoch != committee.epoch() {
            return Err(BlockError::WrongChain);
        }
        let ahead_ms = self.header().timestamp_ms.saturating_sub(now_ms);
        if ahead_ms > limits::CLOCK_DRIFT_MS_MAX {
            return Err(BlockError::FromTheFuture { ahead_ms });
        }
        match &self.0.content {
            Content::Verified(block) => Ok(Arc::clone(block)),
            Content::Unchecked(block, verdict) => {
                verdict.get_or_init(|| Block::clone(block).verify(committee, verifier, u64::MAX).map(Arc::new)).clone()
            }
        }
    }
}

/// What one validator asks another, as `libs/p2p` has it.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Blocks(Arc<[BlockRef]>),
    BlocksAbove { floors: Arc<[Round]>, limit_bytes: usize },
    LastOwnBlock(ValidatorIndex),
    CatchUp(CatchUpRequest),
}

/// What travels.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Block(Packet),
    Request(u64, Box<Request>),
    /// `None` when the request was refused.
    Answer(u64, Option<Vec<Packet>>),
    CatchUpAnswer(u64, CatchUpAnswer),
}

impl Message {
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Block(packet) => packet.bytes(),
            Self::Request(_, request) => {
                FRAME_BYTES
                    + match request.as_ref() {
                        Request::Blocks(refs) => refs.len() * REF_BYTES,
                        Request::BlocksAbove { floors, .. } => floors.len() * 8,
                        Request::LastOwnBlock(_) => 2,
                        Request::CatchUp(_) => 48,
                    }
            }
            Self::CatchUpAnswer(_, answer) => FRAME_BYTES + payload(answer),
            Self::Answer(_, blocks) => FRAME_BYTES + blocks.iter().flatten().map(Packet::bytes).sum::<usize>(),
        }
    }
}

fn payload(answer: &CatchUpAnswer) -> usize {
    match answer {
        CatchUpAnswer::Checkpoints(items) | CatchUpAnswer::Executed(items) => items.iter().map(|item| item.len() + 8).sum(),
        CatchUpAnswer::StatePage { records, .. } => records.len(),
        CatchUpAnswer::Part { bytes, .. } => bytes.len(),
        CatchUpAnswer::Refused => 0,
    }
}
