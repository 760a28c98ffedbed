//! The table of state records, the same in both stores.

use super::bulk::Bulk;
use super::{blob, database_error, row_limit};
use crate::StoreError;
use crate::records::{decode_key, decode_value};
use kaldrix_types::{StateChange, StateKey, StateValue};
use sqlx::SqliteConnection;
use std::collections::HashMap;

static UPSERT: Bulk = Bulk::values("INSERT INTO state (key, value)", 2, "ON CONFLICT (key) DO UPDATE SET value = excluded.value");
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
    let rows = query.fetch_all(connection).await.map_err(database_error)?;
    rows.iter()
        .map(|row| {
            let key = decode_key(blob(row, 0)?)?;
            Ok((key, decode_value(&key, blob(row, 1)?)?))
        })
        .collect()
}
