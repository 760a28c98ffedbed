//! The task that owns a validator's writing connection: batches that arrive while a flush is under way share the next one.

use super::bulk::Bulk;
use super::checkpoints::{self, CheckpointTip};
use super::connect::WriterLock;
use super::{bound, database_error, digest, install, int, state};
use crate::{Numbered, Snapshot, StoreError, StoredBlock, StoredCheckpoint, ValidatorBatch};
use kaldrix_types::{BlockRef, CommitIndex, Digest, ExecutedCommit, Round, encode};
use sqlx::{Connection, SqliteConnection};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Batches that wait; writers wait while it is full.
pub(super) const QUEUE_MAX: usize = 256;
/// Batches and bytes of blocks that share one transaction: more would keep the first one waiting.
const MERGE_BATCHES_MAX: usize = 128;
const MERGE_BYTES_MAX: usize = 32 * 1024 * 1024;

static INSERT_COMMITTED: Bulk = Bulk::values("INSERT INTO committed (round, author, digest)", 3, "ON CONFLICT DO NOTHING");

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the task is asked for.
pub(super) enum Job {
    /// Shares a transaction with others.
    Write(ValidatorBatch, Reply<()>),
    /// Comes behind what was asked for before, alone.
    Alone(Alone),
}

pub(super) enum Alone {
    Install(Snapshot, Reply<()>),
    Prune { below_round: Round, limit: usize, reply: Reply<usize> },
    Close(Reply<()>),
}

/// The last commit in the store; zeroes for none, which is what the first one follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CommitTip {
    pub(super) index: CommitIndex,
    pub(super) digest: Digest,
}

/// What new content has to follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tips {
    pub(super) commit: CommitTip,
    pub(super) checkpoint: CheckpointTip,
}

impl Tips {
    pub(super) async fn read(connection: &mut SqliteConnection) -> Result<Self, StoreError> {
        let query = sqlx::query("SELECT idx, digest FROM commits ORDER BY idx DESC LIMIT 1");
        let row = query.fetch_optional(&mut *connection).await.map_err(database_error)?;
        let commit = row.map(|row| Ok::<_, StoreError>(CommitTip { index: int(&row, 0)?, digest: digest(&row, 1)? })).transpose()?;
        Ok(Self { commit: commit.unwrap_or_default(), checkpoint: CheckpointTip::read(connection).await? })
    }
}

/// What of a batch is to be written.
#[derive(Default)]
struct New {
    blocks: Vec<StoredBlock>,
    executed: Vec<(Arc<ExecutedCommit>, Digest)>,
    /// New ones, and stored ones that perhaps get their certificate.
    checkpoints: Vec<(StoredCheckpoint, Digest)>,
}

pub(super) struct Writer {
    pub(super) connection: SqliteConnection,
    pub(super) tips: Tips,
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
            let (mut writes, mut bytes) = (Vec::new(), 0);
            let (mut next, mut alone) = (Some(first), None);
            while let Some(job) = next {
                match job {
                    Job::Write(batch, reply) => {
                        bytes += batch.blocks.iter().map(|block| block.bytes.len()).sum::<usize>();
                        writes.push((batch, reply));
                    }
                    Job::Alone(job) => {
                        alone = Some(job);
                        break;
                    }
                }
                let full = writes.len() >= MERGE_BATCHES_MAX || bytes >= MERGE_BYTES_MAX;
                next = if full { None } else { self.jobs.try_recv().ok() };
            }
            self.write_group(writes).await;
            // A caller may have stopped waiting: nobody is left to be told.
            match alone {
                None => {}
                Some(Alone::Install(snapshot, reply)) => drop(reply.send(self.install(snapshot).await)),
                Some(Alone::Prune { below_round, limit, reply }) => {
                    drop(reply.send(install::prune(&mut self.connection, below_round, limit).await));
                }
                Some(Alone::Close(reply)) => closing = Some(reply),
            }
        }
        self.jobs.close();
        let closed = self.connection.close().await.map_err(database_error);
        drop(self.lock);
        if let Some(reply) = closing {
            let _ = reply.send(closed);
        }
    }

    async fn install(&mut self, snapshot: Snapshot) -> Result<(), StoreError> {
        self.tips = install::install(&mut self.connection, &self.tips, snapshot).await?;
        Ok(())
    }

    async fn write_group(&mut self, writes: Vec<(ValidatorBatch, Reply<()>)>) {
        let mut tips = self.tips;
        let (mut group, mut replies) = (Vec::with_capacity(writes.len()), Vec::with_capacity(writes.len()));
        for (batch, reply) in writes {
            match self.accept(batch, &mut tips, &group).await {
                Ok(new) => {
                    group.push(new);
                    replies.push(reply);
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
            self.tips = tips;
        }
        for reply in replies {
            let _ = reply.send(written.clone());
        }
    }

    /// What of the batch is new, or why it cannot follow `tips`, which are moved on if it does. `group` precedes it in the same transaction.
    async fn accept(&mut self, batch: ValidatorBatch, tips: &mut Tips, group: &[New]) -> Result<New, StoreError> {
        let mut after = *tips;
        let mut new = New { blocks: batch.blocks, ..New::default() };
        for executed in batch.executed {
            let offered = executed.commit.digest();
            if self.is_new_commit(&executed, offered, &after, group, &new).await? {
                after.commit = CommitTip { index: executed.commit.index, digest: offered };
                new.executed.push((executed, offered));
            }
        }
        for stored in batch.checkpoints {
            let offered = stored.checkpoint.digest();
            if self.is_new_checkpoint(&stored, offered, &after, group, &new).await? {
                after.checkpoint = CheckpointTip::of(&stored.checkpoint, offered);
            }
            new.checkpoints.push((stored, offered));
        }
        *tips = after;
        Ok(new)
    }

    async fn is_new_commit(
        &mut self,
        executed: &ExecutedCommit,
        offered: Digest,
        tips: &Tips,
        group: &[New],
        new: &New,
    ) -> Result<bool, StoreError> {
        let (index, tip, what) = (executed.commit.index, tips.commit, Numbered::Commit);
        if index <= tip.index {
            // Index 0 is "none yet", and what was before a snapshot is not known any more.
            let stored = self.commit_digest(index, group, new).await?;
            let stored = stored.ok_or(StoreError::OutOfOrder { what, expected: tip.index + 1, found: index })?;
            return if stored == offered { Ok(false) } else { Err(StoreError::Diverged { what, index, stored, offered }) };
        }
        if index != tip.index + 1 {
            return Err(StoreError::OutOfOrder { what, expected: tip.index + 1, found: index });
        }
        if executed.commit.previous != tip.digest {
            return Err(StoreError::Diverged { what, index: tip.index, stored: tip.digest, offered: executed.commit.previous });
        }
        Ok(true)
    }

    async fn is_new_checkpoint(
        &mut self,
        stored: &StoredCheckpoint,
        offered: Digest,
        tips: &Tips,
        group: &[New],
        new: &New,
    ) -> Result<bool, StoreError> {
        let (checkpoint, tip) = (&stored.checkpoint, tips.checkpoint);
        let index = checkpoint.index;
        if index <= tip.index {
            let pending = group.iter().chain([new]).flat_map(|new| &new.checkpoints);
            let pending = pending.into_iter().find(|(other, _)| other.checkpoint.index == index).map(|(_, digest)| *digest);
            let stored = match pending {
                Some(digest) => Some(digest),
                None => checkpoints::stored_digest(&mut self.connection, index).await?,
            };
            let what = Numbered::Checkpoint;
            // A hole that a snapshot left stays one.
            let stored = stored.ok_or(StoreError::OutOfOrder { what, expected: tip.index + 1, found: index })?;
            return if stored == offered { Ok(false) } else { Err(StoreError::Diverged { what, index, stored, offered }) };
        }
        tip.check_next(checkpoint)?;
        let (commit, claimed) = (checkpoint.last_commit, checkpoint.last_commit_digest);
        let Some(stored) = self.commit_digest(commit, group, new).await? else {
            return Err(StoreError::BadBatch("a checkpoint's commits must be written before it, or with it"));
        };
        if stored != claimed {
            return Err(StoreError::Diverged { what: Numbered::Commit, index: commit, stored, offered: claimed });
        }
        Ok(true)
    }

    /// The digest of a commit that is stored or about to be.
    async fn commit_digest(&mut self, index: CommitIndex, group: &[New], new: &New) -> Result<Option<Digest>, StoreError> {
        let mut pending = group.iter().chain([new]).flat_map(|new| &new.executed);
        match pending.find(|(executed, _)| executed.commit.index == index) {
            Some((_, digest)) => Ok(Some(*digest)),
            None => stored_digest(&mut self.connection, index).await,
        }
    }

    async fn write_accepted(&mut self, group: &[New]) -> Result<(), StoreError> {
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await.map_err(database_error)?;
        for block in group.iter().flat_map(|new| &new.blocks) {
            insert_block(&mut transaction, block).await?;
        }
        for new in group {
            insert_commits(&mut transaction, &new.executed).await?;
        }
        state::write(&mut transaction, group.iter().flat_map(|new| &new.executed).flat_map(|(executed, _)| &executed.changes)).await?;
        for (checkpoint, digest) in group.iter().flat_map(|new| &new.checkpoints) {
            checkpoints::write(&mut transaction, checkpoint, *digest).await?;
        }
        transaction.commit().await.map_err(database_error)
    }
}

pub(super) async fn stored_digest(connection: &mut SqliteConnection, index: CommitIndex) -> Result<Option<Digest>, StoreError> {
    let query = sqlx::query("SELECT digest FROM commits WHERE idx = ?").bind(bound(index));
    query.fetch_optional(connection).await.map_err(database_error)?.map(|row| digest(&row, 0)).transpose()
}

/// One at a time: blocks are few and large.
async fn insert_block(connection: &mut SqliteConnection, block: &StoredBlock) -> Result<(), StoreError> {
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
        .execute(connection)
        .await
        .map_err(database_error)?;
    Ok(())
}

/// Writes commits, and that their blocks are committed; not their changes.
pub(super) async fn insert_commits(connection: &mut SqliteConnection, commits: &[(Arc<ExecutedCommit>, Digest)]) -> Result<(), StoreError> {
    for (executed, digest) in commits {
        let bytes = encode(executed.as_ref());
        let insert = sqlx::query("INSERT INTO commits (idx, digest, commit_bytes, size, bytes) VALUES (?, ?, ?, ?, ?)");
        insert
            .bind(executed.commit.index.cast_signed())
            .bind(digest.as_bytes().as_slice())
            .bind(encode(&executed.commit))
            .bind(i64::try_from(bytes.len()).unwrap_or(i64::MAX))
            .bind(bytes)
            .execute(&mut *connection)
            .await
            .map_err(database_error)?;
    }
    let committed: Vec<BlockRef> = commits.iter().flat_map(|(executed, _)| executed.commit.blocks.iter().copied()).collect();
    let bind = |values: &mut super::bulk::Values, block: &BlockRef| {
        values.int(block.round).int(block.author.0.into()).blob(block.digest.as_bytes());
    };
    INSERT_COMMITTED.execute(connection, &committed, bind).await?;
    Ok(())
}
