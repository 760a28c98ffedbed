//! The suite, and what is particular to files.

use super::{SqliteRegionStore, SqliteValidatorStore, schema};
use crate::conformance::fixture::{Chain, Checkpoints, address, block, block_ref, certified, genesis, holds};
use crate::conformance::{RegionPlace, ValidatorPlace};
use crate::{RegionBatch, RegionStore, Snapshot, StoreError, ValidatorBatch, ValidatorStore};
use async_trait::async_trait;
use kaldrix_types::{Anchor, Digest, Genesis, StateKey, StateValue};
use sqlx::{ConnectOptions, Connection, Row};
use std::path::{Path, PathBuf};
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

/// The files as a killed process leaves them: the store is neither closed nor moved out of its log.
fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    for suffix in ["", "-wal"] {
        let name = |path: &Path| format!("{}{suffix}", path.display());
        std::fs::copy(name(from), name(to)).unwrap();
    }
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
async fn a_store_of_a_format_that_nothing_reads_any_more_is_named() {
    let (folder, genesis) = (Folder::new(), genesis("one"));
    ValidatorPlace::open(&folder, &genesis).await.unwrap().close().await.unwrap();
    raw(&folder, "PRAGMA user_version = 1").await;
    let error = ValidatorPlace::open(&folder, &genesis).await.map(|_| ()).unwrap_err();
    assert_eq!(error, StoreError::TooOld { found: 1, oldest: schema::OLDEST });
    let region = Folder::new();
    RegionPlace::open(&region, &genesis).await.unwrap().close().await.unwrap();
    raw(&region, "PRAGMA user_version = 1").await;
    let error = SqliteRegionStore::open_read_only(&region.file(), genesis.chain_id()).await.map(|_| ()).unwrap_err();
    assert_eq!(error, StoreError::TooOld { found: 1, oldest: schema::OLDEST });
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
        let batch = ValidatorBatch { executed: vec![Arc::new(chain.transfers(0..50))], ..ValidatorBatch::default() };
        store.write(batch).await.unwrap();
    }
    copy_files(&folder.file(), &copy.file());
    // The last bytes of the log were being written when the power went.
    let log = std::fs::File::options().append(true).open(copy.0.path().join("nested/store.sqlite-wal")).unwrap();
    std::io::Write::write_all(&mut &log, &[7; 1000]).unwrap();
    let store = ValidatorPlace::open(&copy, &genesis).await.unwrap();
    assert_eq!(store.last_commit().await.unwrap().map(|commit| commit.digest()), Some(chain.digest));
}

#[tokio::test]
async fn a_validator_that_is_killed_while_it_installs_a_snapshot_has_what_it_had_before() {
    let (folder, halfway, done) = (Folder::new(), Folder::new(), Folder::new());
    let genesis = genesis("one");
    let store = ValidatorPlace::open(&folder, &genesis).await.unwrap();
    let mut chain = Chain::default();
    let before = chain.commit(vec![], vec![holds(address(3), 7)]);
    let own = block(block_ref(1, 0, 1), 100, true);
    let executed = vec![Arc::new(before.clone())];
    store.write(ValidatorBatch { blocks: vec![own.clone()], executed, ..ValidatorBatch::default() }).await.unwrap();
    let state = store.state_page(None, 100).await.unwrap();

    let mut skipped = Checkpoints::default();
    skipped.over(&[before.clone(), chain.empty()]);
    let tail = [chain.empty(), chain.empty()];
    let checkpoint = skipped.over(&tail);
    // More than the writer's cache holds, so that its log is full of pages that do not count yet.
    let value = StateValue::Anchor(Anchor { timestamp_ms: 1, metadata: vec![7; 256 * 1024].into() });
    let (from, to) = (folder.file(), halfway.file());
    let records = (0..=255u8).map(move |n| {
        if n == 255 {
            copy_files(&from, &to);
        }
        (StateKey::Anchor(address(n), Digest::ZERO), value.clone())
    });
    let executed = tail.iter().cloned().map(Arc::new).collect();
    store.install(Snapshot { records: Box::new(records), executed, checkpoints: vec![certified(&checkpoint)] }).await.unwrap();
    copy_files(&folder.file(), &done.file());
    let log = |folder: &Folder| std::fs::metadata(format!("{}-wal", folder.file().display())).unwrap().len();
    assert!(log(&halfway) > 16 << 20, "the log has only {} bytes", log(&halfway));

    let old = ValidatorPlace::open(&halfway, &genesis).await.unwrap();
    assert_eq!(old.executed(1, 10, usize::MAX).await, Ok(vec![before]));
    assert_eq!((old.own_last_block().await, old.state_page(None, 100).await), (Ok(Some(own)), Ok(state)));
    assert_eq!(old.last_checkpoint().await, Ok(None));
    let new = ValidatorPlace::open(&done, &genesis).await.unwrap();
    assert_eq!((new.first_commit().await, new.own_last_block().await), (Ok(Some(3)), Ok(None)));
    assert_eq!(new.last_commit().await, Ok(Some(tail[1].commit.clone())));
    assert_eq!(new.state_page(None, 1_000).await.unwrap().records.len(), 256);
}
