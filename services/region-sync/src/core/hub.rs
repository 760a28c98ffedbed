//! Who is told of a commit, and how far the region is.
//!
//! Order matters: the store has the commit, then [`Hub::head`] says so, then the notice goes out. A subscriber that subscribes first and reads
//! the head second therefore misses nothing: what is at or below the head is in the store, everything above will be sent to it.

use super::Head;
use kaldrix_types::{Address, CommitIndex, Digest, OutcomeStatus, Round, TimestampMs, TxId};
use std::sync::Arc;
use tokio::sync::{broadcast, watch};

/// A commit that can be read from this region's store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Position in the order.
    pub index: CommitIndex,
    /// Consensus time.
    pub timestamp_ms: TimestampMs,
    /// The commit's digest.
    pub digest: Digest,
    /// Round of its leader.
    pub leader_round: Round,
    /// The transactions whose outcome this commit decided, in order.
    pub transactions: Vec<NoticeTransaction>,
}

/// A transaction of a [`Notice`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoticeTransaction {
    /// Which one.
    pub id: TxId,
    /// What became of it.
    pub status: OutcomeStatus,
    /// In whose history it is, sender first.
    pub accounts: Vec<Address>,
    /// W3C `traceparent` of the projecting span; empty when nobody traces it.
    pub traceparent: String,
}

/// Where the projecting task and the subscribers meet.
pub struct Hub {
    head: watch::Sender<Head>,
    notices: broadcast::Sender<Arc<Notice>>,
    source_connected: watch::Sender<bool>,
}

impl Hub {
    /// A hub of a region that is at `head`; subscribers that are more than `capacity` notices behind are cut.
    #[must_use]
    pub fn new(head: Head, capacity: usize) -> Self {
        Self { head: watch::Sender::new(head), notices: broadcast::Sender::new(capacity), source_connected: watch::Sender::new(false) }
    }

    /// How far the region is.
    #[must_use]
    pub fn head(&self) -> Head {
        *self.head.borrow()
    }

    /// Changes of [`Self::head`].
    #[must_use]
    pub fn watch_head(&self) -> watch::Receiver<Head> {
        self.head.subscribe()
    }

    /// Notices from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Notice>> {
        self.notices.subscribe()
    }

    /// How many listen.
    #[must_use]
    pub fn subscriber_count(&self) -> usize {
        self.notices.receiver_count()
    }

    /// Tells everybody of commits that the store has by now.
    pub fn publish(&self, head: Head, notices: Vec<Notice>) {
        self.head.send_replace(head);
        for notice in notices {
            // Nobody listening is fine: they read the store when they come.
            let _ = self.notices.send(Arc::new(notice));
        }
    }

    /// Whether commits are coming in.
    #[must_use]
    pub fn source_connected(&self) -> bool {
        *self.source_connected.borrow()
    }

    /// Notes whether commits are coming in.
    pub fn set_source_connected(&self, connected: bool) {
        self.source_connected.send_replace(connected);
    }
}
