//! Applying a batch to the read model, within the caller's transaction.

use super::bulk::Bulk;
use super::region_read::progress;
use super::{blob, database_error, digest, int, state};
use crate::{AccountRole, AccountTransactionRow, BlockRow, CommitRow, Numbered, RegionBatch, RegionTotals, StoreError, TransactionRow};
use kaldrix_types::{Address, CommitIndex, Digest, OutcomeStatus, StateChange, StateKey, TxId};
use sqlx::SqliteConnection;
use std::collections::{BTreeSet, HashMap};

static INSERT_COMMITS: Bulk = Bulk::values(
    "INSERT INTO commits (idx, digest, epoch, leader_round, leader_author, leader_digest, previous, timestamp_ms, block_count, \
     transaction_count, bytes)",
    11,
    "",
);
static INSERT_BLOCKS: Bulk = Bulk::values(
    "INSERT INTO blocks (digest, round, author, commit_idx, timestamp_ms, header, transaction_count, \
     first_position)",
    8,
    "ON CONFLICT (digest) DO NOTHING",
);
static SELECT_STATUS: Bulk = Bulk::list("SELECT id, status FROM transactions WHERE id IN");
static UPSERT_TRANSACTIONS: Bulk = Bulk::values(
    "INSERT INTO transactions (id, commit_idx, position, block, sender, lane, sequence, status, code, timestamp_ms, body)",
    11,
    "ON CONFLICT (id) DO UPDATE SET commit_idx = excluded.commit_idx, position = excluded.position, block = excluded.block, \
     status = excluded.status, code = excluded.code, timestamp_ms = excluded.timestamp_ms",
);
static INSERT_HISTORY: Bulk =
    Bulk::values("INSERT INTO account_transactions (account, commit_idx, position, role)", 4, "ON CONFLICT DO NOTHING");
static INSERT_ACCOUNTS: Bulk = Bulk::values("INSERT INTO accounts (address)", 1, "ON CONFLICT DO NOTHING");

/// Outcome kinds as numbers.
pub(super) const SUCCESS: u64 = 0;
pub(super) const FAILED: u64 = 1;
pub(super) const DISCARDED: u64 = 2;

fn status_numbers(status: OutcomeStatus) -> (u64, u64) {
    match status {
        OutcomeStatus::Success => (SUCCESS, 0),
        OutcomeStatus::Failed(code) => (FAILED, code as u64),
        OutcomeStatus::Discarded(code) => (DISCARDED, code as u64),
    }
}

/// The state before the first commit, and its accounts.
pub(super) async fn write_genesis(connection: &mut SqliteConnection, changes: &[StateChange]) -> Result<(), StoreError> {
    state::write(connection, changes.iter()).await?;
    let accounts = insert_accounts(connection, changes).await?;
    save_progress(connection, 0, RegionTotals { accounts, ..RegionTotals::default() }).await
}

pub(super) async fn apply(connection: &mut SqliteConnection, mut batch: RegionBatch) -> Result<(), StoreError> {
    let before = progress(connection).await?;
    check_shape(&batch)?;
    check_order(connection, &batch, before.last_commit).await?;
    if batch.cursor <= before.last_commit {
        return Ok(());
    }
    let is_new = |commit: CommitIndex| commit > before.last_commit;
    batch.commits.retain(|row| is_new(row.index));
    batch.blocks.retain(|row| is_new(row.commit));
    batch.transactions.retain(|row| is_new(row.commit));
    batch.account_transactions.retain(|row| is_new(row.commit));

    let mut totals = before.totals;
    INSERT_COMMITS.execute(connection, &batch.commits, bind_commit).await?;
    totals.commits += batch.commits.len() as u64;
    totals.blocks += INSERT_BLOCKS.execute(connection, &placed(&batch.blocks), bind_block).await?;

    let known = known_statuses(connection, &batch.transactions).await?;
    let (decided, counted) = decide(batch.transactions, known);
    totals.transactions += counted;
    UPSERT_TRANSACTIONS.execute(connection, &decided, bind_transaction).await?;

    // An entry without a decided transaction at its place is never shown: reads join the two.
    // Neighbours in the index are written one after the other; and a sender that is its own recipient stays the sender.
    batch.account_transactions.sort_unstable_by_key(|row| (row.account, row.commit, row.position, row.role));
    INSERT_HISTORY.execute(connection, &batch.account_transactions, bind_history).await?;

    state::write(connection, batch.records.iter()).await?;
    totals.accounts += insert_accounts(connection, &batch.records).await?;
    save_progress(connection, batch.cursor, totals).await
}

/// What can be seen without the store: commits that follow one another up to the cursor, rows that belong to one of them.
fn check_shape(batch: &RegionBatch) -> Result<(), StoreError> {
    let (Some(first), Some(last)) = (batch.commits.first(), batch.commits.last()) else {
        return Err(StoreError::BadBatch("it has no commits"));
    };
    if last.index != batch.cursor {
        return Err(StoreError::BadBatch("its cursor is not its last commit"));
    }
    for pair in batch.commits.windows(2) {
        if pair[1].index != pair[0].index + 1 {
            return Err(StoreError::OutOfOrder { what: Numbered::Commit, expected: pair[0].index + 1, found: pair[1].index });
        }
        if pair[1].previous != pair[0].digest {
            return Err(StoreError::Diverged {
                what: Numbered::Commit,
                index: pair[0].index,
                stored: pair[0].digest,
                offered: pair[1].previous,
            });
        }
    }
    let range = first.index..=last.index;
    let commits = batch.blocks.iter().map(|row| row.commit).chain(batch.transactions.iter().map(|row| row.commit));
    if commits.chain(batch.account_transactions.iter().map(|row| row.commit)).all(|commit| range.contains(&commit)) {
        Ok(())
    } else {
        Err(StoreError::BadBatch("a row belongs to none of its commits"))
    }
}

/// Commits up to the cursor must be the stored ones, and the first above it must follow the last stored one.
async fn check_order(connection: &mut SqliteConnection, batch: &RegionBatch, cursor: CommitIndex) -> Result<(), StoreError> {
    if let Some(first) = batch.commits.first().filter(|first| first.index > cursor + 1 || first.index == 0) {
        return Err(StoreError::OutOfOrder { what: Numbered::Commit, expected: cursor + 1, found: first.index });
    }
    for row in batch.commits.iter().take_while(|row| row.index <= cursor) {
        let stored = stored_digest(connection, row.index).await?;
        if stored != row.digest {
            return Err(StoreError::Diverged { what: Numbered::Commit, index: row.index, stored, offered: row.digest });
        }
    }
    if let Some(next) = batch.commits.iter().find(|row| row.index == cursor + 1) {
        let stored = if cursor == 0 { Digest::ZERO } else { stored_digest(connection, cursor).await? };
        if stored != next.previous {
            return Err(StoreError::Diverged { what: Numbered::Commit, index: cursor, stored, offered: next.previous });
        }
    }
    Ok(())
}

async fn stored_digest(connection: &mut SqliteConnection, index: CommitIndex) -> Result<Digest, StoreError> {
    let query = sqlx::query("SELECT digest FROM commits WHERE idx = ?").bind(index.cast_signed());
    let row = query.fetch_optional(connection).await.map_err(database_error)?;
    row.map_or_else(|| Err(StoreError::Damaged(format!("commit {index} is missing"))), |row| digest(&row, 0))
}

/// For each of the transactions that has an outcome already: whether that is final.
async fn known_statuses(connection: &mut SqliteConnection, rows: &[TransactionRow]) -> Result<HashMap<TxId, bool>, StoreError> {
    let found = SELECT_STATUS.fetch(connection, rows, |values, row| {
        values.blob(row.id.as_bytes());
    });
    let mut known = HashMap::new();
    for row in found.await? {
        let id = TxId::try_from(blob(&row, 0)?).map_err(|e| StoreError::Damaged(e.to_string()))?;
        known.insert(id, int(&row, 1)? != DISCARDED);
    }
    Ok(known)
}

/// The first outcome that is final wins; a discarded one gives way to any later one. Gives the rows to write, one per transaction,
/// and how many transactions became final.
fn decide(rows: Vec<TransactionRow>, mut is_final: HashMap<TxId, bool>) -> (Vec<TransactionRow>, u64) {
    let mut decided: Vec<TransactionRow> = Vec::with_capacity(rows.len());
    let mut at: HashMap<TxId, usize> = HashMap::with_capacity(rows.len());
    let mut counted = 0;
    for row in rows {
        let state = is_final.entry(row.id).or_default();
        if *state {
            continue;
        }
        *state = !matches!(row.status, OutcomeStatus::Discarded(_));
        counted += u64::from(*state);
        match at.get(&row.id) {
            Some(index) => decided[*index] = row,
            None => {
                at.insert(row.id, decided.len());
                decided.push(row);
            }
        }
    }
    (decided, counted)
}

/// Remembers the addresses of these records; gives how many were not known.
async fn insert_accounts(connection: &mut SqliteConnection, changes: &[StateChange]) -> Result<u64, StoreError> {
    let addresses: BTreeSet<Address> = changes
        .iter()
        .filter(|change| change.value.is_some())
        .filter_map(|change| match change.key {
            StateKey::Account(address) | StateKey::Balance(address, _) => Some(address),
            _ => None,
        })
        .collect();
    let addresses: Vec<Address> = addresses.into_iter().collect();
    let bind = |values: &mut super::bulk::Values, address: &Address| {
        values.blob(address.as_bytes());
    };
    INSERT_ACCOUNTS.execute(connection, &addresses, bind).await
}

async fn save_progress(connection: &mut SqliteConnection, cursor: CommitIndex, totals: RegionTotals) -> Result<(), StoreError> {
    let update = sqlx::query("UPDATE progress SET last_commit = ?, transactions = ?, commits = ?, blocks = ?, accounts = ?");
    let counts = [cursor, totals.transactions, totals.commits, totals.blocks, totals.accounts];
    let update = counts.into_iter().fold(update, |update, count| update.bind(count.cast_signed()));
    update.execute(connection).await.map_err(database_error)?;
    Ok(())
}

fn bind_commit(values: &mut super::bulk::Values, row: &CommitRow) {
    values
        .int(row.index)
        .blob(row.digest.as_bytes())
        .int(row.epoch)
        .int(row.leader.round)
        .int(row.leader.author.0.into())
        .blob(row.leader.digest.as_bytes())
        .blob(row.previous.as_bytes())
        .int(row.timestamp_ms)
        .int(row.block_count.into())
        .int(row.transaction_count.into())
        .blob(row.bytes.as_ref());
}

/// Each block with the position of its first transaction in the commit.
fn placed<'a>(blocks: &'a [BlockRow]) -> Vec<(&'a BlockRow, u64)> {
    let mut commit = 0;
    let mut next = 0;
    let place = |row: &'a BlockRow| {
        let first = if commit == row.commit { next } else { 0 };
        (commit, next) = (row.commit, first + u64::from(row.transaction_count));
        (row, first)
    };
    blocks.iter().map(place).collect()
}

fn bind_block(values: &mut super::bulk::Values, (row, first_position): &(&BlockRow, u64)) {
    values
        .blob(row.digest.as_bytes())
        .int(row.round)
        .int(row.author.0.into())
        .int(row.commit)
        .int(row.timestamp_ms)
        .blob(row.header.as_ref())
        .int(row.transaction_count.into())
        .int(*first_position);
}

fn bind_transaction(values: &mut super::bulk::Values, row: &TransactionRow) {
    let (status, code) = status_numbers(row.status);
    values
        .blob(row.id.as_bytes())
        .int(row.commit)
        .int(row.position.into())
        .blob(row.block.as_bytes())
        .blob(row.sender.as_bytes())
        .int(row.lane.into())
        .int(row.sequence)
        .int(status)
        .int(code)
        .int(row.timestamp_ms)
        .blob(row.body.as_ref());
}

fn bind_history(values: &mut super::bulk::Values, row: &AccountTransactionRow) {
    let role = match row.role {
        AccountRole::Sender => 0,
        AccountRole::Recipient => 1,
    };
    values.blob(row.account.as_bytes()).int(row.commit).int(row.position.into()).int(role);
}
