//! Builds the header and body of the next own block from what is accepted.

use crate::manager::BlockManager;
use bytes::Bytes;
use kaldrix_types::{
    BlockRef, CheckpointVote, CommitVote, DecodedTransaction, Digest, Header, Round, TimestampMs, ValidatorIndex, VerifiedBlock,
    encode_body, limits, merkle_root,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What goes into the next own block besides its parents.
#[derive(Clone, Debug, Default)]
pub struct ProposalInput {
    /// The round to propose in, above the epoch's start round.
    pub round: Round,
    /// The newest own block, `None` when there is none yet (the own genesis block then). Its round may be below `round − 1`.
    pub last_own: Option<BlockRef>,
    /// This machine's clock.
    pub now_ms: TimestampMs,
    /// From [`crate::Mempool::take`], within the block limits of `kaldrix_types::limits`.
    pub transactions: Vec<Arc<DecodedTransaction>>,
    /// Commits to vote for; the last `VOTES_MAX` are used.
    pub commit_votes: Vec<CommitVote>,
    /// Checkpoints to vote for; the last `VOTES_MAX` are used.
    pub checkpoint_votes: Vec<CheckpointVote>,
}

/// Chooses parents for one validator's blocks. Remembers which blocks its own ones already include, so that late blocks of others are linked
/// exactly once.
#[derive(Debug)]
pub struct Proposer {
    own: ValidatorIndex,
    /// Ancestors of own blocks above the garbage-collection round: never more than the DAG holds.
    included: BTreeSet<BlockRef>,
}

impl Proposer {
    /// For the validator at `own`.
    #[must_use]
    pub const fn new(own: ValidatorIndex) -> Self {
        Self { own, included: BTreeSet::new() }
    }

    /// Learns that `block`, an own one, was accepted (also at recovery: the newest own block suffices): its ancestors need no link any more.
    pub fn on_own_block(&mut self, dag: &BlockManager, block: &VerifiedBlock) {
        self.included = self.included.split_off(&crate::suspension::first_of(dag.gc_round() + 1));
        let mut stack = vec![block.reference()];
        stack.extend(&block.header().parents);
        while let Some(reference) = stack.pop() {
            if reference.round <= dag.gc_round() || !self.included.insert(reference) {
                continue;
            }
            if let Some(block) = dag.get(&reference) {
                stack.extend(&block.header().parents);
            }
        }
    }

    /// The next own block's header and body, ready to be signed; `Block::verify` accepts what this builds. Building changes nothing:
    /// [`Self::on_own_block`] tells that the block came to be.
    ///
    /// `None` when there is no quorum of stake at `round − 1` (the last own block included), when `round` is not above the last own block's
    /// (that would be an equivocation), or when the transactions are more than a block may hold.
    #[must_use]
    pub fn build(&self, dag: &BlockManager, input: ProposalInput) -> Option<(Header, Bytes)> {
        let parents = self.parents(dag, input.round, input.last_own)?;
        let parents_time = parents.iter().filter_map(|p| dag.get(p)).map(|b| b.header().timestamp_ms).max();
        let body = encode_body(input.transactions.iter().map(|tx| tx.bytes()));
        if input.transactions.len() > limits::BLOCK_TRANSACTIONS_MAX || body.len() > limits::BLOCK_BODY_BYTES_MAX {
            return None;
        }
        let leaves: Vec<Digest> = input.transactions.iter().map(|tx| tx.leaf()).collect();
        let header = Header {
            version: Header::VERSION,
            chain_id: dag.committee().chain(),
            epoch: dag.committee().epoch(),
            round: input.round,
            author: self.own,
            timestamp_ms: parents_time.map_or(input.now_ms, |t| t.max(input.now_ms)),
            parents,
            transactions_root: merkle_root(&leaves),
            transaction_count: u32::try_from(leaves.len()).ok()?,
            body_bytes: u32::try_from(body.len()).ok()?,
            commit_votes: newest(input.commit_votes),
            checkpoint_votes: newest(input.checkpoint_votes),
        };
        Some((header, body))
    }

    /// Own previous block, then one strong or weak link per other author.
    fn parents(&self, dag: &BlockManager, round: Round, last_own: Option<BlockRef>) -> Option<Vec<BlockRef>> {
        let committee = dag.committee();
        let genesis = committee.genesis_blocks();
        let own = last_own.or_else(|| genesis.get(self.own.as_usize()).copied())?;
        if own.round >= round || own.author != self.own {
            return None;
        }
        let before = round - 1;
        let mut parents = vec![own];
        let mut strong_stake = if own.round == before { committee.stake(self.own) } else { 0 };
        let mut weak = Vec::new();
        for author in committee.indices().filter(|a| *a != self.own) {
            let strong = if before == committee.start_round() {
                genesis.get(author.as_usize()).copied()
            } else {
                dag.first_at(before, author).map(|b| b.reference())
            };
            if let Some(strong) = strong {
                strong_stake += committee.stake(author);
                parents.push(strong);
            } else if let Some(late) = dag.newest_below(author, before).map(|b| b.reference())
                && !self.included.contains(&late)
            {
                weak.push(late);
            }
        }
        parents.extend(weak);
        (strong_stake >= committee.quorum()).then_some(parents)
    }
}

fn newest<T>(mut votes: Vec<T>) -> Vec<T> {
    votes.drain(..votes.len().saturating_sub(limits::VOTES_MAX));
    votes
}
