//! What a [`RegionStore`] has to do.
#![allow(missing_docs, reason = "the names are sentences")]

use super::RegionPlace;
use super::fixture::{Chain, address, genesis, holds, holds_asset, transfer, validator};
use crate::{AccountRole, Numbered, RegionBatch, RegionStore, RegionTotals, StoreError};
use kaldrix_types::{
    Account, Asset, AssetId, Digest, EpochRecord, ExecutedCommit, Member, OutcomeStatus, RejectCode, StateChange, StateKey, StateValue,
    Supply, Unbonding, ValidatorStatus,
};

const OPENS: &str = "the store opens";
const READS: &str = "the store is read";
const APPLIES: &str = "the batch applies";
const SUCCESS: OutcomeStatus = OutcomeStatus::Success;
const GAP: OutcomeStatus = OutcomeStatus::Discarded(RejectCode::SequenceGap);
const REPLAYED: OutcomeStatus = OutcomeStatus::Discarded(RejectCode::SequenceReplayed);
const POOR: OutcomeStatus = OutcomeStatus::Failed(RejectCode::InsufficientBalance);

fn batch_of(commits: impl IntoIterator<Item = ExecutedCommit>) -> RegionBatch {
    let mut batch = RegionBatch::default();
    for commit in commits {
        batch.push(commit).expect("made-up commits are well formed");
    }
    batch
}

pub async fn a_new_read_model_knows_the_genesis_accounts(place: &impl RegionPlace) {
    let genesis = genesis("one");
    let store = place.open(&genesis).await.expect(OPENS);
    assert_eq!((store.chain_id(), store.cursor().await), (genesis.chain_id(), Ok(0)));
    assert_eq!(store.totals().await, Ok(RegionTotals { accounts: 2, ..RegionTotals::default() }));
    let view = store.account(address(2), 10).await.expect(READS).expect("a genesis account");
    assert_eq!((view.account, view.lanes, view.balances), (None, vec![], vec![(AssetId::NATIVE, 500)]));
    assert_eq!(store.account(address(9), 10).await, Ok(None));
    assert!(store.account(address(2), 0).await.expect(READS).is_some());
}

pub async fn every_read_finds_what_was_applied(place: &impl RegionPlace) {
    let genesis = genesis("one");
    let store = place.open(&genesis).await.expect(OPENS);
    let mut chain = Chain::default();
    let executed = chain.transfers(0..5);
    let batch = batch_of([executed.clone()]);
    store.apply(batch.clone()).await.expect(APPLIES);
    store.close().await.expect("the store closes");

    let store = place.open(&genesis).await.expect(OPENS);
    assert_eq!(store.cursor().await, Ok(1));
    assert_eq!(store.commit(1).await, Ok(Some(batch.commits[0].clone())));
    assert_eq!(store.commit(2).await, Ok(None));
    for row in &batch.transactions {
        assert_eq!(store.transaction(row.id).await.as_ref(), Ok(&Some(row.clone())));
    }
    assert_eq!(store.transaction(transfer(address(1), address(3), 99).id()).await, Ok(None));
    assert_eq!(store.commit_transactions(1, None, 100).await, Ok(batch.transactions.clone()));
    assert_eq!(store.commit_transactions(1, Some(1), 2).await, Ok(batch.transactions[2..4].to_vec()));
    for (block, range) in batch.blocks.iter().zip([0..3, 3..5]) {
        let ids = batch.transactions[range].iter().map(|row| row.id).collect();
        assert_eq!(store.block(block.digest).await, Ok(Some((block.clone(), ids))));
    }
    let second = batch_of([chain.transfers(5..8)]);
    store.apply(second.clone()).await.expect(APPLIES);
    let (_, ids) = store.block(second.blocks[1].digest).await.expect(READS).expect("a known block");
    assert_eq!(ids, [second.transactions[2].id]);
    assert_eq!(store.block(Digest([0xee; 32])).await, Ok(None));
    assert_eq!(store.record(&executed.changes[0].key).await, Ok(Some(StateValue::Balance(2))));
    assert_eq!(store.totals().await, Ok(RegionTotals { transactions: 8, commits: 2, blocks: 4, accounts: 3 }));
    let page = store.state_page(None, 100).await.expect(READS);
    assert_eq!((page.at, page.records.len()), (2, 6), "three balances, the native supply and the epoch's two records");
}

pub async fn a_batch_again_changes_nothing(place: &impl RegionPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let mut chain = Chain::default();
    let (first, second) = (batch_of([chain.transfers(0..5)]), batch_of([chain.transfers(5..9)]));
    store.apply(first.clone()).await.expect(APPLIES);
    store.apply(second.clone()).await.expect(APPLIES);
    let before = (store.totals().await, store.state_page(None, 100).await);
    store.apply(second).await.expect("the same again");
    store.apply(first).await.expect("an old one again");
    assert_eq!((store.totals().await, store.state_page(None, 100).await), before, "an old batch's records do not come back");
}

pub async fn an_overlapping_batch_applies_only_what_is_new(place: &impl RegionPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let mut chain = Chain::default();
    let commits: Vec<_> = (0..4).map(|i| chain.transfers(i * 5..i * 5 + 5)).collect();
    store.apply(batch_of(commits[..2].to_vec())).await.expect(APPLIES);
    store.apply(batch_of(commits[1..].to_vec())).await.expect(APPLIES);
    assert_eq!(store.cursor().await, Ok(4));
    assert_eq!(store.totals().await, Ok(RegionTotals { transactions: 20, commits: 4, blocks: 8, accounts: 3 }));
    let history = store.account_transactions(address(1), None, 100).await.expect(READS);
    assert_eq!(history.len(), 20);
}

pub async fn batches_must_follow_and_never_contradict(place: &impl RegionPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let mut chain = Chain::default();
    let [first, second, third] = [chain.empty(), chain.empty(), chain.empty()];
    let ahead = store.apply(batch_of([second.clone()])).await;
    assert_eq!(ahead, Err(StoreError::OutOfOrder { what: Numbered::Commit, expected: 1, found: 2 }));
    store.apply(batch_of([first.clone()])).await.expect(APPLIES);
    let gap = store.apply(batch_of([third.clone()])).await;
    assert_eq!(gap, Err(StoreError::OutOfOrder { what: Numbered::Commit, expected: 2, found: 3 }));

    let mut other = first.clone();
    other.commit.timestamp_ms += 1;
    let (stored, offered) = (first.commit.digest(), other.commit.digest());
    let diverged = Err(StoreError::Diverged { what: Numbered::Commit, index: 1, stored, offered });
    assert_eq!(store.apply(batch_of([other.clone()])).await, diverged);
    let mut strange = second.clone();
    strange.commit.previous = offered;
    assert_eq!(store.apply(batch_of([strange])).await, diverged);
    assert_eq!(store.cursor().await, Ok(1));
    store.apply(batch_of([second, third])).await.expect(APPLIES);
}

pub async fn a_malformed_batch_is_refused_whole(place: &impl RegionPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let mut chain = Chain::default();
    let good = batch_of([chain.transfers(0..3), chain.transfers(3..6)]);
    let mut wrong_cursor = good.clone();
    wrong_cursor.cursor = 5;
    let mut stranger = good.clone();
    stranger.transactions[0].commit = 7;
    let mut hole = good.clone();
    hole.commits.remove(0);
    let mut broken_link = good.clone();
    broken_link.commits[1].previous = Digest::ZERO;
    for bad in [RegionBatch::default(), wrong_cursor, stranger, hole, broken_link] {
        let error = store.apply(bad).await.expect_err("a malformed batch");
        assert!(!error.is_retryable(), "{error}");
    }
    assert_eq!((store.cursor().await, store.transaction(good.transactions[0].id).await), (Ok(0), Ok(None)));
    store.apply(good).await.expect(APPLIES);
}

pub async fn the_first_final_outcome_wins_over_later_ones(place: &impl RegionPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let mut chain = Chain::default();
    let (paid, poor) = (transfer(address(1), address(3), 0), transfer(address(1), address(3), 1));
    // Within one commit, across commits of one batch, and across batches.
    let first = chain.commit(vec![(paid.clone(), SUCCESS), (paid.clone(), REPLAYED), (poor.clone(), POOR)], vec![]);
    let second = chain.commit(vec![(poor.clone(), REPLAYED)], vec![]);
    let third = chain.commit(vec![(paid.clone(), REPLAYED)], vec![]);
    store.apply(batch_of([first, second])).await.expect(APPLIES);
    store.apply(batch_of([third])).await.expect(APPLIES);
    let outcome = async |id| store.transaction(id).await.expect(READS).map(|row| (row.status, row.commit, row.position));
    assert_eq!(outcome(paid.id()).await, Some((SUCCESS, 1, 0)));
    assert_eq!(outcome(poor.id()).await, Some((POOR, 1, 2)));
    assert_eq!(store.totals().await.expect(READS).transactions, 2);
    let history = store.account_transactions(address(3), None, 10).await.expect(READS);
    assert_eq!(history.iter().map(|(_, row)| row.id).collect::<Vec<_>>(), [poor.id(), paid.id()]);
}

pub async fn a_discarded_transaction_can_still_land(place: &impl RegionPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let mut chain = Chain::default();
    let early = transfer(address(1), address(3), 1);
    store.apply(batch_of([chain.commit(vec![(early.clone(), GAP)], vec![])])).await.expect(APPLIES);
    let found = store.transaction(early.id()).await.expect(READS).expect("discarded ones are known too");
    assert_eq!((found.status, found.commit), (GAP, 1));
    assert_eq!(store.totals().await.expect(READS).transactions, 0);
    assert_eq!(store.account_transactions(address(1), None, 10).await, Ok(vec![]), "a discarded one is in nobody's history");

    let in_between = chain.commit(vec![(transfer(address(1), address(3), 0), SUCCESS), (early.clone(), GAP)], vec![]);
    let landed = chain.commit(vec![(early.clone(), SUCCESS)], vec![]);
    store.apply(batch_of([in_between, landed])).await.expect(APPLIES);
    let found = store.transaction(early.id()).await.expect(READS).expect("a known transaction");
    assert_eq!((found.status, found.commit, found.position, found.timestamp_ms), (SUCCESS, 3, 0, 3_000));
    assert_eq!(store.commit_transactions(1, None, 10).await, Ok(vec![]), "it stands in the commit that decided it");
    assert_eq!(store.totals().await.expect(READS).transactions, 2);
    assert_eq!(store.account_transactions(address(3), None, 10).await.expect(READS).len(), 2);
}

pub async fn histories_are_newest_first_and_paged(place: &impl RegionPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let mut chain = Chain::default();
    let to_self = chain.commit(vec![(transfer(address(1), address(1), 0), SUCCESS)], vec![]);
    store.apply(batch_of([to_self, chain.transfers(1..6), chain.transfers(6..11)])).await.expect(APPLIES);
    let mut places = vec![];
    loop {
        let page = store.account_transactions(address(1), places.last().copied(), 4).await.expect(READS);
        assert!(page.len() <= 4);
        if page.is_empty() {
            break;
        }
        for (entry, row) in page {
            assert_eq!((entry.account, entry.id, entry.role), (address(1), row.id, AccountRole::Sender));
            assert_eq!((entry.commit, entry.position), (row.commit, row.position));
            places.push((row.commit, row.position));
        }
    }
    let expected: Vec<_> = (1..=3u64).flat_map(|c| (0..if c == 1 { 1 } else { 5 }).map(move |p| (c, p))).rev().collect();
    assert_eq!(places, expected);
    let received = store.account_transactions(address(3), None, 100).await.expect(READS);
    assert_eq!(received.len(), 10);
    assert!(received.iter().all(|(entry, _)| entry.role == AccountRole::Recipient));
    assert_eq!(store.account_transactions(address(9), None, 100).await, Ok(vec![]));
}

pub async fn an_account_lists_its_lanes_and_its_holdings(place: &impl RegionPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let mut chain = Chain::default();
    let account = Account { keys: vec![], next_sequence: 4 };
    let record = |key, value| StateChange { key, value: Some(value) };
    let asset = |n| AssetId(Digest([n; 32]));
    let mut changes = vec![
        record(StateKey::Account(address(1)), StateValue::Account(account.clone())),
        record(StateKey::Lane(address(1), 255), StateValue::Lane(7)),
        record(StateKey::Lane(address(1), 3), StateValue::Lane(2)),
        record(StateKey::Lane(address(2), 3), StateValue::Lane(1)),
        holds_asset(address(1), asset(0xff), 5),
        holds_asset(address(1), asset(8), u128::MAX),
        holds_asset(address(2), asset(8), 1),
    ];
    store.apply(batch_of([chain.commit(vec![], changes.clone())])).await.expect(APPLIES);
    let view = store.account(address(1), 10).await.expect(READS).expect("a known account");
    assert_eq!(view.account, Some(account));
    assert_eq!(view.lanes, [(3, 2), (255, 7)]);
    assert_eq!(view.balances, [(AssetId::NATIVE, 1_000), (asset(8), u128::MAX), (asset(0xff), 5)]);
    assert_eq!(store.account(address(1), 2).await.expect(READS).map(|view| view.balances.len()), Some(2));

    changes = vec![holds(address(1), 0), holds_asset(address(1), asset(8), 3)];
    store.apply(batch_of([chain.commit(vec![], changes)])).await.expect(APPLIES);
    let view = store.account(address(1), 10).await.expect(READS).expect("a known account");
    assert_eq!(view.balances, [(asset(8), 3), (asset(0xff), 5)]);
}

pub async fn assets_are_found_with_their_supply(place: &impl RegionPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let mut chain = Chain::default();
    let id = AssetId(Digest([5; 32]));
    let asset = Asset { issuer: address(1), symbol: "GOLD".into(), decimals: 2, maximum_supply: 9 };
    let supply = Supply { amount: 4 };
    let changes = vec![
        StateChange { key: StateKey::Asset(id), value: Some(StateValue::Asset(asset.clone())) },
        StateChange { key: StateKey::Supply(id), value: Some(StateValue::Supply(supply)) },
    ];
    store.apply(batch_of([chain.commit(vec![], changes)])).await.expect(APPLIES);
    assert_eq!(store.asset(id).await, Ok(Some((asset, supply))));
    assert_eq!(store.asset(AssetId::NATIVE).await, Ok(None));
    let native = StateValue::Supply(Supply { amount: 1_500 });
    assert_eq!(store.record(&StateKey::Supply(AssetId::NATIVE)).await, Ok(Some(native)));
}

pub async fn validators_and_the_epoch_follow_the_state(place: &impl RegionPlace) {
    let mut genesis = genesis("one");
    genesis.validators = (1..=4).rev().map(validator).collect();
    let store = place.open(&genesis).await.expect(OPENS);
    let operators = |validators: &[(_, _)]| validators.iter().map(|(operator, _)| *operator).collect::<Vec<_>>();
    let first = store.validators().await.expect(READS);
    assert_eq!(operators(&first), (1..=4).map(address).collect::<Vec<_>>(), "by operator, not by seat");
    assert_eq!((first[1].1.name.as_str(), first[1].1.stake), ("v2", 2 * kaldrix_types::WEIGHT_UNIT));
    let epoch = store.epoch().await.expect(READS).expect("the genesis has an epoch");
    assert_eq!((epoch.epoch, epoch.first_commit), (0, 1));
    assert_eq!(epoch.members.iter().map(|member| member.weight).collect::<Vec<_>>(), [4, 3, 2, 1]);

    // One changes, one leaves for good, one comes.
    let record = |key, value| StateChange { key, value: Some(value) };
    let mut slow = first[1].1.clone();
    slow.status = ValidatorStatus::Jailed { until_epoch: 3 };
    slow.unbonding = vec![Unbonding { amount: 5, release_epoch: 2 }];
    let mut joined = first[0].1.clone();
    joined.name = "v5".to_owned();
    let members = vec![Member { operator: address(0xff), weight: 1 }];
    let next = EpochRecord { epoch: 1, start_round: 8, start_ms: 9, first_commit: 2, members, ..EpochRecord::default() };
    let name = StateKey::ValidatorName(Digest([9; 32]));
    let changes = vec![
        record(StateKey::Validator(address(2)), StateValue::Validator(Box::new(slow.clone()))),
        StateChange { key: StateKey::Validator(address(4)), value: None },
        record(StateKey::Validator(address(0xff)), StateValue::Validator(Box::new(joined.clone()))),
        record(name, StateValue::ValidatorName(address(0xff))),
        record(StateKey::Epoch, StateValue::Epoch(next.clone())),
        record(StateKey::Participation, StateValue::Participation(vec![7])),
    ];
    let mut chain = Chain::default();
    store.apply(batch_of([chain.commit(vec![], changes)])).await.expect(APPLIES);
    let second = store.validators().await.expect(READS);
    assert_eq!(operators(&second), [1, 2, 3, 0xff].map(address));
    assert_eq!((&second[0], &second[1].1, &second[3].1), (&first[0], &slow, &joined));
    assert_eq!(store.epoch().await, Ok(Some(next)));
    assert_eq!(store.record(&name).await, Ok(Some(StateValue::ValidatorName(address(0xff)))));
    assert_eq!(store.record(&StateKey::Participation).await, Ok(Some(StateValue::Participation(vec![7]))));
    assert_eq!(store.totals().await.expect(READS).accounts, 3, "two accounts and the stake pool: a validator alone is no account");
}

pub async fn commits_are_listed_from_both_ends(place: &impl RegionPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let mut chain = Chain::default();
    store.apply(batch_of((0..10).map(|_| chain.empty()))).await.expect(APPLIES);
    let indices = |rows: Result<Vec<crate::CommitRow>, StoreError>| rows.expect(READS).iter().map(|row| row.index).collect::<Vec<_>>();
    assert_eq!(indices(store.commits(None, 3).await), [10, 9, 8]);
    assert_eq!(indices(store.commits(Some(8), 3).await), [7, 6, 5]);
    assert_eq!(indices(store.commits(Some(2), 3).await), [1]);
    assert_eq!(indices(store.commits_from(9, 5).await), [9, 10]);
    assert_eq!(indices(store.commits_from(u64::MAX, 5).await), [0u64; 0]);
}

pub async fn a_large_batch_is_one_write(place: &impl RegionPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let mut chain = Chain::default();
    store.apply(batch_of([chain.transfers(0..3_333)])).await.expect(APPLIES);
    assert_eq!(store.totals().await.expect(READS).transactions, 3_333);
    let last = store.commit_transactions(1, Some(3_330), 10).await.expect(READS);
    assert_eq!(last.iter().map(|row| row.sequence).collect::<Vec<_>>(), [3_331, 3_332]);
}

pub async fn a_read_model_of_another_chain_is_refused(place: &impl RegionPlace) {
    let (one, two) = (genesis("one"), genesis("two"));
    place.open(&one).await.expect(OPENS).close().await.expect("the store closes");
    let error = place.open(&two).await.map(|_| ()).expect_err("another chain's store");
    assert_eq!(error, StoreError::OtherChain { found: one.chain_id(), expected: two.chain_id() });
}
