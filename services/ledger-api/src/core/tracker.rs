//! Who waits for which transaction.
//!
//! ```text
//!   submit ──register──▶ entry ◀──accepted / pending reports── validators
//!                          ▲
//!                          └──commit notices (id, outcome; consensus time)── region-sync
//!   waiter ◀──watch──────┘
//! ```
//!
//! An entry lives from the hand-over until it is definite: final, refused, dropped or expired. The number of entries is bounded; when
//! it is reached the oldest entry goes, and whoever waited for it answers with the status so far.

use kaldrix_api::ErrorCode;
use kaldrix_types::{CommitIndex, OutcomeStatus, RejectCode, TimestampMs, TxBody, TxId};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Bodies above this many encoded bytes are tracked without their operations.
const TRACKED_BODY_BYTES_MAX: usize = 2_048;
/// First look at a validator's mempool for a transaction that somebody waits for.
const FIRST_POLL: Duration = Duration::from_millis(300);
/// Later looks.
const LATER_POLL: Duration = Duration::from_millis(500);
/// Looks on behalf of somebody who waits for INCLUDED.
const HURRIED_POLL: Duration = Duration::from_millis(25);
/// Definite refusals stay known for this long.
const SETTLED_TTL: Duration = Duration::from_secs(600);
/// How many definite refusals stay known.
const SETTLED_MAX: u64 = 16_384;

/// How a commit left a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executed {
    /// The commit that ordered it.
    pub commit_index: CommitIndex,
    /// Its position among the commit's transactions.
    pub position: u32,
    /// Consensus time of the commit.
    pub timestamp_ms: TimestampMs,
    /// What became of it.
    pub status: OutcomeStatus,
}

/// How far a transaction has come, as far as this process knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// On its way to a validator: nothing promised yet.
    Handed,
    /// A validator's mempool has it.
    Accepted,
    /// It is in a block.
    Included,
    /// A commit ordered it.
    Executed(Executed),
    /// The validator gave it up with this code; it took no effect.
    Dropped(ErrorCode),
    /// Consensus time passed its `valid_until`: it can never land.
    Expired,
}

impl Progress {
    /// Nothing further will happen.
    #[must_use]
    pub const fn is_definite(self) -> bool {
        matches!(self, Self::Executed(_) | Self::Dropped(_) | Self::Expired)
    }

    const fn rank(self) -> u8 {
        match self {
            Self::Handed => 0,
            Self::Accepted => 1,
            Self::Included => 2,
            Self::Executed(_) | Self::Dropped(_) | Self::Expired => 3,
        }
    }
}

/// What a validator says about a transaction of its mempool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// It does not know it.
    Unknown,
    /// It waits for a block.
    Queued,
    /// It is in a block.
    Included,
    /// It was given up with this code.
    Dropped(ErrorCode),
}

/// A commit that can be read from the region's store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitNotice {
    /// Its index.
    pub index: CommitIndex,
    /// Consensus time.
    pub timestamp_ms: TimestampMs,
    /// Its transactions in order.
    pub transactions: Vec<(TxId, OutcomeStatus)>,
}

struct Entry {
    progress: watch::Sender<Progress>,
    body: Option<Arc<TxBody>>,
    valid_until_ms: TimestampMs,
    since: Instant,
    serial: u64,
    poll_at: Option<Instant>,
    hurried: bool,
    endpoint: Option<usize>,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<TxId, Entry>,
    by_age: BTreeMap<u64, TxId>,
    by_expiry: BTreeSet<(TimestampMs, TxId)>,
    by_poll: BTreeSet<(Instant, TxId)>,
    serial: u64,
    consensus_time_ms: TimestampMs,
}

/// What is known about a transaction on its way.
#[derive(Clone, Debug)]
pub struct Known {
    /// How far it is.
    pub progress: Progress,
    /// Its body, when it was submitted here. Operations are left out of large ones.
    pub body: Option<Arc<TxBody>>,
}

/// All transactions on their way that somebody here submitted or watches.
pub struct Tracker {
    inner: Mutex<Inner>,
    settled: moka::sync::Cache<TxId, Known>,
    capacity: usize,
}

impl Tracker {
    /// A tracker of at most `capacity` transactions.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let settled = moka::sync::Cache::builder().max_capacity(SETTLED_MAX).time_to_live(SETTLED_TTL).build();
        Self { inner: Mutex::default(), settled, capacity: capacity.max(1) }
    }

    /// Starts (or joins) the watch of a transaction BEFORE it is handed over, so that no notice can slip by.
    pub fn register(&self, id: TxId, body: &TxBody, encoded_bytes: usize) -> watch::Receiver<Progress> {
        let mut inner = self.inner.lock();
        if inner.entries.get(&id).is_some_and(|e| e.body.is_some()) {
            return inner.subscribe(id).expect("the entry was looked at under the same lock");
        }
        let mut body = body.clone();
        if encoded_bytes > TRACKED_BODY_BYTES_MAX {
            body.operations = Vec::new();
            body.memo = bytes::Bytes::new();
        }
        self.settled.invalidate(&id);
        let valid_until_ms = body.valid_until_ms;
        self.join(&mut inner, id, Some(Arc::new(body)), valid_until_ms)
    }

    /// Starts (or joins) the watch of a transaction that was submitted elsewhere.
    pub fn watch(&self, id: TxId) -> watch::Receiver<Progress> {
        self.join(&mut self.inner.lock(), id, None, TimestampMs::MAX)
    }

    fn join(&self, inner: &mut Inner, id: TxId, body: Option<Arc<TxBody>>, valid_until_ms: TimestampMs) -> watch::Receiver<Progress> {
        if let Some(receiver) = inner.subscribe(id) {
            inner.complete(id, body);
            return receiver;
        }
        while inner.entries.len() >= self.capacity {
            let Some((_, oldest)) = inner.by_age.first_key_value() else { break };
            let oldest = *oldest;
            inner.remove(oldest);
        }
        inner.serial += 1;
        let (serial, now) = (inner.serial, Instant::now());
        let (progress, receiver) = watch::channel(Progress::Handed);
        let poll_at = now + FIRST_POLL;
        let entry = Entry { progress, body, valid_until_ms, since: now, serial, poll_at: Some(poll_at), hurried: false, endpoint: None };
        inner.entries.insert(id, entry);
        inner.by_age.insert(serial, id);
        inner.by_expiry.insert((valid_until_ms, id));
        inner.by_poll.insert((poll_at, id));
        receiver
    }

    /// A validator (number `endpoint`) has taken it.
    pub fn accepted(&self, id: TxId, endpoint: usize) {
        if let Some(entry) = self.inner.lock().entries.get_mut(&id) {
            entry.endpoint = Some(endpoint);
            entry.advance(Progress::Accepted);
        }
    }

    /// No validator took it. The entry goes, unless somebody else still waits for the same transaction or it was taken before.
    pub fn refused(&self, id: TxId) {
        let mut inner = self.inner.lock();
        let forget = inner.entries.get(&id).is_some_and(|e| e.progress.receiver_count() <= 1 && *e.progress.borrow() == Progress::Handed);
        if forget {
            inner.remove(id);
        }
    }

    /// Forgets an entry nobody needs, such as one whose first outcome was in the store all along.
    pub fn release(&self, id: TxId) {
        let mut inner = self.inner.lock();
        if inner.entries.get(&id).is_some_and(|e| e.progress.receiver_count() <= 1) {
            inner.remove(id);
        }
    }

    /// Somebody waits for INCLUDED: look at the mempool soon and often.
    pub fn hurry(&self, id: TxId) {
        let mut inner = self.inner.lock();
        if let Some(entry) = inner.entries.get_mut(&id) {
            entry.hurried = true;
            let before = entry.poll_at.replace(Instant::now() + HURRIED_POLL);
            let after = entry.poll_at;
            inner.move_poll(id, before, after);
        }
    }

    /// What is known about a transaction on its way.
    #[must_use]
    pub fn get(&self, id: TxId) -> Option<Known> {
        let inner = self.inner.lock();
        let known = inner.entries.get(&id).map(|e| Known { progress: *e.progress.borrow(), body: e.body.clone() });
        drop(inner);
        known.or_else(|| self.settled.get(&id))
    }

    /// Applies a commit: wakes those it made definite, then those whose time it ended. Returns how long the executed ones took.
    pub fn on_commit(&self, notice: &CommitNotice) -> Vec<Duration> {
        let mut inner = self.inner.lock();
        let mut took = Vec::new();
        for (position, (id, status)) in notice.transactions.iter().enumerate() {
            if let Some(entry) = inner.remove(*id) {
                let position = u32::try_from(position).unwrap_or(u32::MAX);
                let executed = Executed { commit_index: notice.index, position, timestamp_ms: notice.timestamp_ms, status: *status };
                if let OutcomeStatus::Discarded(_) = status {
                    self.settled.insert(*id, Known { progress: Progress::Executed(executed), body: entry.body.clone() });
                }
                took.push(entry.since.elapsed());
                entry.progress.send_replace(Progress::Executed(executed));
            }
        }
        inner.consensus_time_ms = inner.consensus_time_ms.max(notice.timestamp_ms);
        while let Some((valid_until_ms, id)) = inner.by_expiry.first().copied() {
            if valid_until_ms >= notice.timestamp_ms {
                break;
            }
            match inner.remove(id) {
                Some(entry) => self.settle(id, entry, Progress::Expired),
                None => {
                    inner.by_expiry.remove(&(valid_until_ms, id));
                }
            }
        }
        took
    }

    /// Up to `limit` transactions whose validator should be asked now, with that validator's number.
    #[must_use]
    pub fn due(&self, limit: usize) -> Vec<(TxId, Option<usize>)> {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        let mut due = Vec::new();
        while due.len() < limit {
            let Some((at, id)) = inner.by_poll.first().copied() else { break };
            if at > now {
                break;
            }
            inner.by_poll.remove(&(at, id));
            let Some(entry) = inner.entries.get_mut(&id) else { continue };
            // Without a waiter nobody needs the answer; a later GetTransaction asks for itself.
            entry.poll_at = (entry.progress.receiver_count() > 0).then(|| now + if entry.hurried { HURRIED_POLL } else { LATER_POLL });
            let (endpoint, next) = (entry.endpoint, entry.poll_at);
            if let Some(next) = next {
                due.push((id, endpoint));
                inner.by_poll.insert((next, id));
            }
        }
        due
    }

    /// Applies what a validator said.
    pub fn report(&self, id: TxId, pending: Pending) {
        let mut inner = self.inner.lock();
        match pending {
            Pending::Unknown => {}
            Pending::Queued => inner.advance(id, Progress::Accepted),
            Pending::Included => inner.advance(id, Progress::Included),
            Pending::Dropped(code) => {
                if let Some(entry) = inner.remove(id) {
                    let expired = code == ErrorCode::Reject(RejectCode::Expired);
                    self.settle(id, entry, if expired { Progress::Expired } else { Progress::Dropped(code) });
                }
            }
        }
    }

    /// Applies an outcome that was found in the store although no notice came (the stream was down).
    pub fn executed(&self, id: TxId, executed: Executed) {
        if let Some(entry) = self.inner.lock().remove(id) {
            entry.progress.send_replace(Progress::Executed(executed));
        }
    }

    fn settle(&self, id: TxId, entry: Entry, progress: Progress) {
        self.settled.insert(id, Known { progress, body: entry.body });
        entry.progress.send_replace(progress);
    }

    /// How many transactions are on their way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.lock().entries.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Entry {
    fn advance(&self, to: Progress) {
        self.progress.send_if_modified(|now| {
            let forward = to.rank() > now.rank();
            if forward {
                *now = to;
            }
            forward
        });
    }
}

impl Inner {
    fn remove(&mut self, id: TxId) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.by_age.remove(&entry.serial);
        self.by_expiry.remove(&(entry.valid_until_ms, id));
        if let Some(at) = entry.poll_at {
            self.by_poll.remove(&(at, id));
        }
        Some(entry)
    }

    /// Joins an entry, and has its validator asked again if that had stopped for lack of waiters.
    fn subscribe(&mut self, id: TxId) -> Option<watch::Receiver<Progress>> {
        let entry = self.entries.get_mut(&id)?;
        let receiver = entry.progress.subscribe();
        if entry.poll_at.is_none() {
            let at = Instant::now() + FIRST_POLL;
            entry.poll_at = Some(at);
            self.by_poll.insert((at, id));
        }
        Some(receiver)
    }

    /// Adds the body to an entry that was only watched so far.
    fn complete(&mut self, id: TxId, body: Option<Arc<TxBody>>) {
        if let (Some(entry), Some(body)) = (self.entries.get_mut(&id), body) {
            let before = std::mem::replace(&mut entry.valid_until_ms, body.valid_until_ms);
            self.by_expiry.remove(&(before, id));
            self.by_expiry.insert((body.valid_until_ms, id));
            entry.body = Some(body);
        }
    }

    fn advance(&self, id: TxId, to: Progress) {
        if let Some(entry) = self.entries.get(&id) {
            entry.advance(to);
        }
    }

    fn move_poll(&mut self, id: TxId, before: Option<Instant>, after: Option<Instant>) {
        if let Some(at) = before {
            self.by_poll.remove(&(at, id));
        }
        if let Some(at) = after {
            self.by_poll.insert((at, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kaldrix_types::{Address, AssetId, ChainId, Digest, Operation};

    fn id(n: u8) -> TxId {
        TxId(Digest([n; 32]))
    }

    fn body(valid_until_ms: u64) -> TxBody {
        let operations = vec![Operation::Transfer { to: Address([2; 32]), asset: AssetId::NATIVE, amount: 1 }];
        TxBody {
            chain_id: ChainId::default(),
            sender: Address([1; 32]),
            lane: 0,
            sequence: 0,
            valid_until_ms,
            fee: 0,
            operations,
            memo: bytes::Bytes::new(),
        }
    }

    fn notice(index: u64, timestamp_ms: u64, transactions: &[(TxId, OutcomeStatus)]) -> CommitNotice {
        CommitNotice { index, timestamp_ms, transactions: transactions.to_vec() }
    }

    #[test]
    fn a_waiter_sees_the_outcome_of_the_commit_that_holds_its_transaction() {
        let tracker = Tracker::new(10);
        let receiver = tracker.register(id(1), &body(1_000), 100);
        tracker.accepted(id(1), 0);
        assert_eq!(*receiver.borrow(), Progress::Accepted);
        tracker.on_commit(&notice(7, 500, &[(id(9), OutcomeStatus::Success), (id(1), OutcomeStatus::Success)]));
        let expected = Executed { commit_index: 7, position: 1, timestamp_ms: 500, status: OutcomeStatus::Success };
        assert_eq!(*receiver.borrow(), Progress::Executed(expected));
        assert!(tracker.is_empty());
    }

    #[test]
    fn a_commit_past_valid_until_expires_what_it_does_not_hold() {
        let tracker = Tracker::new(10);
        let (first, second, third) =
            (tracker.register(id(1), &body(1_000), 1), tracker.register(id(2), &body(1_000), 1), tracker.register(id(3), &body(1_001), 1));
        tracker.on_commit(&notice(1, 1_000, &[]));
        assert_eq!(*first.borrow(), Progress::Handed, "the last millisecond still counts");
        tracker.on_commit(&notice(2, 1_001, &[(id(2), OutcomeStatus::Success)]));
        assert_eq!(*first.borrow(), Progress::Expired);
        assert!(matches!(*second.borrow(), Progress::Executed(_)), "the commit itself holds it");
        assert_eq!(*third.borrow(), Progress::Handed);
        assert_eq!(tracker.get(id(1)).expect("expired ones stay known").progress, Progress::Expired);
    }

    #[test]
    fn a_full_tracker_lets_the_oldest_go() {
        let tracker = Tracker::new(2);
        let mut first = tracker.register(id(1), &body(1), 1);
        let _second = tracker.register(id(2), &body(2), 1);
        let _third = tracker.register(id(3), &body(3), 1);
        assert_eq!(tracker.len(), 2);
        assert!(first.has_changed().is_err(), "the oldest waiter is told");
        first.mark_unchanged();
        let inner = tracker.inner.lock();
        assert_eq!((inner.by_age.len(), inner.by_expiry.len(), inner.by_poll.len()), (2, 2, 2), "no index outgrows the entries");
    }

    #[test]
    fn progress_never_goes_back_and_a_drop_is_final() {
        let tracker = Tracker::new(2);
        let receiver = tracker.register(id(1), &body(1), 1);
        tracker.report(id(1), Pending::Included);
        tracker.report(id(1), Pending::Queued);
        assert_eq!(*receiver.borrow(), Progress::Included);
        let gap = ErrorCode::Reject(RejectCode::SequenceGap);
        tracker.report(id(1), Pending::Dropped(gap));
        assert_eq!(*receiver.borrow(), Progress::Dropped(gap));
    }

    #[test]
    fn a_refusal_forgets_only_what_nobody_else_waits_for() {
        let tracker = Tracker::new(4);
        let alone = tracker.register(id(1), &body(1), 1);
        tracker.refused(id(1));
        drop(alone);
        assert!(tracker.get(id(1)).is_none());
        let (_first, _second) = (tracker.register(id(2), &body(1), 1), tracker.register(id(2), &body(1), 1));
        tracker.refused(id(2));
        assert!(tracker.get(id(2)).is_some());
    }

    #[test]
    fn only_transactions_with_a_waiter_are_polled() {
        let tracker = Tracker::new(4);
        let waiting = tracker.register(id(1), &body(1), 1);
        drop(tracker.register(id(2), &body(1), 1));
        tracker.hurry(id(1));
        tracker.hurry(id(2));
        assert!(tracker.due(10).is_empty(), "not yet");
        std::thread::sleep(HURRIED_POLL * 2);
        assert_eq!(tracker.due(10), vec![(id(1), None)]);
        drop(waiting);
    }
}
