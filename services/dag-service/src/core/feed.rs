//! Durable executed commits for region-sync: the newest in memory, older ones from the store, every index exactly once.

use bytes::Bytes;
use kaldrix_storage::{StoreError, ValidatorStore};
use kaldrix_types::{CommitIndex, ExecutedCommit, encode};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::watch;

const MEMORY_COMMITS_MAX: usize = 512;
const MEMORY_BYTES_MAX: usize = 64 << 20;
const STORE_PAGE_COMMITS: usize = 64;
const STORE_PAGE_BYTES: usize = 8 << 20;

/// One commit on its way out.
#[derive(Clone)]
pub(crate) struct FeedItem {
    pub(crate) index: CommitIndex,
    /// BCS of the executed commit.
    pub(crate) bytes: Bytes,
    /// (position, traceparent) of transactions that came in here.
    pub(crate) traces: Arc<[(u32, String)]>,
}

#[derive(Default)]
struct Recent {
    items: VecDeque<FeedItem>,
    bytes: usize,
}

/// See the module's text.
pub(crate) struct Feed {
    recent: Mutex<Recent>,
    newest: watch::Sender<CommitIndex>,
    store: Arc<dyn ValidatorStore>,
}

impl Feed {
    pub(crate) fn new(store: Arc<dyn ValidatorStore>, newest: CommitIndex) -> Self {
        Self { recent: Mutex::default(), newest: watch::Sender::new(newest), store }
    }

    /// The store was replaced by a snapshot that ends with this commit.
    pub(crate) fn reset(&self, newest: CommitIndex) {
        *self.recent.lock() = Recent::default();
        self.newest.send_replace(newest);
    }

    /// Adds a commit that is durable.
    pub(crate) fn publish(&self, executed: &ExecutedCommit, traces: Arc<[(u32, String)]>) {
        let item = FeedItem { index: executed.commit.index, bytes: encode(executed).into(), traces };
        let mut recent = self.recent.lock();
        recent.bytes += item.bytes.len();
        recent.items.push_back(item);
        while recent.items.len() > MEMORY_COMMITS_MAX || (recent.bytes > MEMORY_BYTES_MAX && recent.items.len() > 1) {
            if let Some(old) = recent.items.pop_front() {
                recent.bytes -= old.bytes.len();
            }
        }
        drop(recent);
        self.newest.send_replace(executed.commit.index);
    }

    /// Index of the newest durable commit, and a way to wait for the next.
    pub(crate) fn newest(&self) -> watch::Receiver<CommitIndex> {
        self.newest.subscribe()
    }

    /// The commits from `from` on that are there now; empty when `from` is still to come.
    pub(crate) async fn page(&self, from: CommitIndex) -> Result<Vec<FeedItem>, StoreError> {
        if from > *self.newest.borrow() {
            return Ok(Vec::new());
        }
        {
            let recent = self.recent.lock();
            if let Some(first) = recent.items.front().map(|i| i.index)
                && from >= first
            {
                let skip = usize::try_from(from - first).unwrap_or(usize::MAX);
                return Ok(recent.items.iter().skip(skip).take(STORE_PAGE_COMMITS).cloned().collect());
            }
        }
        let stored = self.store.executed(from, STORE_PAGE_COMMITS, STORE_PAGE_BYTES).await?;
        let none: Arc<[(u32, String)]> = Arc::new([]);
        Ok(stored.iter().map(|e| FeedItem { index: e.commit.index, bytes: encode(e).into(), traces: Arc::clone(&none) }).collect())
    }
}
