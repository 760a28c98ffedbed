//! Queries of the read model.

use super::region_write::{DISCARDED, FAILED, SUCCESS};
use super::{blob, database_error, digest, int, row_limit, small, state};
use crate::{AccountRole, AccountTransactionRow, AccountView, BlockRow, CommitRow, RegionTotals, StoreError, TransactionRow};
use bytes::Bytes;
use kaldrix_types::{
    Address, AssetId, BlockRef, CommitIndex, Digest, OutcomeStatus, RejectCode, StateKey, StateValue, TxId, ValidatorIndex, ValidatorRecord,
};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

/// How far the store is.
pub(super) struct Progress {
    pub(super) last_commit: CommitIndex,
    pub(super) totals: RegionTotals,
}

pub(super) async fn progress(connection: &mut SqliteConnection) -> Result<Progress, StoreError> {
    let query = sqlx::query("SELECT last_commit, transactions, commits, blocks, accounts FROM progress");
    let row = query.fetch_one(connection).await.map_err(database_error)?;
    let totals = RegionTotals { transactions: int(&row, 1)?, commits: int(&row, 2)?, blocks: int(&row, 3)?, accounts: int(&row, 4)? };
    Ok(Progress { last_commit: int(&row, 0)?, totals })
}

fn address(row: &SqliteRow, column: usize) -> Result<Address, StoreError> {
    digest(row, column).map(|digest| Address(digest.0))
}

fn status(kind: u64, code: usize) -> Result<OutcomeStatus, StoreError> {
    let code = RejectCode::ALL.get(code).copied();
    match (kind, code) {
        (SUCCESS, _) => Ok(OutcomeStatus::Success),
        (FAILED, Some(code)) => Ok(OutcomeStatus::Failed(code)),
        (DISCARDED, Some(code)) => Ok(OutcomeStatus::Discarded(code)),
        _ => Err(StoreError::Damaged(format!("no outcome has the number {kind}"))),
    }
}

/// Reads the columns of `TRANSACTION!` from `first` on.
fn transaction_row(row: &SqliteRow, first: usize) -> Result<TransactionRow, StoreError> {
    Ok(TransactionRow {
        id: TxId(digest(row, first)?),
        commit: int(row, first + 1)?,
        position: small(row, first + 2)?,
        block: digest(row, first + 3)?,
        sender: address(row, first + 4)?,
        lane: small(row, first + 5)?,
        sequence: int(row, first + 6)?,
        status: status(int(row, first + 7)?, small(row, first + 8)?)?,
        timestamp_ms: int(row, first + 9)?,
        body: Bytes::copy_from_slice(blob(row, first + 10)?),
    })
}

/// A query for whole transactions `t`, with what follows the columns.
macro_rules! select_transactions {
    ($columns:literal, $rest:literal) => {
        concat!(
            "SELECT t.id, t.commit_idx, t.position, t.block, t.sender, t.lane, t.sequence, t.status, t.code, t.timestamp_ms, t.body",
            $columns,
            " FROM ",
            $rest
        )
    };
}

pub(super) async fn transaction(connection: &mut SqliteConnection, id: TxId) -> Result<Option<TransactionRow>, StoreError> {
    let query = sqlx::query(select_transactions!("", "transactions t WHERE t.id = ?")).bind(id.as_bytes().as_slice());
    let row = query.fetch_optional(connection).await.map_err(database_error)?;
    row.map(|row| transaction_row(&row, 0)).transpose()
}

pub(super) async fn commit_transactions(
    connection: &mut SqliteConnection,
    index: CommitIndex,
    after: Option<u32>,
    limit: usize,
) -> Result<Vec<TransactionRow>, StoreError> {
    let query =
        sqlx::query(select_transactions!("", "transactions t WHERE t.commit_idx = ? AND t.position > ? ORDER BY t.position LIMIT ?"));
    let query = query.bind(index.cast_signed()).bind(after.map_or(-1, i64::from)).bind(row_limit(limit));
    let rows = query.fetch_all(connection).await.map_err(database_error)?;
    rows.iter().map(|row| transaction_row(row, 0)).collect()
}

pub(super) async fn account_transactions(
    connection: &mut SqliteConnection,
    account: Address,
    after: Option<(CommitIndex, u32)>,
    limit: usize,
) -> Result<Vec<(AccountTransactionRow, TransactionRow)>, StoreError> {
    let query = sqlx::query(select_transactions!(
        ", a.role",
        "account_transactions a JOIN transactions t ON t.commit_idx = a.commit_idx AND t.position = a.position \
         WHERE a.account = ? AND (a.commit_idx, a.position) < (?, ?) ORDER BY a.commit_idx DESC, a.position DESC LIMIT ?"
    ));
    let (commit, position) = after.map_or((i64::MAX, 0), |(commit, position)| (commit.cast_signed(), i64::from(position)));
    let query = query.bind(account.as_bytes().as_slice()).bind(commit).bind(position).bind(row_limit(limit));
    let rows = query.fetch_all(connection).await.map_err(database_error)?;
    rows.iter()
        .map(|row| {
            let transaction = transaction_row(row, 0)?;
            let role = if int(row, 11)? == 0 { AccountRole::Sender } else { AccountRole::Recipient };
            let entry =
                AccountTransactionRow { account, commit: transaction.commit, position: transaction.position, id: transaction.id, role };
            Ok((entry, transaction))
        })
        .collect()
}

fn commit_row(row: &SqliteRow) -> Result<CommitRow, StoreError> {
    Ok(CommitRow {
        index: int(row, 0)?,
        digest: digest(row, 1)?,
        epoch: int(row, 2)?,
        leader: BlockRef { round: int(row, 3)?, author: ValidatorIndex(small(row, 4)?), digest: digest(row, 5)? },
        previous: digest(row, 6)?,
        timestamp_ms: int(row, 7)?,
        block_count: small(row, 8)?,
        transaction_count: small(row, 9)?,
        bytes: Bytes::copy_from_slice(blob(row, 10)?),
    })
}

macro_rules! select_commits {
    ($rest:literal) => {
        concat!(
            "SELECT idx, digest, epoch, leader_round, leader_author, leader_digest, previous, timestamp_ms, block_count, \
             transaction_count, bytes FROM commits WHERE ",
            $rest
        )
    };
}

pub(super) async fn commits_from(connection: &mut SqliteConnection, from: CommitIndex, limit: usize) -> Result<Vec<CommitRow>, StoreError> {
    let query = sqlx::query(select_commits!("idx >= ? ORDER BY idx LIMIT ?"));
    let from = i64::try_from(from).unwrap_or(i64::MAX);
    let rows = query.bind(from).bind(row_limit(limit)).fetch_all(connection).await.map_err(database_error)?;
    rows.iter().map(commit_row).collect()
}

pub(super) async fn commits_before(
    connection: &mut SqliteConnection,
    before: Option<CommitIndex>,
    limit: usize,
) -> Result<Vec<CommitRow>, StoreError> {
    let query = sqlx::query(select_commits!("idx < ? ORDER BY idx DESC LIMIT ?"));
    let before = before.and_then(|before| i64::try_from(before).ok()).unwrap_or(i64::MAX);
    let rows = query.bind(before).bind(row_limit(limit)).fetch_all(connection).await.map_err(database_error)?;
    rows.iter().map(commit_row).collect()
}

pub(super) async fn block(connection: &mut SqliteConnection, wanted: Digest) -> Result<Option<(BlockRow, Vec<TxId>)>, StoreError> {
    let query = sqlx::query(
        "SELECT round, author, commit_idx, timestamp_ms, header, transaction_count, first_position FROM blocks WHERE digest = ?",
    );
    let row = query.bind(wanted.as_bytes().as_slice()).fetch_optional(&mut *connection).await.map_err(database_error)?;
    let Some(row) = row else { return Ok(None) };
    let block = BlockRow {
        digest: wanted,
        round: int(&row, 0)?,
        author: ValidatorIndex(small(&row, 1)?),
        commit: int(&row, 2)?,
        timestamp_ms: int(&row, 3)?,
        header: Bytes::copy_from_slice(blob(&row, 4)?),
        transaction_count: small(&row, 5)?,
    };
    let first = int(&row, 6)?.cast_signed();
    let query =
        sqlx::query("SELECT id FROM transactions WHERE commit_idx = ? AND position >= ? AND position < ? AND block = ? ORDER BY position");
    let query = query
        .bind(block.commit.cast_signed())
        .bind(first)
        .bind(first.saturating_add(block.transaction_count.into()))
        .bind(wanted.as_bytes().as_slice());
    let rows = query.fetch_all(connection).await.map_err(database_error)?;
    let ids = rows.iter().map(|row| digest(row, 0).map(TxId)).collect::<Result<_, _>>()?;
    Ok(Some((block, ids)))
}

/// The account's records lie side by side in the table of state records: keys sort by kind, then address.
pub(super) async fn account(
    connection: &mut SqliteConnection,
    address: Address,
    balances_limit: usize,
) -> Result<Option<AccountView>, StoreError> {
    let account = match state::read(connection, &[StateKey::Account(address)]).await?.pop().flatten() {
        Some(StateValue::Account(account)) => Some(account),
        _ => None,
    };
    let mut view = AccountView { account, lanes: Vec::new(), balances: Vec::new() };
    let highest = AssetId(Digest([0xff; 32]));
    let lanes = (StateKey::Lane(address, 0), StateKey::Lane(address, u8::MAX), usize::from(u8::MAX));
    let balances = (StateKey::Balance(address, AssetId::NATIVE), StateKey::Balance(address, highest), balances_limit.max(1));
    for (first, last, limit) in [lanes, balances] {
        for record in state::range(connection, &first, &last, limit).await? {
            match record {
                (StateKey::Lane(_, lane), StateValue::Lane(next)) => view.lanes.push((lane, next)),
                (StateKey::Balance(_, asset), StateValue::Balance(amount)) => view.balances.push((asset, amount)),
                (key, _) => return Err(StoreError::Damaged(format!("{key:?} lies among an account's records"))),
            }
        }
    }
    // One holding is looked for even when none is asked for: an address that has only received is known by it.
    let known = view.account.is_some() || !view.lanes.is_empty() || !view.balances.is_empty();
    view.balances.truncate(balances_limit);
    Ok(known.then_some(view))
}

/// The validators' records lie side by side in the table of state records.
pub(super) async fn validators(connection: &mut SqliteConnection) -> Result<Vec<(Address, ValidatorRecord)>, StoreError> {
    let (first, last) = (StateKey::Validator(Address([0; 32])), StateKey::Validator(Address([0xff; 32])));
    let records = state::range(connection, &first, &last, usize::MAX).await?.into_iter();
    records
        .map(|record| match record {
            (StateKey::Validator(operator), StateValue::Validator(validator)) => Ok((operator, *validator)),
            (key, _) => Err(StoreError::Damaged(format!("{key:?} lies among the validators' records"))),
        })
        .collect()
}
