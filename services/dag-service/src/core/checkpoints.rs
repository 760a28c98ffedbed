//! The checkpoints in the making, shared by the executor, which moves them on, and those who ask for proofs.

use kaldrix_checkpoint::{CheckpointBuilder, ProvenRecord};
use kaldrix_types::{CertifiedCheckpoint, Checkpoint, CommitIndex, Digest, ExecutedCommit, NextEpoch, StateKey, StateValue};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// See the module's text.
pub(crate) struct Checkpoints {
    builder: Mutex<CheckpointBuilder>,
    certified: AtomicU64,
    catching_up: AtomicBool,
}

impl Checkpoints {
    pub(crate) fn new(mut builder: CheckpointBuilder, newest: Option<&CertifiedCheckpoint>) -> Self {
        let certified = newest.map_or(0, |c| c.checkpoint.index);
        builder.certified(certified);
        Self { builder: Mutex::new(builder), certified: AtomicU64::new(certified), catching_up: AtomicBool::new(false) }
    }

    /// The store was replaced by a snapshot.
    pub(crate) fn reset(&self, mut builder: CheckpointBuilder, newest: Option<&CertifiedCheckpoint>) {
        let certified = newest.map_or(0, |c| c.checkpoint.index);
        builder.certified(certified);
        *self.builder.lock() = builder;
        self.certified.store(certified, Ordering::Relaxed);
    }

    /// Takes in the next commit; `old` are the values before it. Returns the checkpoint that it closes.
    pub(crate) fn on_executed(
        &self,
        executed: &ExecutedCommit,
        next: Option<NextEpoch>,
        old: impl Fn(&StateKey) -> Option<StateValue>,
    ) -> Option<Checkpoint> {
        let mut builder = self.builder.lock();
        builder.remember(executed, old);
        builder.on_executed(executed, next)
    }

    /// What this validator computed, while it is kept.
    pub(crate) fn own_digest(&self, index: u64) -> Option<Digest> {
        self.builder.lock().own_digest(index)
    }

    pub(crate) fn on_certified(&self, index: u64) {
        self.builder.lock().certified(index);
        self.certified.fetch_max(index, Ordering::Relaxed);
    }

    /// The record at the newest certified checkpoint; `current` is its value now.
    pub(crate) fn prove(&self, key: &StateKey, current: Option<StateValue>) -> Option<ProvenRecord> {
        self.builder.lock().prove(key, current)
    }

    /// A page of the state as of the newest certified checkpoint: see [`CheckpointBuilder::page_at_certified`].
    pub(crate) fn page_at_certified(
        &self,
        after: Option<&StateKey>,
        is_last: bool,
        records: &[(StateKey, StateValue)],
    ) -> Option<(CommitIndex, Vec<(StateKey, StateValue)>)> {
        self.builder.lock().page_at_certified(after, is_last, records)
    }

    pub(crate) fn closed_index(&self) -> u64 {
        self.builder.lock().last_index()
    }

    pub(crate) fn certified_index(&self) -> u64 {
        self.certified.load(Ordering::Relaxed)
    }

    pub(crate) fn set_catching_up(&self, catching_up: bool) {
        self.catching_up.store(catching_up, Ordering::Relaxed);
    }

    pub(crate) fn is_catching_up(&self) -> bool {
        self.catching_up.load(Ordering::Relaxed)
    }
}
