//! What callers' threads and the driver share: outboxes of the connected peers.

use crate::Bytes;
use kaldrix_types::ValidatorIndex;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Notify, Semaphore};

/// Blocks that wait for one peer.
pub(crate) const OUTBOX_BLOCKS: usize = 64;
/// Requests under way to one peer.
pub(crate) const REQUESTS_IN_FLIGHT: usize = 16;

#[derive(Debug)]
struct Outbox {
    blocks: VecDeque<Bytes>,
    requests: Arc<Semaphore>,
}

/// One outbox per connected and bound peer; a peer without one is not connected.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    outboxes: Mutex<BTreeMap<ValidatorIndex, Outbox>>,
    dropped: AtomicU64,
    /// Rung when an outbox has something new.
    pub(crate) wake: Notify,
}

impl Shared {
    pub(crate) fn open(&self, peer: ValidatorIndex) {
        let outbox = Outbox { blocks: VecDeque::new(), requests: Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT)) };
        self.outboxes.lock().insert(peer, outbox);
    }

    pub(crate) fn close(&self, peer: ValidatorIndex) {
        if let Some(outbox) = self.outboxes.lock().remove(&peer) {
            self.lost(outbox.blocks.len());
        }
    }

    pub(crate) fn push(&self, block: &Bytes) {
        let mut dropped = 0;
        for outbox in self.outboxes.lock().values_mut() {
            outbox.blocks.push_back(block.clone());
            if outbox.blocks.len() > OUTBOX_BLOCKS {
                outbox.blocks.pop_front();
                dropped += 1;
            }
        }
        self.lost(dropped);
        self.wake.notify_one();
    }

    /// The next block for a peer.
    pub(crate) fn take(&self, peer: ValidatorIndex) -> Option<Bytes> {
        self.outboxes.lock().get_mut(&peer)?.blocks.pop_front()
    }

    pub(crate) fn requests(&self, peer: ValidatorIndex) -> Option<Arc<Semaphore>> {
        self.outboxes.lock().get(&peer).map(|outbox| Arc::clone(&outbox.requests))
    }

    pub(crate) fn connected(&self) -> Vec<ValidatorIndex> {
        self.outboxes.lock().keys().copied().collect()
    }

    pub(crate) fn lost(&self, blocks: usize) {
        self.dropped.fetch_add(blocks as u64, Ordering::Relaxed);
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
