//! The projection: what rows a commit becomes, what is refused, and that how commits are cut into batches changes nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Chain, GAP, POOR, REPLAYED, address, genesis, transfer};
use kaldrix_region_sync::core::{Head, Notice, ProjectError, Projected, Projection, drop_decided_elsewhere, notices_from};
use kaldrix_storage::{
    AccountRole, AccountTransactionRow, CommitRow, RegionStore, RegionTotals, SqliteRegionStore, StatePage, TransactionRow,
};
use kaldrix_types::{Address, AssetId, Digest, ExecutedCommit, OutcomeStatus, StateKey, StateValue, TxBody};
use proptest::prelude::*;
use std::collections::BTreeMap;

const SUCCESS: OutcomeStatus = OutcomeStatus::Success;

fn project(head: Head, commits: &[ExecutedCommit]) -> Result<Projected, ProjectError> {
    let mut projection = Projection::after(head);
    for commit in commits {
        projection.push(commit.clone(), &BTreeMap::new())?;
    }
    Ok(projection.finish())
}

fn history(projected: &Projected) -> Vec<(Address, u64, u32, AccountRole)> {
    projected.batch.account_transactions.iter().map(|row| (row.account, row.commit, row.position, row.role)).collect()
}

#[test]
fn a_history_has_what_touched_the_account_and_nothing_that_was_discarded() {
    let mut chain = Chain::new(0);
    chain.push(vec![(transfer(1, 2, 0), SUCCESS), (transfer(3, 4, 0), POOR), (transfer(5, 4, 7), GAP)]);
    let projected = project(Head::default(), &chain.commits).unwrap();
    let (sender, recipient) = (AccountRole::Sender, AccountRole::Recipient);
    assert_eq!(history(&projected), [(address(1), 1, 0, sender), (address(2), 1, 0, recipient), (address(3), 1, 1, sender)]);
    assert_eq!(projected.batch.transactions.len(), 3);
    assert_eq!(projected.batch.transactions[2].status, GAP);
    assert_eq!(projected.batch.commits[0].transaction_count, 3);
    let accounts: Vec<usize> = projected.notices[0].transactions.iter().map(|t| t.accounts.len()).collect();
    assert_eq!(accounts, [2, 1, 0]);
}

#[test]
fn the_first_outcome_of_a_transaction_stands() {
    let mut chain = Chain::new(0);
    chain.push(vec![(transfer(1, 2, 0), SUCCESS), (transfer(1, 2, 0), REPLAYED)]);
    chain.push(vec![(transfer(1, 2, 0), REPLAYED)]);
    let projected = project(Head::default(), &chain.commits).unwrap();
    assert_eq!(projected.batch.transactions.len(), 1);
    assert_eq!((projected.batch.transactions[0].commit, projected.batch.transactions[0].status), (1, SUCCESS));
    assert_eq!(projected.notices[0].transactions.len(), 1);
    assert!(projected.notices[1].transactions.is_empty());
    assert_eq!(projected.transaction_count, 3);
}

#[test]
fn a_discarded_transaction_may_still_land() {
    let mut chain = Chain::new(0);
    chain.push(vec![(transfer(1, 2, 1), GAP)]);
    chain.push(vec![(transfer(1, 2, 0), SUCCESS), (transfer(1, 2, 1), SUCCESS)]);
    let projected = project(Head::default(), &chain.commits).unwrap();
    assert_eq!(projected.batch.transactions.iter().map(|t| (t.commit, t.position)).collect::<Vec<_>>(), [(2, 0), (2, 1)]);
    assert!(projected.notices[0].transactions.is_empty());
    assert_eq!(history(&projected).len(), 4);
}

#[test]
fn the_last_value_of_a_record_wins() {
    let mut chain = Chain::new(0);
    chain.push(vec![(transfer(1, 2, 0), SUCCESS)]);
    chain.push(vec![(transfer(1, 2, 1), SUCCESS)]);
    let projected = project(Head::default(), &chain.commits).unwrap();
    let key = StateKey::Balance(address(2), AssetId::NATIVE);
    let values: Vec<_> = projected.batch.records.iter().filter(|r| r.key == key).map(|r| r.value.clone()).collect();
    assert_eq!(values, [Some(StateValue::Balance(1_000_002))]);
    assert!(projected.batch.records.windows(2).all(|pair| pair[0].key < pair[1].key));
}

#[test]
fn commits_that_do_not_follow_are_refused() {
    let mut chain = Chain::new(0);
    let mut fork = Chain::new(1);
    for _ in 0..3 {
        chain.push_transfers(1);
        fork.push_transfers(1);
    }
    let head = project(Head::default(), &chain.commits[..1]).unwrap().head;
    let error = project(head, &chain.commits[2..]).err();
    assert_eq!(error, Some(ProjectError::OutOfOrder { expected: 2, found: 3 }));
    let error = project(head, &chain.commits[..1]).err();
    assert_eq!(error, Some(ProjectError::OutOfOrder { expected: 2, found: 1 }));
    let error = project(head, &fork.commits[1..]).err().unwrap();
    assert_eq!(error, ProjectError::Diverged { index: 2, expected: head.digest, found: fork.commits[0].commit.digest() });
    assert!(error.to_string().contains("DIVERGENCE"));
}

#[test]
fn commits_that_contradict_themselves_are_refused_and_change_nothing() {
    let mut chain = Chain::new(0);
    let good = chain.push(vec![(transfer(1, 2, 0), SUCCESS)]);
    let damage: [fn(&mut ExecutedCommit); 6] = [
        |c| c.headers.clear(),
        |c| c.headers[0].timestamp_ms += 1,
        |c| c.outcomes.clear(),
        |c| c.outcomes[0].block = 1,
        |c| c.bodies[0] = kaldrix_types::encode(&transfer(1, 3, 0)).into(),
        |c| c.commit.leader.digest = Digest([9; 32]),
    ];
    for (i, damage) in damage.into_iter().enumerate() {
        let mut bad = good.clone();
        damage(&mut bad);
        let mut projection = Projection::after(Head::default());
        let error = projection.push(bad, &BTreeMap::new()).unwrap_err();
        assert!(matches!(error, ProjectError::Contradiction { index: 1, .. }), "{i}: {error}");
        projection.push(good.clone(), &BTreeMap::new()).unwrap();
        assert_eq!(projection.finish().batch.transactions.len(), 1);
    }
}

/// Everything that can be read.
#[derive(Debug, PartialEq)]
struct Tables {
    commits: Vec<CommitRow>,
    transactions: Vec<Vec<TransactionRow>>,
    histories: Vec<Vec<(AccountTransactionRow, TransactionRow)>>,
    state: StatePage,
    totals: RegionTotals,
    replayed: Vec<Notice>,
}

async fn tables(store: &dyn RegionStore) -> Tables {
    let commits = store.commits_from(1, 1_000).await.unwrap();
    let (mut transactions, mut histories) = (Vec::new(), Vec::new());
    for commit in &commits {
        transactions.push(store.commit_transactions(commit.index, None, 1_000).await.unwrap());
    }
    for account in 1..=6 {
        histories.push(store.account_transactions(address(account), None, 1_000).await.unwrap());
    }
    let state = store.state_page(None, 1_000).await.unwrap();
    let replayed = notices_from(store, 1, 1_000).await.unwrap();
    Tables { commits, transactions, histories, state, totals: store.totals().await.unwrap(), replayed }
}

/// Projects in batches of the given sizes (the last one repeats) into a new store; gives all that can be read, and the live notices.
async fn build(commits: &[ExecutedCommit], sizes: &[usize]) -> (Tables, Vec<Notice>) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteRegionStore::open(&folder.path().join("region.sqlite"), &genesis()).await.unwrap();
    let (mut head, mut rest, mut live) = (Head::default(), commits, Vec::new());
    for size in sizes.iter().chain(std::iter::repeat(sizes.last().unwrap_or(&1))) {
        if rest.is_empty() {
            break;
        }
        let (batch, later) = rest.split_at((*size).min(rest.len()));
        let mut projected = project(head, batch).unwrap();
        store.apply(projected.batch).await.unwrap();
        drop_decided_elsewhere(&store, &mut projected.notices).await.unwrap();
        (head, rest) = (projected.head, later);
        live.extend(projected.notices);
    }
    let tables = tables(&store).await;
    store.close().await.unwrap();
    (tables, live)
}

/// Ordered transactions as they may come out of execution: each sender's sequences grow, some fail, some come too early, many come again.
fn any_commits() -> impl Strategy<Value = Vec<Vec<(u8, u8, u8)>>> {
    prop::collection::vec(prop::collection::vec((1u8..=5, 1u8..=5, 0u8..10), 0..8), 1..20)
}

fn execute(plan: &[Vec<(u8, u8, u8)>]) -> Chain {
    let mut chain = Chain::new(0);
    let mut sequences = [0u64; 6];
    let mut landed: Vec<TxBody> = Vec::new();
    for commit in plan {
        let mut transactions = Vec::new();
        for &(from, to, kind) in commit {
            let next = &mut sequences[usize::from(from)];
            transactions.push(match kind {
                0 => (transfer(from, to, *next + 1), GAP),
                1 | 2 if !landed.is_empty() => (landed[usize::from(to) % landed.len()].clone(), REPLAYED),
                kind => {
                    let body = transfer(from, to, *next);
                    *next += 1;
                    landed.push(body.clone());
                    (body, if kind == 3 { POOR } else { SUCCESS })
                }
            });
        }
        chain.push(transactions);
    }
    chain
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn one_by_one_or_in_batches_the_tables_are_the_same(plan in any_commits(), sizes in prop::collection::vec(1usize..6, 1..6)) {
        let chain = execute(&plan);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (one_by_one, live) = runtime.block_on(build(&chain.commits, &[1]));
        let (batched, live_batched) = runtime.block_on(build(&chain.commits, &sizes));
        let (at_once, _) = runtime.block_on(build(&chain.commits, &[chain.commits.len()]));
        prop_assert_eq!(&one_by_one, &batched);
        prop_assert_eq!(&one_by_one, &at_once);
        // Whoever listened heard of every final outcome, once, where the store has it.
        let is_final = |notice: &Notice| {
            let kept = notice.transactions.iter().filter(|t| !matches!(t.status, OutcomeStatus::Discarded(_)));
            (notice.index, notice.digest, kept.map(|t| (t.id, t.status, t.accounts.clone())).collect::<Vec<_>>())
        };
        let from_store: Vec<_> = one_by_one.replayed.iter().map(is_final).collect();
        prop_assert_eq!(&from_store, &live.iter().map(is_final).collect::<Vec<_>>());
        prop_assert_eq!(&from_store, &live_batched.iter().map(is_final).collect::<Vec<_>>());
    }
}
