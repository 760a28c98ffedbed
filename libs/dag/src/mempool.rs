//! Transactions that wait for a place in a block: per (sender, lane) queues, bounded, with a ready order over lanes.
//!
//! ```text
//!  add ─▶ behind a gap ──predecessor added──▶ ready ──take──▶ in flight ──executed──▶ gone
//!            │ gap_hold_ms                      ▲                 │ │
//!            ▼                                  └──── requeue ────┘ └─ discarded, expired ─▶ gone, followers behind a gap
//!        SEQUENCE_GAP
//! ```
//!
//! Every operation costs O(log n) per transaction it touches; nothing scans the pool. No outcome depends on a hash map's order.

mod lane;

use kaldrix_types::{Address, DecodedTransaction, Lane, RejectCode, Sequence, TimestampMs, TxId};
use lane::{Entry, LaneQueue};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// What a full pool tells a client to wait: a few rounds of blocks.
const RETRY_AFTER_MS: u64 = 500;

/// Lanes whose head does not fit what is left of a block that one [`Mempool::take`] passes over before it stops looking.
const OVERSIZED_HEADS_MAX: usize = 16;

/// Room that a transaction's length prefix takes in a body (ULEB128 of up to 128 KiB), and the list's own.
const LENGTH_PREFIX_BYTES: usize = 3;

/// Bounds and rules of a [`Mempool`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MempoolConfig {
    /// Transactions held, in flight included. Default 100,000.
    pub capacity_transactions: usize,
    /// Bytes of transactions held, in flight included. Default 512 MiB.
    pub capacity_bytes: usize,
    /// Transactions held of one sender, over all its lanes. Default 10,000.
    pub per_sender_max: usize,
    /// How long a transaction waits for its predecessor, in milliseconds. Default 2,000.
    pub gap_hold_ms: u64,
    /// How far a sequence number may be above the executed state's next one. Default 1,000.
    pub gap_max: u64,
    /// Take the highest fee among the lanes' heads first; otherwise lanes take turns. Default false.
    pub prioritization: bool,
}

impl Default for MempoolConfig {
    fn default() -> Self {
        Self {
            capacity_transactions: 100_000,
            capacity_bytes: 512 * 1024 * 1024,
            per_sender_max: 10_000,
            gap_hold_ms: 2_000,
            gap_max: 1_000,
            prioritization: false,
        }
    }
}

/// How a transaction was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// A block may take it now.
    Ready,
    /// An earlier sequence number of its lane is missing; given up at `until_ms` unless it comes.
    Held {
        /// When [`Mempool::sweep`] gives it up.
        until_ms: u64,
    },
    /// The same transaction is waiting or in flight already.
    Duplicate,
    /// It took the place of another transaction with the same sender, lane and sequence and a lower fee.
    Replaced {
        /// The one that is gone.
        old: TxId,
    },
}

/// Why a transaction was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// The pool is full.
    #[error("the transaction pool is full: submit again in {retry_after_ms} ms")]
    Full {
        /// How long to wait.
        retry_after_ms: u64,
    },
    /// The sender has as much waiting as one sender may.
    #[error("this sender has too many transactions waiting: submit again in {retry_after_ms} ms")]
    SenderFull {
        /// How long to wait.
        retry_after_ms: u64,
    },
    /// It cannot land as it is.
    #[error("{0}: {help}", help = .0.help())]
    Reject(RejectCode),
}

type LaneKey = (Address, Lane);
/// When, which lane, and which entry of it; `None` for the lane's hole.
type Timer = (u64, LaneKey, Option<Sequence>);

/// The transactions known to one validator that are not executed yet.
#[derive(Debug)]
pub struct Mempool {
    config: MempoolConfig,
    by_id: HashMap<TxId, (LaneKey, Sequence)>,
    /// Only lanes that hold something.
    lanes: HashMap<LaneKey, LaneQueue>,
    senders: HashMap<Address, usize>,
    /// Lanes with a head to take: (inverted fee or 0, turn, lane), the first is next.
    ready: BTreeSet<(u128, u64, LaneKey)>,
    turn: u64,
    expiries: BTreeSet<(TimestampMs, TxId)>,
    timers: BTreeSet<Timer>,
    bytes: usize,
    in_flight: usize,
}

impl Mempool {
    /// An empty pool.
    #[must_use]
    pub fn new(config: MempoolConfig) -> Self {
        Self {
            config,
            by_id: HashMap::new(),
            lanes: HashMap::new(),
            senders: HashMap::new(),
            ready: BTreeSet::new(),
            turn: 0,
            expiries: BTreeSet::new(),
            timers: BTreeSet::new(),
            bytes: 0,
            in_flight: 0,
        }
    }

    /// Takes in a transaction whose signature was checked. `next_sequence` is what the executed state expects next in its (sender, lane);
    /// `now_ms` is this machine's clock, `consensus_time_ms` the last commit's time.
    ///
    /// # Errors
    /// [`AddError`]: nothing changed.
    pub fn add(
        &mut self,
        tx: Arc<DecodedTransaction>,
        next_sequence: Sequence,
        now_ms: u64,
        consensus_time_ms: TimestampMs,
    ) -> Result<Added, AddError> {
        if self.by_id.contains_key(&tx.id()) {
            return Ok(Added::Duplicate);
        }
        let body = tx.body();
        if body.valid_until_ms <= consensus_time_ms {
            return Err(AddError::Reject(RejectCode::Expired));
        }
        let (sender, lane, sequence) = (body.sender, body.lane, body.sequence);
        let key = (sender, lane);
        let next = self.lanes.get(&key).map_or(next_sequence, |queue| queue.next().max(next_sequence));
        if sequence < next {
            return Err(AddError::Reject(RejectCode::SequenceReplayed));
        }
        if sequence > next.saturating_add(self.config.gap_max) {
            return Err(AddError::Reject(RejectCode::SequenceGap));
        }
        let replaced = self.check_replacement(&key, sequence, &tx)?;
        self.check_room(&tx, replaced)?;
        self.executed(sender, lane, next);
        if let Some(old) = replaced {
            self.forget(old);
        }
        self.put(tx, key, next, false);
        let queue = self.lanes.get_mut(&key).expect("put makes the lane");
        let mut added = Added::Ready;
        if sequence >= queue.ready_end() {
            let until_ms = now_ms.saturating_add(self.config.gap_hold_ms);
            queue.entries.get_mut(&sequence).expect("put makes the entry").gap_due_ms = Some(until_ms);
            self.timers.insert((until_ms, key, Some(sequence)));
            added = Added::Held { until_ms };
        }
        self.reorder(key);
        Ok(replaced.map_or(added, |old| Added::Replaced { old }))
    }

    /// The transaction that `tx` would replace. The first one stays unless the new one pays more and the old one is still here to stop.
    fn check_replacement(&self, key: &LaneKey, sequence: Sequence, tx: &DecodedTransaction) -> Result<Option<TxId>, AddError> {
        let Some(old) = self.lanes.get(key).and_then(|queue| queue.entries.get(&sequence)) else { return Ok(None) };
        if old.in_flight || tx.body().fee <= old.tx.body().fee {
            return Err(AddError::Reject(RejectCode::SequenceReplayed));
        }
        Ok(Some(old.tx.id()))
    }

    fn check_room(&self, tx: &DecodedTransaction, replaced: Option<TxId>) -> Result<(), AddError> {
        let freed = replaced.and_then(|id| self.entry(&id)).map_or(0, |e| e.tx.bytes().len());
        if replaced.is_none() {
            if self.senders.get(&tx.body().sender).copied().unwrap_or(0) >= self.config.per_sender_max {
                return Err(AddError::SenderFull { retry_after_ms: RETRY_AFTER_MS });
            }
            if self.by_id.len() >= self.config.capacity_transactions {
                return Err(AddError::Full { retry_after_ms: RETRY_AFTER_MS });
            }
        }
        if self.bytes - freed + tx.bytes().len() > self.config.capacity_bytes {
            return Err(AddError::Full { retry_after_ms: RETRY_AFTER_MS });
        }
        Ok(())
    }

    /// After a restart: learns a transaction of an own block that is not executed yet, so that a resubmission is recognised. Beyond the
    /// bounds it is ignored (its resubmission would be executed once all the same). Returns whether it is known now.
    pub fn adopt_in_flight(&mut self, tx: Arc<DecodedTransaction>, next_sequence: Sequence) -> bool {
        let body = tx.body();
        let (sender, lane, sequence) = (body.sender, body.lane, body.sequence);
        if self.by_id.contains_key(&tx.id()) {
            return true;
        }
        let taken = self.lanes.get(&(sender, lane)).is_some_and(|queue| queue.entries.contains_key(&sequence));
        if taken || sequence < next_sequence || self.check_room(&tx, None).is_err() {
            return false;
        }
        self.executed(sender, lane, next_sequence);
        self.put(tx, (sender, lane), next_sequence, true);
        self.reorder((sender, lane));
        true
    }

    /// Takes transactions for a block: of each lane without a hole from what the executed state expects next (or what is in flight) on,
    /// lanes taking turns, or the highest fee among the lanes' heads first. They are in flight until [`Self::executed`],
    /// [`Self::discarded`], [`Self::requeue`] or expiry.
    ///
    /// `bytes_max` bounds the encoded body (`kaldrix_types::encode_body`) and should be at least a transaction's largest size: one that does
    /// not fit stays at its lane's head.
    pub fn take(&mut self, transactions_max: usize, bytes_max: usize, consensus_time_ms: TimestampMs) -> Vec<Arc<DecodedTransaction>> {
        let mut taken = Vec::new();
        let mut oversized = Vec::new();
        let mut bytes_left = bytes_max.saturating_sub(LENGTH_PREFIX_BYTES);
        while taken.len() < transactions_max && oversized.len() < OVERSIZED_HEADS_MAX {
            let Some(place) = self.ready.pop_first() else { break };
            let key = place.2;
            let queue = self.lanes.get_mut(&key).expect("ready lanes exist");
            let head = queue.head().expect("ready lanes have a head");
            if head.tx.body().valid_until_ms <= consensus_time_ms {
                // The next sweep reports it and puts the lane back.
                queue.ready_key = None;
                continue;
            }
            let size = head.tx.bytes().len() + LENGTH_PREFIX_BYTES;
            if size > bytes_left {
                oversized.push(place);
                continue;
            }
            bytes_left -= size;
            queue.ready_key = None;
            let entry = queue.take_head().expect("it was looked at just now");
            let (tx, gap_due_ms) = (entry.tx.clone(), entry.gap_due_ms.take());
            if let Some(due) = gap_due_ms {
                self.timers.remove(&(due, key, Some(tx.body().sequence)));
            }
            self.in_flight += 1;
            taken.push(tx);
            self.reorder(key);
        }
        self.ready.extend(oversized);
        taken
    }

    /// The executed state expects `next_sequence` next in this lane: forgets everything before it and releases followers.
    /// Returns what was forgotten; those that have no outcome of their own lost their place to another transaction (`SEQUENCE_REPLAYED`).
    pub fn executed(&mut self, sender: Address, lane: Lane, next_sequence: Sequence) -> Vec<TxId> {
        let key = (sender, lane);
        let Some(queue) = self.lanes.get(&key) else { return Vec::new() };
        if next_sequence <= queue.next() {
            return Vec::new();
        }
        let stale: Vec<TxId> = queue.entries.range(..next_sequence).map(|(_, e)| e.tx.id()).collect();
        for id in &stale {
            self.forget(*id);
        }
        if let Some(queue) = self.lanes.get_mut(&key) {
            queue.advance(next_sequence);
            self.reorder(key);
        }
        stale
    }

    /// A transaction in flight was ordered but not executed (`OutcomeStatus::Discarded`): forgets it, and its followers wait for another one
    /// with its sequence number. Changes nothing for one that is not in flight; returns whether it was.
    pub fn discarded(&mut self, id: TxId, now_ms: u64) -> bool {
        if !self.entry(&id).is_some_and(|e| e.in_flight) {
            return false;
        }
        self.drop_and_open_hole(id, now_ms);
        true
    }

    /// Puts transactions of an own block that was cut by garbage collection back to where they were before they were taken. Returns those
    /// that are not known (any more): the caller may [`Self::add`] them with their lane's executed state.
    pub fn requeue(&mut self, txs: impl IntoIterator<Item = Arc<DecodedTransaction>>) -> Vec<Arc<DecodedTransaction>> {
        let mut unknown = Vec::new();
        for tx in txs {
            let Some((key, sequence)) = self.by_id.get(&tx.id()).copied() else {
                unknown.push(tx);
                continue;
            };
            let queue = self.lanes.get_mut(&key).expect("known transactions have a lane");
            let entry = queue.entries.get_mut(&sequence).expect("known transactions have an entry");
            if std::mem::replace(&mut entry.in_flight, false) {
                self.in_flight -= 1;
                queue.put_back(sequence);
                self.reorder(key);
            }
        }
        unknown
    }

    /// Puts everything that is in flight back: no block made so far will be committed any more.
    pub fn requeue_in_flight(&mut self) {
        let in_flight = self.expiries.iter().filter_map(|(_, id)| self.entry(id)).filter(|e| e.in_flight);
        let transactions: Vec<_> = in_flight.map(|e| Arc::clone(&e.tx)).collect();
        self.requeue(transactions);
    }

    /// Gives up what expired (in flight or not) and what waited longer than `gap_hold_ms` for its predecessor. To be called every few tens
    /// of milliseconds and after commits.
    pub fn sweep(&mut self, now_ms: u64, consensus_time_ms: TimestampMs) -> Vec<(TxId, RejectCode)> {
        let mut given_up = Vec::new();
        while let Some((valid_until_ms, id)) = self.expiries.first().copied()
            && valid_until_ms <= consensus_time_ms
        {
            self.drop_and_open_hole(id, now_ms);
            given_up.push((id, RejectCode::Expired));
        }
        while let Some(timer) = self.timers.first().copied()
            && timer.0 <= now_ms
        {
            self.timers.remove(&timer);
            let (_, key, sequence) = timer;
            let late = match sequence {
                Some(sequence) => self.entry_timer(key, sequence),
                None => self.hole_timer(key),
            };
            for id in late {
                self.forget(id);
                given_up.push((id, RejectCode::SequenceGap));
            }
            self.reorder(key);
        }
        given_up
    }

    fn entry_timer(&mut self, key: LaneKey, sequence: Sequence) -> Vec<TxId> {
        let Some(queue) = self.lanes.get_mut(&key) else { return Vec::new() };
        let gapped = sequence >= queue.ready_end();
        let covered_by_hole = queue.hole_due_ms.is_some();
        let Some(entry) = queue.entries.get_mut(&sequence) else { return Vec::new() };
        entry.gap_due_ms = None;
        // A hole that opened since has its own, later timer.
        if gapped && !covered_by_hole { vec![entry.tx.id()] } else { Vec::new() }
    }

    fn hole_timer(&mut self, key: LaneKey) -> Vec<TxId> {
        let Some(queue) = self.lanes.get_mut(&key) else { return Vec::new() };
        queue.hole_due_ms = None;
        let behind = queue.entries.range(queue.ready_end()..).map(|(_, e)| e);
        behind.filter(|e| !e.in_flight && e.gap_due_ms.is_none()).map(|e| e.tx.id()).collect()
    }

    fn drop_and_open_hole(&mut self, id: TxId, now_ms: u64) {
        let Some((key, sequence)) = self.by_id.get(&id).copied() else { return };
        self.forget(id);
        let Some(queue) = self.lanes.get_mut(&key) else { return };
        if queue.open_hole(sequence) {
            let due = now_ms.saturating_add(self.config.gap_hold_ms);
            if let Some(before) = queue.hole_due_ms.replace(due) {
                self.timers.remove(&(before, key, None));
            }
            self.timers.insert((due, key, None));
        }
        self.reorder(key);
    }

    fn put(&mut self, tx: Arc<DecodedTransaction>, key: LaneKey, next: Sequence, in_flight: bool) {
        let sequence = tx.body().sequence;
        self.bytes += tx.bytes().len();
        self.in_flight += usize::from(in_flight);
        *self.senders.entry(key.0).or_default() += 1;
        self.by_id.insert(tx.id(), (key, sequence));
        self.expiries.insert((tx.body().valid_until_ms, tx.id()));
        let queue = self.lanes.entry(key).or_insert_with(|| LaneQueue::new(next));
        queue.entries.insert(sequence, Entry { tx, in_flight, gap_due_ms: None });
        queue.settle();
    }

    /// Takes a transaction out of every index; the caller settles its lane. A lane that holds nothing is forgotten.
    fn forget(&mut self, id: TxId) {
        let Some((key, sequence)) = self.by_id.remove(&id) else { return };
        let queue = self.lanes.get_mut(&key).expect("known transactions have a lane");
        let entry = queue.entries.remove(&sequence).expect("known transactions have an entry");
        self.bytes -= entry.tx.bytes().len();
        self.in_flight -= usize::from(entry.in_flight);
        self.expiries.remove(&(entry.tx.body().valid_until_ms, id));
        if let Some(due) = entry.gap_due_ms {
            self.timers.remove(&(due, key, Some(sequence)));
        }
        if let Some(count) = self.senders.get_mut(&key.0) {
            *count -= 1;
            if *count == 0 {
                self.senders.remove(&key.0);
            }
        }
        if queue.entries.is_empty() {
            if let Some((fee, turn)) = queue.ready_key {
                self.ready.remove(&(fee, turn, key));
            }
            if let Some(due) = queue.hole_due_ms {
                self.timers.remove(&(due, key, None));
            }
            self.lanes.remove(&key);
        }
    }

    /// Makes the ready order fit the lane's head. A lane keeps its turn while its head pays the same.
    fn reorder(&mut self, key: LaneKey) {
        let Some(queue) = self.lanes.get_mut(&key) else { return };
        let rank = queue.head().map(|head| if self.config.prioritization { u128::MAX - head.tx.body().fee } else { 0 });
        if queue.ready_key.map(|(fee, _)| fee) == rank {
            return;
        }
        if let Some((fee, turn)) = queue.ready_key.take() {
            self.ready.remove(&(fee, turn, key));
        }
        if let Some(fee) = rank {
            self.turn += 1;
            queue.ready_key = Some((fee, self.turn));
            self.ready.insert((fee, self.turn, key));
        }
    }

    fn entry(&self, id: &TxId) -> Option<&Entry> {
        let (key, sequence) = self.by_id.get(id)?;
        self.lanes.get(key)?.entries.get(sequence)
    }

    /// Whether the transaction is waiting or in flight.
    #[must_use]
    pub fn contains(&self, id: &TxId) -> bool {
        self.by_id.contains_key(id)
    }

    /// Whether the transaction is in an own block that is not executed yet.
    #[must_use]
    pub fn is_in_flight(&self, id: &TxId) -> bool {
        self.entry(id).is_some_and(|e| e.in_flight)
    }

    /// The transaction, if it is waiting or in flight.
    #[must_use]
    pub fn get(&self, id: &TxId) -> Option<&Arc<DecodedTransaction>> {
        self.entry(id).map(|e| &e.tx)
    }

    /// Whether [`Self::take`] would find something (unless it expired or does not fit).
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Transactions held, in flight included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Bytes of the transactions held, in flight included.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Transactions held that are in flight.
    #[must_use]
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }
}
