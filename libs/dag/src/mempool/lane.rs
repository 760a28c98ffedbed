//! One sender's queue in one lane: which sequence numbers are known, in flight, ready, or behind a gap.

use kaldrix_types::{DecodedTransaction, Sequence};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) tx: Arc<DecodedTransaction>,
    /// Taken into an own block that is not executed yet.
    pub(super) in_flight: bool,
    /// When to give up on the predecessor, for one that was added behind a gap.
    pub(super) gap_due_ms: Option<u64>,
}

/// ```text
///          next            frontier          ready_end
///  executed │  in flight      │  ready to take  │  behind a gap (or nothing)
/// ```
///
/// Invariant: `next ≤ frontier ≤ ready_end`; below `frontier` everything known is in flight; `frontier..ready_end` is known without a hole.
/// (Above `frontier` there may be transactions in flight too, after the one before them was discarded or expired.)
#[derive(Debug)]
pub(super) struct LaneQueue {
    pub(super) entries: BTreeMap<Sequence, Entry>,
    next: Sequence,
    frontier: Sequence,
    ready_end: Sequence,
    /// Key in the ready order, while this lane is in it.
    pub(super) ready_key: Option<(u128, u64)>,
    /// When those that a later hole cut off are given up.
    pub(super) hole_due_ms: Option<u64>,
}

impl LaneQueue {
    pub(super) const fn new(next: Sequence) -> Self {
        let entries = BTreeMap::new();
        Self { entries, next, frontier: next, ready_end: next, ready_key: None, hole_due_ms: None }
    }

    pub(super) const fn next(&self) -> Sequence {
        self.next
    }

    pub(super) const fn ready_end(&self) -> Sequence {
        self.ready_end
    }

    /// The transaction to take next.
    pub(super) fn head(&self) -> Option<&Entry> {
        self.entries.get(&self.frontier).filter(|e| !e.in_flight)
    }

    /// Marks the head as in flight.
    pub(super) fn take_head(&mut self) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(&self.frontier).filter(|e| !e.in_flight)?;
        entry.in_flight = true;
        let taken = self.frontier;
        self.settle();
        self.entries.get_mut(&taken)
    }

    /// The executed state moved on. The caller has removed what is stale.
    pub(super) fn advance(&mut self, next: Sequence) {
        self.next = next.max(self.next);
        self.settle();
    }

    /// The entry at `sequence` is waiting again.
    pub(super) fn put_back(&mut self, sequence: Sequence) {
        self.frontier = self.frontier.min(sequence);
        self.settle();
    }

    /// The entry at `sequence` is gone without having been executed. Returns whether that cut others off that were not behind a gap before.
    pub(super) fn open_hole(&mut self, sequence: Sequence) -> bool {
        let cuts = sequence + 1 < self.ready_end;
        self.frontier = self.frontier.min(sequence);
        self.ready_end = self.ready_end.min(sequence);
        self.settle();
        cuts
    }

    /// Restores the invariant after a change.
    pub(super) fn settle(&mut self) {
        self.frontier = self.frontier.max(self.next);
        while self.entries.get(&self.frontier).is_some_and(|e| e.in_flight) {
            self.frontier += 1;
        }
        self.ready_end = self.ready_end.max(self.frontier);
        while self.entries.contains_key(&self.ready_end) {
            self.ready_end += 1;
        }
    }
}
