//! The task that owns a validator's writing connection: batches that arrive while a flush is under way share the next one.

use super::bulk::Bulk;
use super::connect::WriterLock;
use super::{database_error, digest, state};
use crate::{StoreError, ValidatorBatch};
use kaldrix_types::{BlockRef, CommitIndex, Digest, ExecutedCommit, encode};
use sqlx::{Connection, SqliteConnection};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Batches that wait; writers wait while it is full.
pub(super) const QUEUE_MAX: usize = 256;
/// Batches and bytes of blocks that share one transaction: more would keep the first one waiting.
const MERGE_BATCHES_MAX: usize = 128;
const MERGE_BYTES_MAX: usize = 32 * 1024 * 1024;

static INSERT_COMMITTED: Bulk = Bulk::values("INSERT INTO committed (round, author, digest)", 3, "ON CONFLICT DO NOTHING");

/// What the task is asked for.
pub(super) enum Job {
    Write(ValidatorBatch, oneshot::Sender<Result<(), StoreError>>),
    Close(oneshot::Sender<Result<(), StoreError>>),
}

/// The last commit in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tip {
    pub(super) index: CommitIndex,
    pub(super) digest: Digest,
}

/// A batch that may be written, with the commits that are new.
struct Accepted {
    batch: ValidatorBatch,
    new: Vec<(Arc<ExecutedCommit>, Digest)>,
    reply: oneshot::Sender<Result<(), StoreError>>,
}

pub(super) struct Writer {
    pub(super) connection: SqliteConnection,
    pub(super) tip: Tip,
    pub(super) jobs: mpsc::Receiver<Job>,
    /// Held until nothing can be written any more.
    pub(super) lock: WriterLock,
}

impl Writer {
    /// Runs until it is asked to close or every handle is gone; what was queued before is written first.
    pub(super) async fn run(mut self) {
        let mut closing = None;
        while closing.is_none()
            && let Some(first) = self.jobs.recv().await
        {
            let mut writes = Vec::new();
            let mut bytes = 0;
            let mut next = Some(first);
            while let Some(job) = next {
                match job {
                    Job::Write(batch, reply) => {
                        bytes += batch.blocks.iter().map(|block| block.bytes.len()).sum::<usize>();
                        writes.push((batch, reply));
                    }
                    Job::Close(reply) => {
                        closing = Some(reply);
                        break;
                    }
                }
                let full = writes.len() >= MERGE_BATCHES_MAX || bytes >= MERGE_BYTES_MAX;
                next = if full { None } else { self.jobs.try_recv().ok() };
            }
            self.write_group(writes).await;
        }
        self.jobs.close();
        let closed = self.connection.close().await.map_err(database_error);
        drop(self.lock);
        if let Some(reply) = closing {
            let _ = reply.send(closed);
        }
    }

    async fn write_group(&mut self, writes: Vec<(ValidatorBatch, oneshot::Sender<Result<(), StoreError>>)>) {
        let mut tip = self.tip;
        let mut group = Vec::with_capacity(writes.len());
        for (batch, reply) in writes {
            match self.accept(&batch, tip, &group).await {
                Ok(new) => {
                    if let Some((last, digest)) = new.last() {
                        tip = Tip { index: last.commit.index, digest: *digest };
                    }
                    group.push(Accepted { batch, new, reply });
                }
                // The caller may have stopped waiting; the error is its own.
                Err(error) => drop(reply.send(Err(error))),
            }
        }
        if group.is_empty() {
            return;
        }
        let written = self.write_accepted(&group).await;
        if written.is_ok() {
            self.tip = tip;
        }
        for accepted in group {
            let _ = accepted.reply.send(written.clone());
        }
    }

    /// Which of the batch's commits are new, or why it cannot follow `tip`. `group` is what precedes it in the same transaction.
    async fn accept(
        &mut self,
        batch: &ValidatorBatch,
        mut tip: Tip,
        group: &[Accepted],
    ) -> Result<Vec<(Arc<ExecutedCommit>, Digest)>, StoreError> {
        let mut new: Vec<(Arc<ExecutedCommit>, Digest)> = Vec::new();
        for executed in &batch.executed {
            let (index, offered) = (executed.commit.index, executed.commit.digest());
            if index <= tip.index {
                let pending = group.iter().flat_map(|accepted| &accepted.new).chain(&new);
                let pending = pending.into_iter().find(|(e, _)| e.commit.index == index).map(|(_, digest)| *digest);
                let stored = match pending {
                    Some(digest) => digest,
                    None => self.stored_digest(index).await?,
                };
                if stored != offered {
                    return Err(StoreError::Diverged { index, stored, offered });
                }
                continue;
            }
            if index != tip.index + 1 {
                return Err(StoreError::OutOfOrder { expected: tip.index + 1, found: index });
            }
            if executed.commit.previous != tip.digest {
                return Err(StoreError::Diverged { index: tip.index, stored: tip.digest, offered: executed.commit.previous });
            }
            tip = Tip { index, digest: offered };
            new.push((executed.clone(), offered));
        }
        Ok(new)
    }

    async fn stored_digest(&mut self, index: CommitIndex) -> Result<Digest, StoreError> {
        let query = sqlx::query("SELECT digest FROM commits WHERE idx = ?").bind(index.cast_signed());
        let row = query.fetch_optional(&mut self.connection).await.map_err(database_error)?;
        // Index 0 is "none yet": no commit has it.
        row.map_or(Err(StoreError::OutOfOrder { expected: self.tip.index + 1, found: index }), |row| digest(&row, 0))
    }

    async fn write_accepted(&mut self, group: &[Accepted]) -> Result<(), StoreError> {
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await.map_err(database_error)?;
        for block in group.iter().flat_map(|accepted| &accepted.batch.blocks) {
            // One at a time: blocks are few and large.
            let insert = sqlx::query(
                // An own proposal is first stored unsigned; its signature makes it longer.
                "INSERT INTO blocks (round, author, digest, own, size, bytes) VALUES (?, ?, ?, ?, ?, ?) \
                 ON CONFLICT (round, author, digest) DO UPDATE SET size = excluded.size, bytes = excluded.bytes \
                 WHERE excluded.own AND excluded.size > blocks.size",
            );
            insert
                .bind(block.reference.round.cast_signed())
                .bind(i64::from(block.reference.author.0))
                .bind(block.reference.digest.as_bytes().as_slice())
                .bind(block.own)
                .bind(i64::try_from(block.bytes.len()).unwrap_or(i64::MAX))
                .bind(block.bytes.as_ref())
                .execute(&mut *transaction)
                .await
                .map_err(database_error)?;
        }
        let commits = || group.iter().flat_map(|accepted| &accepted.new);
        for (executed, digest) in commits() {
            let bytes = encode(executed.as_ref());
            let insert = sqlx::query("INSERT INTO commits (idx, digest, commit_bytes, size, bytes) VALUES (?, ?, ?, ?, ?)");
            insert
                .bind(executed.commit.index.cast_signed())
                .bind(digest.as_bytes().as_slice())
                .bind(encode(&executed.commit))
                .bind(i64::try_from(bytes.len()).unwrap_or(i64::MAX))
                .bind(bytes)
                .execute(&mut *transaction)
                .await
                .map_err(database_error)?;
        }
        let committed: Vec<BlockRef> = commits().flat_map(|(executed, _)| executed.commit.blocks.iter().copied()).collect();
        INSERT_COMMITTED
            .execute(&mut transaction, &committed, |values, block| {
                values.int(block.round).int(block.author.0.into()).blob(block.digest.as_bytes());
            })
            .await?;
        state::write(&mut transaction, commits().flat_map(|(executed, _)| &executed.changes)).await?;
        transaction.commit().await.map_err(database_error)
    }
}
