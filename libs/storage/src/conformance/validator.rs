//! What a [`ValidatorStore`] has to do.
#![allow(missing_docs, reason = "the names are sentences")]

use super::ValidatorPlace;
use super::fixture::{Chain, address, block, block_ref, genesis, holds};
use crate::{BlockCursor, Numbered, StoreError, StoredBlock, ValidatorBatch, ValidatorStore};
use kaldrix_types::{AssetId, BlockRef, ExecutedCommit, StateKey, StateValue};
use std::sync::Arc;

pub(super) const OPENS: &str = "the store opens";
pub(super) const READS: &str = "the store is read";
pub(super) const WRITES: &str = "the store is written";

pub(super) fn executed(commits: impl IntoIterator<Item = ExecutedCommit>) -> ValidatorBatch {
    ValidatorBatch { executed: commits.into_iter().map(Arc::new).collect(), ..ValidatorBatch::default() }
}

pub(super) fn blocks(blocks: Vec<StoredBlock>) -> ValidatorBatch {
    ValidatorBatch { blocks, ..ValidatorBatch::default() }
}

pub(super) fn names(blocks: &[StoredBlock]) -> Vec<BlockRef> {
    blocks.iter().map(|block| block.reference).collect()
}

pub(super) async fn balance(store: &impl ValidatorStore, n: u8) -> u128 {
    match store.state(&[StateKey::Balance(address(n), AssetId::NATIVE)]).await.expect(READS).pop() {
        Some(Some(StateValue::Balance(amount))) => amount,
        _ => 0,
    }
}

pub async fn a_new_store_holds_the_genesis_state_and_no_commit(place: &impl ValidatorPlace) {
    let genesis = genesis("one");
    let store = place.open(&genesis).await.expect(OPENS);
    assert_eq!(store.chain_id(), genesis.chain_id());
    assert_eq!((store.first_commit().await, store.last_commit().await), (Ok(None), Ok(None)));
    assert_eq!(store.own_last_block().await, Ok(None));
    assert_eq!((store.last_checkpoint().await, store.last_certified().await), (Ok(None), Ok(None)));
    assert_eq!(store.executed(1, 10, 1 << 20).await, Ok(vec![]));
    let page = store.state_page(None, 100).await.expect(READS);
    assert_eq!(page.at, 0);
    let expected = genesis.state().expect("a valid genesis").into_iter().filter_map(|c| Some((c.key, c.value?)));
    assert_eq!(page.records, expected.collect::<Vec<_>>());
}

pub async fn what_was_written_is_there_after_opening_again(place: &impl ValidatorPlace) {
    let genesis = genesis("one");
    let mut chain = Chain::default();
    let own = block(block_ref(1, 0, 7), 100, true);
    let commit = chain.commit(vec![], vec![holds(address(3), 30), holds(address(2), 0)]);
    let store = place.open(&genesis).await.expect(OPENS);
    let batch = ValidatorBatch { blocks: vec![own.clone()], executed: vec![Arc::new(commit.clone())], ..ValidatorBatch::default() };
    store.write(batch).await.expect(WRITES);
    store.close().await.expect("the store closes");

    let store = place.open(&genesis).await.expect(OPENS);
    assert_eq!(store.last_commit().await, Ok(Some(commit.commit.clone())));
    assert_eq!(store.executed(1, 10, 1 << 20).await, Ok(vec![commit]));
    assert_eq!(store.own_last_block().await, Ok(Some(own)));
    assert_eq!((balance(&store, 1).await, balance(&store, 2).await, balance(&store, 3).await), (1_000, 0, 30));
    store.write(executed([chain.empty()])).await.expect("the next commit follows the stored one");
}

pub async fn a_store_of_another_chain_is_refused(place: &impl ValidatorPlace) {
    let (one, two) = (genesis("one"), genesis("two"));
    place.open(&one).await.expect(OPENS).close().await.expect("the store closes");
    let error = place.open(&two).await.map(|_| ()).expect_err("another chain's store");
    assert_eq!(error, StoreError::OtherChain { found: one.chain_id(), expected: two.chain_id() });
    assert!(!error.is_retryable());
    place.open(&one).await.expect("the refusal left the store as it was");
}

pub async fn commits_must_follow_one_another(place: &impl ValidatorPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let mut chain = Chain::default();
    let [first, second, third] = [chain.empty(), chain.empty(), chain.empty()];
    let ahead = store.write(executed([second.clone()])).await;
    assert_eq!(ahead, Err(StoreError::OutOfOrder { what: Numbered::Commit, expected: 1, found: 2 }));
    store.write(executed([first.clone()])).await.expect(WRITES);
    let gap = store.write(executed([third.clone()])).await;
    assert_eq!(gap, Err(StoreError::OutOfOrder { what: Numbered::Commit, expected: 2, found: 3 }));
    store.write(executed([second, third])).await.expect("several in one batch");
    assert_eq!(store.last_commit().await.expect(READS).map(|c| c.index), Some(3));
}

pub async fn the_same_commit_again_changes_nothing_and_another_one_is_an_error(place: &impl ValidatorPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let mut chain = Chain::default();
    let first = chain.commit(vec![], vec![holds(address(3), 1)]);
    let second = chain.commit(vec![], vec![holds(address(3), 2)]);
    store.write(executed([first.clone(), second.clone()])).await.expect(WRITES);
    store.write(executed([first.clone()])).await.expect("the same commit again is harmless");
    assert_eq!(balance(&store, 3).await, 2, "an old commit's state does not come back");

    let mut other = second.clone();
    other.commit.timestamp_ms += 1;
    let digests = (second.commit.digest(), other.commit.digest());
    let contradiction = store.write(executed([other.clone()])).await;
    assert_eq!(contradiction, Err(StoreError::Diverged { what: Numbered::Commit, index: 2, stored: digests.0, offered: digests.1 }));

    // A commit that names another predecessor than the stored one.
    let mut stranger = chain.empty();
    stranger.commit.previous = digests.1;
    let strange = store.write(executed([stranger])).await;
    assert_eq!(strange, Err(StoreError::Diverged { what: Numbered::Commit, index: 2, stored: digests.0, offered: digests.1 }));
    assert_eq!(store.last_commit().await, Ok(Some(second.commit)));
}

pub async fn a_refused_batch_leaves_no_trace(place: &impl ValidatorPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let mut chain = Chain::default();
    let (first, _, third) = (chain.commit(vec![], vec![holds(address(3), 1)]), chain.empty(), chain.empty());
    let name = block_ref(1, 0, 1);
    let executed = vec![Arc::new(first), Arc::new(third)];
    let batch = ValidatorBatch { blocks: vec![block(name, 10, true)], executed, ..ValidatorBatch::default() };
    assert_eq!(store.write(batch).await, Err(StoreError::OutOfOrder { what: Numbered::Commit, expected: 2, found: 3 }));
    assert_eq!(store.blocks(&[name]).await, Ok(vec![None]));
    assert_eq!((store.last_commit().await, balance(&store, 3).await), (Ok(None), 0));
}

pub async fn many_writers_at_once_all_get_their_answer(place: &impl ValidatorPlace) {
    let store = Arc::new(place.open(&genesis("one")).await.expect(OPENS));
    let mut chain = Chain::default();
    let commits: Vec<_> = (0..50).map(|_| chain.empty()).collect();
    let blocks = (0..4u16).map(|author| {
        let store = &store;
        async move {
            for round in 1..=50 {
                let batch = blocks(vec![block(block_ref(round, author, 1), 2_000, author == 0)]);
                store.write(batch).await.expect(WRITES);
                let read = store.blocks(&[block_ref(round, author, 1)]).await.expect(READS);
                assert!(read[0].is_some(), "a write that returned is seen by the next read");
            }
        }
    });
    let mut blocks = blocks.map(Box::pin);
    let commit = async {
        for commit in commits {
            store.write(executed([commit])).await.expect(WRITES);
        }
    };
    let mut next = || blocks.next().expect("four authors");
    tokio::join!(next(), next(), next(), next(), commit);
    assert_eq!(store.last_commit().await.expect(READS).map(|c| c.index), Some(50));
    assert_eq!(store.blocks_after(BlockCursor::after_round(0), usize::MAX).await.expect(READS).len(), 200);
}

pub async fn blocks_are_read_in_order_and_in_pages(place: &impl ValidatorPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    // Author 1 has two blocks in round 2; what is written last comes first by round.
    let sorted = [(1, 0, 9), (1, 1, 1), (2, 0, 1), (2, 1, 3), (2, 1, 4), (3, 0, 0)].map(|(r, a, s)| block_ref(r, a, s));
    for name in sorted.iter().rev() {
        store.write(blocks(vec![block(*name, 1_000, false)])).await.expect(WRITES);
    }
    // The first bytes of a block count: the same name again changes nothing.
    store.write(blocks(vec![block(sorted[0], 5, false)])).await.expect(WRITES);

    let all = store.blocks_after(BlockCursor::after_round(0), usize::MAX).await.expect(READS);
    assert_eq!(names(&all), sorted);
    assert_eq!(all[0], block(sorted[0], 1_000, false));
    let above = store.blocks_after(BlockCursor::after_round(1), usize::MAX).await.expect(READS);
    assert_eq!(names(&above), sorted[2..]);

    let mut paged = vec![];
    let mut cursor = BlockCursor::after_round(0);
    loop {
        // Room for two blocks and a half.
        let page = store.blocks_after(cursor, 2_500).await.expect(READS);
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        cursor = BlockCursor::after_block(&last.reference);
        paged.extend(names(&page));
    }
    assert_eq!(paged, sorted);
    assert_eq!(store.blocks_after(BlockCursor::after_round(0), 1).await.expect(READS).len(), 1, "one block passes any limit");

    let unknown = block_ref(9, 9, 9);
    let by_name = store.blocks(&[sorted[4], unknown, sorted[3]]).await.expect(READS);
    let expected = [Some(sorted[4]), None, Some(sorted[3])];
    assert_eq!(by_name.iter().map(|b| b.as_ref().map(|b| b.reference)).collect::<Vec<_>>(), expected);
}

pub async fn blocks_above_floors_are_found_per_author(place: &impl ValidatorPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let all = (1..=700u64).flat_map(|round| (0..2).map(move |author| block(block_ref(round, author, 1), 10, false)));
    store.write(blocks(all.collect())).await.expect(WRITES);

    let found = store.blocks_above(&[698, 699], usize::MAX).await.expect(READS);
    assert_eq!(names(&found), [block_ref(699, 0, 1), block_ref(700, 0, 1), block_ref(700, 1, 1)]);
    assert_eq!(store.blocks_above(&[u64::MAX, 700], usize::MAX).await, Ok(vec![]));

    // Whoever lacks more of one author's blocks than one answer holds gets no block of another author before its parents' rounds.
    let uneven = names(&store.blocks_above(&[0, 600], usize::MAX).await.expect(READS));
    assert!(uneven.contains(&block_ref(1, 0, 1)));
    for late in uneven.iter().filter(|name| name.author.0 == 1) {
        assert!(uneven.contains(&block_ref(late.round - 1, 0, 1)), "{late} came before its parents' round was complete");
    }

    // A peer that lacks everything gets on page by page, without holes.
    let mut floors = [0u64, 0];
    let mut count = 0;
    loop {
        let page = store.blocks_above(&floors, 4_000).await.expect(READS);
        if page.is_empty() {
            break;
        }
        for name in names(&page) {
            let floor = &mut floors[name.author.as_usize()];
            assert_eq!(name.round, *floor + 1, "a hole in the blocks of author {}", name.author);
            *floor = name.round;
            count += 1;
        }
    }
    assert_eq!(count, 1_400);
}

pub async fn committed_blocks_are_told_apart(place: &impl ValidatorPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let mut chain = Chain::default();
    let commits = [chain.empty(), chain.empty(), chain.empty()];
    store.write(executed(commits.clone())).await.expect(WRITES);
    store.write(blocks(vec![block(block_ref(4, 0, 1), 10, false)])).await.expect(WRITES);
    let above: Vec<_> = commits[1..].iter().flat_map(|c| c.commit.blocks.clone()).collect();
    assert_eq!(store.committed_refs_after(1).await, Ok(above));
    assert_eq!(store.committed_refs_after(3).await, Ok(vec![]));
}

pub async fn the_last_own_block_is_found(place: &impl ValidatorPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let own = |round| block(block_ref(round, 2, 1), 10, true);
    store.write(blocks(vec![own(5), own(7), own(6), block(block_ref(8, 1, 1), 10, false)])).await.expect(WRITES);
    assert_eq!(store.own_last_block().await, Ok(Some(own(7))));
}

pub async fn executed_commits_come_in_pages_within_limits(place: &impl ValidatorPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let mut chain = Chain::default();
    let commits: Vec<_> = (0..5).map(|i| chain.transfers(i * 10..i * 10 + 10)).collect();
    store.write(executed(commits.clone())).await.expect(WRITES);
    assert_eq!(store.executed(2, 2, usize::MAX).await, Ok(commits[1..3].to_vec()));
    assert_eq!(store.executed(1, 10, 1).await, Ok(commits[..1].to_vec()), "one commit passes any limit");
    assert_eq!(store.executed(6, 10, usize::MAX).await, Ok(vec![]));
    assert_eq!(store.executed(0, 10, usize::MAX).await, Ok(commits));
    assert_eq!(store.executed(u64::MAX, 10, usize::MAX).await, Ok(vec![]));
    assert_eq!(store.first_commit().await, Ok(Some(1)));
}

pub async fn state_is_read_by_key_and_by_page(place: &impl ValidatorPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let mut chain = Chain::default();
    let many = (0..=255u8).map(|n| holds(address(n), u128::from(n) + 1)).collect();
    store.write(executed([chain.commit(vec![], many)])).await.expect(WRITES);
    // More keys than one statement takes, one of them twice, some unknown.
    let key = |n: u8| StateKey::Balance(address(n), AssetId::NATIVE);
    let mut keys: Vec<_> = (0..=255).rev().map(key).collect();
    keys.extend([key(7), StateKey::Account(address(1)), StateKey::Lane(address(1), 1)]);
    let values = store.state(&keys).await.expect(READS);
    let mut expected: Vec<_> = (0..=255u128).rev().map(|n| Some(StateValue::Balance(n + 1))).collect();
    expected.extend([Some(StateValue::Balance(8)), None, None]);
    assert_eq!(values, expected);
    assert_eq!(store.state(&[]).await, Ok(vec![]));

    let mut paged = vec![];
    loop {
        let page = store.state_page(paged.last().map(|(key, _): &(StateKey, StateValue)| *key), 100).await.expect(READS);
        assert_eq!(page.at, 1);
        let last = page.records.len() < 100;
        paged.extend(page.records);
        if last {
            break;
        }
    }
    assert_eq!(paged.len(), 259, "256 balances, the native supply and the epoch's two records");
    assert!(paged.windows(2).all(|pair| pair[0].0 < pair[1].0));
}

pub async fn blocks_of_two_epochs_in_one_round_are_told_apart(place: &impl ValidatorPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    // Epoch 0 went on to round 9 without a commit after its last one; epoch 1 began at round 7. Higher digests are not later ones.
    let old: Vec<_> = (5..=9).map(|round| block(block_ref(round, 0, 9), 100, true)).collect();
    store.write(blocks(old.clone())).await.expect(WRITES);
    let new: Vec<_> = (8..=9).map(|round| block(block_ref(round, 0, 1), 200, true)).collect();
    store.write(blocks(vec![new[0].clone()])).await.expect(WRITES);
    assert_eq!(store.own_last_block().await, Ok(Some(old[4].clone())), "the highest round counts first");
    store.write(blocks(vec![new[1].clone()])).await.expect(WRITES);
    assert_eq!(store.own_last_block().await, Ok(Some(new[1].clone())), "then the later epoch");

    let expected = [&new[0], &old[3], &new[1], &old[4]].map(|block| block.reference);
    assert_eq!(names(&store.blocks_after(BlockCursor::after_round(7), usize::MAX).await.expect(READS)), expected);
    assert_eq!(names(&store.blocks_above(&[7], usize::MAX).await.expect(READS)), expected);
    let by_name = store.blocks(&[old[3].reference, new[0].reference]).await;
    assert_eq!(by_name, Ok(vec![Some(old[3].clone()), Some(new[0].clone())]));
}

pub async fn old_blocks_are_pruned_in_batches_and_history_stays(place: &impl ValidatorPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let mut chain = Chain::default();
    // Rounds 1 to 10 with two committed blocks each, and as many that were never committed.
    let commits: Vec<_> = (0..10).map(|_| chain.empty()).collect();
    let committed: Vec<BlockRef> = commits.iter().flat_map(|c| c.commit.blocks.clone()).collect();
    let stray: Vec<BlockRef> = (1..=10).flat_map(|round| [block_ref(round, 2, 2), block_ref(round, 3, 3)]).collect();
    store.write(executed(commits.clone())).await.expect(WRITES);
    store.write(blocks(committed.iter().chain(&stray).map(|name| block(*name, 1_000, false)).collect())).await.expect(WRITES);

    let rounds = async || {
        let left = store.blocks_after(BlockCursor::after_round(0), usize::MAX).await.expect(READS);
        (left.first().map(|block| block.reference.round), left.len())
    };
    assert_eq!((store.prune_blocks(1, 100).await, store.prune_blocks(0, 100).await), (Ok(0), Ok(0)), "nothing is below the first round");
    assert_eq!(store.prune_blocks(7, 0).await, Ok(0));
    assert_eq!(store.prune_blocks(7, 10).await, Ok(10));
    assert_eq!(rounds().await, (Some(3), 30), "the lowest rounds go first");
    // Half of round 3 is there still, so is what was committed in it.
    assert_eq!(store.committed_refs_after(0).await, Ok(committed[4..].to_vec()));
    assert_eq!((store.prune_blocks(7, 10).await, store.prune_blocks(7, 10).await), (Ok(10), Ok(4)));
    assert_eq!(rounds().await, (Some(7), 16));
    assert_eq!(store.committed_refs_after(0).await, Ok(committed[12..].to_vec()));
    assert_eq!(store.prune_blocks(7, 10).await, Ok(0), "it is done");
    assert_eq!(store.prune_blocks(u64::MAX, usize::MAX).await, Ok(16));

    assert_eq!(store.executed(1, 100, usize::MAX).await, Ok(commits.clone()));
    assert_eq!((store.first_commit().await, store.last_commit().await), (Ok(Some(1)), Ok(Some(commits[9].commit.clone()))));
    let again = block(block_ref(11, 0, 1), 10, false);
    store.write(ValidatorBatch { blocks: vec![again], ..executed([chain.empty()]) }).await.expect("everything goes on");
    assert_eq!(rounds().await, (Some(11), 1));
}

pub async fn the_last_own_block_is_never_pruned(place: &impl ValidatorPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let own: Vec<_> = [1, 2].map(|round| block(block_ref(round, 0, 1), 10, true)).into();
    store.write(blocks(own.clone())).await.expect(WRITES);
    store.write(blocks((1..=5).map(|round| block(block_ref(round, 1, 1), 10, false)).collect())).await.expect(WRITES);
    assert_eq!(store.prune_blocks(5, 100).await, Ok(5));
    assert_eq!(store.own_last_block().await, Ok(Some(own[1].clone())));
    assert_eq!(store.prune_blocks(5, 100).await, Ok(0));
    // A newer one takes its place.
    store.write(blocks(vec![block(block_ref(6, 0, 1), 10, true)])).await.expect(WRITES);
    assert_eq!(store.prune_blocks(5, 100).await, Ok(1));
    assert_eq!(store.blocks(&[own[1].reference]).await, Ok(vec![None]));
}

pub async fn a_closed_store_says_so(place: &impl ValidatorPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    store.close().await.expect("the store closes");
    assert_eq!(store.write(ValidatorBatch::default()).await, Err(StoreError::Closed));
    assert_eq!(store.last_commit().await, Err(StoreError::Closed));
    assert_eq!(store.prune_blocks(1, 1).await, Err(StoreError::Closed));
    assert_eq!(store.close().await, Err(StoreError::Closed));
}
