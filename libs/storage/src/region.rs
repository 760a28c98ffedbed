//! A region's read model: what clients ask about, filled from executed commits.

use crate::{StatePage, StoreError};
use async_trait::async_trait;
use bytes::Bytes;
use kaldrix_types::{
    Account, Address, Asset, AssetId, BlockRef, ChainId, CommitIndex, Digest, Epoch, EpochRecord, ExecutedCommit, Lane, OutcomeStatus,
    Round, Sequence, StateChange, StateKey, StateValue, Supply, TimestampMs, TxBody, TxId, ValidatorIndex, ValidatorRecord, decode, encode,
    limits,
};

/// A commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitRow {
    /// Position in the order.
    pub index: CommitIndex,
    /// Its digest.
    pub digest: Digest,
    /// The epoch.
    pub epoch: Epoch,
    /// The leader that was committed.
    pub leader: BlockRef,
    /// Digest of the commit before.
    pub previous: Digest,
    /// Consensus time.
    pub timestamp_ms: TimestampMs,
    /// How many blocks it has.
    pub block_count: u32,
    /// How many transactions these hold, discarded ones included.
    pub transaction_count: u32,
    /// BCS of the [`kaldrix_types::Commit`].
    pub bytes: Bytes,
}

/// A block of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockRow {
    /// Its digest.
    pub digest: Digest,
    /// Its round.
    pub round: Round,
    /// Who made it.
    pub author: ValidatorIndex,
    /// The commit it is part of.
    pub commit: CommitIndex,
    /// Its author's clock.
    pub timestamp_ms: TimestampMs,
    /// BCS of the [`kaldrix_types::Header`].
    pub header: Bytes,
    /// How many transactions it holds.
    pub transaction_count: u32,
}

/// A transaction's outcome. The first Success or Failed of a transaction is final; a Discarded gives way to anything later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionRow {
    /// Which transaction.
    pub id: TxId,
    /// The commit that decided this outcome.
    pub commit: CommitIndex,
    /// Order within the commit, counted over all its blocks.
    pub position: u32,
    /// The block that held it.
    pub block: Digest,
    /// Who sent it.
    pub sender: Address,
    /// Its lane.
    pub lane: Lane,
    /// Its sequence number.
    pub sequence: Sequence,
    /// What became of it.
    pub status: OutcomeStatus,
    /// The commit's consensus time.
    pub timestamp_ms: TimestampMs,
    /// BCS of the [`TxBody`].
    pub body: Bytes,
}

/// What an account has to do with a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccountRole {
    /// It sent it (and perhaps received from it too).
    Sender,
    /// It received from it.
    Recipient,
}

/// An entry in an account's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountTransactionRow {
    /// Whose history.
    pub account: Address,
    /// Commit of the transaction.
    pub commit: CommitIndex,
    /// Position of the transaction in the commit. At most one entry per account, commit and position.
    pub position: u32,
    /// The transaction.
    pub id: TxId,
    /// What the account has to do with it.
    pub role: AccountRole,
}

/// What is written together: all of it with the cursor, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegionBatch {
    /// Consecutive commits, ascending; the last one's index is `cursor`.
    pub commits: Vec<CommitRow>,
    /// Their blocks, commit by commit in each commit's order.
    pub blocks: Vec<BlockRow>,
    /// Their transactions, in order.
    pub transactions: Vec<TransactionRow>,
    /// Entries in accounts' histories.
    pub account_transactions: Vec<AccountTransactionRow>,
    /// State records after each commit, in order; the last one of a key counts.
    pub records: Vec<StateChange>,
    /// How far the store is afterwards.
    pub cursor: CommitIndex,
}

impl RegionBatch {
    /// Adds the rows of an executed commit. Discarded transactions get no entries in histories: anybody can have a transaction
    /// discarded in somebody else's name.
    ///
    /// # Errors
    /// [`StoreError::BadBatch`] when the commit's parts do not fit together or it does not follow the one before,
    /// [`StoreError::Damaged`] for a body that does not decode. The batch is to be dropped then.
    pub fn push(&mut self, executed: ExecutedCommit) -> Result<(), StoreError> {
        let ExecutedCommit { commit, headers, outcomes, bodies, changes } = executed;
        if headers.len() != commit.blocks.len() || outcomes.len() != bodies.len() {
            return Err(StoreError::BadBatch("headers, outcomes and bodies must be as many as blocks and transactions"));
        }
        if self.commits.last().is_some_and(|last| last.index + 1 != commit.index) {
            return Err(StoreError::BadBatch("commits must be consecutive"));
        }
        let count = |n: usize| u32::try_from(n).map_err(|_| StoreError::BadBatch("more than 2^32 rows in one commit"));
        self.commits.push(CommitRow {
            index: commit.index,
            digest: commit.digest(),
            epoch: commit.epoch,
            leader: commit.leader,
            previous: commit.previous,
            timestamp_ms: commit.timestamp_ms,
            block_count: count(commit.blocks.len())?,
            transaction_count: count(outcomes.len())?,
            bytes: encode(&commit).into(),
        });
        self.blocks.extend(commit.blocks.iter().zip(&headers).map(|(reference, header)| BlockRow {
            digest: reference.digest,
            round: reference.round,
            author: reference.author,
            commit: commit.index,
            timestamp_ms: header.timestamp_ms,
            header: encode(header).into(),
            transaction_count: header.transaction_count,
        }));
        for (position, (outcome, body)) in (0u32..).zip(outcomes.into_iter().zip(bodies)) {
            let block = commit.blocks.get(outcome.block as usize).ok_or(StoreError::BadBatch("an outcome names no block of its commit"))?;
            if !matches!(outcome.status, OutcomeStatus::Discarded(_)) {
                let accounts = decode::<TxBody>(&body, limits::TRANSACTION_BYTES_MAX)?.accounts();
                self.account_transactions.extend(accounts.into_iter().map(|account| AccountTransactionRow {
                    account,
                    commit: commit.index,
                    position,
                    id: outcome.id,
                    role: if account == outcome.sender { AccountRole::Sender } else { AccountRole::Recipient },
                }));
            }
            self.transactions.push(TransactionRow {
                id: outcome.id,
                commit: commit.index,
                position,
                block: block.digest,
                sender: outcome.sender,
                lane: outcome.lane,
                sequence: outcome.sequence,
                status: outcome.status,
                timestamp_ms: commit.timestamp_ms,
                body,
            });
        }
        self.records.extend(changes);
        self.cursor = commit.index;
        Ok(())
    }
}

/// An account with what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountView {
    /// Keys and lane 0's next sequence number; `None` while the account has only received.
    pub account: Option<Account>,
    /// Next sequence number of each lane above 0 that was used, ascending.
    pub lanes: Vec<(Lane, Sequence)>,
    /// Holdings in smallest units, ascending by asset (the native one first), at most as many as asked for.
    pub balances: Vec<(AssetId, u128)>,
}

/// Counts over the whole read model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegionTotals {
    /// Transactions that took effect or failed; discarded ones do not count.
    pub transactions: u64,
    /// Commits.
    pub commits: u64,
    /// Blocks.
    pub blocks: u64,
    /// Addresses that have ever had a key or a balance, the fee pool among them.
    pub accounts: u64,
}

/// The read model of one region. One process writes, any number read.
#[async_trait]
pub trait RegionStore: Send + Sync {
    /// The chain this store belongs to.
    fn chain_id(&self) -> ChainId;

    /// Writes a batch and its cursor atomically. Commits at or below the cursor are checked against the stored ones and change nothing.
    /// A crash may undo the last batches as a whole (the read model is rebuildable), so go on from [`Self::cursor`] after a restart.
    ///
    /// # Errors
    /// [`StoreError::OutOfOrder`], [`StoreError::Diverged`], [`StoreError::BadBatch`], [`StoreError::ReadOnly`]. Nothing of a failed batch is kept.
    async fn apply(&self, batch: RegionBatch) -> Result<(), StoreError>;

    /// The last commit that was applied; 0 for none.
    async fn cursor(&self) -> Result<CommitIndex, StoreError>;

    /// A transaction's outcome.
    async fn transaction(&self, id: TxId) -> Result<Option<TransactionRow>, StoreError>;

    /// An account with at most `balances_limit` holdings; `None` when the ledger knows nothing of this address.
    async fn account(&self, address: Address, balances_limit: usize) -> Result<Option<AccountView>, StoreError>;

    /// An account's history, newest first, at most `limit`; `after` is (commit, position) of the last entry of the page before.
    async fn account_transactions(
        &self,
        address: Address,
        after: Option<(CommitIndex, u32)>,
        limit: usize,
    ) -> Result<Vec<(AccountTransactionRow, TransactionRow)>, StoreError>;

    /// A commit.
    async fn commit(&self, index: CommitIndex) -> Result<Option<CommitRow>, StoreError>;

    /// Commits below `before`, newest first, at most `limit`.
    async fn commits(&self, before: Option<CommitIndex>, limit: usize) -> Result<Vec<CommitRow>, StoreError>;

    /// Commits from `from` on, ascending, at most `limit`.
    async fn commits_from(&self, from: CommitIndex, limit: usize) -> Result<Vec<CommitRow>, StoreError>;

    /// A commit's transactions in order, at most `limit`, behind position `after`. One whose outcome was decided by another commit
    /// stands there.
    async fn commit_transactions(&self, index: CommitIndex, after: Option<u32>, limit: usize) -> Result<Vec<TransactionRow>, StoreError>;

    /// A block and the transactions whose outcome it brought, in order.
    async fn block(&self, digest: Digest) -> Result<Option<(BlockRow, Vec<TxId>)>, StoreError>;

    /// An asset's definition and supply. The native asset has a supply only: ask for its record.
    async fn asset(&self, id: AssetId) -> Result<Option<(Asset, Supply)>, StoreError>;

    /// All registered validators by the account that operates them, ascending: as many as the protocol lets register
    /// ([`limits::VALIDATORS_MAX`]). Who sits in the running committee, and with what weight, is in [`Self::epoch`].
    async fn validators(&self) -> Result<Vec<(Address, ValidatorRecord)>, StoreError>;

    /// The running epoch; `None` on a chain whose genesis has no such record.
    async fn epoch(&self) -> Result<Option<EpochRecord>, StoreError>;

    /// One state record.
    async fn record(&self, key: &StateKey) -> Result<Option<StateValue>, StoreError>;

    /// Counts, without counting.
    async fn totals(&self) -> Result<RegionTotals, StoreError>;

    /// Records behind `after` in ascending key order, at most `limit`: for audits and digests.
    async fn state_page(&self, after: Option<StateKey>, limit: usize) -> Result<StatePage, StoreError>;

    /// Releases the files. Later calls fail.
    async fn close(&self) -> Result<(), StoreError>;
}
