//! Blocks of the DAG: what validators send one another.

use crate::hash::{Context, Digest};
use crate::{
    ChainId, CodecError, CommitIndex, Committee, DecodedTransaction, Epoch, PublicKey, Purpose, RejectCode, Round, TimestampMs,
    ValidatorIndex, codec, limits, merkle_root, signing_message,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Names one block. Order: round, author, digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockRef {
    /// The block's round.
    pub round: Round,
    /// Its author.
    pub author: ValidatorIndex,
    /// Hash of its unsigned header.
    pub digest: Digest,
}

impl fmt::Debug for BlockRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "B{}.{}({})", self.round, self.author, self.digest.short())
    }
}

impl fmt::Display for BlockRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// "I have computed commit `index` and it is `digest`": a quorum of these certifies a commit for those who follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitVote {
    /// Which commit.
    pub index: CommitIndex,
    /// What the author found it to be.
    pub digest: Digest,
}

/// "I have computed checkpoint `index` and it is `digest`": a quorum of these makes it final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointVote {
    /// Which checkpoint.
    pub index: u64,
    /// What the author found it to be.
    pub digest: Digest,
}

/// The signed part of a block; all that consensus ever sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Format, 1.
    pub version: u16,
    /// The chain.
    pub chain_id: ChainId,
    /// The epoch.
    pub epoch: Epoch,
    /// The round, above the epoch's start round.
    pub round: Round,
    /// Who made it.
    pub author: ValidatorIndex,
    /// Author's clock, never before its parents'.
    pub timestamp_ms: TimestampMs,
    /// The author's previous block first, at most one per author, a quorum of round − 1.
    pub parents: Vec<BlockRef>,
    /// Merkle root over the signed transactions ([`Context::BlockLeaf`]).
    pub transactions_root: Digest,
    /// Number of transactions.
    pub transaction_count: u32,
    /// Body length in bytes.
    pub body_bytes: u32,
    /// Votes on recent commits.
    pub commit_votes: Vec<CommitVote>,
    /// Votes on recent checkpoints.
    pub checkpoint_votes: Vec<CheckpointVote>,
}

impl Header {
    /// Current format.
    pub const VERSION: u16 = 1;

    /// Hash of the unsigned header: randomised signatures stay outside a block's identity.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Context::BlockDigest.hash(&[&codec::encode(self)])
    }

    /// This block's name.
    #[must_use]
    pub fn reference(&self) -> BlockRef {
        BlockRef { round: self.round, author: self.author, digest: self.digest() }
    }

    /// Parents of the round before: the only ones decisions look at.
    pub fn strong_parents(&self) -> impl Iterator<Item = &BlockRef> {
        self.parents.iter().filter(|p| p.round + 1 == self.round)
    }
}

/// A block as it travels. The body is the BCS encoding of a list of signed transactions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// What is signed.
    pub header: Header,
    /// The author's signature over [`Purpose::Block`] and the header's digest.
    pub signature: Bytes,
    /// The transactions, see [`encode_body`].
    pub body: Bytes,
}

/// Checks signatures for [`Block::verify`]; implemented by `libs/crypto`, and by the simulator.
pub trait BlockVerifier {
    /// Whether `signature` over `message` holds under `key`.
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool;
}

/// Why a block is refused. A refused block says something about its sender.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Bytes that are no block.
    #[error("malformed: {0}")]
    Malformed(#[from] CodecError),
    /// Format of another version.
    #[error("version {0} is not supported")]
    Version(u16),
    /// Of another chain or epoch.
    #[error("of another chain or epoch")]
    WrongChain,
    /// The author is not in the committee.
    #[error("the author is not a validator of this epoch")]
    UnknownAuthor,
    /// The blocks an epoch begins with exist by definition; nobody sends them, or any below.
    #[error("a block at or below the round that its epoch begins with")]
    GenesisRound,
    /// A limit on bytes or counts is passed.
    #[error("over a limit: {0}")]
    Limit(&'static str),
    /// The parents break a rule.
    #[error("wrong parents: {0}")]
    Parents(&'static str),
    /// The timestamp is further ahead than clocks may differ.
    #[error("timestamp is {ahead_ms} ms ahead of this clock")]
    FromTheFuture {
        /// How far.
        ahead_ms: u64,
    },
    /// Body and header do not fit.
    #[error("the body does not match the header: {0}")]
    Body(&'static str),
    /// A transaction that no correct validator would include.
    #[error("transaction {position} is unacceptable: {code}")]
    Transaction {
        /// Where in the body.
        position: usize,
        /// Why.
        code: RejectCode,
    },
    /// The author did not sign this.
    #[error("the signature does not hold")]
    Signature,
}

impl Block {
    /// Decodes bytes from a peer; the body stays a slice of `bytes`' allocation only if the decoder can, so it is copied once.
    ///
    /// # Errors
    /// [`BlockError::Malformed`] or [`BlockError::Limit`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BlockError> {
        let limit = limits::HEADER_BYTES_MAX + limits::SIGNATURE_BYTES_MAX + limits::BLOCK_BODY_BYTES_MAX;
        Ok(codec::decode(bytes, limit)?)
    }

    /// Everything that can be known about a block by itself: limits, parents' shape, Merkle root, transactions' form, the author's signature.
    /// Whether its parents are there is for the block manager.
    ///
    /// # Errors
    /// [`BlockError`], the first rule broken; cheap rules are looked at first, the signature last.
    pub fn verify(self, committee: &Committee, verifier: &impl BlockVerifier, now_ms: TimestampMs) -> Result<VerifiedBlock, BlockError> {
        let header = &self.header;
        check_header(header, committee)?;
        let ahead_ms = header.timestamp_ms.saturating_sub(now_ms);
        if ahead_ms > limits::CLOCK_DRIFT_MS_MAX {
            return Err(BlockError::FromTheFuture { ahead_ms });
        }
        // The count is checked against the list before the list is decoded.
        let transactions = split_body(&self.body)?;
        if transactions.len() != header.transaction_count as usize {
            return Err(BlockError::Body("count"));
        }
        let decode = |(position, bytes)| {
            DecodedTransaction::decode(bytes, header.chain_id).map_err(|code| BlockError::Transaction { position, code })
        };
        let transactions = transactions.into_iter().enumerate().map(decode).collect::<Result<Vec<_>, _>>()?;
        self.seal(transactions, committee, verifier)
    }

    /// As [`Self::verify`] for a block this validator has just made from `transactions`, which need not be decoded again.
    ///
    /// # Errors
    /// As [`Self::verify`]: an own block that breaks a rule must not be sent either.
    pub fn verify_own(
        self,
        transactions: Vec<DecodedTransaction>,
        committee: &Committee,
        verifier: &impl BlockVerifier,
    ) -> Result<VerifiedBlock, BlockError> {
        check_header(&self.header, committee)?;
        self.seal(transactions, committee, verifier)
    }

    /// What comes last: body against header, and the signature.
    fn seal(
        self,
        transactions: Vec<DecodedTransaction>,
        committee: &Committee,
        verifier: &impl BlockVerifier,
    ) -> Result<VerifiedBlock, BlockError> {
        let header = &self.header;
        if self.body.len() != header.body_bytes as usize {
            return Err(BlockError::Body("length"));
        }
        if transactions.len() != header.transaction_count as usize {
            return Err(BlockError::Body("count"));
        }
        let leaves: Vec<Digest> = transactions.iter().map(DecodedTransaction::leaf).collect();
        if merkle_root(&leaves) != header.transactions_root {
            return Err(BlockError::Body("Merkle root"));
        }
        let reference = header.reference();
        let key = &committee.get(header.author).ok_or(BlockError::UnknownAuthor)?.key;
        if !verifier.verify(key, &signing_message(Purpose::Block, header.chain_id, reference.digest), &self.signature) {
            return Err(BlockError::Signature);
        }
        Ok(VerifiedBlock { reference, block: self, transactions })
    }
}

fn check_header(header: &Header, committee: &Committee) -> Result<(), BlockError> {
    if header.version != Header::VERSION {
        return Err(BlockError::Version(header.version));
    }
    if header.chain_id != committee.chain() || header.epoch != committee.epoch() {
        return Err(BlockError::WrongChain);
    }
    if header.round <= committee.start_round() {
        return Err(BlockError::GenesisRound);
    }
    if committee.get(header.author).is_none() {
        return Err(BlockError::UnknownAuthor);
    }
    if header.transaction_count as usize > limits::BLOCK_TRANSACTIONS_MAX {
        return Err(BlockError::Limit("transactions"));
    }
    if header.body_bytes as usize > limits::BLOCK_BODY_BYTES_MAX {
        return Err(BlockError::Limit("body bytes"));
    }
    if header.commit_votes.len() > limits::VOTES_MAX || header.checkpoint_votes.len() > limits::VOTES_MAX {
        return Err(BlockError::Limit("votes"));
    }
    let mut seen = vec![false; committee.size()];
    let mut strong_stake = 0;
    for (i, parent) in header.parents.iter().enumerate() {
        if parent.round >= header.round {
            return Err(BlockError::Parents("a parent is not of an earlier round"));
        }
        if parent.round < committee.start_round() {
            return Err(BlockError::Parents("a parent is of an earlier epoch"));
        }
        if (i == 0) != (parent.author == header.author) {
            return Err(BlockError::Parents("the author's own previous block comes first, and only there"));
        }
        match seen.get_mut(parent.author.as_usize()) {
            None => return Err(BlockError::Parents("a parent's author is unknown")),
            Some(true) => return Err(BlockError::Parents("two parents by one author")),
            Some(slot) => *slot = true,
        }
        if parent.round + 1 == header.round {
            strong_stake += committee.stake(parent.author);
        }
    }
    if strong_stake < committee.quorum() {
        return Err(BlockError::Parents("no quorum of the round before"));
    }
    Ok(())
}

/// A block that passed [`Block::verify`]: the only kind the core accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedBlock {
    reference: BlockRef,
    block: Block,
    transactions: Vec<DecodedTransaction>,
}

impl VerifiedBlock {
    /// This block's name.
    #[must_use]
    pub const fn reference(&self) -> BlockRef {
        self.reference
    }

    /// The signed part.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.block.header
    }

    /// The whole block.
    #[must_use]
    pub const fn block(&self) -> &Block {
        &self.block
    }

    /// The transactions, decoded.
    #[must_use]
    pub fn transactions(&self) -> &[DecodedTransaction] {
        &self.transactions
    }
}

/// Encodes a block's body: BCS of a list of byte strings.
#[must_use]
pub fn encode_body<'a>(transactions: impl ExactSizeIterator<Item = &'a Bytes> + Clone) -> Bytes {
    let size: usize = transactions.clone().map(|t| t.len() + 5).sum();
    let mut body = Vec::with_capacity(size + 5);
    put_length(&mut body, transactions.len());
    for bytes in transactions {
        put_length(&mut body, bytes.len());
        body.extend_from_slice(bytes);
    }
    body.into()
}

fn put_length(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Splits a body into its transactions without copying them.
///
/// # Errors
/// [`BlockError::Body`] for bytes that are not the canonical encoding, [`BlockError::Limit`] for too many.
pub fn split_body(body: &Bytes) -> Result<Vec<Bytes>, BlockError> {
    let mut at = 0;
    let count = take_length(body, &mut at)?;
    if count > limits::BLOCK_TRANSACTIONS_MAX {
        return Err(BlockError::Limit("transactions"));
    }
    let mut transactions = Vec::with_capacity(count.min(body.len()));
    for _ in 0..count {
        let length = take_length(body, &mut at)?;
        let end = at.checked_add(length).filter(|end| *end <= body.len()).ok_or(BlockError::Body("truncated"))?;
        transactions.push(body.slice(at..end));
        at = end;
    }
    if at == body.len() { Ok(transactions) } else { Err(BlockError::Body("trailing bytes")) }
}

/// ULEB128 as BCS has it: at most five bytes, minimal.
fn take_length(bytes: &[u8], at: &mut usize) -> Result<usize, BlockError> {
    let mut value = 0u64;
    for shift in (0..35).step_by(7) {
        let byte = *bytes.get(*at).ok_or(BlockError::Body("truncated"))?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            if (shift > 0 && byte == 0) || value > u64::from(u32::MAX) {
                break;
            }
            return Ok(value as usize);
        }
    }
    Err(BlockError::Body("a length is not canonical"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_body_is_the_bcs_of_a_list_of_byte_strings(list in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..200)) {
            let list: Vec<Bytes> = list.into_iter().map(Bytes::from).collect();
            let body = encode_body(list.iter());
            let reference = codec::encode(&list);
            prop_assert_eq!(body.as_ref(), reference.as_slice());
            prop_assert_eq!(split_body(&body).unwrap(), list);
        }

        #[test]
        fn arbitrary_bodies_and_blocks_never_panic(bytes: Vec<u8>) {
            let ours = split_body(&bytes.clone().into());
            prop_assert_eq!(ours.is_ok(), codec::decode::<Vec<Bytes>>(&bytes, usize::MAX).is_ok());
            let _ = Block::decode(&bytes);
        }
    }
}
