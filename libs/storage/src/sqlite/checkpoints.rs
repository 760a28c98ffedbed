//! The table of checkpoints.

use super::{blob, bound, database_error, digest, int, row_limit, small, within};
use crate::{Numbered, StoreError, StoredCheckpoint};
use kaldrix_types::{CertifiedCheckpoint, Checkpoint, CommitIndex, Digest, Epoch, decode, encode};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

/// Checkpoints looked at per query.
const ROWS_MAX: i64 = 4096;

/// The last checkpoint in the store; zeroes for none, which is what the first one follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CheckpointTip {
    pub(super) index: u64,
    pub(super) digest: Digest,
    pub(super) last_commit: CommitIndex,
}

impl CheckpointTip {
    pub(super) const fn of(checkpoint: &Checkpoint, digest: Digest) -> Self {
        Self { index: checkpoint.index, digest, last_commit: checkpoint.last_commit }
    }

    pub(super) async fn read(connection: &mut SqliteConnection) -> Result<Self, StoreError> {
        let query = sqlx::query("SELECT idx, digest, last_commit FROM checkpoints ORDER BY idx DESC LIMIT 1");
        let row = query.fetch_optional(connection).await.map_err(database_error)?;
        row.map_or(Ok(Self::default()), |row| Ok(Self { index: int(&row, 0)?, digest: digest(&row, 1)?, last_commit: int(&row, 2)? }))
    }

    /// Whether `checkpoint` comes next, judged by itself.
    pub(super) fn check_next(&self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        if checkpoint.index != self.index + 1 {
            return Err(StoreError::OutOfOrder { what: Numbered::Checkpoint, expected: self.index + 1, found: checkpoint.index });
        }
        if checkpoint.previous != self.digest {
            let (stored, offered) = (self.digest, checkpoint.previous);
            return Err(StoreError::Diverged { what: Numbered::Checkpoint, index: self.index, stored, offered });
        }
        if checkpoint.first_commit != self.last_commit + 1 || checkpoint.last_commit < checkpoint.first_commit {
            return Err(StoreError::BadBatch("a checkpoint's commits must begin behind those of the one before"));
        }
        Ok(())
    }
}

pub(super) async fn stored_digest(connection: &mut SqliteConnection, index: u64) -> Result<Option<Digest>, StoreError> {
    let query = sqlx::query("SELECT digest FROM checkpoints WHERE idx = ?").bind(bound(index));
    query.fetch_optional(connection).await.map_err(database_error)?.map(|row| digest(&row, 0)).transpose()
}

/// Writes a checkpoint whose digest this is; of one that is there already only a missing certificate is added.
pub(super) async fn write(connection: &mut SqliteConnection, stored: &StoredCheckpoint, digest: Digest) -> Result<(), StoreError> {
    let StoredCheckpoint { checkpoint, votes } = stored;
    let (bytes, votes) = (encode(checkpoint), votes.as_ref().map(encode));
    let size = bytes.len() + votes.as_ref().map_or(0, Vec::len);
    let insert = sqlx::query(
        "INSERT INTO checkpoints (idx, digest, epoch, ends_epoch, first_commit, last_commit, certified, size, bytes, votes) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (idx) DO UPDATE \
         SET certified = 1, size = excluded.size, votes = excluded.votes WHERE excluded.certified AND NOT checkpoints.certified",
    );
    insert
        .bind(checkpoint.index.cast_signed())
        .bind(digest.as_bytes().as_slice())
        .bind(checkpoint.epoch.cast_signed())
        .bind(checkpoint.next_epoch.is_some())
        .bind(checkpoint.first_commit.cast_signed())
        .bind(checkpoint.last_commit.cast_signed())
        .bind(votes.is_some())
        .bind(row_limit(size))
        .bind(bytes)
        .bind(votes)
        .execute(connection)
        .await
        .map_err(database_error)?;
    Ok(())
}

/// Reads bytes, votes.
fn stored(row: &SqliteRow) -> Result<StoredCheckpoint, StoreError> {
    let votes: Option<&[u8]> = sqlx::Row::try_get(row, 1).map_err(database_error)?;
    let votes = votes.map(|votes| decode(votes, usize::MAX)).transpose()?;
    Ok(StoredCheckpoint { checkpoint: decode(blob(row, 0)?, usize::MAX)?, votes })
}

pub(super) async fn at(connection: &mut SqliteConnection, index: u64) -> Result<Option<StoredCheckpoint>, StoreError> {
    let query = sqlx::query("SELECT bytes, votes FROM checkpoints WHERE idx = ?").bind(bound(index));
    query.fetch_optional(connection).await.map_err(database_error)?.as_ref().map(stored).transpose()
}

pub(super) async fn of_commit(connection: &mut SqliteConnection, commit: CommitIndex) -> Result<Option<StoredCheckpoint>, StoreError> {
    let query = sqlx::query("SELECT idx, first_commit FROM checkpoints WHERE last_commit >= ? ORDER BY last_commit LIMIT 1");
    let row = query.bind(bound(commit)).fetch_optional(&mut *connection).await.map_err(database_error)?;
    let Some(row) = row else { return Ok(None) };
    // After a snapshot the next one may begin later.
    if int(&row, 1)? <= commit { at(connection, int(&row, 0)?).await } else { Ok(None) }
}

pub(super) async fn last(connection: &mut SqliteConnection) -> Result<Option<StoredCheckpoint>, StoreError> {
    let query = sqlx::query("SELECT bytes, votes FROM checkpoints ORDER BY idx DESC LIMIT 1");
    query.fetch_optional(connection).await.map_err(database_error)?.as_ref().map(stored).transpose()
}

pub(super) async fn last_certified(connection: &mut SqliteConnection) -> Result<Option<CertifiedCheckpoint>, StoreError> {
    let query = sqlx::query("SELECT bytes, votes FROM checkpoints WHERE certified = 1 ORDER BY idx DESC LIMIT 1");
    query.fetch_optional(connection).await.map_err(database_error)?.map(|row| certified(stored(&row)?)).transpose()
}

fn certified(stored: StoredCheckpoint) -> Result<CertifiedCheckpoint, StoreError> {
    stored.certified().ok_or_else(|| StoreError::Damaged("a certified checkpoint has no votes".into()))
}

pub(super) async fn from(
    connection: &mut SqliteConnection,
    index: u64,
    limit: usize,
    limit_bytes: usize,
) -> Result<Vec<StoredCheckpoint>, StoreError> {
    let query = sqlx::query("SELECT idx, size FROM checkpoints WHERE idx >= ? ORDER BY idx LIMIT ?");
    let query = query.bind(bound(index)).bind(row_limit(limit).min(ROWS_MAX));
    let rows = query.fetch_all(&mut *connection).await.map_err(database_error)?;
    load(connection, &rows, limit_bytes).await
}

pub(super) async fn epoch_ends(
    connection: &mut SqliteConnection,
    from: Epoch,
    limit: usize,
    limit_bytes: usize,
) -> Result<Vec<CertifiedCheckpoint>, StoreError> {
    let query =
        sqlx::query("SELECT idx, size FROM checkpoints WHERE certified = 1 AND ends_epoch = 1 AND epoch >= ? ORDER BY epoch, idx LIMIT ?");
    let query = query.bind(bound(from)).bind(row_limit(limit).min(ROWS_MAX));
    let rows = query.fetch_all(&mut *connection).await.map_err(database_error)?;
    load(connection, &rows, limit_bytes).await?.into_iter().map(certified).collect()
}

/// The checkpoints of rows of (idx, size), as many as the limit allows.
async fn load(connection: &mut SqliteConnection, rows: &[SqliteRow], limit_bytes: usize) -> Result<Vec<StoredCheckpoint>, StoreError> {
    let found = rows.iter().map(|row| Ok((int(row, 0)?, small(row, 1)?))).collect::<Result<Vec<_>, StoreError>>()?;
    let mut checkpoints = Vec::new();
    for (index, _) in within(found, limit_bytes, |(_, size): &(u64, usize)| *size) {
        checkpoints.extend(at(connection, index).await?);
    }
    Ok(checkpoints)
}
