//! What lives while a validator's process does: the cores, and what is being asked and written.

use crate::boot::Boot;
use crate::catch_up::Recovery;
use crate::follow::Follow;
use crate::packet::Packet;
use crate::queue::Micros;
use crate::state::State;
use crate::store::{Store, Writes};
use crate::world::{Seats, World};
use kaldrix_checkpoint::{Certifier, CertifierEvent, CheckpointBuilder};
use kaldrix_consensus::{ConsensusCore, GC_DEPTH_MIN};
use kaldrix_dag::{BlockManager, Limits, Mempool, MempoolConfig, Node, NodeConfig, RequestId, SyncConfig, Synchronizer};
use kaldrix_types::{BlockRef, CertifiedCheckpoint, Commit, Round, ValidatorIndex, limits};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Requests under way that a process remembers: more than the synchronizer ever has, so the oldest are long dead.
const ASKED_MAX: usize = 4_096;
/// Blocks of later epochs that are kept until this validator gets there.
const EARLY_MAX: usize = 512;

/// What a request was for.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Blocks(RequestId),
    Range,
    /// The asker's newest block.
    OwnLast,
    /// The peer's own newest block; it showed one of the asker's of this round.
    PeerLast(Round),
    /// The newest certified checkpoint.
    Newest,
    /// The ends of the epochs up to this checkpoint's.
    EpochEnds(Box<CertifiedCheckpoint>),
    CatchUp(u64),
}

/// See the module's text.
pub(crate) struct Process {
    pub(crate) seats: Arc<Seats>,
    id: usize,
    pub(crate) node: Node,
    pub(crate) core: Option<ConsensusCore>,
    pub(crate) last_commit: Option<Commit>,
    pub(crate) state: State,
    pub(crate) builder: CheckpointBuilder,
    pub(crate) certifier: Certifier,
    /// What the certifier found and nobody has looked at.
    pub(crate) findings: VecDeque<CertifierEvent>,
    /// The certificate of the epoch's last checkpoint, when it came before this validator had executed so far.
    pub(crate) epoch_end: Option<Arc<CertifiedCheckpoint>>,
    pub(crate) writes: Writes,
    pub(crate) last_sent: Option<Packet>,
    /// The last own block as of the last look.
    pub(crate) quiet: Option<BlockRef>,
    /// `None` after it.
    pub(crate) boot: Option<Boot>,
    pub(crate) early: VecDeque<(usize, Packet)>,
    pub(crate) follow: Follow,
    pub(crate) recovery: Option<Recovery>,
    pub(crate) wants_fetch: bool,
    /// Its commit rule is about to go wrong.
    pub(crate) miscommits: bool,
    pub(crate) fetch_periods: u32,
    asked: BTreeMap<u64, (usize, Asked, Micros)>,
    last_asked: u64,
    pub(crate) tick_at: Option<Micros>,
    pub(crate) session_pause_ms: u64,
    pub(crate) session_commit: u64,
}

fn gc_depth(w: &World<'_>) -> u64 {
    w.config.parameters.gc_depth.max(GC_DEPTH_MIN)
}

/// The data plane of an epoch, as the store has it.
struct Plane {
    config: NodeConfig,
    manager: BlockManager,
    sync: Synchronizer,
    committed: Vec<BlockRef>,
    last_own: Option<BlockRef>,
}

fn plane(id: usize, seats: &Seats, store: &Store, w: &World<'_>) -> Plane {
    let (committee, own) = (&seats.committee, seats.seat(id));
    let after = store.last_commit().map_or(0, |c| c.gc_round.max(c.leader.round.saturating_sub(gc_depth(w))));
    let gc_round = after.max(committee.start_round());
    let mut manager = BlockManager::new(Arc::clone(committee), Limits::default());
    manager.collect(after);
    for packet in store.blocks_after(gc_round) {
        // Those of other epochs are not opened.
        if let Ok(block) = packet.open(committee, &w.book, u64::MAX) {
            manager.recover(block);
        }
    }
    let config = NodeConfig {
        own,
        gc_depth: gc_depth(w),
        transactions_per_block: limits::BLOCK_TRANSACTIONS_MAX,
        body_bytes_per_block: limits::BLOCK_BODY_BYTES_MAX,
    };
    let sync = Synchronizer::new(committee, own, SyncConfig::default());
    let committed = store.committed_after(gc_round);
    Plane { config, manager, sync, committed, last_own: store.own_last(committee.epoch()).map(|(reference, _)| reference) }
}

fn builder(store: &Store, w: &World<'_>) -> CheckpointBuilder {
    let (last, open) = store.open_range();
    let mut builder = CheckpointBuilder::new(w.chain, &w.config.parameters, last, store.tree().clone(), open);
    builder.certified(store.last_certified().map_or(0, |c| c.checkpoint.index));
    builder
}

impl Process {
    /// Takes back what the store holds, as dag-service does.
    pub(crate) fn recover(id: usize, store: &Store, w: &mut World<'_>) -> Self {
        let seats = w.seats_of(store);
        let last_commit = store.last_commit().cloned();
        let Plane { config, manager, sync, committed, last_own } = plane(id, &seats, store, w);
        let mut node = Node::new(config, manager, Mempool::new(MempoolConfig::default()), sync);
        node.recover(last_commit.as_ref(), committed, last_own);
        let mut process = Self {
            certifier: Certifier::new(Arc::clone(&seats.committee)),
            seats,
            id,
            node,
            core: None,
            session_commit: last_commit.as_ref().map_or(0, |c| c.index),
            last_commit,
            state: store.state().clone(),
            builder: builder(store, w),
            findings: VecDeque::new(),
            epoch_end: None,
            writes: Writes::default(),
            last_sent: None,
            quiet: None,
            boot: None,
            early: VecDeque::new(),
            follow: Follow::default(),
            recovery: None,
            wants_fetch: false,
            miscommits: false,
            fetch_periods: 0,
            asked: BTreeMap::new(),
            last_asked: 0,
            tick_at: None,
            session_pause_ms: crate::session::SESSION_PAUSE_MS,
        };
        process.vote_again(store);
        process
    }

    /// Goes on in another epoch, or from a snapshot that the store has taken over; the mempool stays.
    pub(crate) fn enter(&mut self, seats: Arc<Seats>, store: &Store, from_snapshot: bool, w: &World<'_>) {
        let Plane { config, manager, sync, committed, last_own } = plane(self.id, &seats, store, w);
        self.node.begin_epoch(config, manager, sync);
        if from_snapshot {
            self.last_commit = store.last_commit().cloned();
            self.state = store.state().clone();
            self.builder = builder(store, w);
        }
        self.node.recover(self.last_commit.as_ref(), committed, last_own);
        self.certifier = Certifier::new(Arc::clone(&seats.committee));
        self.findings.clear();
        self.epoch_end = None;
        self.seats = seats;
        (self.core, self.tick_at, self.last_sent, self.quiet) = (None, None, None, None);
        self.vote_again(store);
    }

    /// For what was computed and lacks its certificate.
    fn vote_again(&mut self, store: &Store) {
        for checkpoint in store.uncertified(self.seats.committee.epoch()) {
            self.node.vote(checkpoint.vote());
            self.findings.extend(self.certifier.note_own(checkpoint));
        }
    }

    pub(crate) fn seat(&self) -> ValidatorIndex {
        self.seats.seat(self.id)
    }

    /// Index of the last executed commit.
    pub(crate) fn executed(&self) -> u64 {
        self.last_commit.as_ref().map_or(0, |c| c.index)
    }

    pub(crate) fn gc_round(&self) -> u64 {
        self.node.dag().gc_round()
    }

    /// Where it stands, for people.
    pub(crate) fn standing(&self) -> String {
        let status = self.node.status();
        let what = match (&self.boot, &self.recovery) {
            _ if self.follow.is_before_start => " before its start",
            (Some(_), _) => " asks what it signed",
            (_, Some(_)) => " catches up",
            _ if self.seat() == ValidatorIndex::OBSERVER => " without a seat",
            _ => "",
        };
        let (epoch, commit) = (self.seats.committee.epoch(), self.executed());
        format!("epoch {epoch} commit {commit} round {} own {}{what}", status.round, status.own_round)
    }

    /// Headers in consensus.
    pub(crate) fn headers(&self) -> usize {
        self.core.as_ref().map_or(0, |core| core.status().headers)
    }

    /// Keeps a block of a later epoch; what is dropped is fetched later like any missing ancestor.
    pub(crate) fn keep_early(&mut self, from: usize, packet: &Packet) {
        self.early.push_back((from, packet.clone()));
        if self.early.len() > EARLY_MAX {
            self.early.pop_front();
        }
    }

    /// A request is being sent; returns its number.
    pub(crate) fn asks(&mut self, peer: usize, what: Asked, now: Micros) -> u64 {
        self.last_asked += 1;
        self.asked.insert(self.last_asked, (peer, what, now));
        if self.asked.len() > ASKED_MAX {
            self.asked.pop_first();
        }
        self.last_asked
    }

    /// What a request was for, if this peer was asked it and has not answered yet.
    pub(crate) fn answered(&mut self, id: u64, peer: usize) -> Option<Asked> {
        self.asked.get(&id).filter(|(asked, ..)| *asked == peer)?;
        self.asked.remove(&id).map(|(_, asked, _)| asked)
    }

    pub(crate) fn forget_asked(&mut self, before: Micros) {
        self.asked.retain(|_, (_, _, at)| *at >= before);
    }
}
