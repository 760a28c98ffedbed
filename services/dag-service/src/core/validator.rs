//! The core thread: drives the pure [`Node`] and carries its effects to the tasks.
//!
//! ```text
//!   network ──AddBlock──▶ ┌───────────┐ ──Upward (never blocks)──▶ consensus-service
//!   clients ──AddTx─────▶ │ Validator │ ──Item───▶ persist
//!   consensus ─Propose──▶ │   Node    │ ──Proposal──▶ propose (sign, send)
//!   executor ─Executed──▶ │ Certifier │ ──CertifierEvent──▶ checkpoints
//!                         └───────────┘ ──wake──▶ fetch
//! ```

use super::epoch::{EpochCell, EpochView};
use super::handle::{Command, CoreStatus, Entry, NewEpoch, PendingState, Replay, Upward};
use crate::tasks::persist;
use bytes::Bytes;
use kaldrix_checkpoint::{Certifier, CertifierEvent};
use kaldrix_dag::{AddError, BlockManager, Effect, ExecutedNotice, Limits, Node, NodeConfig, Now, Refused, SyncConfig, Synchronizer};
use kaldrix_proto::consensus::HeaderEntry;
use kaldrix_storage::StoredBlock;
use kaldrix_types::{BlockRef, Checkpoint, Commit, RejectCode, TimestampMs, TxId, VerifiedBlock, encode};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, mpsc};

/// Traces remembered, of transactions that came in here and are not executed yet.
const TRACES_MAX: usize = 4_096;
/// Traces carried per block.
const TRACES_PER_BLOCK: usize = 16;
/// Refusals remembered for clients that ask later.
const DROPPED_MAX: usize = 20_000;
/// Events of the certifier that wait for their task. One comes per checkpoint; the task takes them at once.
const CERTIFIED_WAITING_MAX: usize = 1_024;

/// An own block on its way to be signed, with the traces of its transactions.
pub(crate) struct Proposal {
    pub(crate) proposal: kaldrix_dag::Proposal,
    pub(crate) traceparents: Vec<String>,
    /// It was found in the store at the start: only its signature is missing.
    pub(crate) is_durable: bool,
}

/// Where the core's results go.
pub(crate) struct Outputs {
    pub(crate) persist: mpsc::Sender<persist::Item>,
    pub(crate) proposals: mpsc::Sender<Proposal>,
    pub(crate) certified: mpsc::Sender<CertifierEvent>,
    pub(crate) evidence: mpsc::Sender<(Arc<VerifiedBlock>, Arc<VerifiedBlock>)>,
    pub(crate) fetch: Arc<Notify>,
    pub(crate) epoch: Arc<EpochCell>,
}

/// See the module's text.
pub(crate) struct Validator {
    node: Node,
    config: NodeConfig,
    certifier: Certifier,
    epoch: EpochView,
    last_commit: Option<Commit>,
    outputs: Outputs,
    /// Certifier events that found their channel full.
    certified: VecDeque<CertifierEvent>,
    upward: Option<mpsc::Sender<Upward>>,
    /// The own block that was just made: its bytes are here already.
    fresh: Option<(BlockRef, Bytes)>,
    traces: HashMap<TxId, String>,
    dropped: HashMap<TxId, RejectCode>,
    dropped_order: VecDeque<TxId>,
    executed_transactions: u64,
    started: Instant,
}

impl Validator {
    pub(crate) fn new(node: Node, config: NodeConfig, epoch: EpochView, last_commit: Option<Commit>, outputs: Outputs) -> Self {
        Self {
            certifier: Certifier::new(Arc::clone(&epoch.committee)),
            node,
            config,
            epoch,
            last_commit,
            outputs,
            certified: VecDeque::new(),
            upward: None,
            fresh: None,
            traces: HashMap::new(),
            dropped: HashMap::new(),
            dropped_order: VecDeque::new(),
            executed_transactions: 0,
            started: Instant::now(),
        }
    }

    /// The thread's body: until every handle is gone.
    pub(crate) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.blocking_recv() {
            self.handle(command);
            self.carry_out();
        }
    }

    // A reply whose asker is gone is nobody's loss.
    fn handle(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::AddBlock { from, block, reply } => {
                let _ = reply.send(self.node.add_block(from, block, now));
            }
            Command::AddTransactions { entries, reply } => {
                let _ = reply.send(self.add_transactions(entries, now));
            }
            Command::Propose { round } => self.node.propose(round, now),
            Command::OwnBlock { block, bytes } => self.own_block(block, bytes, now),
            Command::ProposalRefused { round, transactions } => self.node.proposal_refused(round, transactions),
            Command::Committed { commit, reply } => {
                let _ = reply.send(self.on_commit(commit));
            }
            Command::Executed { notice, checkpoint } => self.on_executed(&notice, checkpoint.as_ref(), now),
            Command::TakeTraces { ids, reply } => {
                let _ = reply.send(self.take_traces(&ids));
            }
            Command::Replay { sink, reply } => {
                let _ = reply.send(self.replay(sink));
            }
            Command::Fetch { connected, reply } => {
                let _ = reply.send(self.node.fetch(&connected, now));
            }
            Command::Fetched { request, blocks } => self.node.fetched(request, blocks.as_deref(), now),
            Command::RangeFetched { peer, progress } => self.node.range_fetched(peer, progress, now),
            Command::Blocks { refs, reply } => {
                let _ = reply.send(refs.iter().map(|r| self.node.dag().get(r).cloned()).collect());
            }
            Command::LastBlock { author, reply } => {
                let _ = reply.send(self.node.last_block(author).cloned());
            }
            Command::OwnRound { round } => self.node.own_round(round),
            Command::Rejoin { answers, reply } => {
                let _ = reply.send(self.node.rejoin(&answers));
            }
            Command::Pending { ids, reply } => {
                let _ = reply.send(ids.iter().map(|id| self.pending_state(id)).collect());
            }
            Command::Status { reply } => {
                let _ = reply.send(self.status());
            }
            Command::Sweep => {
                for (id, code) in self.node.sweep(now) {
                    self.remember_dropped(id, code);
                }
            }
            Command::Checkpoint(checkpoint) => self.vote(&checkpoint),
            Command::BeginEpoch { next, reply } => {
                self.begin_epoch(*next);
                let _ = reply.send(());
            }
        }
    }

    /// Carries out what the node wants, in its order.
    fn carry_out(&mut self) {
        loop {
            let effects = self.node.effects();
            if effects.is_empty() {
                break;
            }
            effects.into_iter().for_each(|effect| self.carry_out_one(effect));
        }
        while let Some(event) = self.certified.pop_front() {
            if let Err(error) = self.outputs.certified.try_send(event) {
                self.certified.push_front(error.into_inner());
                break;
            }
        }
        self.certified.truncate(CERTIFIED_WAITING_MAX);
    }

    fn carry_out_one(&mut self, effect: Effect) {
        match effect {
            Effect::Accepted(block) => self.accepted(&block),
            Effect::Pending(pending) => self.send_up(Upward::Pending(pending)),
            Effect::Propose(proposal) => {
                let traceparents = self.traces_of(proposal.transactions.iter().map(|tx| tx.id()));
                let proposal = Proposal { proposal: *proposal, traceparents, is_durable: false };
                if let Err(error) = self.outputs.proposals.try_send(proposal) {
                    let kaldrix_dag::Proposal { header, transactions, .. } = error.into_inner().proposal;
                    self.node.proposal_refused(header.round, transactions);
                }
            }
            Effect::Evidence(first, second) => {
                tracing::warn!(first = %first.reference(), second = %second.reference(), "two blocks by one author in one round");
                if self.outputs.evidence.try_send((first, second)).is_err() {
                    tracing::warn!("too much evidence at once: this one is left to other validators");
                }
            }
            Effect::Fetch => self.outputs.fetch.notify_one(),
            Effect::EndSession => self.upward = None,
        }
    }

    /// To the store first, then to consensus.
    fn accepted(&mut self, block: &Arc<VerifiedBlock>) {
        let reference = block.reference();
        let fresh = self.fresh.take_if(|(made, _)| *made == reference);
        let (bytes, traceparents) = match fresh {
            Some((_, bytes)) => (bytes, self.traces_of(block.transactions().iter().map(|tx| tx.id()))),
            None => (encode(block.block()).into(), Vec::new()),
        };
        let own = reference.author == self.config.own;
        self.persist(persist::Item::Block(StoredBlock { reference, bytes, own }));
        // Behind a snapshot, blocks come later than the commits that hold them.
        let committed = self.node.is_committed(&reference);
        self.send_up(Upward::Header(HeaderEntry { header: encode(block.header()).into(), committed, traceparents }));
        self.certified.extend(self.certifier.on_block(block));
    }

    /// Blocks this thread while the store's queue is full: that is the back-pressure on peers and clients.
    fn persist(&self, item: persist::Item) {
        if self.outputs.persist.blocking_send(item).is_err() {
            tracing::debug!("the store task has stopped; the service is draining");
        }
    }

    /// Never blocks: when consensus-service does not keep up, the session is given up, and the next one replays.
    fn send_up(&mut self, item: Upward) {
        if let Some(sink) = &self.upward
            && sink.try_send(item).is_err()
        {
            self.upward = None;
        }
    }

    fn add_transactions(&mut self, entries: Vec<Entry>, now: Now) -> Vec<Result<(), AddError>> {
        let mut results = Vec::with_capacity(entries.len());
        for entry in entries {
            let id = entry.tx.id();
            let added = self.node.add_transaction(entry.tx, entry.next_sequence, now);
            if added.is_ok() && !entry.traceparent.is_empty() && self.traces.len() < TRACES_MAX {
                self.traces.insert(id, entry.traceparent);
            }
            results.push(added.map(|_| ()));
        }
        results
    }

    fn own_block(&mut self, block: Arc<VerifiedBlock>, bytes: Bytes, now: Now) {
        let reference = block.reference();
        self.fresh = Some((reference, bytes));
        match self.node.own_block(block, now) {
            Ok(()) => {}
            Err(Refused::OtherEpoch) => tracing::debug!(%reference, "the epoch changed while an own block was signed"),
            Err(refused) => tracing::warn!(%reference, %refused, "an own block was not taken in"),
        }
    }

    fn on_commit(&mut self, commit: Commit) -> Option<Vec<Arc<VerifiedBlock>>> {
        let blocks = self.node.committed(&commit)?;
        self.last_commit = Some(commit);
        Some(blocks)
    }

    fn on_executed(&mut self, notice: &ExecutedNotice, checkpoint: Option<&Checkpoint>, now: Now) {
        self.executed_transactions += notice.transactions;
        for (id, code) in self.node.executed(notice, now) {
            self.remember_dropped(id, code);
        }
        if let Some(checkpoint) = checkpoint {
            self.vote(checkpoint);
        }
    }

    fn vote(&mut self, checkpoint: &Checkpoint) {
        if checkpoint.epoch == self.epoch.committee.epoch() {
            self.node.vote(checkpoint.vote());
            self.certified.extend(self.certifier.note_own(checkpoint));
        }
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

    fn traces_of(&self, ids: impl Iterator<Item = TxId>) -> Vec<String> {
        if self.traces.is_empty() {
            return Vec::new();
        }
        ids.filter_map(|id| self.traces.get(&id)).take(TRACES_PER_BLOCK).cloned().collect()
    }

    fn take_traces(&mut self, ids: &[TxId]) -> Vec<(u32, String)> {
        if self.traces.is_empty() {
            return Vec::new();
        }
        let found = ids.iter().enumerate().filter_map(|(i, id)| Some((u32::try_from(i).ok()?, self.traces.remove(id)?)));
        found.collect()
    }

    fn replay(&mut self, sink: mpsc::Sender<Upward>) -> Replay {
        // What the node still wants done belongs to the session before: the replay holds it.
        self.carry_out();
        self.upward = Some(sink);
        let kaldrix_dag::Replay { headers, own_last_round } = self.node.replay();
        let entry = |(block, committed): (Arc<VerifiedBlock>, bool)| HeaderEntry {
            header: encode(block.header()).into(),
            committed,
            traceparents: Vec::new(),
        };
        Replay {
            epoch: self.epoch.clone(),
            last_commit: self.last_commit.clone(),
            headers: headers.into_iter().map(entry).collect(),
            own_last_round,
        }
    }

    /// The next epoch, or a new beginning after a snapshot was taken over.
    fn begin_epoch(&mut self, next: NewEpoch) {
        let NewEpoch { epoch, last_commit, blocks, committed, last_own } = next;
        self.config = NodeConfig { own: epoch.own, ..self.config };
        let mut manager = BlockManager::new(Arc::clone(&epoch.committee), Limits::default());
        if let Some(commit) = &last_commit {
            manager.collect(gc_round_after(commit, self.config.gc_depth));
        }
        for block in blocks {
            manager.recover(block);
        }
        let sync = Synchronizer::new(&epoch.committee, epoch.own, SyncConfig::default());
        self.node.begin_epoch(self.config, manager, sync);
        self.node.recover(last_commit.as_ref(), committed, last_own);
        self.certifier = Certifier::new(Arc::clone(&epoch.committee));
        self.upward = None;
        self.fresh = None;
        self.last_commit = last_commit;
        self.outputs.epoch.set(epoch.clone());
        self.epoch = epoch;
    }

    fn pending_state(&self, id: &TxId) -> PendingState {
        let mempool = self.node.mempool();
        if mempool.is_in_flight(id) {
            PendingState::Included
        } else if mempool.contains(id) {
            PendingState::Queued
        } else {
            self.dropped.get(id).map_or(PendingState::Unknown, |code| PendingState::Dropped(*code))
        }
    }

    fn status(&self) -> CoreStatus {
        CoreStatus {
            node: self.node.status(),
            epoch: self.epoch.committee.epoch(),
            has_seat: self.epoch.has_seat(),
            last_commit: self.last_commit.as_ref().map(|c| (c.index, c.digest(), c.timestamp_ms)).unwrap_or_default(),
            executed_transactions: self.executed_transactions,
        }
    }

    fn now(&self) -> Now {
        Now { monotonic_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX), wall_ms: wall_clock_ms() }
    }
}

/// Where garbage collection stands after a commit.
pub(crate) fn gc_round_after(commit: &Commit, gc_depth: u64) -> u64 {
    commit.gc_round.max(commit.leader.round.saturating_sub(gc_depth))
}

/// This machine's clock in ms since the Unix epoch.
pub(crate) fn wall_clock_ms() -> TimestampMs {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
