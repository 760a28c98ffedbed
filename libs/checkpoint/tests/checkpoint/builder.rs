use crate::world::{State, World, balance_of, equal};
use kaldrix_checkpoint::{CheckpointBuilder, StateTree, VERSIONS_MAX};
use kaldrix_types::{Checkpoint, Digest, NextEpoch, Parameters, StateChange, StateKey, StateValue, merkle_root};
use std::ops::Bound;

fn put(n: u64, amount: u128) -> StateChange {
    StateChange { key: balance_of(n), value: Some(StateValue::Balance(amount)) }
}

#[test]
fn a_checkpoint_closes_after_enough_commits_or_with_outcomes_after_enough_time_or_with_the_epoch() {
    let parameters = Parameters { checkpoint_commits: 8, checkpoint_ms: 250, ..Parameters::default() };
    let mut world = World::with(parameters, equal(0..4), 10);
    // Empty commits: time alone closes nothing.
    let closed: Vec<bool> = (0..16).map(|_| world.commit(0, Vec::new(), None).is_some()).collect();
    assert_eq!(closed.iter().filter(|c| **c).count(), 2);
    assert!(closed[7] && closed[15]);
    // Commits are 100 ms apart: with transactions the third one is late enough.
    let closed: Vec<bool> = (0..6).map(|_| world.commit(2, Vec::new(), None).is_some()).collect();
    assert_eq!(closed, [false, false, true, false, false, true]);
    // Outcomes count whenever in the range they come.
    assert!(world.commit(1, Vec::new(), None).is_none());
    assert!(world.commit(0, Vec::new(), None).is_none());
    assert!(world.commit(0, Vec::new(), None).is_some());
    let end = world.end_epoch(equal(1..5));
    assert_eq!(end.first_commit, end.last_commit);
    assert_eq!(world.commit(0, Vec::new(), None), None);
    assert_eq!(world.committee.epoch(), 1);
    let indices: Vec<u64> = world.checkpoints.iter().map(|c| c.checkpoint.index).collect();
    assert_eq!(indices, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_checkpoint_says_what_its_commits_did() {
    let mut world = World::new(20);
    for _ in 0..23 {
        world.step(3);
    }
    let mut previous: Option<Checkpoint> = None;
    for (certified, state) in world.checkpoints.iter().zip(&world.states) {
        let checkpoint = &certified.checkpoint;
        let leaves: Vec<Digest> = world.outcomes_of(checkpoint).map(kaldrix_types::TxOutcome::leaf).collect();
        assert_eq!((checkpoint.outcomes_root, checkpoint.outcome_count), (merkle_root(&leaves), 15));
        assert_eq!(checkpoint.state_root, StateTree::of(state).root());
        assert_eq!(checkpoint.first_commit, previous.as_ref().map_or(1, |p| p.last_commit + 1));
        assert_eq!(checkpoint.previous, previous.as_ref().map_or(Digest::ZERO, Checkpoint::digest));
        let last = &world.commits[usize::try_from(checkpoint.last_commit - 1).unwrap()].commit;
        assert_eq!((checkpoint.last_commit_digest, checkpoint.timestamp_ms), (last.digest(), last.timestamp_ms));
        previous = Some(checkpoint.clone());
    }
    assert_eq!(world.checkpoints.len(), 4);
}

#[test]
fn a_builder_that_was_restarted_anywhere_closes_the_same_checkpoints() {
    let mut world = World::new(20);
    for steps in 0..12 {
        let last = world.checkpoints.last().map(|c| c.checkpoint.clone());
        let open = world.commits.iter().filter(|c| c.commit.index > last.as_ref().map_or(0, |l| l.last_commit)).cloned();
        let (chain, parameters) = (world.genesis.chain_id(), world.genesis.parameters.clone());
        let mut restarted = CheckpointBuilder::new(chain, &parameters, last.as_ref(), StateTree::of(&world.state), open);
        let mut ahead = world.clone();
        for _ in 0..7 {
            let expected = ahead.step(2);
            let executed = ahead.commits.last().unwrap();
            assert_eq!(restarted.on_executed(executed, None), expected, "restarted after {steps} commits");
        }
        world.step(2);
    }
}

/// All records at the newest certified checkpoint, from pages of `now`.
fn pages_at_certified(builder: &CheckpointBuilder, now: &State, limit: usize) -> Vec<(StateKey, StateValue)> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let page: Vec<_> = now.range((from, Bound::Unbounded)).take(limit).map(|(key, value)| (*key, value.clone())).collect();
        let is_last = page.len() < limit;
        let (commit, records) = builder.page_at_certified(after.as_ref(), is_last, &page).unwrap();
        assert_eq!(commit, 5);
        all.extend(records);
        if is_last {
            return all;
        }
        after = page.last().map(|(key, _)| *key);
    }
}

#[test]
fn a_proof_gives_the_value_of_the_certified_checkpoint_however_the_record_changed_since() {
    let mut world = World::new(3);
    world.commit(0, vec![put(1, 11), put(50, 1)], None);
    for _ in 0..4 {
        world.commit(0, Vec::new(), None);
    }
    let at: State = world.states[0].clone();
    let root = world.checkpoints[0].checkpoint.state_root;
    // The same in the open range, with two further checkpoints closed but not certified, and with records that came and went.
    let mut builder = world.builder.clone();
    let mut state = world.state.clone();
    for round in 0..12u128 {
        let gone = StateChange { key: balance_of(50), value: None };
        let changes = if round % 2 == 0 { vec![put(1, 100 + round), gone] } else { vec![put(50, round), put(60, round)] };
        let executed = world.next_commit(0, changes.clone(), false);
        builder.remember(&executed, |key| state.get(key).cloned());
        for StateChange { key, value } in changes {
            match value {
                Some(value) => state.insert(key, value),
                None => state.remove(&key),
            };
        }
        builder.on_executed(&executed, None);
        world.commits.push(std::sync::Arc::new(executed));
        for n in [0, 1, 2, 50, 60, 70] {
            let key = balance_of(n);
            let proven = builder.prove(&key, state.get(&key).cloned()).unwrap();
            assert_eq!((proven.checkpoint, proven.value.as_ref()), (1, at.get(&key)));
            assert!(proven.proof.holds(root, &key, at.get(&key)));
        }
        // Whoever pages through the state of now gets the state of then, whatever a page holds.
        for limit in [1, 2, 7, 1_000] {
            assert_eq!(pages_at_certified(&builder, &state, limit), at.clone().into_iter().collect::<Vec<_>>());
        }
    }
    assert_eq!(builder.last_index(), 3);
    builder.certified(3);
    let (newest, tree) = builder.newest_certified().unwrap();
    assert_eq!((newest.index, tree.root()), (3, newest.state_root));
    assert_eq!(builder.own_digest(3), Some(newest.digest()));
    assert_eq!(builder.own_digest(2), None);
}

#[test]
fn without_the_old_value_there_is_no_proof_rather_than_a_wrong_one() {
    let mut world = World::new(3);
    for _ in 0..5 {
        world.commit(0, Vec::new(), None);
    }
    let executed = world.next_commit(0, vec![put(1, 5)], false);
    world.builder.on_executed(&executed, None);
    assert_eq!(world.builder.prove(&balance_of(1), Some(StateValue::Balance(5))), None);
    let unchanged = world.state.get(&balance_of(2)).cloned();
    assert!(world.builder.prove(&balance_of(2), unchanged).is_some());
    assert_eq!(world.builder.prove(&balance_of(2), None), None, "a value that somebody got wrong");
}

#[test]
fn versions_that_wait_for_certificates_are_bounded() {
    let mut world = World::new(3);
    for _ in 0..5 {
        world.commit(0, Vec::new(), None);
    }
    assert!(world.builder.newest_certified().is_some());
    let mut builder = world.builder.clone();
    for _ in 0..5 * (VERSIONS_MAX + 3) {
        let executed = world.next_commit(0, vec![put(1, 5)], false);
        builder.on_executed(&executed, None);
        world.commits.push(std::sync::Arc::new(executed));
    }
    let newest = builder.last_index();
    assert!(builder.own_digest(newest - VERSIONS_MAX as u64 + 1).is_some());
    assert!(builder.own_digest(newest - VERSIONS_MAX as u64).is_none());
    assert!(builder.newest_certified().is_none());
    builder.certified(newest - 2);
    assert_eq!(builder.newest_certified().unwrap().0.index, newest - 2);
}

#[test]
fn a_certificate_that_comes_before_the_own_checkpoint_counts_as_soon_as_that_is_closed() {
    let mut world = World::new(3);
    for _ in 0..5 {
        world.commit(0, Vec::new(), None);
    }
    let mut builder = world.builder.clone();
    builder.certified(2);
    assert_eq!(builder.newest_certified().unwrap().0.index, 1, "until then, the last one serves");
    for _ in 0..5 {
        let executed = world.next_commit(0, vec![put(1, 5)], false);
        builder.on_executed(&executed, None);
        world.commits.push(std::sync::Arc::new(executed));
    }
    assert_eq!(builder.newest_certified().unwrap().0.index, 2);
}

#[test]
#[should_panic(expected = "in order and each once")]
fn a_gap_in_the_commits_stops_the_builder() {
    let mut world = World::new(3);
    let first = world.next_commit(0, Vec::new(), false);
    let mut builder = world.builder.clone();
    builder.on_executed(&first, None);
    builder.on_executed(&first, None);
}

#[test]
#[should_panic(expected = "come together")]
fn an_epoch_cannot_end_without_a_next_committee() {
    let mut world = World::new(3);
    let last = world.next_commit(0, Vec::new(), true);
    world.builder.on_executed(&last, None::<NextEpoch>);
}
