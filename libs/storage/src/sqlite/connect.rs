//! Opening files: lock, connections, format, chain.

use super::schema::{OLDEST, Schema};
use super::{blob, database_error, int};
use crate::StoreError;
use kaldrix_types::{ChainId, Genesis, StateChange};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection, SqlitePool};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a statement waits for another connection's lock before [`StoreError::Busy`].
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a read waits for a free connection before [`StoreError::Busy`].
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pages of the write-ahead log (4 KiB each) that are gathered before they are moved to the file: hot pages move once, not every time.
const CHECKPOINT_PAGES: &str = "8000";
/// The log is cut to this after a checkpoint.
const LOG_BYTES_MAX: &str = "67108864";
/// Page caches, in KiB when negative.
const WRITER_CACHE: &str = "-32768";
const READER_CACHE: &str = "-8192";

/// The lock that says "this process writes this store"; the operating system releases it however the process ends.
pub(super) struct WriterLock {
    _file: File,
}

impl WriterLock {
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        let unwritable = |path: &Path, error: std::io::Error| StoreError::Unwritable { path: path.into(), reason: error.to_string() };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| unwritable(folder, error))?;
        }
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock_path = PathBuf::from(lock_path);
        let options = File::options().read(true).write(true).create(true).truncate(false).open(&lock_path);
        let file = options.map_err(|error| unwritable(&lock_path, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.into() }),
            Err(TryLockError::Error(error)) => Err(unwritable(&lock_path, error)),
        }
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("temp_store", "MEMORY")
        .statement_cache_capacity(200)
        // Rows read ahead by the connection's thread. Only queries for a single row return blocks or whole commits.
        .row_buffer_size(64)
        .disable_statement_logging()
}

/// Opens (or creates) the file for writing, brings its format up to date, and checks or sets its chain; the genesis state is written in
/// the same transaction as the chain id, so a store never exists without it.
pub(super) async fn open_writer(
    path: &Path,
    synchronous: SqliteSynchronous,
    schema: &Schema,
    genesis: &Genesis,
) -> Result<SqliteConnection, StoreError> {
    let state = genesis.state()?;
    let options = options(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .pragma("cache_size", WRITER_CACHE)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .pragma("journal_size_limit", LOG_BYTES_MAX);
    let mut connection = options.connect().await.map_err(|error| open_error(path, error))?;
    prepare(&mut connection, schema, genesis.chain_id(), &state).await?;
    Ok(connection)
}

/// A pool of reading connections. They open the file for writing too, since WAL readers keep their place in a shared file, but refuse
/// statements that would change anything.
pub(super) async fn open_readers(path: &Path, connections: u32) -> Result<SqlitePool, StoreError> {
    let options = options(path).pragma("cache_size", READER_CACHE).pragma("query_only", "ON");
    let pool = SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .max_lifetime(None);
    pool.connect_with(options).await.map_err(|error| open_error(path, error))
}

fn open_error(path: &Path, error: sqlx::Error) -> StoreError {
    match database_error(error) {
        StoreError::Io(reason) => StoreError::Unwritable { path: path.into(), reason },
        other => other,
    }
}

async fn prepare(connection: &mut SqliteConnection, schema: &Schema, chain: ChainId, genesis: &[StateChange]) -> Result<(), StoreError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(database_error)?;
    let found = format_version(&mut transaction).await?;
    let known = schema.version();
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    for step in schema.missing(found).ok_or(StoreError::TooOld { found, oldest: OLDEST })? {
        sqlx::raw_sql(*step).execute(&mut *transaction).await.map_err(database_error)?;
    }
    match stored_chain(&mut transaction).await? {
        Some(found) if found != chain => return Err(StoreError::OtherChain { found, expected: chain }),
        Some(_) => {}
        None => {
            let insert = sqlx::query("INSERT INTO chain (id) VALUES (?)").bind(chain.as_bytes().as_slice());
            insert.execute(&mut *transaction).await.map_err(database_error)?;
            (schema.genesis)(&mut transaction, genesis).await?;
        }
    }
    if found < known {
        // The version is a constant of ours; PRAGMA takes no parameters.
        let set = AssertSqlSafe(format!("PRAGMA user_version = {known}"));
        sqlx::raw_sql(set).execute(&mut *transaction).await.map_err(database_error)?;
    }
    transaction.commit().await.map_err(database_error)
}

/// The format of the file; 0 for a new one.
async fn format_version(connection: &mut SqliteConnection) -> Result<u32, StoreError> {
    let row = sqlx::query("PRAGMA user_version").fetch_one(connection).await.map_err(database_error)?;
    u32::try_from(int(&row, 0)?).map_err(|_| StoreError::Damaged("the format version is out of range".into()))
}

async fn stored_chain(connection: &mut SqliteConnection) -> Result<Option<ChainId>, StoreError> {
    let row = sqlx::query("SELECT id FROM chain").fetch_optional(connection).await.map_err(database_error)?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(ChainId::try_from(blob(&row, 0)?).map_err(|e| StoreError::Damaged(e.to_string()))?))
}

/// Whether a file that another process writes is there, complete, and of this chain.
pub(super) async fn check_readable(path: &Path, pool: &SqlitePool, schema: &Schema, chain: ChainId) -> Result<(), StoreError> {
    let mut connection = pool.acquire().await.map_err(database_error)?;
    let (found, known) = (format_version(&mut connection).await?, schema.version());
    match found.cmp(&known) {
        std::cmp::Ordering::Greater => return Err(StoreError::TooNew { found, known }),
        std::cmp::Ordering::Less if schema.missing(found).is_none() => return Err(StoreError::TooOld { found, oldest: OLDEST }),
        std::cmp::Ordering::Less => return Err(StoreError::NotReady { path: path.into() }),
        std::cmp::Ordering::Equal => {}
    }
    match stored_chain(&mut connection).await? {
        Some(found) if found == chain => Ok(()),
        Some(found) => Err(StoreError::OtherChain { found, expected: chain }),
        None => Err(StoreError::NotReady { path: path.into() }),
    }
}
