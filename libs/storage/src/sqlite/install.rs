//! What replaces content: a snapshot all of it, pruning old blocks.

use super::checkpoints::{self, CheckpointTip};
use super::writer::{CommitTip, Tips, insert_commits};
use super::{bound, database_error, int, row_limit, state};
use crate::{Numbered, Snapshot, StoreError, StoredCheckpoint};
use kaldrix_types::{Digest, ExecutedCommit, Round};
use sqlx::{Connection, SqliteConnection};
use std::sync::Arc;

/// Replaces everything by a snapshot in one transaction. Gives what is last then.
pub(super) async fn install(connection: &mut SqliteConnection, before: &Tips, snapshot: Snapshot) -> Result<Tips, StoreError> {
    let Snapshot { mut records, executed, checkpoints } = snapshot;
    let executed: Vec<(Arc<ExecutedCommit>, Digest)> = executed.into_iter().map(|e| (Arc::clone(&e), e.commit.digest())).collect();
    let checkpoints: Vec<(StoredCheckpoint, Digest)> =
        checkpoints.into_iter().map(|c| (c.checkpoint.digest(), c)).map(|(d, c)| (c.into(), d)).collect();
    let after = check_shape(&executed, &checkpoints)?;
    check_history(connection, before, &executed, &checkpoints).await?;

    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(database_error)?;
    let delete = "DELETE FROM blocks; DELETE FROM committed; DELETE FROM commits; DELETE FROM checkpoints; DELETE FROM state;";
    sqlx::raw_sql(delete).execute(&mut *transaction).await.map_err(database_error)?;
    state::fill(&mut transaction, &mut *records).await?;
    insert_commits(&mut transaction, &executed).await?;
    for (checkpoint, digest) in &checkpoints {
        checkpoints::write(&mut transaction, checkpoint, *digest).await?;
    }
    transaction.commit().await.map_err(database_error)?;
    Ok(after)
}

/// What can be seen without the store: a chain of commits, checkpoints in order, the last of which lies on that chain.
fn check_shape(executed: &[(Arc<ExecutedCommit>, Digest)], checkpoints: &[(StoredCheckpoint, Digest)]) -> Result<Tips, StoreError> {
    let (Some((last, digest)), Some((newest, newest_digest))) = (executed.last(), checkpoints.last()) else {
        return Err(StoreError::BadBatch("a snapshot has at least one commit and one checkpoint"));
    };
    for pair in executed.windows(2) {
        let ((before, digest), (after, _)) = (&pair[0], &pair[1]);
        if after.commit.index != before.commit.index + 1 || after.commit.previous != *digest {
            return Err(StoreError::BadBatch("a snapshot's commits must follow one another"));
        }
    }
    for pair in checkpoints.windows(2) {
        let (before, after) = (&pair[0].0.checkpoint, &pair[1].0.checkpoint);
        if after.index <= before.index || after.first_commit <= before.last_commit {
            return Err(StoreError::BadBatch("a snapshot's checkpoints must be in ascending order"));
        }
    }
    let newest = &newest.checkpoint;
    if !executed.iter().any(|(e, digest)| e.commit.index == newest.last_commit && *digest == newest.last_commit_digest) {
        return Err(StoreError::BadBatch("a snapshot's commits must hold the one that its newest checkpoint ends with"));
    }
    let commit = CommitTip { index: last.commit.index, digest: *digest };
    Ok(Tips { commit, checkpoint: CheckpointTip::of(newest, *newest_digest) })
}

/// A snapshot goes on from what is here: it is neither older nor of another history.
async fn check_history(
    connection: &mut SqliteConnection,
    before: &Tips,
    executed: &[(Arc<ExecutedCommit>, Digest)],
    checkpoints: &[(StoredCheckpoint, Digest)],
) -> Result<(), StoreError> {
    if executed.last().is_none_or(|(last, _)| last.commit.index < before.commit.index) {
        return Err(StoreError::BadBatch("a snapshot is older than what is stored"));
    }
    for (executed, offered) in executed.iter().take_while(|(e, _)| e.commit.index <= before.commit.index) {
        let (index, offered) = (executed.commit.index, *offered);
        if let Some(stored) = super::writer::stored_digest(connection, index).await?.filter(|stored| *stored != offered) {
            return Err(StoreError::Diverged { what: Numbered::Commit, index, stored, offered });
        }
    }
    for (checkpoint, offered) in checkpoints.iter().take_while(|(c, _)| c.checkpoint.index <= before.checkpoint.index) {
        let (index, offered) = (checkpoint.checkpoint.index, *offered);
        if let Some(stored) = checkpoints::stored_digest(connection, index).await?.filter(|stored| *stored != offered) {
            return Err(StoreError::Diverged { what: Numbered::Checkpoint, index, stored, offered });
        }
    }
    Ok(())
}

/// Deletes at most `limit` blocks below a round, and what is known to be committed in the rounds that are empty then.
pub(super) async fn prune(connection: &mut SqliteConnection, below: Round, limit: usize) -> Result<usize, StoreError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(database_error)?;
    let delete = sqlx::query(
        "DELETE FROM blocks WHERE id IN (SELECT id FROM blocks WHERE round < ? \
         AND id IS NOT (SELECT id FROM blocks WHERE own = 1 ORDER BY round DESC, id DESC LIMIT 1) ORDER BY round LIMIT ?) RETURNING round",
    );
    let rows = delete.bind(bound(below)).bind(row_limit(limit)).fetch_all(&mut *transaction).await.map_err(database_error)?;
    let rounds = rows.iter().map(|row| int(row, 0)).collect::<Result<Vec<Round>, _>>()?;
    // Of the highest round some blocks may be left for the next time.
    let emptied = if rounds.len() < limit { below } else { rounds.iter().copied().max().unwrap_or_default() };
    let forget = sqlx::query("DELETE FROM committed WHERE round < ?").bind(bound(emptied));
    forget.execute(&mut *transaction).await.map_err(database_error)?;
    transaction.commit().await.map_err(database_error)?;
    Ok(rounds.len())
}
