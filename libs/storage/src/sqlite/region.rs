//! A region's read model in one SQLite file: written by one process, read by any number.

use super::connect::{WriterLock, check_readable, open_readers, open_writer};
use super::{database_error, region_read as read, region_write, schema, state};
use crate::{
    AccountTransactionRow, AccountView, BlockRow, CommitRow, RegionBatch, RegionStore, RegionTotals, StatePage, StoreError, TransactionRow,
};
use async_trait::async_trait;
use kaldrix_types::{
    Address, Asset, AssetId, ChainId, CommitIndex, Digest, EpochRecord, Genesis, StateKey, StateValue, Supply, TxId, ValidatorRecord,
};
use sqlx::sqlite::SqliteSynchronous;
use sqlx::{Connection, Sqlite, SqliteConnection, SqlitePool, Transaction};
use std::path::Path;
use tokio::sync::Mutex;

/// Reading connections: each is a thread while it works, so a few more than cores are enough.
const READERS: u32 = 8;

/// The writing connection with the lock that makes it the only one.
pub(super) struct Writing {
    pub(super) connection: SqliteConnection,
    _lock: WriterLock,
}

/// What can be written through: nothing when opened for reading, nothing any more when closed.
pub(super) enum Access {
    Write(Box<Writing>),
    ReadOnly,
    Closed,
}

/// See the [module](super).
pub struct SqliteRegionStore {
    chain: ChainId,
    pub(super) access: Mutex<Access>,
    readers: SqlitePool,
}

impl SqliteRegionStore {
    /// Opens the store in the file at `path` for writing and reading, or creates it with the state of `genesis`.
    ///
    /// # Errors
    /// [`StoreError::Unwritable`], [`StoreError::InUse`], [`StoreError::OtherChain`], [`StoreError::TooNew`], [`StoreError::Genesis`],
    /// [`StoreError::Damaged`].
    pub async fn open(path: &Path, genesis: &Genesis) -> Result<Self, StoreError> {
        let lock = WriterLock::take(path)?;
        let connection = open_writer(path, SqliteSynchronous::Normal, &schema::REGION, genesis).await?;
        let readers = open_readers(path, READERS).await?;
        let access = Access::Write(Box::new(Writing { connection, _lock: lock }));
        Ok(Self { chain: genesis.chain_id(), access: Mutex::new(access), readers })
    }

    /// Opens a store that another process writes, for reading.
    ///
    /// # Errors
    /// [`StoreError::NotReady`] (retryable) while the writer has not created or migrated it; [`StoreError::OtherChain`], [`StoreError::TooNew`].
    pub async fn open_read_only(path: &Path, chain: ChainId) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::NotReady { path: path.into() });
        }
        let readers = open_readers(path, READERS).await?;
        check_readable(path, &readers, &schema::REGION, chain).await?;
        Ok(Self { chain, access: Mutex::new(Access::ReadOnly), readers })
    }

    async fn reader(&self) -> Result<sqlx::pool::PoolConnection<Sqlite>, StoreError> {
        self.readers.acquire().await.map_err(database_error)
    }

    /// A transaction for several reads that must fit together.
    async fn snapshot(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.readers.begin().await.map_err(database_error)
    }
}

#[async_trait]
impl RegionStore for SqliteRegionStore {
    fn chain_id(&self) -> ChainId {
        self.chain
    }

    async fn apply(&self, batch: RegionBatch) -> Result<(), StoreError> {
        let mut access = self.access.lock().await;
        let writing = match &mut *access {
            Access::Write(writing) => writing,
            Access::ReadOnly => return Err(StoreError::ReadOnly),
            Access::Closed => return Err(StoreError::Closed),
        };
        // Dropped halfway (an error, or a caller that stops waiting), the transaction rolls itself back.
        let mut transaction = writing.connection.begin_with("BEGIN IMMEDIATE").await.map_err(database_error)?;
        region_write::apply(&mut transaction, batch).await?;
        transaction.commit().await.map_err(database_error)
    }

    async fn cursor(&self) -> Result<CommitIndex, StoreError> {
        Ok(read::progress(&mut *self.reader().await?).await?.last_commit)
    }

    async fn transaction(&self, id: TxId) -> Result<Option<TransactionRow>, StoreError> {
        read::transaction(&mut *self.reader().await?, id).await
    }

    async fn account(&self, address: Address, balances_limit: usize) -> Result<Option<AccountView>, StoreError> {
        read::account(&mut *self.snapshot().await?, address, balances_limit).await
    }

    async fn account_transactions(
        &self,
        address: Address,
        after: Option<(CommitIndex, u32)>,
        limit: usize,
    ) -> Result<Vec<(AccountTransactionRow, TransactionRow)>, StoreError> {
        read::account_transactions(&mut *self.reader().await?, address, after, limit).await
    }

    async fn commit(&self, index: CommitIndex) -> Result<Option<CommitRow>, StoreError> {
        Ok(read::commits_from(&mut *self.reader().await?, index, 1).await?.pop().filter(|commit| commit.index == index))
    }

    async fn commits(&self, before: Option<CommitIndex>, limit: usize) -> Result<Vec<CommitRow>, StoreError> {
        read::commits_before(&mut *self.reader().await?, before, limit).await
    }

    async fn commits_from(&self, from: CommitIndex, limit: usize) -> Result<Vec<CommitRow>, StoreError> {
        read::commits_from(&mut *self.reader().await?, from, limit).await
    }

    async fn commit_transactions(&self, index: CommitIndex, after: Option<u32>, limit: usize) -> Result<Vec<TransactionRow>, StoreError> {
        read::commit_transactions(&mut *self.reader().await?, index, after, limit).await
    }

    async fn block(&self, digest: Digest) -> Result<Option<(BlockRow, Vec<TxId>)>, StoreError> {
        read::block(&mut *self.snapshot().await?, digest).await
    }

    async fn asset(&self, id: AssetId) -> Result<Option<(Asset, Supply)>, StoreError> {
        let records = state::read(&mut *self.reader().await?, &[StateKey::Asset(id), StateKey::Supply(id)]).await?;
        match <[_; 2]>::try_from(records) {
            Ok([Some(StateValue::Asset(asset)), Some(StateValue::Supply(supply))]) => Ok(Some((asset, supply))),
            _ => Ok(None),
        }
    }

    async fn validators(&self) -> Result<Vec<(Address, ValidatorRecord)>, StoreError> {
        read::validators(&mut *self.reader().await?).await
    }

    async fn epoch(&self) -> Result<Option<EpochRecord>, StoreError> {
        match self.record(&StateKey::Epoch).await? {
            Some(StateValue::Epoch(epoch)) => Ok(Some(epoch)),
            _ => Ok(None),
        }
    }

    async fn record(&self, key: &StateKey) -> Result<Option<StateValue>, StoreError> {
        Ok(state::read(&mut *self.reader().await?, std::slice::from_ref(key)).await?.pop().flatten())
    }

    async fn totals(&self) -> Result<RegionTotals, StoreError> {
        Ok(read::progress(&mut *self.reader().await?).await?.totals)
    }

    async fn state_page(&self, after: Option<StateKey>, limit: usize) -> Result<StatePage, StoreError> {
        let mut snapshot = self.snapshot().await?;
        let at = read::progress(&mut snapshot).await?.last_commit;
        let records = state::page(&mut snapshot, &after.map(|key| key.to_bytes()).unwrap_or_default(), limit).await?;
        Ok(StatePage { at, records })
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.readers.close().await;
        match std::mem::replace(&mut *self.access.lock().await, Access::Closed) {
            Access::Write(writing) => writing.connection.close().await.map_err(database_error),
            Access::ReadOnly | Access::Closed => Ok(()),
        }
    }
}
