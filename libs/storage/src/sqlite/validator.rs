//! A validator's store in one SQLite file.

use super::connect::{WriterLock, open_readers, open_writer};
use super::writer::{Alone, Job, QUEUE_MAX, Tips, Writer};
use super::{blob, bound, checkpoints, database_error, digest, int, row_limit, schema, small, state, within};
use crate::{BlockCursor, Snapshot, StatePage, StoreError, StoredBlock, StoredCheckpoint, ValidatorBatch, ValidatorStore};
use async_trait::async_trait;
use bytes::Bytes;
use kaldrix_types::{
    BlockRef, CertifiedCheckpoint, ChainId, Commit, CommitIndex, Epoch, ExecutedCommit, Genesis, Round, StateKey, StateValue,
    ValidatorIndex, decode,
};
use sqlx::sqlite::{SqliteRow, SqliteSynchronous};
use sqlx::{Sqlite, SqliteConnection, SqlitePool, Transaction};
use std::path::Path;
use tokio::sync::{mpsc, oneshot};

/// Reading connections: recovery, range sync and prefetching at once.
const READERS: u32 = 4;
/// References looked at per query.
const REFERENCES_MAX: i64 = 4096;
/// References looked at per author for [`ValidatorStore::blocks_above`].
const REFERENCES_PER_AUTHOR_MAX: i64 = 512;

/// See the [module](super).
pub struct SqliteValidatorStore {
    chain: ChainId,
    jobs: mpsc::Sender<Job>,
    readers: SqlitePool,
}

impl SqliteValidatorStore {
    /// Opens the store in the file at `path`, or creates it with the state of `genesis`. Needs a Tokio runtime, on which it runs the
    /// task that writes. [`ValidatorStore::close`] it before opening it again.
    ///
    /// # Errors
    /// [`StoreError::Unwritable`], [`StoreError::InUse`], [`StoreError::OtherChain`], [`StoreError::TooNew`], [`StoreError::Genesis`],
    /// [`StoreError::Damaged`].
    pub async fn open(path: &Path, genesis: &Genesis) -> Result<Self, StoreError> {
        let lock = WriterLock::take(path)?;
        let mut connection = open_writer(path, SqliteSynchronous::Full, &schema::VALIDATOR, genesis).await?;
        let tips = Tips::read(&mut connection).await?;
        let readers = open_readers(path, READERS).await?;
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(Writer { connection, tips, jobs: queue, lock }.run());
        Ok(Self { chain: genesis.chain_id(), jobs, readers })
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(job(reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    async fn reader(&self) -> Result<sqlx::pool::PoolConnection<Sqlite>, StoreError> {
        self.readers.acquire().await.map_err(database_error)
    }

    /// A transaction for several reads that must fit together: blocks are pruned, and everything is replaced by a snapshot, meanwhile.
    async fn moment(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.readers.begin().await.map_err(database_error)
    }
}

/// A block that will be read: everything but its bytes.
struct Listed {
    id: i64,
    reference: BlockRef,
    own: bool,
    size: usize,
}

/// Reads id, round, author, digest, own, size.
fn listed(row: &SqliteRow) -> Result<Listed, StoreError> {
    let reference = BlockRef { round: int(row, 1)?, author: ValidatorIndex(small(row, 2)?), digest: digest(row, 3)? };
    Ok(Listed { id: int(row, 0)?.cast_signed(), reference, own: int(row, 4)? != 0, size: small(row, 5)? })
}

async fn first_commit(connection: &mut SqliteConnection) -> Result<Option<CommitIndex>, StoreError> {
    let query = sqlx::query("SELECT idx FROM commits ORDER BY idx LIMIT 1");
    query.fetch_optional(connection).await.map_err(database_error)?.map(|row| int(&row, 0)).transpose()
}

async fn load(connection: &mut SqliteConnection, chosen: Vec<Listed>) -> Result<Vec<StoredBlock>, StoreError> {
    let mut blocks = Vec::with_capacity(chosen.len());
    for block in chosen {
        let query = sqlx::query("SELECT bytes FROM blocks WHERE id = ?").bind(block.id);
        let row = query.fetch_one(&mut *connection).await.map_err(database_error)?;
        blocks.push(StoredBlock { reference: block.reference, bytes: Bytes::copy_from_slice(blob(&row, 0)?), own: block.own });
    }
    Ok(blocks)
}

#[async_trait]
impl ValidatorStore for SqliteValidatorStore {
    fn chain_id(&self) -> ChainId {
        self.chain
    }

    async fn write(&self, batch: ValidatorBatch) -> Result<(), StoreError> {
        self.ask(|reply| Job::Write(batch, reply)).await
    }

    async fn install(&self, snapshot: Snapshot) -> Result<(), StoreError> {
        self.ask(|reply| Job::Alone(Alone::Install(snapshot, reply))).await
    }

    async fn prune_blocks(&self, below_round: Round, limit: usize) -> Result<usize, StoreError> {
        self.ask(|reply| Job::Alone(Alone::Prune { below_round, limit, reply })).await
    }

    async fn first_commit(&self) -> Result<Option<CommitIndex>, StoreError> {
        first_commit(&mut *self.reader().await?).await
    }

    async fn last_commit(&self) -> Result<Option<Commit>, StoreError> {
        let query = sqlx::query("SELECT commit_bytes FROM commits ORDER BY idx DESC LIMIT 1");
        let row = query.fetch_optional(&self.readers).await.map_err(database_error)?;
        Ok(row.map(|row| decode(blob(&row, 0)?, usize::MAX).map_err(StoreError::from)).transpose()?)
    }

    async fn own_last_block(&self) -> Result<Option<StoredBlock>, StoreError> {
        let mut connection = self.moment().await?;
        // Of two epochs' blocks in one round the later epoch's has the higher id: it was written later.
        let query =
            sqlx::query("SELECT id, round, author, digest, own, size FROM blocks WHERE own = 1 ORDER BY round DESC, id DESC LIMIT 1");
        let row = query.fetch_optional(&mut *connection).await.map_err(database_error)?;
        let chosen = row.iter().map(listed).collect::<Result<_, _>>()?;
        Ok(load(&mut connection, chosen).await?.pop())
    }

    async fn blocks_after(&self, after: BlockCursor, limit_bytes: usize) -> Result<Vec<StoredBlock>, StoreError> {
        let mut connection = self.moment().await?;
        let query = sqlx::query(
            "SELECT id, round, author, digest, own, size FROM blocks WHERE (round, author, digest) > (?, ?, ?) \
             ORDER BY round, author, digest LIMIT ?",
        );
        let query =
            query.bind(bound(after.round)).bind(i64::from(after.author)).bind(after.digest.as_bytes().as_slice()).bind(REFERENCES_MAX);
        let rows = query.fetch_all(&mut *connection).await.map_err(database_error)?;
        let found = rows.iter().map(listed).collect::<Result<Vec<_>, _>>()?;
        load(&mut connection, within(found, limit_bytes, |block| block.size)).await
    }

    async fn blocks_above(&self, floors: &[Round], limit_bytes: usize) -> Result<Vec<StoredBlock>, StoreError> {
        let mut connection = self.moment().await?;
        let mut found = Vec::new();
        // Rounds above this may be incomplete: some author has more blocks than were looked at.
        let mut horizon = Round::MAX;
        for (author, floor) in (0i64..).zip(floors) {
            let query = sqlx::query(
                "SELECT id, round, author, digest, own, size FROM blocks WHERE author = ? AND round > ? ORDER BY round, digest LIMIT ?",
            );
            let query = query.bind(author).bind(bound(*floor)).bind(REFERENCES_PER_AUTHOR_MAX);
            let rows = query.fetch_all(&mut *connection).await.map_err(database_error)?;
            let blocks = rows.iter().map(listed).collect::<Result<Vec<_>, _>>()?;
            if blocks.len() as i64 == REFERENCES_PER_AUTHOR_MAX
                && let Some(last) = blocks.last()
            {
                horizon = horizon.min(last.reference.round);
            }
            found.extend(blocks);
        }
        found.retain(|block| block.reference.round <= horizon);
        found.sort_unstable_by_key(|block| block.reference);
        load(&mut connection, within(found, limit_bytes, |block| block.size)).await
    }

    async fn blocks(&self, references: &[BlockRef]) -> Result<Vec<Option<StoredBlock>>, StoreError> {
        let mut connection = self.reader().await?;
        let mut blocks = Vec::with_capacity(references.len());
        for reference in references {
            let query = sqlx::query("SELECT own, bytes FROM blocks WHERE round = ? AND author = ? AND digest = ?")
                .bind(reference.round.cast_signed())
                .bind(i64::from(reference.author.0))
                .bind(reference.digest.as_bytes().as_slice());
            let row = query.fetch_optional(&mut *connection).await.map_err(database_error)?;
            let block = row.map(|row| {
                let bytes = Bytes::copy_from_slice(blob(&row, 1)?);
                Ok::<_, StoreError>(StoredBlock { reference: *reference, bytes, own: int(&row, 0)? != 0 })
            });
            blocks.push(block.transpose()?);
        }
        Ok(blocks)
    }

    async fn committed_refs_after(&self, round: Round) -> Result<Vec<BlockRef>, StoreError> {
        let query = sqlx::query("SELECT round, author, digest FROM committed WHERE round > ? ORDER BY round, author, digest");
        let rows = query.bind(bound(round)).fetch_all(&self.readers).await.map_err(database_error)?;
        rows.iter()
            .map(|row| Ok(BlockRef { round: int(row, 0)?, author: ValidatorIndex(small(row, 1)?), digest: digest(row, 2)? }))
            .collect()
    }

    async fn executed(&self, from: CommitIndex, limit: usize, limit_bytes: usize) -> Result<Vec<ExecutedCommit>, StoreError> {
        let mut connection = self.moment().await?;
        if let Some(first) = first_commit(&mut connection).await?.filter(|first| from.max(1) < *first) {
            return Err(StoreError::Pruned { first });
        }
        let query = sqlx::query("SELECT idx, size FROM commits WHERE idx >= ? ORDER BY idx LIMIT ?");
        let query = query.bind(bound(from)).bind(row_limit(limit).min(REFERENCES_MAX));
        let rows = query.fetch_all(&mut *connection).await.map_err(database_error)?;
        let found = rows.iter().map(|row| Ok((int(row, 0)?, small(row, 1)?))).collect::<Result<Vec<_>, StoreError>>()?;
        let mut commits = Vec::new();
        for (index, _) in within(found, limit_bytes, |(_, size): &(CommitIndex, usize)| *size) {
            let query = sqlx::query("SELECT bytes FROM commits WHERE idx = ?").bind(index.cast_signed());
            let row = query.fetch_one(&mut *connection).await.map_err(database_error)?;
            commits.push(decode(blob(&row, 0)?, usize::MAX)?);
        }
        Ok(commits)
    }

    async fn checkpoint(&self, index: u64) -> Result<Option<StoredCheckpoint>, StoreError> {
        checkpoints::at(&mut *self.reader().await?, index).await
    }

    async fn checkpoint_of_commit(&self, commit: CommitIndex) -> Result<Option<StoredCheckpoint>, StoreError> {
        checkpoints::of_commit(&mut *self.moment().await?, commit).await
    }

    async fn checkpoints_from(&self, index: u64, limit: usize, limit_bytes: usize) -> Result<Vec<StoredCheckpoint>, StoreError> {
        checkpoints::from(&mut *self.moment().await?, index, limit, limit_bytes).await
    }

    async fn last_checkpoint(&self) -> Result<Option<StoredCheckpoint>, StoreError> {
        checkpoints::last(&mut *self.reader().await?).await
    }

    async fn last_certified(&self) -> Result<Option<CertifiedCheckpoint>, StoreError> {
        checkpoints::last_certified(&mut *self.reader().await?).await
    }

    async fn epoch_ends(&self, from_epoch: Epoch, limit: usize, limit_bytes: usize) -> Result<Vec<CertifiedCheckpoint>, StoreError> {
        checkpoints::epoch_ends(&mut *self.moment().await?, from_epoch, limit, limit_bytes).await
    }

    async fn state(&self, keys: &[StateKey]) -> Result<Vec<Option<StateValue>>, StoreError> {
        state::read(&mut *self.reader().await?, keys).await
    }

    async fn state_page(&self, after: Option<StateKey>, limit: usize) -> Result<StatePage, StoreError> {
        let mut connection = self.moment().await?;
        let at = Tips::read(&mut connection).await?.commit.index;
        let records = state::page(&mut connection, &after.map(|key| key.to_bytes()).unwrap_or_default(), limit).await?;
        Ok(StatePage { at, records })
    }

    async fn close(&self) -> Result<(), StoreError> {
        // The writer is last to close, so that it can move the log into the file and delete it.
        self.readers.close().await;
        self.ask(|reply| Job::Alone(Alone::Close(reply))).await
    }
}
