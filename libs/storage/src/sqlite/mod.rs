//! The stores in SQLite files: the embedded default.
//!
//! Each file has one writing connection, guarded by a lock file so that no second process writes, and a small pool of reading
//! connections (WAL: readers and the writer do not wait for one another). The validator's file is `synchronous = FULL`, since what was
//! acknowledged must survive power loss; the region's file is `NORMAL`, since it can be rebuilt: a crash may undo its last batches, whole.

mod bulk;
mod checkpoints;
mod connect;
mod install;
mod region;
mod region_read;
mod region_write;
mod schema;
mod state;
#[cfg(test)]
mod tests;
mod validator;
mod writer;

pub use region::SqliteRegionStore;
pub use validator::SqliteValidatorStore;

use crate::StoreError;
use kaldrix_types::Digest;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// Primary result codes (<https://www.sqlite.org/rescode.html>); the low byte of every extended code.
mod code {
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const READONLY: i32 = 8;
    pub(super) const IOERR: i32 = 10;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const CANTOPEN: i32 = 14;
    pub(super) const NOTADB: i32 = 26;
}

/// What a failure of the database means to the caller.
fn database_error(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::PoolTimedOut => StoreError::Busy,
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => StoreError::Closed,
        sqlx::Error::Io(io) if io.kind() == std::io::ErrorKind::StorageFull => StoreError::Full,
        sqlx::Error::Io(io) => StoreError::Io(io.to_string()),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) => StoreError::Damaged(error.to_string()),
        sqlx::Error::Database(database) => {
            let primary = database.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or_default() & 0xff;
            match primary {
                code::BUSY | code::LOCKED => StoreError::Busy,
                code::FULL => StoreError::Full,
                code::IOERR | code::CANTOPEN | code::READONLY => StoreError::Io(database.to_string()),
                code::CORRUPT | code::NOTADB => StoreError::Damaged(database.to_string()),
                _ => StoreError::Database(database.to_string()),
            }
        }
        _ => StoreError::Database(error.to_string()),
    }
}

fn blob(row: &SqliteRow, column: usize) -> Result<&[u8], StoreError> {
    row.try_get(column).map_err(database_error)
}

fn int(row: &SqliteRow, column: usize) -> Result<u64, StoreError> {
    row.try_get(column).map(i64::cast_unsigned).map_err(database_error)
}

/// An integer that was narrower when it was written.
fn small<T: TryFrom<u64>>(row: &SqliteRow, column: usize) -> Result<T, StoreError> {
    T::try_from(int(row, column)?).map_err(|_| StoreError::Damaged(format!("column {column} is out of range")))
}

fn digest(row: &SqliteRow, column: usize) -> Result<Digest, StoreError> {
    Digest::try_from(blob(row, column)?).map_err(|e| StoreError::Damaged(e.to_string()))
}

/// A limit on rows as SQL wants it.
fn row_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A bound of a range as SQL wants it: nothing that is stored and ordered by is above 2^63.
fn bound(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// As many of the first items as `limit_bytes` allows, at least one.
fn within<T>(items: Vec<T>, limit_bytes: usize, size: impl Fn(&T) -> usize) -> Vec<T> {
    let mut bytes = 0usize;
    let mut first = true;
    items
        .into_iter()
        .take_while(|item| {
            bytes = bytes.saturating_add(size(item));
            std::mem::take(&mut first) || bytes <= limit_bytes
        })
        .collect()
}
