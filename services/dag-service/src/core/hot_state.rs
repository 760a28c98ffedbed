//! The executed state in memory: what execution reads and admission looks at.
//!
//! Only the executor puts records in, so a slow reader can never bring an old value back. A record may be dropped again as
//! soon as the commit that wrote it is durable, because the store then has the same value.

use kaldrix_storage::{StoreError, ValidatorStore};
use kaldrix_types::{Commit, CommitIndex, ExecutedCommit, StateKey, StateValue, TimestampMs};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;

/// Records kept before clean ones are dropped: about 100 MB at 200 bytes each with overhead.
const RECORDS_MAX: usize = 400_000;

struct Record {
    value: Option<StateValue>,
    /// Commit that wrote it; 0 when it was read from the store.
    written_at: CommitIndex,
}

#[derive(Default)]
struct Inner {
    records: HashMap<StateKey, Record>,
    durable: CommitIndex,
    consensus_time_ms: TimestampMs,
}

/// See the module's text.
pub(crate) struct HotState {
    inner: RwLock<Inner>,
    store: Arc<dyn ValidatorStore>,
}

/// A few records as they were at one moment.
pub(crate) type Snapshot = HashMap<StateKey, Option<StateValue>>;

impl HotState {
    /// `last` is the last commit in the store.
    pub(crate) fn new(store: Arc<dyn ValidatorStore>, last: Option<&Commit>) -> Self {
        let (durable, consensus_time_ms) = last.map_or((0, 0), |c| (c.index, c.timestamp_ms));
        Self { inner: RwLock::new(Inner { records: HashMap::new(), durable, consensus_time_ms }), store }
    }

    /// Forgets everything: the store was replaced by a snapshot that ends with `last`.
    pub(crate) fn reset(&self, last: &Commit) {
        *self.inner.write() = Inner { records: HashMap::new(), durable: last.index, consensus_time_ms: last.timestamp_ms };
    }

    /// Timestamp of the newest executed commit.
    pub(crate) fn consensus_time_ms(&self) -> TimestampMs {
        self.inner.read().consensus_time_ms
    }

    /// Reads records without keeping them: for admission.
    pub(crate) async fn peek(&self, keys: &[StateKey]) -> Result<Snapshot, StoreError> {
        let (mut found, missing) = self.in_memory(keys);
        if !missing.is_empty() {
            let values = self.store.state(&missing).await?;
            // The executor may have written one of them meanwhile: memory wins.
            let (newer, _) = self.in_memory(&missing);
            found.extend(missing.into_iter().zip(values));
            found.extend(newer);
        }
        Ok(found)
    }

    /// Reads records and keeps them: for the executor alone.
    pub(crate) async fn load(&self, keys: &[StateKey]) -> Result<Snapshot, StoreError> {
        let (mut found, missing) = self.in_memory(keys);
        if !missing.is_empty() {
            let values = self.store.state(&missing).await?;
            let mut inner = self.inner.write();
            for (key, value) in missing.into_iter().zip(values) {
                inner.records.insert(key, Record { value: value.clone(), written_at: 0 });
                found.insert(key, value);
            }
        }
        Ok(found)
    }

    /// Takes over what a commit changed.
    pub(crate) fn apply(&self, executed: &ExecutedCommit) {
        let mut inner = self.inner.write();
        inner.consensus_time_ms = executed.commit.timestamp_ms;
        for change in &executed.changes {
            inner.records.insert(change.key, Record { value: change.value.clone(), written_at: executed.commit.index });
        }
    }

    /// Everything up to `index` is in the store: clean records may go when there are too many.
    pub(crate) fn durable(&self, index: CommitIndex) {
        let mut inner = self.inner.write();
        inner.durable = inner.durable.max(index);
        if inner.records.len() > RECORDS_MAX {
            let durable = inner.durable;
            inner.records.retain(|_, record| record.written_at > durable);
        }
    }

    fn in_memory(&self, keys: &[StateKey]) -> (Snapshot, Vec<StateKey>) {
        let inner = self.inner.read();
        let mut found = Snapshot::with_capacity(keys.len());
        let mut missing = Vec::new();
        for key in keys {
            match inner.records.get(key) {
                Some(record) => {
                    found.insert(*key, record.value.clone());
                }
                None => missing.push(*key),
            }
        }
        (found, missing)
    }
}
