//! The suite, and what is particular to files.

use super::{SqliteRegionStore, SqliteValidatorStore, schema};
use crate::conformance::fixture::{Chain, genesis};
use crate::conformance::{RegionPlace, ValidatorPlace};
use crate::{RegionBatch, RegionStore, StoreError, ValidatorBatch, ValidatorStore};
use async_trait::async_trait;
use kaldrix_types::Genesis;
use sqlx::{ConnectOptions, Connection, Row};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("nested/store.sqlite")
    }
}

#[async_trait]
impl ValidatorPlace for Folder {
    type Store = SqliteValidatorStore;
    async fn open(&self, genesis: &Genesis) -> Result<Self::Store, StoreError> {
        SqliteValidatorStore::open(&self.file(), genesis).await
    }
}

#[async_trait]
impl RegionPlace for Folder {
    type Store = SqliteRegionStore;
    async fn open(&self, genesis: &Genesis) -> Result<Self::Store, StoreError> {
        SqliteRegionStore::open(&self.file(), genesis).await
    }
}

mod validator {
    use super::Folder;
    crate::validator_store_tests!(Folder::new());
}

mod region {
    use super::Folder;
    crate::region_store_tests!(Folder::new());
}

async fn raw(folder: &Folder, sql: &'static str) {
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.file()).connect().await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_second_writer_is_turned_away_until_the_first_has_closed() {
    let (folder, genesis) = (Folder::new(), genesis("one"));
    let first = ValidatorPlace::open(&folder, &genesis).await.unwrap();
    let second = ValidatorPlace::open(&folder, &genesis).await.map(|_| ());
    assert_eq!(second, Err(StoreError::InUse { path: folder.file() }));
    first.close().await.unwrap();
    ValidatorPlace::open(&folder, &genesis).await.unwrap();
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let folder = Folder::new();
    std::fs::write(folder.0.path().join("nested"), b"a file where a folder should be").unwrap();
    let error = ValidatorPlace::open(&folder, &genesis("one")).await.map(|_| ()).unwrap_err();
    let StoreError::Unwritable { path, .. } = &error else { panic!("{error}") };
    assert_eq!(path, &folder.0.path().join("nested"));
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_file_that_is_no_database_is_called_damaged() {
    let folder = Folder::new();
    std::fs::create_dir(folder.0.path().join("nested")).unwrap();
    std::fs::write(folder.file(), [b'x'; 5000]).unwrap();
    let error = ValidatorPlace::open(&folder, &genesis("one")).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_left_alone() {
    let (folder, genesis) = (Folder::new(), genesis("one"));
    ValidatorPlace::open(&folder, &genesis).await.unwrap().close().await.unwrap();
    raw(&folder, "PRAGMA user_version = 1000").await;
    let error = ValidatorPlace::open(&folder, &genesis).await.map(|_| ()).unwrap_err();
    assert_eq!(error, StoreError::TooNew { found: 1000, known: schema::VALIDATOR.version() });
}

#[tokio::test]
async fn a_damaged_record_is_an_error_and_not_an_answer() {
    let (folder, genesis) = (Folder::new(), genesis("one"));
    ValidatorPlace::open(&folder, &genesis).await.unwrap().close().await.unwrap();
    raw(&folder, "UPDATE state SET value = x'01'").await;
    let store = ValidatorPlace::open(&folder, &genesis).await.unwrap();
    let keys: Vec<_> = genesis.state().unwrap().iter().map(|change| change.key).collect();
    assert!(matches!(store.state(&keys).await, Err(StoreError::Damaged(_))));
    assert!(matches!(store.state_page(None, 10).await, Err(StoreError::Damaged(_))));
}

#[tokio::test]
async fn a_write_that_finds_the_disk_full_keeps_nothing_and_can_be_tried_again() {
    let (folder, genesis) = (Folder::new(), genesis("one"));
    let store = RegionPlace::open(&folder, &genesis).await.unwrap();
    // As many pages as the file has now: the next one that is needed is not there.
    let super::region::Access::Write(writing) = &mut *store.access.lock().await else { panic!("opened for writing") };
    let pages: i64 = sqlx::query("PRAGMA page_count").fetch_one(&mut writing.connection).await.unwrap().get(0);
    let limit = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
    sqlx::raw_sql(limit).execute(&mut writing.connection).await.unwrap();
    let mut transaction = writing.connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let mut batch = RegionBatch::default();
    batch.push(Chain::default().transfers(0..2_000)).unwrap();
    let error = super::region_write::apply(&mut transaction, batch.clone()).await.unwrap_err();
    assert_eq!(error, StoreError::Full);
    assert!(error.is_retryable());
    drop(transaction);
    sqlx::raw_sql("PRAGMA max_page_count = 1000000").execute(&mut writing.connection).await.unwrap();
    let mut transaction = writing.connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
    super::region_write::apply(&mut transaction, batch).await.unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn a_reader_in_another_process_follows_the_writer() {
    let (folder, genesis) = (Folder::new(), genesis("one"));
    let chain_id = genesis.chain_id();
    let read_only = async || SqliteRegionStore::open_read_only(&folder.file(), chain_id).await;
    let early = read_only().await.map(|_| ()).unwrap_err();
    assert_eq!(early, StoreError::NotReady { path: folder.file() });
    assert!(early.is_retryable());

    let writer = RegionPlace::open(&folder, &genesis).await.unwrap();
    let reader = read_only().await.unwrap();
    let mut chain = Chain::default();
    let mut batch = RegionBatch::default();
    batch.push(chain.transfers(0..5)).unwrap();
    assert_eq!(reader.apply(batch.clone()).await, Err(StoreError::ReadOnly));
    writer.apply(batch).await.unwrap();
    assert_eq!(reader.cursor().await, Ok(1));
    assert_eq!(reader.totals().await, writer.totals().await);
    // The reader outlives the writer and can be opened without one.
    writer.close().await.unwrap();
    assert_eq!(reader.cursor().await, Ok(1));
    reader.close().await.unwrap();
    assert_eq!(read_only().await.unwrap().cursor().await, Ok(1));
    let other = SqliteRegionStore::open_read_only(&folder.file(), crate::conformance::fixture::genesis("two").chain_id()).await;
    assert!(matches!(other.map(|_| ()), Err(StoreError::OtherChain { .. })));
}

#[tokio::test]
async fn an_apply_that_is_given_up_halfway_leaves_nothing_behind() {
    let (folder, genesis) = (Folder::new(), genesis("one"));
    let store = RegionPlace::open(&folder, &genesis).await.unwrap();
    let mut batch = RegionBatch::default();
    batch.push(Chain::default().transfers(0..5_000)).unwrap();
    for wait_us in [100, 1_000, 5_000] {
        let apply = store.apply(batch.clone());
        assert!(tokio::time::timeout(Duration::from_micros(wait_us), apply).await.is_err(), "too fast to be given up");
        assert_eq!(store.cursor().await, Ok(0));
    }
    store.apply(batch).await.unwrap();
    assert_eq!(store.totals().await.unwrap().transactions, 5_000);
}

#[tokio::test]
async fn readers_do_not_wait_for_a_write_that_is_under_way() {
    let (folder, genesis) = (Folder::new(), genesis("one"));
    let store = RegionPlace::open(&folder, &genesis).await.unwrap();
    let mut access = store.access.lock().await;
    let super::region::Access::Write(writing) = &mut *access else { panic!("opened for writing") };
    let mut transaction = writing.connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let mut batch = RegionBatch::default();
    batch.push(Chain::default().transfers(0..5)).unwrap();
    super::region_write::apply(&mut transaction, batch).await.unwrap();
    assert_eq!(store.cursor().await, Ok(0), "what is not committed is not seen");
    transaction.commit().await.unwrap();
    assert_eq!(store.cursor().await, Ok(1));
}

#[tokio::test]
async fn what_a_validator_was_told_is_durable_is_there_after_its_process_is_killed() {
    let (folder, genesis) = (Folder::new(), genesis("one"));
    let copy = Folder::new();
    let store = ValidatorPlace::open(&folder, &genesis).await.unwrap();
    let mut chain = Chain::default();
    for _ in 0..20 {
        let batch = ValidatorBatch { blocks: vec![], executed: vec![Arc::new(chain.transfers(0..50))] };
        store.write(batch).await.unwrap();
    }
    // The files as a killed process leaves them: the store is neither closed nor moved out of its log.
    std::fs::create_dir(copy.0.path().join("nested")).unwrap();
    for suffix in ["", "-wal"] {
        let name = |folder: &Folder| folder.0.path().join(format!("nested/store.sqlite{suffix}"));
        std::fs::copy(name(&folder), name(&copy)).unwrap();
    }
    // The last bytes of the log were being written when the power went.
    let log = std::fs::File::options().append(true).open(copy.0.path().join("nested/store.sqlite-wal")).unwrap();
    std::io::Write::write_all(&mut &log, &[7; 1000]).unwrap();
    let store = ValidatorPlace::open(&copy, &genesis).await.unwrap();
    assert_eq!(store.last_commit().await.unwrap().map(|commit| commit.digest()), Some(chain.digest));
}
