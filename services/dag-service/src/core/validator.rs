//! The core thread: one owner of the block DAG, the mempool and the next proposal.
//!
//! ```text
//!   network ──AddBlock──▶ ┌───────────┐ ──Upward (never blocks)──▶ consensus-service
//!   clients ──AddTx─────▶ │ Validator │ ──Item───▶ persist
//!   consensus ─Propose──▶ │           │ ──Proposal──▶ propose (sign, send)
//!   executor ─Executed──▶ └───────────┘ ──wake──▶ fetch
//! ```

use super::handle::{Command, CoreStatus, Entry, ExecutedNotice, FetchWork, PendingState, Proposal, Replay, Upward};
use crate::tasks::persist;
use kaldrix_dag::{Accepted, AddError, BlockManager, Mempool, ProposalInput, Proposer, RequestId, Synchronizer};
use kaldrix_proto::consensus::HeaderEntry;
use kaldrix_storage::StoredBlock;
use kaldrix_types::{
    BlockRef, Commit, CommitVote, DecodedTransaction, RejectCode, Round, TimestampMs, TxId, ValidatorIndex, VerifiedBlock, encode,
};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, mpsc};

/// Traces remembered, of transactions that came in here and are not executed yet.
const TRACES_MAX: usize = 4_096;
/// Traces carried per block.
const TRACES_PER_BLOCK: usize = 16;
/// Refusals remembered for clients that ask later.
const DROPPED_MAX: usize = 20_000;
/// Votes for recent commits in one block.
const COMMIT_VOTES_PER_BLOCK: usize = 16;

/// Fixed settings.
pub(crate) struct ValidatorConfig {
    pub(crate) own: ValidatorIndex,
    pub(crate) gc_depth: u64,
    pub(crate) transactions_per_block: usize,
    pub(crate) body_bytes_per_block: usize,
}

/// Where the core's results go.
pub(crate) struct Outputs {
    pub(crate) persist: mpsc::Sender<persist::Item>,
    pub(crate) proposals: mpsc::Sender<Proposal>,
    pub(crate) fetch: Arc<Notify>,
}

/// See the module's text.
pub(crate) struct Validator {
    config: ValidatorConfig,
    manager: BlockManager,
    mempool: Mempool,
    proposer: Proposer,
    sync: Synchronizer,
    outputs: Outputs,
    upward: Option<mpsc::Sender<Upward>>,
    told_pending: bool,
    committed: HashSet<BlockRef>,
    last_own: Option<BlockRef>,
    own_round_floor: Round,
    proposing: Option<Round>,
    /// A round that consensus asked for while the one before was still being signed.
    wanted: Option<Round>,
    votes: VecDeque<CommitVote>,
    traces: HashMap<TxId, String>,
    dropped: HashMap<TxId, RejectCode>,
    dropped_order: VecDeque<TxId>,
    status: CoreStatus,
    started: Instant,
}

impl Validator {
    pub(crate) fn new(config: ValidatorConfig, manager: BlockManager, mempool: Mempool, sync: Synchronizer, outputs: Outputs) -> Self {
        Self {
            proposer: Proposer::new(config.own),
            config,
            manager,
            mempool,
            sync,
            outputs,
            upward: None,
            told_pending: false,
            committed: HashSet::new(),
            last_own: None,
            own_round_floor: 0,
            proposing: None,
            wanted: None,
            votes: VecDeque::new(),
            traces: HashMap::new(),
            dropped: HashMap::new(),
            dropped_order: VecDeque::new(),
            status: CoreStatus::default(),
            started: Instant::now(),
        }
    }

    /// Takes back what the store held. Blocks are in the manager already.
    pub(crate) fn recover(
        &mut self,
        last_commit: Option<&Commit>,
        committed: impl IntoIterator<Item = BlockRef>,
        last_own: Option<BlockRef>,
    ) {
        self.committed = committed.into_iter().collect();
        self.last_own = last_own;
        self.own_round_floor = last_own.map_or(0, |b| b.round);
        if let Some(own) = last_own.and_then(|b| self.manager.get(&b).cloned()) {
            self.proposer.on_own_block(&self.manager, &own);
        }
        if let Some(commit) = last_commit {
            self.status.commit_index = commit.index;
            self.status.commit_digest = commit.digest();
            self.status.commit_timestamp_ms = commit.timestamp_ms;
        }
    }

    /// The thread's body: until every handle is gone.
    pub(crate) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.blocking_recv() {
            self.handle(command);
        }
    }

    // A reply whose asker is gone is nobody's loss.
    fn handle(&mut self, command: Command) {
        match command {
            Command::AddBlock { from, block, reply } => {
                let _ = reply.send(self.add_block(from, block));
            }
            Command::AddTransactions { entries, reply } => {
                let _ = reply.send(self.add_transactions(entries));
            }
            Command::Propose { round } => self.propose(round),
            Command::OwnBlock(block) => self.own_block(block),
            Command::ProposalRefused { round, transactions } => self.proposal_refused(round, transactions),
            Command::Committed { commit, reply } => {
                let _ = reply.send(self.on_commit(&commit));
            }
            Command::Executed(notice) => self.on_executed(notice),
            Command::TakeTraces { ids, reply } => {
                let _ = reply.send(self.take_traces(&ids));
            }
            Command::Replay { sink, reply } => {
                let _ = reply.send(self.replay(sink));
            }
            Command::Fetch { connected, reply } => {
                let _ = reply.send(self.fetch(&connected));
            }
            Command::Fetched { request, blocks } => self.fetched(request, blocks.as_deref()),
            Command::RangeFetched { peer, progress } => self.sync.on_range_done(peer, progress, self.monotonic_ms()),
            Command::Blocks { refs, reply } => {
                let _ = reply.send(refs.iter().map(|r| self.manager.get(r).cloned()).collect());
            }
            Command::LastBlock { author, reply } => {
                let round = self.manager.highest_accepted_rounds().get(author.as_usize()).copied().unwrap_or(0);
                let _ = reply.send(self.manager.first_at(round, author).cloned());
            }
            Command::OwnRound { round } => self.own_round_floor = self.own_round_floor.max(round),
            Command::Pending { ids, reply } => {
                let _ = reply.send(ids.iter().map(|id| self.pending_state(id)).collect());
            }
            Command::Status { reply } => {
                let _ = reply.send(self.current_status());
            }
            Command::Sweep => self.sweep(),
        }
    }

    fn add_block(&mut self, from: ValidatorIndex, block: Arc<VerifiedBlock>) -> Result<(), kaldrix_dag::Refused> {
        let reference = block.reference();
        match self.manager.add(block) {
            Ok(outcome) => {
                self.sync.resolved(&reference);
                self.sync.want(outcome.missing.iter().copied(), from);
                self.take_in(outcome);
                self.retry_wanted();
                Ok(())
            }
            Err(refused) => {
                if matches!(refused, kaldrix_dag::Refused::TooFarAhead { .. }) {
                    self.sync.saw_round(from, reference.round);
                    self.outputs.fetch.notify_one();
                }
                Err(refused)
            }
        }
    }

    fn retry_wanted(&mut self) {
        if self.proposing.is_none()
            && let Some(round) = self.wanted.take()
        {
            self.propose(round);
        }
    }

    /// Hands newly accepted blocks on: to the store first, then to consensus.
    fn take_in(&mut self, outcome: Accepted) {
        for (first, second) in &outcome.equivocations {
            tracing::warn!(%first, %second, "two blocks by one author in one round: evidence kept");
        }
        for block in outcome.accepted {
            let reference = block.reference();
            self.sync.resolved(&reference);
            let own = reference.author == self.config.own;
            self.persist(persist::Item::Block(StoredBlock { reference, bytes: encode(block.block()).into(), own }));
            if own && self.last_own.is_none_or(|last| last.round < reference.round) {
                // A block of ours that this store does not remember: it was lost, and a peer gave it back.
                self.last_own = Some(reference);
                self.own_round_floor = self.own_round_floor.max(reference.round);
                self.proposer.on_own_block(&self.manager, &block);
            }
            self.send_header(&block, Vec::new());
        }
        if !outcome.missing.is_empty() {
            self.outputs.fetch.notify_one();
        }
    }

    /// Blocks this thread while the store's queue is full: that is the back-pressure on peers and clients.
    fn persist(&self, item: persist::Item) {
        if self.outputs.persist.blocking_send(item).is_err() {
            tracing::debug!("the store task has stopped; the service is draining");
        }
    }

    fn send_header(&mut self, block: &VerifiedBlock, traceparents: Vec<String>) {
        self.send_up(Upward::Header(HeaderEntry { header: encode(block.header()).into(), committed: false, traceparents }));
    }

    /// Never blocks: when consensus-service does not keep up, the session is given up, and the next one replays.
    fn send_up(&mut self, item: Upward) {
        if let Some(sink) = &self.upward
            && sink.try_send(item).is_err()
        {
            self.upward = None;
        }
    }

    fn add_transactions(&mut self, entries: Vec<Entry>) -> Vec<Result<(), AddError>> {
        let (now_ms, consensus_ms) = (self.monotonic_ms(), self.status.commit_timestamp_ms);
        let results = entries
            .into_iter()
            .map(|entry| {
                let id = entry.tx.id();
                self.mempool.add(entry.tx, entry.next_sequence, now_ms, consensus_ms).map(|_| {
                    if !entry.traceparent.is_empty() && self.traces.len() < TRACES_MAX {
                        self.traces.insert(id, entry.traceparent);
                    }
                })
            })
            .collect();
        self.tell_pending();
        results
    }

    fn tell_pending(&mut self) {
        let pending = self.mempool.has_ready();
        if pending != self.told_pending {
            self.told_pending = pending;
            self.send_up(Upward::Pending(pending));
        }
    }

    fn propose(&mut self, round: Round) {
        if round <= self.own_round_floor {
            return;
        }
        if self.proposing.is_some() {
            self.wanted = self.wanted.max(Some(round));
            return;
        }
        let transactions =
            self.mempool.take(self.config.transactions_per_block, self.config.body_bytes_per_block, self.status.commit_timestamp_ms);
        let traceparents = transactions.iter().filter_map(|tx| self.traces.get(&tx.id())).take(TRACES_PER_BLOCK).cloned().collect();
        let input = ProposalInput {
            round,
            last_own: self.last_own,
            now_ms: wall_clock_ms(),
            transactions: transactions.clone(),
            commit_votes: self.votes.iter().copied().collect(),
            checkpoint_votes: Vec::new(),
        };
        let Some((header, body)) = self.proposer.build(&self.manager, input) else {
            tracing::debug!(round, "not proposing: no quorum of the round before");
            self.mempool.requeue(transactions);
            self.wanted = Some(round);
            return;
        };
        let decoded = transactions.iter().map(|tx| DecodedTransaction::clone(tx)).collect();
        let proposal = Proposal { header, body, transactions: decoded, traceparents, is_durable: false };
        if self.outputs.proposals.try_send(proposal).is_ok() {
            self.proposing = Some(round);
            self.votes.clear();
        } else {
            self.mempool.requeue(transactions);
        }
        self.tell_pending();
    }

    fn own_block(&mut self, block: Arc<VerifiedBlock>) {
        let reference = block.reference();
        self.proposing = None;
        self.own_round_floor = self.own_round_floor.max(reference.round);
        match self.manager.add(Arc::clone(&block)) {
            Ok(mut outcome) => {
                self.last_own = Some(reference);
                self.proposer.on_own_block(&self.manager, &block);
                let traceparents = block.transactions().iter().filter_map(|tx| self.traces.get(&tx.id()));
                let traceparents = traceparents.take(TRACES_PER_BLOCK).cloned().collect();
                outcome.accepted.retain(|b| b.reference() != reference);
                self.send_header(&block, traceparents);
                self.take_in(outcome);
            }
            Err(refused) => tracing::warn!(%reference, %refused, "an own block was not taken in"),
        }
        self.retry_wanted();
    }

    /// crypto-service will not sign this round: its transactions go back, and the round is left out.
    fn proposal_refused(&mut self, round: Round, transactions: Vec<DecodedTransaction>) {
        self.proposing = None;
        self.mempool.requeue(transactions.into_iter().map(Arc::new));
        self.own_round_floor = self.own_round_floor.max(round);
        // Consensus must not wait for this round's own block: a new session tells it where we are.
        self.upward = None;
    }

    fn on_commit(&mut self, commit: &Commit) -> Option<Vec<Arc<VerifiedBlock>>> {
        let blocks: Vec<_> = commit.blocks.iter().map(|b| self.manager.get(b).cloned()).collect::<Option<_>>()?;
        self.committed.extend(commit.blocks.iter().copied());
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
                tracing::info!(block = %block.reference(), "an own block was cut by garbage collection; its transactions are proposed again");
                self.mempool.requeue(block.transactions().iter().cloned().map(Arc::new));
            }
        }
        self.committed.retain(|b| b.round > gc_round);
        self.sync.reconcile(&self.manager);
        self.take_in(collected.outcome);
    }

    fn on_executed(&mut self, notice: ExecutedNotice) {
        for (sender, lane, next) in notice.lanes {
            self.mempool.executed(sender, lane, next);
        }
        let now_ms = self.monotonic_ms();
        for (id, code) in notice.discarded {
            if self.mempool.discarded(id, now_ms) {
                self.remember_dropped(id, code);
            }
        }
        self.status.commit_index = notice.index;
        self.status.commit_digest = notice.digest;
        self.status.commit_timestamp_ms = notice.timestamp_ms;
        self.status.executed_transactions += notice.transactions;
        self.votes.push_back(CommitVote { index: notice.index, digest: notice.digest });
        while self.votes.len() > COMMIT_VOTES_PER_BLOCK {
            self.votes.pop_front();
        }
        self.tell_pending();
    }

    fn remember_dropped(&mut self, id: TxId, code: RejectCode) {
        self.traces.remove(&id);
        if self.dropped.insert(id, code).is_none() {
            self.dropped_order.push_back(id);
        }
        while self.dropped_order.len() > DROPPED_MAX {
            if let Some(old) = self.dropped_order.pop_front() {
                self.dropped.remove(&old);
            }
        }
    }

    fn take_traces(&mut self, ids: &[TxId]) -> Vec<(u32, String)> {
        if self.traces.is_empty() {
            return Vec::new();
        }
        let found = ids.iter().enumerate().filter_map(|(i, id)| Some((u32::try_from(i).ok()?, self.traces.remove(id)?)));
        found.collect()
    }

    fn replay(&mut self, sink: mpsc::Sender<Upward>) -> Replay {
        let headers = self
            .manager
            .blocks_above(self.manager.gc_round())
            .map(|b| HeaderEntry {
                header: encode(b.header()).into(),
                committed: self.committed.contains(&b.reference()),
                traceparents: Vec::new(),
            })
            .collect();
        self.upward = Some(sink);
        self.told_pending = false;
        self.tell_pending();
        Replay { headers, own_last_round: self.own_round_floor.max(self.proposing.unwrap_or(0)) }
    }

    fn fetch(&mut self, connected: &[ValidatorIndex]) -> FetchWork {
        let now_ms = self.monotonic_ms();
        for peer in self.manager.committee().indices().filter(|p| *p != self.config.own) {
            self.sync.set_reachable(peer, connected.contains(&peer), now_ms);
        }
        FetchWork { range: self.sync.should_range_sync(&self.manager, now_ms), blocks: self.sync.poll(now_ms) }
    }

    fn fetched(&mut self, request: RequestId, delivered: Option<&[BlockRef]>) {
        let now_ms = self.monotonic_ms();
        match delivered {
            Some(blocks) => self.sync.on_response(request, blocks, now_ms),
            None => self.sync.on_failure(request, now_ms),
        }
    }

    fn pending_state(&self, id: &TxId) -> PendingState {
        if self.mempool.is_in_flight(id) {
            PendingState::Included
        } else if self.mempool.contains(id) {
            PendingState::Queued
        } else {
            self.dropped.get(id).map_or(PendingState::Unknown, |code| PendingState::Dropped(*code))
        }
    }

    fn sweep(&mut self) {
        let now_ms = self.monotonic_ms();
        for (id, code) in self.mempool.sweep(now_ms, self.status.commit_timestamp_ms) {
            self.remember_dropped(id, code);
        }
        self.sync.reconcile(&self.manager);
        self.tell_pending();
    }

    fn current_status(&self) -> CoreStatus {
        CoreStatus {
            round: self.manager.highest_round(),
            mempool_transactions: self.mempool.len(),
            mempool_bytes: self.mempool.bytes(),
            suspended: self.manager.suspended_len(),
            ..self.status.clone()
        }
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// This machine's clock in ms since the Unix epoch.
pub(crate) fn wall_clock_ms() -> TimestampMs {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
