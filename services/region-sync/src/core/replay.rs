//! Notices of the past, made from the store's rows: what a subscriber that comes late is given is what it would have been told.

use super::project::{history_accounts, is_discarded};
use super::{Head, Notice, NoticeTransaction};
use kaldrix_storage::{CommitRow, RegionStore, StoreError, TransactionRow};
use kaldrix_types::{CommitIndex, OutcomeStatus, RejectCode};
use std::collections::HashSet;

/// Rows read at once.
const PAGE: usize = 1_000;

/// Where a store is.
///
/// # Errors
/// [`StoreError`]; a cursor without its commit is [`StoreError::Damaged`].
pub async fn head_of(store: &dyn RegionStore) -> Result<Head, StoreError> {
    let index = store.cursor().await?;
    if index == 0 {
        return Ok(Head::default());
    }
    let commit = store.commit(index).await?.ok_or_else(|| StoreError::Damaged(format!("the cursor's commit {index} is missing")))?;
    Ok(Head { index, digest: commit.digest, timestamp_ms: commit.timestamp_ms })
}

/// Notices of at most `limit` commits from `from` on.
///
/// # Errors
/// [`StoreError`].
pub async fn notices_from(store: &dyn RegionStore, from: CommitIndex, limit: usize) -> Result<Vec<Notice>, StoreError> {
    let mut notices = Vec::with_capacity(limit);
    for commit in store.commits_from(from, limit).await? {
        notices.push(notice(store, &commit).await?);
    }
    Ok(notices)
}

async fn notice(store: &dyn RegionStore, commit: &CommitRow) -> Result<Notice, StoreError> {
    let mut transactions = Vec::with_capacity(commit.transaction_count as usize);
    let mut after = None;
    loop {
        let page = store.commit_transactions(commit.index, after, PAGE).await?;
        for row in &page {
            transactions.push(notice_transaction(row)?);
        }
        after = page.last().map(|row| row.position);
        if page.len() < PAGE {
            break;
        }
    }
    Ok(Notice {
        index: commit.index,
        timestamp_ms: commit.timestamp_ms,
        digest: commit.digest,
        leader_round: commit.leader.round,
        transactions,
    })
}

fn notice_transaction(row: &TransactionRow) -> Result<NoticeTransaction, StoreError> {
    let accounts = history_accounts(row.status, row.sender, &row.body)?;
    Ok(NoticeTransaction { id: row.id, status: row.status, accounts, traceparent: String::new() })
}

/// Takes repeats out of notices whose commits are in the store: a transaction that succeeded in an earlier write and was ordered once more is
/// discarded there, and nobody who waits for it must hear that instead of its outcome. Only the code that a repeat gets is looked up.
///
/// # Errors
/// [`StoreError`]; the notices are as they were before.
pub async fn drop_decided_elsewhere(store: &dyn RegionStore, notices: &mut [Notice]) -> Result<(), StoreError> {
    let repeat = OutcomeStatus::Discarded(RejectCode::SequenceReplayed);
    let mut decided = HashSet::new();
    for transaction in notices.iter().flat_map(|n| &n.transactions).filter(|t| t.status == repeat) {
        if store.transaction(transaction.id).await?.is_some_and(|row| !is_discarded(row.status)) {
            decided.insert(transaction.id);
        }
    }
    if !decided.is_empty() {
        for notice in notices {
            notice.transactions.retain(|t| !is_discarded(t.status) || !decided.contains(&t.id));
        }
    }
    Ok(())
}
