//! The table of state records, the same in both stores.

use super::bulk::Bulk;
use super::{blob, database_error, row_limit};
use crate::StoreError;
use crate::records::{decode_key, decode_value, fits};
use kaldrix_types::{StateChange, StateKey, StateValue};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;
use std::collections::HashMap;

/// What [`fill`] holds at once.
const FILL_RECORDS: usize = 1024;
const FILL_BYTES: usize = 4 * 1024 * 1024;

static UPSERT: Bulk = Bulk::values("INSERT INTO state (key, value)", 2, "ON CONFLICT (key) DO UPDATE SET value = excluded.value");
static INSERT: Bulk = Bulk::values("INSERT INTO state (key, value)", 2, "");
static DELETE: Bulk = Bulk::list("DELETE FROM state WHERE key IN");
static SELECT: Bulk = Bulk::list("SELECT key, value FROM state WHERE key IN");

/// Applies changes in order; of several to one key only the last is written.
pub(super) async fn write<'a>(connection: &mut SqliteConnection, changes: impl Iterator<Item = &'a StateChange>) -> Result<(), StoreError> {
    let last: HashMap<&StateKey, Option<&StateValue>> = changes.map(|change| (&change.key, change.value.as_ref())).collect();
    let mut kept: Vec<(&StateKey, &StateValue)> = Vec::with_capacity(last.len());
    let mut gone: Vec<&StateKey> = Vec::new();
    for (key, value) in last {
        match value {
            Some(value) => kept.push((key, value)),
            None => gone.push(key),
        }
    }
    // Neighbours in the index are written one after the other.
    kept.sort_unstable_by_key(|(key, _)| *key);
    UPSERT
        .execute(connection, &kept, |values, (key, value)| {
            values.blob(key.to_bytes()).blob(value.to_bytes());
        })
        .await?;
    DELETE
        .execute(connection, &gone, |values, key| {
            values.blob(key.to_bytes());
        })
        .await?;
    Ok(())
}

/// The records of these keys, in the order asked for.
pub(super) async fn read(connection: &mut SqliteConnection, keys: &[StateKey]) -> Result<Vec<Option<StateValue>>, StoreError> {
    let rows = SELECT.fetch(connection, keys, |values, key| {
        values.blob(key.to_bytes());
    });
    let mut found = HashMap::with_capacity(keys.len());
    for row in rows.await? {
        let key = decode_key(blob(&row, 0)?)?;
        found.insert(key, decode_value(&key, blob(&row, 1)?)?);
    }
    Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
}

/// Records with keys above `after` (all of them for empty bytes), ascending, at most `limit`.
pub(super) async fn page(connection: &mut SqliteConnection, after: &[u8], limit: usize) -> Result<Vec<(StateKey, StateValue)>, StoreError> {
    let query = sqlx::query("SELECT key, value FROM state WHERE key > ? ORDER BY key LIMIT ?").bind(after).bind(row_limit(limit));
    query.fetch_all(connection).await.map_err(database_error)?.iter().map(record).collect()
}

/// Records from `first` to `last`, ascending, at most `limit`.
pub(super) async fn range(
    connection: &mut SqliteConnection,
    first: &StateKey,
    last: &StateKey,
    limit: usize,
) -> Result<Vec<(StateKey, StateValue)>, StoreError> {
    let query = sqlx::query("SELECT key, value FROM state WHERE key >= ? AND key <= ? ORDER BY key LIMIT ?");
    let query = query.bind(first.to_bytes()).bind(last.to_bytes()).bind(row_limit(limit));
    query.fetch_all(connection).await.map_err(database_error)?.iter().map(record).collect()
}

/// Reads key, value.
fn record(row: &SqliteRow) -> Result<(StateKey, StateValue), StoreError> {
    let key = decode_key(blob(row, 0)?)?;
    let value = decode_value(&key, blob(row, 1)?)?;
    Ok((key, value))
}

/// Puts everything that `records` gives into the table, which is empty; never holds more than a part of it.
pub(super) async fn fill(
    connection: &mut SqliteConnection,
    records: &mut (dyn Iterator<Item = (StateKey, StateValue)> + Send),
) -> Result<(), StoreError> {
    let mut last: Option<StateKey> = None;
    loop {
        let mut part: Vec<(StateKey, Vec<u8>)> = Vec::new();
        let mut bytes = 0;
        while part.len() < FILL_RECORDS
            && bytes < FILL_BYTES
            && let Some((key, value)) = records.next()
        {
            if last.is_some_and(|last| last >= key) {
                return Err(StoreError::BadBatch("a snapshot's records must be in ascending order of their keys"));
            }
            if !fits(&key, &value) {
                return Err(StoreError::BadBatch("a record of a snapshot holds a value of another kind than its key's"));
            }
            last = Some(key);
            let value = value.to_bytes();
            bytes += value.len();
            part.push((key, value));
        }
        if part.is_empty() {
            return Ok(());
        }
        INSERT
            .execute(connection, &part, |values, (key, value)| {
                values.blob(key.to_bytes()).blob(value.as_slice());
            })
            .await?;
    }
}
