//! What a [`ValidatorStore`] has to do with checkpoints.
#![allow(missing_docs, reason = "the names are sentences")]

use super::ValidatorPlace;
use super::fixture::{Chain, Checkpoints, certified, genesis};
use super::validator::{OPENS, READS, WRITES, executed};
use crate::{Numbered, StoreError, StoredCheckpoint, ValidatorBatch, ValidatorStore};
use kaldrix_types::{Checkpoint, Digest, ExecutedCommit};

fn own(checkpoint: &Checkpoint) -> StoredCheckpoint {
    StoredCheckpoint::own(checkpoint.clone())
}

fn with_votes(checkpoint: &Checkpoint) -> StoredCheckpoint {
    certified(checkpoint).into()
}

fn checkpoints(checkpoints: impl Into<Vec<StoredCheckpoint>>) -> ValidatorBatch {
    ValidatorBatch { checkpoints: checkpoints.into(), ..ValidatorBatch::default() }
}

fn closed_by(commits: Vec<ExecutedCommit>, checkpoint: StoredCheckpoint) -> ValidatorBatch {
    ValidatorBatch { checkpoints: vec![checkpoint], ..executed(commits) }
}

fn indices(checkpoints: &[StoredCheckpoint]) -> Vec<u64> {
    checkpoints.iter().map(|stored| stored.checkpoint.index).collect()
}

/// Commits in groups of `size`, each with its checkpoint; `ends` names the checkpoints that end an epoch.
fn history(groups: u64, size: usize, ends: &[u64]) -> Vec<(Vec<ExecutedCommit>, Checkpoint)> {
    let (mut chain, mut made) = (Chain::default(), Checkpoints::default());
    let mut group = |index| {
        let commits: Vec<_> = (0..size).map(|_| chain.empty()).collect();
        let checkpoint = if ends.contains(&index) { made.ending_an_epoch(&commits) } else { made.over(&commits) };
        (commits, checkpoint)
    };
    (1..=groups).map(&mut group).collect()
}

pub async fn a_checkpoint_is_written_with_the_commit_that_closes_it(place: &impl ValidatorPlace) {
    let genesis = genesis("one");
    let store = place.open(&genesis).await.expect(OPENS);
    let [(first, one), (second, two)] = <[_; 2]>::try_from(history(2, 3, &[])).expect("two groups");
    // Refused for its commits, a batch leaves no checkpoint.
    let refused = store.write(closed_by(vec![first[0].clone(), first[2].clone()], own(&one))).await;
    assert_eq!(refused, Err(StoreError::OutOfOrder { what: Numbered::Commit, expected: 2, found: 3 }));
    assert_eq!(store.last_checkpoint().await, Ok(None));
    // Refused for its checkpoint, it leaves no commits.
    let refused = store.write(closed_by(first.clone(), own(&two))).await;
    assert_eq!(refused, Err(StoreError::OutOfOrder { what: Numbered::Checkpoint, expected: 1, found: 2 }));
    assert_eq!(store.last_commit().await, Ok(None));

    store.write(executed(first[..2].to_vec())).await.expect(WRITES);
    store.write(closed_by(first[2..].to_vec(), own(&one))).await.expect(WRITES);
    assert_eq!(store.last_checkpoint().await, Ok(Some(own(&one))));
    assert_eq!(store.last_certified().await, Ok(None));
    store.close().await.expect("the store closes");

    let store = place.open(&genesis).await.expect(OPENS);
    assert_eq!(store.last_checkpoint().await, Ok(Some(own(&one))));
    // Several in one batch, one with its certificate at once.
    store.write(closed_by(second, with_votes(&two))).await.expect("the next one follows the stored one");
    assert_eq!(store.last_checkpoint().await, Ok(Some(with_votes(&two))));
    assert_eq!(store.last_certified().await, Ok(Some(certified(&two))));
}

pub async fn a_certificate_comes_later_and_stays(place: &impl ValidatorPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let groups = history(3, 1, &[]);
    for (commits, checkpoint) in &groups {
        store.write(closed_by(commits.clone(), own(checkpoint))).await.expect(WRITES);
    }
    let (first, second) = (&groups[0].1, &groups[1].1);
    store.write(checkpoints([with_votes(second)])).await.expect("certificates come in any order");
    assert_eq!(store.last_certified().await, Ok(Some(certified(second))));
    assert_eq!(store.checkpoint(1).await, Ok(Some(own(first))));
    store.write(checkpoints([with_votes(first)])).await.expect(WRITES);
    assert_eq!(store.last_certified().await, Ok(Some(certified(second))), "the newest, not the last one written");
    assert_eq!(store.last_checkpoint().await, Ok(Some(own(&groups[2].1))));

    store.write(checkpoints([own(second)])).await.expect("an own one again is harmless");
    let mut fewer = certified(second);
    fewer.votes.pop();
    store.write(checkpoints([fewer.into()])).await.expect("another certificate is harmless");
    assert_eq!(store.checkpoint(2).await, Ok(Some(with_votes(second))), "the first certificate stays");
    store.write(closed_by(groups[0].0.clone(), own(first))).await.expect("an old batch again is harmless");
    assert_eq!(store.checkpoint(1).await, Ok(Some(with_votes(first))));
}

pub async fn checkpoints_must_follow_one_another_and_their_commits(place: &impl ValidatorPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let groups = history(3, 2, &[]);
    let early = store.write(checkpoints([own(&groups[0].1)])).await;
    assert!(matches!(early, Err(StoreError::BadBatch(_))), "{early:?}");
    let unfinished = store.write(closed_by(groups[0].0[..1].to_vec(), own(&groups[0].1))).await;
    assert!(matches!(unfinished, Err(StoreError::BadBatch(_))), "{unfinished:?}");
    for (commits, _) in &groups {
        store.write(executed(commits.clone())).await.expect(WRITES);
    }
    let order = |expected, found| Err(StoreError::OutOfOrder { what: Numbered::Checkpoint, expected, found });
    assert_eq!(store.write(checkpoints([own(&groups[1].1)])).await, order(1, 2));
    store.write(checkpoints([own(&groups[0].1)])).await.expect("commits may have been written before");
    assert_eq!(store.write(checkpoints([with_votes(&groups[2].1)])).await, order(2, 3));
    let mut gap = groups[1].1.clone();
    gap.first_commit += 1;
    let gap = store.write(checkpoints([own(&gap)])).await;
    assert!(matches!(gap, Err(StoreError::BadBatch(_))), "{gap:?}");
    assert_eq!(store.write(checkpoints([own(&Checkpoint { index: 0, ..groups[0].1.clone() })])).await, order(2, 0));
    store.write(checkpoints([own(&groups[1].1), with_votes(&groups[2].1)])).await.expect("several in one batch");
    assert_eq!(store.last_checkpoint().await, Ok(Some(with_votes(&groups[2].1))));
}

pub async fn another_checkpoint_of_the_same_index_is_an_error(place: &impl ValidatorPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let groups = history(2, 1, &[]);
    store.write(closed_by(groups[0].0.clone(), own(&groups[0].1))).await.expect(WRITES);
    store.write(executed(groups[1].0.clone())).await.expect(WRITES);
    let diverged = |what, index, stored, offered| Err(StoreError::Diverged { what, index, stored, offered });

    let other = Checkpoint { state_root: Digest([0xee; 32]), ..groups[0].1.clone() };
    let (stored, offered) = (groups[0].1.digest(), other.digest());
    for claim in [own(&other), with_votes(&other)] {
        assert_eq!(store.write(checkpoints([claim])).await, diverged(Numbered::Checkpoint, 1, stored, offered));
    }
    let stranger = Checkpoint { previous: offered, ..groups[1].1.clone() };
    assert_eq!(store.write(checkpoints([own(&stranger)])).await, diverged(Numbered::Checkpoint, 1, stored, offered));
    let elsewhere = Checkpoint { last_commit_digest: offered, ..groups[1].1.clone() };
    let commit = groups[1].1.last_commit_digest;
    assert_eq!(store.write(checkpoints([own(&elsewhere)])).await, diverged(Numbered::Commit, 2, commit, offered));
    // Two of one batch, or of batches that share a transaction.
    let twice = Checkpoint { state_root: Digest([0xee; 32]), ..groups[1].1.clone() };
    let both = store.write(checkpoints([own(&groups[1].1), own(&twice)])).await;
    assert_eq!(both, diverged(Numbered::Checkpoint, 2, groups[1].1.digest(), twice.digest()));
    assert_eq!(store.last_checkpoint().await, Ok(Some(own(&groups[0].1))), "nothing of this was kept");
    store.write(checkpoints([own(&groups[1].1)])).await.expect(WRITES);
}

pub async fn checkpoints_are_found_by_index_and_by_commit(place: &impl ValidatorPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let groups = history(3, 4, &[]);
    for (commits, checkpoint) in &groups {
        store.write(closed_by(commits.clone(), own(checkpoint))).await.expect(WRITES);
    }
    store.write(checkpoints([with_votes(&groups[1].1)])).await.expect(WRITES);
    let of_commit = async |commit| store.checkpoint_of_commit(commit).await.expect(READS).map(|stored| stored.checkpoint.index);
    for (commit, index) in [(0, None), (1, Some(1)), (4, Some(1)), (5, Some(2)), (8, Some(2)), (9, Some(3)), (12, Some(3)), (13, None)] {
        assert_eq!(of_commit(commit).await, index, "commit {commit}");
    }
    assert_eq!(of_commit(u64::MAX).await, None);
    assert_eq!(store.checkpoint_of_commit(6).await, Ok(Some(with_votes(&groups[1].1))));
    for index in [0, 4, u64::MAX] {
        assert_eq!(store.checkpoint(index).await, Ok(None));
    }
}

pub async fn checkpoints_come_in_pages_within_limits(place: &impl ValidatorPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let groups = history(6, 1, &[]);
    for (commits, checkpoint) in &groups {
        let stored = if checkpoint.index < 5 { with_votes(checkpoint) } else { own(checkpoint) };
        store.write(closed_by(commits.clone(), stored)).await.expect(WRITES);
    }
    let page = async |from, limit, bytes| indices(&store.checkpoints_from(from, limit, bytes).await.expect(READS));
    assert_eq!(page(0, 10, usize::MAX).await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(page(3, 2, usize::MAX).await, [3, 4]);
    assert_eq!(page(2, 10, 1).await, [2], "one passes any limit");
    assert_eq!(page(7, 10, usize::MAX).await, [0u64; 0]);
    assert_eq!(page(u64::MAX, 10, usize::MAX).await, [0u64; 0]);
    assert_eq!(store.checkpoints_from(4, 2, usize::MAX).await, Ok(vec![with_votes(&groups[3].1), own(&groups[4].1)]));
    // Votes count: room for one with votes and a half, but for both without.
    let size = |votes| kaldrix_types::encode(&groups[3].1).len() + votes;
    let votes = kaldrix_types::encode(&certified(&groups[3].1).votes).len();
    assert_eq!(page(3, 10, size(votes) * 3 / 2).await, [3]);
    assert_eq!(page(5, 10, size(0) * 5 / 2).await, [5, 6]);
    // A certificate that came later counts too.
    store.write(checkpoints([with_votes(&groups[4].1)])).await.expect(WRITES);
    assert_eq!(page(5, 10, size(0) * 5 / 2).await, [5]);
}

pub async fn the_ends_of_epochs_are_found_without_the_checkpoints_between(place: &impl ValidatorPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let groups = history(8, 1, &[2, 5, 7]);
    for (commits, checkpoint) in &groups {
        store.write(closed_by(commits.clone(), own(checkpoint))).await.expect(WRITES);
    }
    let ends = async |from, limit, bytes| {
        let ends = store.epoch_ends(from, limit, bytes).await.expect(READS);
        ends.iter().map(|end| (end.checkpoint.epoch, end.checkpoint.index)).collect::<Vec<_>>()
    };
    assert_eq!(ends(0, 10, usize::MAX).await, [], "none has a certificate yet");
    for index in [1, 2, 3, 5] {
        store.write(checkpoints([with_votes(&groups[index - 1].1)])).await.expect(WRITES);
    }
    assert_eq!(ends(0, 10, usize::MAX).await, [(0, 2), (1, 5)]);
    store.write(checkpoints([with_votes(&groups[6].1)])).await.expect(WRITES);
    assert_eq!(ends(0, 10, usize::MAX).await, [(0, 2), (1, 5), (2, 7)]);
    assert_eq!(ends(0, 2, usize::MAX).await, [(0, 2), (1, 5)]);
    assert_eq!(ends(0, 10, 1).await, [(0, 2)]);
    assert_eq!(ends(1, 10, usize::MAX).await, [(1, 5), (2, 7)]);
    assert_eq!(ends(3, 10, usize::MAX).await, []);
    assert_eq!(store.epoch_ends(2, 1, usize::MAX).await, Ok(vec![certified(&groups[6].1)]));
}
