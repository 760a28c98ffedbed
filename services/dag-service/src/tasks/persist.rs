//! The one path to the store: blocks, own proposals and executed commits in the order in which they came.
//!
//! A block is in the store before anything that refers to it, because everything goes through this queue; many items share one
//! write and one fsync. This task waits for nothing but the store, so a full queue pushes back on the core and never dead-locks.

use crate::core::{Feed, HotState};
use crate::error::DagError;
use crate::metrics::Metrics;
use kaldrix_storage::{Snapshot, StoreError, StoredBlock, StoredCheckpoint, ValidatorBatch, ValidatorStore};
use kaldrix_types::{CertifiedCheckpoint, Checkpoint, ExecutedCommit, Round};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Something to make durable.
pub(crate) enum Item {
    /// A block; nobody waits.
    Block(StoredBlock),
    /// An own proposal before it is signed: nothing is sent until this is durable.
    Proposal(StoredBlock, oneshot::Sender<()>),
    /// A commit's effects, the traces of its transactions, and the checkpoint that it closes.
    Executed { executed: Arc<ExecutedCommit>, traces: Arc<[(u32, String)]>, checkpoint: Option<Checkpoint> },
    /// The votes for a checkpoint that is stored.
    Certified(Box<CertifiedCheckpoint>),
    /// Answered when everything before is durable.
    Flush(oneshot::Sender<()>),
    /// Replaces everything by a snapshot.
    Install(Box<Snapshot>, oneshot::Sender<()>),
    /// Old blocks may go.
    Prune { below_round: Round, limit: usize },
}

impl Item {
    /// Somebody waits for it. Others' blocks only have to be in the store before the next own proposal, which comes through here too.
    const fn is_urgent(&self) -> bool {
        !matches!(self, Self::Block(_) | Self::Prune { .. })
    }
}

const ITEMS_PER_WRITE: usize = 256;
const LINGER: Duration = Duration::from_millis(100);
const RETRY_MS_MAX: u64 = 2_000;

/// What this task needs.
pub(crate) struct Persist {
    pub(crate) store: Arc<dyn ValidatorStore>,
    pub(crate) hot: Arc<HotState>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Persist {
    /// Runs until cancelled; what is queued by then is still written.
    ///
    /// # Errors
    /// A store failure that trying again cannot mend.
    pub(crate) async fn run(self, mut queue: mpsc::Receiver<Item>, cancel: CancellationToken) -> Result<(), DagError> {
        let mut items = Vec::with_capacity(ITEMS_PER_WRITE);
        while self.collect(&mut queue, &mut items, &cancel).await {
            self.metrics.persist_queue.set(i64::try_from(queue.len()).unwrap_or(i64::MAX));
            self.write(std::mem::take(&mut items), &cancel).await?;
        }
        Ok(())
    }

    /// Collects until something is urgent, much has come, or the first has waited for [`LINGER`]. Returns whether there is anything to write.
    async fn collect(&self, queue: &mut mpsc::Receiver<Item>, items: &mut Vec<Item>, cancel: &CancellationToken) -> bool {
        let mut deadline = None;
        loop {
            let linger = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                count = queue.recv_many(items, ITEMS_PER_WRITE) => if count == 0 {
                    return !items.is_empty();
                },
                () = linger => return true,
                () = cancel.cancelled() => return !items.is_empty(),
            }
            if items.len() >= ITEMS_PER_WRITE || items.iter().any(Item::is_urgent) || cancel.is_cancelled() {
                return true;
            }
            deadline.get_or_insert_with(|| tokio::time::Instant::now() + LINGER);
        }
    }

    async fn write(&self, items: Vec<Item>, cancel: &CancellationToken) -> Result<(), DagError> {
        let mut batch = ValidatorBatch::default();
        let mut waiting = Vec::new();
        let mut executed = Vec::new();
        let mut prune = None;
        for item in items {
            match item {
                Item::Block(block) => batch.blocks.push(block),
                Item::Proposal(block, reply) => {
                    batch.blocks.push(block);
                    waiting.push(reply);
                }
                Item::Executed { executed: commit, traces, checkpoint } => {
                    batch.executed.push(Arc::clone(&commit));
                    batch.checkpoints.extend(checkpoint.map(|checkpoint| StoredCheckpoint { checkpoint, votes: None }));
                    executed.push((commit, traces));
                }
                Item::Certified(certified) => {
                    let CertifiedCheckpoint { checkpoint, votes } = *certified;
                    batch.checkpoints.push(StoredCheckpoint { checkpoint, votes: Some(votes) });
                }
                Item::Flush(reply) => waiting.push(reply),
                Item::Install(snapshot, reply) => {
                    self.commit(std::mem::take(&mut batch), cancel).await?;
                    self.store.install(*snapshot).await?;
                    waiting.push(reply);
                }
                Item::Prune { below_round, limit } => prune = Some((below_round, limit)),
            }
        }
        self.commit(batch, cancel).await?;
        for reply in waiting {
            // The proposer may have been stopped meanwhile.
            let _ = reply.send(());
        }
        for (commit, traces) in executed {
            self.hot.durable(commit.commit.index);
            self.feed.publish(&commit, traces);
        }
        if let Some((below_round, limit)) = prune
            && let Err(error) = self.store.prune_blocks(below_round, limit).await
        {
            tracing::warn!(%error, "old blocks cannot be deleted now");
        }
        Ok(())
    }

    async fn commit(&self, batch: ValidatorBatch, cancel: &CancellationToken) -> Result<(), StoreError> {
        let mut pause_ms = 50;
        while let Err(error) = self.store.write(batch.clone()).await {
            if !error.is_retryable() || cancel.is_cancelled() {
                return Err(error);
            }
            tracing::warn!(%error, pause_ms, "the store does not take writes; this validator waits for it");
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            pause_ms = (pause_ms * 2).min(RETRY_MS_MAX);
        }
        Ok(())
    }
}
