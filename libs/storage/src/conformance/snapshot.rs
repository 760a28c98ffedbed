//! What a [`ValidatorStore`] has to do with a snapshot.
#![allow(missing_docs, reason = "the names are sentences")]

use super::ValidatorPlace;
use super::fixture::{Chain, Checkpoints, address, block, block_ref, certified, genesis, holds};
use super::validator::{OPENS, READS, WRITES, balance, executed};
use crate::{BlockCursor, Numbered, Snapshot, StoreError, StoredCheckpoint, ValidatorBatch, ValidatorStore};
use kaldrix_types::{AssetId, CertifiedCheckpoint, Digest, ExecutedCommit, StateKey, StateValue};
use std::sync::Arc;

const INSTALLS: &str = "the snapshot is installed";

/// A chain of 30 commits with five checkpoints: the second ends an epoch, the last ends with the last commit.
struct Others {
    chain: Chain,
    made: Checkpoints,
    commits: Vec<ExecutedCommit>,
    checkpoints: Vec<CertifiedCheckpoint>,
}

impl Others {
    fn new() -> Self {
        let (mut chain, mut made) = (Chain::default(), Checkpoints::default());
        let commits: Vec<_> = (0..30).map(|n| chain.commit(vec![], vec![holds(address(3), n + 1)])).collect();
        let checkpoint = |(n, commits): (usize, &[ExecutedCommit])| match n {
            1 => certified(&made.ending_an_epoch(commits)),
            _ => certified(&made.over(commits)),
        };
        let checkpoints = commits.chunks(6).enumerate().map(checkpoint).collect();
        Self { chain, made, commits, checkpoints }
    }

    /// Address 3 has 30, nobody else has anything; commits 21 to 30; the epoch's end and the newest checkpoint.
    fn parts(&self) -> Parts {
        let records = [(3, 30), (4, 1)].map(|(n, amount)| (StateKey::Balance(address(n), AssetId::NATIVE), StateValue::Balance(amount)));
        let checkpoints = [1, 4].map(|n: usize| self.checkpoints[n].clone());
        Parts { records: records.into(), executed: self.commits[20..].to_vec(), checkpoints: checkpoints.into() }
    }
}

type Damage = fn(&mut Parts);

/// A snapshot that can be damaged.
#[derive(Clone)]
struct Parts {
    records: Vec<(StateKey, StateValue)>,
    executed: Vec<ExecutedCommit>,
    checkpoints: Vec<CertifiedCheckpoint>,
}

impl Parts {
    fn snapshot(self) -> Snapshot {
        let executed = self.executed.into_iter().map(Arc::new).collect();
        Snapshot { records: Box::new(self.records.into_iter()), executed, checkpoints: self.checkpoints }
    }
}

/// What a validator that was away since commit `count` has.
async fn fill(store: &impl ValidatorStore, others: &Others, count: usize) {
    let blocks = (1..=count as u64).flat_map(|round| [block(block_ref(round, 0, 1), 10, true), block(block_ref(round, 1, 1), 10, false)]);
    let checkpoints = others.checkpoints.iter().filter(|c| c.checkpoint.last_commit <= count as u64);
    let checkpoints = checkpoints.map(|c| StoredCheckpoint::own(c.checkpoint.clone())).collect();
    let batch = ValidatorBatch { blocks: blocks.collect(), checkpoints, ..executed(others.commits[..count].to_vec()) };
    store.write(batch).await.expect(WRITES);
}

async fn assert_is_the_snapshot(store: &impl ValidatorStore, others: &Others) {
    let parts = others.parts();
    let page = store.state_page(None, 100).await.expect(READS);
    assert_eq!((page.at, page.records), (30, parts.records), "the tail's changes are not applied, and nothing old is left");
    assert_eq!((store.first_commit().await, store.last_commit().await), (Ok(Some(21)), Ok(Some(others.commits[29].commit.clone()))));
    assert_eq!(store.executed(21, 100, usize::MAX).await, Ok(parts.executed.clone()));
    assert_eq!(store.own_last_block().await, Ok(None));
    assert_eq!(store.blocks_after(BlockCursor::after_round(0), usize::MAX).await, Ok(vec![]));
    let committed: Vec<_> = parts.executed.iter().flat_map(|e| e.commit.blocks.clone()).collect();
    assert_eq!(store.committed_refs_after(0).await, Ok(committed));
    let checkpoints: Vec<StoredCheckpoint> = parts.checkpoints.iter().cloned().map(Into::into).collect();
    assert_eq!(store.checkpoints_from(0, 100, usize::MAX).await, Ok(checkpoints));
    assert_eq!(store.last_certified().await, Ok(Some(parts.checkpoints[1].clone())));
    assert_eq!(store.epoch_ends(0, 100, usize::MAX).await, Ok(vec![parts.checkpoints[0].clone()]));
    assert_eq!(store.checkpoint(4).await, Ok(None), "what the snapshot leaves out is not known");
    assert_eq!(store.checkpoint_of_commit(24).await, Ok(None));
    assert_eq!(store.checkpoint_of_commit(25).await, Ok(Some(parts.checkpoints[1].clone().into())));
}

pub async fn a_snapshot_replaces_everything(place: &impl ValidatorPlace) {
    let genesis = genesis("one");
    let others = Others::new();
    let store = place.open(&genesis).await.expect(OPENS);
    fill(&store, &others, 13).await;
    assert_eq!(store.checkpoints_from(0, 100, usize::MAX).await.expect(READS).len(), 2);
    store.install(others.parts().snapshot()).await.expect(INSTALLS);
    assert_is_the_snapshot(&store, &others).await;
    store.close().await.expect("the store closes");
    let store = place.open(&genesis).await.expect(OPENS);
    assert_is_the_snapshot(&store, &others).await;
}

pub async fn a_validator_goes_on_behind_a_snapshot(place: &impl ValidatorPlace) {
    let genesis = genesis("one");
    let mut others = Others::new();
    let store = place.open(&genesis).await.expect(OPENS);
    store.install(others.parts().snapshot()).await.expect(INSTALLS);
    let ahead = store.write(executed([others.commits[0].clone()])).await;
    assert_eq!(ahead, Err(StoreError::OutOfOrder { what: Numbered::Commit, expected: 31, found: 1 }), "old ones do not come back");
    let old = StoredCheckpoint::from(others.checkpoints[0].clone());
    let old = store.write(ValidatorBatch { checkpoints: vec![old], ..ValidatorBatch::default() }).await;
    assert_eq!(old, Err(StoreError::OutOfOrder { what: Numbered::Checkpoint, expected: 6, found: 1 }));
    store.write(executed([others.commits[29].clone()])).await.expect("one of the tail again is harmless");

    let next: Vec<_> = (0..2).map(|_| others.chain.commit(vec![], vec![holds(address(3), 77)])).collect();
    let checkpoint = StoredCheckpoint::own(others.made.over(&next));
    let own = block(block_ref(32, 0, 1), 10, true);
    let batch = ValidatorBatch { blocks: vec![own.clone()], checkpoints: vec![checkpoint.clone()], ..executed(next.clone()) };
    store.write(batch).await.expect("what follows the snapshot follows the store");
    store.close().await.expect("the store closes");
    let store = place.open(&genesis).await.expect("the genesis state does not come back");
    assert_eq!((balance(&store, 1).await, balance(&store, 3).await, balance(&store, 4).await), (0, 77, 1));
    assert_eq!(store.last_commit().await, Ok(Some(next[1].commit.clone())));
    assert_eq!(store.last_checkpoint().await, Ok(Some(checkpoint)));
    assert_eq!(store.own_last_block().await, Ok(Some(own)));
}

pub async fn a_large_snapshot_is_installed_whole(place: &impl ValidatorPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let others = Others::new();
    let key = |n: u32| StateKey::Balance(address(3), AssetId(Digest([n.to_be_bytes(); 8].as_flattened().try_into().expect("32 bytes"))));
    let records = (0..10_001u32).map(move |n| (key(n), StateValue::Balance(n.into())));
    let snapshot = Snapshot { records: Box::new(records), ..others.parts().snapshot() };
    store.install(snapshot).await.expect(INSTALLS);
    let page = store.state_page(None, usize::MAX).await.expect(READS);
    assert_eq!(page.records.len(), 10_001);
    assert_eq!(page.records.last(), Some(&(key(10_000), StateValue::Balance(10_000))));
}

pub async fn a_snapshot_that_contradicts_itself_changes_nothing(place: &impl ValidatorPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let others = Others::new();
    fill(&store, &others, 13).await;
    let (state, own) = (store.state_page(None, 100).await, store.own_last_block().await);
    let damages: [(&str, Damage); 10] = [
        ("no commits", |p| p.executed.clear()),
        ("no checkpoints", |p| p.checkpoints.clear()),
        ("a gap between commits", |p| drop(p.executed.remove(5))),
        ("a commit of another history", |p| p.executed[4].commit.timestamp_ms += 1),
        ("without the commit that the checkpoint ends with", |p| drop(p.executed.pop())),
        ("a checkpoint of another history", |p| p.checkpoints[1].checkpoint.last_commit_digest = Digest([1; 32])),
        ("checkpoints that go back", |p| p.checkpoints[0].checkpoint.index = 9),
        ("records out of order", |p| p.records.swap(0, 1)),
        ("a record twice", |p| p.records.push(p.records[1].clone())),
        ("a value of another kind", |p| p.records[1].1 = StateValue::Lane(1)),
    ];
    for (what, damage) in damages {
        let mut parts = others.parts();
        damage(&mut parts);
        let result = store.install(parts.snapshot()).await;
        assert!(matches!(result, Err(StoreError::BadBatch(_))), "{what}: {result:?}");
        assert_eq!((store.state_page(None, 100).await, store.own_last_block().await), (state.clone(), own.clone()), "{what}");
        assert_eq!(store.executed(1, 100, usize::MAX).await, Ok(others.commits[..13].to_vec()), "{what}");
        assert_eq!(store.checkpoints_from(0, 100, usize::MAX).await.expect(READS).len(), 2, "{what}");
    }
    store.write(executed([others.commits[13].clone()])).await.expect("it goes on as before");
}

pub async fn a_snapshot_that_contradicts_what_is_stored_changes_nothing(place: &impl ValidatorPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let mut others = Others::new();
    fill(&store, &others, 25).await;
    let mut stranger = others.parts();
    let (mut chain, mut made) = (Chain { index: 20, digest: Digest([9; 32]) }, Checkpoints::default());
    made.over(&others.commits[..24]);
    stranger.executed = (0..10).map(|_| chain.empty()).collect();
    stranger.checkpoints = vec![certified(&made.over(&stranger.executed[4..]))];
    let (stored, offered) = (others.commits[20].commit.digest(), stranger.executed[0].commit.digest());
    let diverged = store.install(stranger.snapshot()).await;
    assert_eq!(diverged, Err(StoreError::Diverged { what: Numbered::Commit, index: 21, stored, offered }));

    let mut other_checkpoint = others.parts();
    other_checkpoint.checkpoints[0].checkpoint.state_root = Digest([9; 32]);
    let (stored, offered) = (others.checkpoints[1].checkpoint.digest(), other_checkpoint.checkpoints[0].checkpoint.digest());
    let diverged = store.install(other_checkpoint.snapshot()).await;
    assert_eq!(diverged, Err(StoreError::Diverged { what: Numbered::Checkpoint, index: 2, stored, offered }));

    // One that is older than what is here would lose commits.
    let rest = [others.commits[25..].to_vec(), vec![others.chain.empty()]].concat();
    store.write(executed(rest)).await.expect(WRITES);
    let older = store.install(others.parts().snapshot()).await;
    assert!(matches!(older, Err(StoreError::BadBatch(_))), "{older:?}");
    assert_eq!((store.first_commit().await, store.last_commit().await.map(|c| c.map(|c| c.index))), (Ok(Some(1)), Ok(Some(31))));
}

pub async fn the_same_snapshot_twice_is_harmless(place: &impl ValidatorPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let others = Others::new();
    for _ in 0..2 {
        store.install(others.parts().snapshot()).await.expect("whoever crashed before the answer came installs it again");
        assert_is_the_snapshot(&store, &others).await;
    }
}

pub async fn history_before_a_snapshot_is_named(place: &impl ValidatorPlace) {
    let store = place.open(&genesis("one")).await.expect(OPENS);
    let others = Others::new();
    store.install(others.parts().snapshot()).await.expect(INSTALLS);
    for from in [0, 1, 20] {
        let error = store.executed(from, 10, usize::MAX).await.expect_err("these commits are missing");
        assert_eq!(error, StoreError::Pruned { first: 21 });
        assert!(error.to_string().contains("21") && !error.is_retryable(), "{error}");
    }
    assert_eq!(store.executed(21, 1, usize::MAX).await, Ok(vec![others.commits[20].clone()]));
    assert_eq!(store.executed(31, 1, usize::MAX).await, Ok(vec![]));
}
