//! One validator's data plane in one epoch: the block DAG, the mempool and the next proposal, put together as a state machine.
//!
//! ```text
//!   peers ──add_block──▶ ┌──────┐ ──Accepted──▶ store, consensus (header), certifier (votes)
//!   clients ─add_tx────▶ │ Node │ ──Pending───▶ consensus
//!   consensus ─propose─▶ │      │ ──Propose───▶ make durable, sign, own_block
//!   executor ─executed─▶ └──────┘ ──Fetch─────▶ fetch, ask peers
//! ```
//!
//! dag-service drives it with real sockets and a real store, the simulator with virtual ones: both run this code.

mod rejoin;
mod types;

pub use rejoin::RejoinAnswer;
pub use types::{Effect, ExecutedNotice, FetchWork, NodeConfig, NodeStatus, Now, Proposal, Replay};

use crate::manager::{Accepted, BlockManager, Refused};
use crate::mempool::{AddError, Added, Mempool, MempoolConfig};
use crate::proposer::{ProposalInput, Proposer};
use crate::sync::{RequestId, Synchronizer};
use kaldrix_types::{
    BlockRef, CheckpointVote, Commit, CommitVote, DecodedTransaction, RejectCode, Round, Sequence, TimestampMs, TxId, ValidatorIndex,
    VerifiedBlock,
};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Votes for recent commits in one block.
const COMMIT_VOTES_PER_BLOCK: usize = 16;
/// Votes for checkpoints that wait for a block: far more than can be uncertified at a time.
const CHECKPOINT_VOTES_MAX: usize = 64;

/// See the [module](self). Effects pile up until [`Self::effects`] takes them: take them after each call.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    manager: BlockManager,
    mempool: Mempool,
    proposer: Proposer,
    sync: Synchronizer,
    effects: Vec<Effect>,
    told_pending: bool,
    committed: BTreeSet<BlockRef>,
    last_own: Option<BlockRef>,
    /// Never proposes at or below.
    own_round_floor: Round,
    /// It did not know what it had signed in this epoch.
    rejoined: bool,
    proposing: Option<Round>,
    /// A round that consensus asked for while the one before was still being signed.
    wanted: Option<Round>,
    commit_votes: VecDeque<CommitVote>,
    checkpoint_votes: VecDeque<CheckpointVote>,
    /// Votes in the proposal that is being signed: cast again if it is refused.
    casting: Vec<CheckpointVote>,
    /// The epoch's last commit is known: blocks go on without transactions, to carry votes.
    is_epoch_over: bool,
    consensus_time_ms: TimestampMs,
}

impl Node {
    /// A node that begins its epoch: `manager` and `sync` are of the epoch's committee.
    #[must_use]
    pub fn new(config: NodeConfig, manager: BlockManager, mempool: Mempool, sync: Synchronizer) -> Self {
        Self {
            proposer: Proposer::new(config.own),
            config,
            manager,
            mempool,
            sync,
            effects: Vec::new(),
            told_pending: false,
            committed: BTreeSet::new(),
            last_own: None,
            own_round_floor: 0,
            rejoined: false,
            proposing: None,
            wanted: None,
            commit_votes: VecDeque::new(),
            checkpoint_votes: VecDeque::new(),
            casting: Vec::new(),
            is_epoch_over: false,
            consensus_time_ms: 0,
        }
    }

    /// Takes back what the store held. Its blocks are in the manager already; `last_own` is of this epoch.
    pub fn recover(&mut self, last_commit: Option<&Commit>, committed: impl IntoIterator<Item = BlockRef>, last_own: Option<BlockRef>) {
        self.committed = committed.into_iter().collect();
        self.last_own = last_own;
        self.own_round_floor = self.own_round_floor.max(last_own.map_or(0, |b| b.round));
        if let Some(own) = last_own.and_then(|b| self.manager.get(&b).cloned()) {
            self.proposer.on_own_block(&self.manager, &own);
        }
        if let Some(commit) = last_commit {
            self.consensus_time_ms = commit.timestamp_ms;
            self.is_epoch_over = commit.ends_epoch && commit.epoch == self.manager.committee().epoch();
        }
    }

    /// Goes on in the next epoch, or after a snapshot was taken over; [`Self::recover`] follows. The mempool stays: what is in a block that
    /// no commit holds waits for another block, since its own will never be committed.
    pub fn begin_epoch(&mut self, config: NodeConfig, manager: BlockManager, sync: Synchronizer) {
        self.mempool.requeue_in_flight();
        let mempool = std::mem::replace(&mut self.mempool, Mempool::new(MempoolConfig::default()));
        let (consensus_time_ms, commit_votes) = (self.consensus_time_ms, std::mem::take(&mut self.commit_votes));
        // In the same epoch what was signed stays signed.
        let is_same_epoch = manager.committee().epoch() == self.manager.committee().epoch();
        let own_round_floor = match (is_same_epoch, self.rejoined) {
            (true, _) => self.own_round_floor.max(self.proposing.unwrap_or(0)),
            // When a quorum answered in the epoch before, none of it was in this one: at most a block of the first round may be forgotten.
            (false, true) => manager.committee().start_round() + 1,
            (false, false) => 0,
        };
        let rejoined = self.rejoined && is_same_epoch;
        *self = Self { consensus_time_ms, commit_votes, own_round_floor, rejoined, ..Self::new(config, manager, mempool, sync) };
        self.tell_pending();
    }

    /// What is to be done, in order; empties the list.
    pub fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// A verified block from a peer.
    ///
    /// # Errors
    /// [`Refused`]; see there whose fault it is.
    pub fn add_block(&mut self, from: ValidatorIndex, block: Arc<VerifiedBlock>, now: Now) -> Result<(), Refused> {
        let reference = block.reference();
        match self.manager.add(block) {
            Ok(outcome) => {
                self.sync.resolved(&reference);
                self.sync.want(outcome.missing.iter().copied(), from);
                self.take_in(outcome);
                self.retry_wanted(now);
                Ok(())
            }
            Err(refused) => {
                if matches!(refused, Refused::TooFarAhead { .. }) {
                    self.sync.saw_round(from, reference.round);
                    self.effects.push(Effect::Fetch);
                }
                Err(refused)
            }
        }
    }

    /// A transaction whose signature holds. `next_sequence` is what the executed state expects next in its lane.
    ///
    /// # Errors
    /// [`AddError`]: nothing changed.
    pub fn add_transaction(&mut self, tx: Arc<DecodedTransaction>, next_sequence: Sequence, now: Now) -> Result<Added, AddError> {
        let added = self.mempool.add(tx, next_sequence, now.monotonic_ms, self.consensus_time_ms);
        self.tell_pending();
        added
    }

    /// Consensus asks for the block of this round. Yields [`Effect::Propose`], now or when the proposal before is done.
    pub fn propose(&mut self, round: Round, now: Now) {
        if round <= self.own_round_floor || self.config.own == ValidatorIndex::OBSERVER {
            return;
        }
        if self.proposing.is_some() {
            self.wanted = self.wanted.max(Some(round));
            return;
        }
        let transactions = if self.is_epoch_over {
            Vec::new()
        } else {
            self.mempool.take(self.config.transactions_per_block, self.config.body_bytes_per_block, self.consensus_time_ms)
        };
        let input = ProposalInput {
            round,
            last_own: self.last_own,
            now_ms: now.wall_ms,
            transactions: transactions.clone(),
            commit_votes: self.commit_votes.iter().copied().collect(),
            checkpoint_votes: self.checkpoint_votes.iter().copied().collect(),
        };
        if let Some((header, body)) = self.proposer.build(&self.manager, input) {
            let transactions = transactions.iter().map(|tx| DecodedTransaction::clone(tx)).collect();
            self.proposing = Some(round);
            self.commit_votes.clear();
            self.casting = self.checkpoint_votes.drain(..).collect();
            self.effects.push(Effect::Propose(Box::new(Proposal { header, body, transactions })));
        } else {
            // No quorum of the round before yet: looked at again when a block comes.
            self.mempool.requeue(transactions);
            self.wanted = Some(round);
        }
        self.tell_pending();
    }

    /// The proposal is durable, signed and verified: it joins the DAG.
    ///
    /// # Errors
    /// [`Refused`], which would be a defect of ours: the round is left out.
    pub fn own_block(&mut self, block: Arc<VerifiedBlock>, now: Now) -> Result<(), Refused> {
        let reference = block.reference();
        if block.header().epoch != self.manager.committee().epoch() {
            // Signed while the epoch changed: it is too late for it, and its transactions wait already.
            return Err(Refused::OtherEpoch);
        }
        self.proposing = None;
        self.casting.clear();
        self.own_round_floor = self.own_round_floor.max(reference.round);
        let result = match self.manager.add(block) {
            Ok(outcome) => {
                self.take_in(outcome);
                Ok(())
            }
            Err(refused) => Err(refused),
        };
        self.retry_wanted(now);
        result
    }

    /// The proposal will not be signed: its transactions go back, and the round is left out.
    pub fn proposal_refused(&mut self, round: Round, transactions: Vec<DecodedTransaction>) {
        if self.proposing == Some(round) {
            self.proposing = None;
            self.checkpoint_votes.extend(self.casting.drain(..));
        }
        self.mempool.requeue(transactions.into_iter().map(Arc::new));
        self.own_round_floor = self.own_round_floor.max(round);
        // Consensus must not wait for this round's own block: a new session tells it where we are.
        self.effects.push(Effect::EndSession);
        self.tell_pending();
    }

    /// Consensus has decided a commit: its blocks in order, or `None` when one is not here. Collects garbage as the commit says.
    pub fn committed(&mut self, commit: &Commit) -> Option<Vec<Arc<VerifiedBlock>>> {
        let blocks: Vec<_> = commit.blocks.iter().map(|b| self.manager.get(b).cloned()).collect::<Option<_>>()?;
        self.committed.extend(commit.blocks.iter().copied());
        self.is_epoch_over |= commit.ends_epoch;
        let gc_round = commit.gc_round.max(commit.leader.round.saturating_sub(self.config.gc_depth));
        if gc_round > self.manager.gc_round() {
            self.collect(gc_round);
        }
        Some(blocks)
    }

    fn collect(&mut self, gc_round: Round) {
        let collected = self.manager.collect(gc_round);
        let own = self.config.own;
        for block in collected.dropped {
            if !self.committed.remove(&block.reference()) && block.header().author == own {
                // An own block was cut: its transactions are proposed again.
                self.mempool.requeue(block.transactions().iter().cloned().map(Arc::new));
            }
        }
        self.committed = self.committed.split_off(&crate::suspension::first_of(gc_round + 1));
        self.sync.reconcile(&self.manager);
        self.take_in(collected.outcome);
        self.tell_pending();
    }

    /// A commit was executed. Returns the transactions that are given up, and why.
    pub fn executed(&mut self, notice: &ExecutedNotice, now: Now) -> Vec<(TxId, RejectCode)> {
        for (sender, lane, next) in &notice.lanes {
            self.mempool.executed(*sender, *lane, *next);
        }
        let mut dropped = Vec::new();
        for (id, code) in &notice.discarded {
            if self.mempool.discarded(*id, now.monotonic_ms) {
                dropped.push((*id, *code));
            }
        }
        self.consensus_time_ms = notice.timestamp_ms;
        self.commit_votes.push_back(CommitVote { index: notice.index, digest: notice.digest });
        while self.commit_votes.len() > COMMIT_VOTES_PER_BLOCK {
            self.commit_votes.pop_front();
        }
        self.tell_pending();
        dropped
    }

    /// Votes for a checkpoint in the next own block.
    pub fn vote(&mut self, vote: CheckpointVote) {
        self.checkpoint_votes.push_back(vote);
        while self.checkpoint_votes.len() > CHECKPOINT_VOTES_MAX {
            self.checkpoint_votes.pop_front();
        }
    }

    /// Everything that a new session of consensus begins with. What is accepted later follows as [`Effect::Accepted`].
    pub fn replay(&mut self) -> Replay {
        let above = self.manager.blocks_above(self.manager.gc_round());
        let headers = above.map(|b| (Arc::clone(b), self.committed.contains(&b.reference()))).collect();
        self.told_pending = false;
        self.tell_pending();
        Replay { headers, own_last_round: self.own_round_floor.max(self.proposing.unwrap_or(0)) }
    }

    /// What to ask the connected peers for now.
    pub fn fetch(&mut self, connected: &[ValidatorIndex], now: Now) -> FetchWork {
        let now_ms = now.monotonic_ms;
        for peer in self.manager.committee().indices().filter(|p| *p != self.config.own) {
            self.sync.set_reachable(peer, connected.contains(&peer), now_ms);
        }
        FetchWork { range: self.sync.should_range_sync(&self.manager, now_ms), blocks: self.sync.poll(now_ms) }
    }

    /// A fetch ended: with these blocks, or `None` when it failed.
    pub fn fetched(&mut self, request: RequestId, delivered: Option<&[BlockRef]>, now: Now) {
        match delivered {
            Some(blocks) => self.sync.on_response(request, blocks, now.monotonic_ms),
            None => self.sync.on_failure(request, now.monotonic_ms),
        }
    }

    /// A range request ended; `progress` when it brought anything.
    pub fn range_fetched(&mut self, peer: ValidatorIndex, progress: bool, now: Now) {
        self.sync.on_range_done(peer, progress, now.monotonic_ms);
    }

    /// An own block of this round may exist somewhere: proposes only above it.
    pub fn own_round(&mut self, round: Round) {
        self.own_round_floor = self.own_round_floor.max(round);
    }

    /// For a validator that remembers no own block of this epoch, and whose signer does not either: whether the peers' answers say enough.
    /// Proposals begin above what they say; until this is true none may be made. Ask again, and hand in all answers again, until it is.
    pub fn rejoin(&mut self, answers: &[RejoinAnswer]) -> bool {
        let floor = rejoin::floor(&self.manager, self.config.own, answers);
        self.own_round_floor = self.own_round_floor.max(floor.unwrap_or(0));
        self.rejoined |= floor.is_some();
        floor.is_some()
    }

    /// Gives up expired and gapped transactions, and returns them. To be called a few times per second.
    pub fn sweep(&mut self, now: Now) -> Vec<(TxId, RejectCode)> {
        let dropped = self.mempool.sweep(now.monotonic_ms, self.consensus_time_ms);
        self.sync.reconcile(&self.manager);
        self.tell_pending();
        dropped
    }

    /// The block DAG, to look at and to serve peers from.
    #[must_use]
    pub const fn dag(&self) -> &BlockManager {
        &self.manager
    }

    /// The mempool, to look at.
    #[must_use]
    pub const fn mempool(&self) -> &Mempool {
        &self.mempool
    }

    /// Whether a commit up to the last one holds this block: what a snapshot brought says so before the block itself is here. Consensus
    /// has to be told with the block's header.
    #[must_use]
    pub fn is_committed(&self, block: &BlockRef) -> bool {
        self.committed.contains(block)
    }

    /// The newest accepted block of `author`, for a validator that asks what it signed last.
    #[must_use]
    pub fn last_block(&self, author: ValidatorIndex) -> Option<&Arc<VerifiedBlock>> {
        let round = self.manager.highest_accepted_rounds().get(author.as_usize()).copied().unwrap_or(0);
        self.manager.first_at(round, author)
    }

    /// Where things stand, and how much memory is in use.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        NodeStatus {
            round: self.manager.highest_round(),
            own_round: self.own_round_floor,
            blocks: self.manager.len(),
            suspended: self.manager.suspended_len(),
            suspended_bytes: self.manager.suspended_bytes(),
            wanted: self.sync.wanted_len(),
            mempool_transactions: self.mempool.len(),
            mempool_bytes: self.mempool.bytes(),
            is_epoch_over: self.is_epoch_over,
        }
    }

    /// Hands newly accepted blocks on.
    fn take_in(&mut self, outcome: Accepted) {
        for (first, second) in &outcome.equivocations {
            if let (Some(first), Some(second)) = (self.manager.get(first), self.manager.get(second)) {
                self.effects.push(Effect::Evidence(Arc::clone(first), Arc::clone(second)));
            }
        }
        for block in outcome.accepted {
            let reference = block.reference();
            self.sync.resolved(&reference);
            if reference.author == self.config.own && self.last_own.is_none_or(|last| last.round < reference.round) {
                // Just made, or lost from the store and given back by a peer.
                self.last_own = Some(reference);
                self.own_round_floor = self.own_round_floor.max(reference.round);
                self.proposer.on_own_block(&self.manager, &block);
            }
            self.effects.push(Effect::Accepted(block));
        }
        if !outcome.missing.is_empty() {
            self.effects.push(Effect::Fetch);
        }
    }

    fn retry_wanted(&mut self, now: Now) {
        if self.proposing.is_none()
            && let Some(round) = self.wanted.take()
        {
            self.propose(round, now);
        }
    }

    fn tell_pending(&mut self) {
        let pending = self.mempool.has_ready() && !self.is_epoch_over;
        if pending != self.told_pending {
            self.told_pending = pending;
            self.effects.push(Effect::Pending(pending));
        }
    }
}
