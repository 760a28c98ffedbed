//! How fast the SQLite stores write what a busy network makes: `cargo run -p kaldrix-storage --example write_rate --features conformance`.
//!
//! Commits of 250 transfers among 1,000 accounts with ML-DSA-65 keys, in four blocks with their signatures.
#![allow(clippy::print_stdout, reason = "it is what this program is for")]

use bytes::Bytes;
use kaldrix_storage::conformance::fixture::{Chain, block, genesis, holds, transfer};
use kaldrix_storage::{RegionBatch, RegionStore, SqliteRegionStore, SqliteValidatorStore, StoreError, ValidatorBatch, ValidatorStore};
use kaldrix_types::{
    Account, Address, AssetId, BlockRef, ExecutedCommit, KeySlot, OutcomeStatus, PublicKey, Scheme, StateChange, StateKey, StateValue,
    ValidatorIndex,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

const COMMITS: u64 = 200;
const TRANSACTIONS: u64 = 250;
const ACCOUNTS: u64 = 1_000;
/// A signed transfer by ML-DSA-65 with a key index.
const SIGNED_BYTES: usize = 3_500;

fn account(n: u64) -> Address {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(n % ACCOUNTS).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    Address(bytes)
}

fn commits() -> Vec<ExecutedCommit> {
    let key = PublicKey::new(Scheme::MlDsa65, vec![7; Scheme::MlDsa65.public_key_len()]).expect("a key's length");
    let mut chain = Chain::default();
    let mut number = 0;
    let mut commit = |_| {
        let mut transactions = vec![];
        let mut changes = vec![];
        for _ in 0..TRANSACTIONS {
            number += 1;
            let (from, to) = (account(number), account(number * 31 + 7));
            transactions.push((transfer(from, to, number), OutcomeStatus::Success));
            let record = Account { keys: vec![KeySlot { key: key.clone(), since: 1 }], next_sequence: number };
            changes.push(StateChange { key: StateKey::Account(from), value: Some(StateValue::Account(record)) });
            changes.extend([holds(from, 1 + u128::from(number)), holds(to, 2 + u128::from(number))]);
        }
        chain.commit(transactions, changes)
    };
    (0..COMMITS).map(&mut commit).collect()
}

fn report(what: &str, started: Instant, calls: u64) {
    let seconds = started.elapsed().as_secs_f64();
    let transactions = (COMMITS * TRANSACTIONS) as f64;
    println!("{what:34} {:>9.0} transactions/s  {:>7.2} ms per call", transactions / seconds, 1e3 * seconds / calls as f64);
}

fn size(path: &Path) -> u64 {
    let wal = path.with_extension("sqlite-wal");
    [path, &wal].iter().filter_map(|p| p.metadata().ok()).map(|m| m.len()).sum::<u64>() >> 20
}

async fn validator(folder: &Path, commits: &[ExecutedCommit]) -> Result<(), StoreError> {
    let path = folder.join("validator.sqlite");
    let store = SqliteValidatorStore::open(&path, &genesis("rate")).await?;
    let batches = (1u64..).zip(commits).map(|(round, commit)| {
        let blocks = (0..4u16).map(|author| {
            let reference = BlockRef { round, author: ValidatorIndex(author), digest: commit.commit.digest() };
            block(reference, SIGNED_BYTES * TRANSACTIONS as usize / 4, author == 0)
        });
        ValidatorBatch { blocks: blocks.collect(), executed: vec![Arc::new(commit.clone())], ..ValidatorBatch::default() }
    });
    let batches: Vec<_> = batches.collect();
    let started = Instant::now();
    for batch in batches {
        store.write(batch).await?;
    }
    report("validator, one batch after another", started, COMMITS);
    println!("{:34} {:>9} MiB", "validator, on disk", size(&path));

    let keys: Vec<_> =
        (0..2 * TRANSACTIONS).flat_map(|n| [StateKey::Account(account(n)), StateKey::Balance(account(n), AssetId::NATIVE)]).collect();
    let started = Instant::now();
    for _ in 0..COMMITS {
        store.state(&keys).await?;
    }
    report("validator, prefetch of 1,000 keys", started, COMMITS);
    store.close().await
}

async fn region(folder: &Path, commits: &[ExecutedCommit], per_batch: usize) -> Result<(), StoreError> {
    let path = folder.join(format!("region{per_batch}.sqlite"));
    let store = SqliteRegionStore::open(&path, &genesis("rate")).await?;
    let started = Instant::now();
    let mut calls = 0;
    for commits in commits.chunks(per_batch) {
        let mut batch = RegionBatch::default();
        for commit in commits {
            batch.push(commit.clone())?;
        }
        store.apply(batch).await?;
        calls += 1;
    }
    report(&format!("region, {per_batch} commits per batch"), started, calls);
    println!("{:34} {:>9} MiB", "region, on disk", size(&path));

    let started = Instant::now();
    for commit in commits.iter().flat_map(|commit| &commit.outcomes).step_by(50) {
        store.transaction(commit.id).await?.ok_or(StoreError::BadBatch("a transaction is missing"))?;
    }
    let reads = (COMMITS * TRANSACTIONS).div_ceil(50);
    println!("{:34} {:>9.0} reads/s", "region, transactions by id", reads as f64 / started.elapsed().as_secs_f64());
    store.close().await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let commits = commits();
    let body: Option<&Bytes> = commits.first().and_then(|commit| commit.bodies.first());
    println!("{COMMITS} commits of {TRANSACTIONS} transfers, bodies of {} bytes", body.map_or(0, Bytes::len));
    validator(folder.path(), &commits).await?;
    for per_batch in [1, 10] {
        region(folder.path(), &commits, per_batch).await?;
    }
    Ok(())
}
