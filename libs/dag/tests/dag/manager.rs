use crate::support::{block, committee, full_dag, layer, refs};
use kaldrix_dag::{BlockManager, Limits, Refused};
use kaldrix_types::{BlockRef, Committee, Digest, ValidatorIndex, VerifiedBlock};
use std::sync::Arc;

fn manager(committee: &Arc<Committee>) -> BlockManager {
    BlockManager::new(committee.clone(), Limits::default())
}

fn add_all<'a>(dag: &mut BlockManager, blocks: impl IntoIterator<Item = &'a Arc<VerifiedBlock>>) {
    for block in blocks {
        dag.add(block.clone()).unwrap();
    }
}

#[test]
fn a_block_whose_parents_are_missing_waits_for_them_and_is_accepted_after_them() {
    let committee = committee(4);
    let layers = full_dag(&committee, 3);
    let mut dag = manager(&committee);
    let top = layers[2][0].clone();
    let outcome = dag.add(top.clone()).unwrap();
    assert!(outcome.accepted.is_empty());
    let mut missing = outcome.missing;
    missing.sort();
    let mut expected = refs(&layers[1]);
    expected.sort();
    assert_eq!(missing, expected);
    assert!(dag.is_suspended(&top.reference()) && !dag.contains(&top.reference()));
    assert_eq!(dag.wanted_by(&expected[0]).collect::<Vec<_>>(), [top.reference()]);

    add_all(&mut dag, &layers[1]);
    assert_eq!(dag.missing().collect::<Vec<_>>().len(), 4);
    add_all(&mut dag, &layers[0][..3]);
    let released = dag.add(layers[0][3].clone()).unwrap().accepted;
    assert_eq!(released.len(), 1 + 4 + 1);
    assert_eq!(released[5], top);
    assert_eq!((dag.missing().count(), dag.suspended_len(), dag.suspended_bytes()), (0, 0, 0));
    assert_eq!(dag.highest_accepted_rounds(), [3, 2, 2, 2]);
    assert_eq!((dag.highest_round(), dag.len(), dag.stake_at(2), dag.stake_at(0)), (3, 9, 4, 4));
}

#[test]
fn two_blocks_by_one_author_in_one_round_are_both_kept_and_reported_once() {
    let committee = committee(4);
    let genesis = committee.genesis_blocks();
    let variants: Vec<_> = (0..3).map(|salt| block(&committee, 1, 3, &genesis, 10, salt)).collect();
    let mut dag = manager(&committee);
    assert!(dag.add(variants[0].clone()).unwrap().equivocations.is_empty());
    assert_eq!(dag.add(variants[1].clone()).unwrap().equivocations, [(variants[0].reference(), variants[1].reference())]);
    assert_eq!(dag.blocks_at(1).count(), 2);
    assert_eq!(dag.stake_at(1), 1);
    assert_eq!(dag.first_at(1, ValidatorIndex(3)).unwrap(), &variants[0]);

    // A third is refused, until somebody else builds on it.
    assert_eq!(dag.add(variants[2].clone()), Err(Refused::TooManyVariants));
    add_all(&mut dag, &layer(&committee, 1, &[0, 1], &genesis));
    let mut parents: Vec<BlockRef> = dag.blocks_at(1).filter(|b| b.header().author.0 < 3).map(|b| b.reference()).collect();
    parents.push(variants[2].reference());
    let child = block(&committee, 2, 0, &parents, 20, 0);
    assert_eq!(dag.add(child.clone()).unwrap().missing, [variants[2].reference()]);
    let outcome = dag.add(variants[2].clone()).unwrap();
    assert_eq!(refs(&outcome.accepted), [variants[2].reference(), child.reference()]);
    assert!(outcome.equivocations.is_empty());
}

#[test]
fn known_old_and_far_away_blocks_are_refused_without_blame() {
    let committee = committee(4);
    let layers = full_dag(&committee, 12);
    let mut dag = BlockManager::new(committee, Limits { rounds_ahead_max: 5, ..Limits::default() });
    add_all(&mut dag, &layers[0]);
    assert_eq!(dag.add(layers[0][0].clone()), Err(Refused::Duplicate));
    dag.add(layers[3][0].clone()).unwrap();
    assert_eq!(dag.add(layers[3][0].clone()), Err(Refused::Duplicate));
    dag.add(layers[5][0].clone()).unwrap();
    let far = dag.add(layers[6][0].clone()).unwrap_err();
    assert_eq!(far, Refused::TooFarAhead { round: 7, highest: 1 });
    dag.collect(2);
    let old = dag.add(layers[1][0].clone()).unwrap_err();
    assert_eq!(old, Refused::BelowGc { round: 2, gc_round: 2 });
    assert!(!far.is_peer_fault() && !old.is_peer_fault() && !Refused::Duplicate.is_peer_fault());
    // Range synchronisation moves the window: the garbage-collection round counts as reached.
    assert!(dag.add(layers[6][0].clone()).is_ok());
}

#[test]
fn a_block_that_claims_other_genesis_blocks_or_goes_back_in_time_is_its_authors_fault() {
    let committee = committee(4);
    let mut genesis = committee.genesis_blocks();
    let mut dag = manager(&committee);
    let first = layer(&committee, 1, &[0, 1, 2, 3], &genesis);
    add_all(&mut dag, &first);
    genesis[1].digest = Digest([1; 32]);
    let forged = dag.add(block(&committee, 1, 0, &genesis, 10, 7)).unwrap_err();
    let back = dag.add(block(&committee, 2, 0, &refs(&first), 9, 0)).unwrap_err();
    assert_eq!((forged, back), (Refused::WrongGenesis, Refused::TimestampBeforeParent));
    assert!(forged.is_peer_fault() && back.is_peer_fault());
}

#[test]
fn a_suspended_block_that_turns_out_invalid_is_forgotten_with_everything_built_on_it() {
    let committee = committee(4);
    let mut dag = manager(&committee);
    let first = layer(&committee, 1, &[0, 1, 2, 3], &committee.genesis_blocks());
    let bad = block(&committee, 2, 0, &refs(&first), 5, 0);
    let good = layer(&committee, 2, &[1, 2, 3], &refs(&first));
    let mut parents = refs(&good);
    parents.push(bad.reference());
    let child = block(&committee, 3, 1, &parents, 30, 0);
    let sibling = block(&committee, 3, 2, &refs(&good), 30, 0);
    add_all(&mut dag, [&child, &bad, &sibling]);
    add_all(&mut dag, &good);
    add_all(&mut dag, &first[..3]);
    let outcome = dag.add(first[3].clone()).unwrap();
    assert_eq!(outcome.refused, [bad.reference(), child.reference()]);
    assert_eq!(outcome.accepted.len(), 5);
    assert!(dag.contains(&sibling.reference()));
    assert_eq!((dag.suspended_len(), dag.suspended_bytes(), dag.missing().count()), (0, 0, 0));
}

#[test]
fn collecting_drops_old_blocks_and_accepts_those_that_waited_for_collected_ones() {
    let committee = committee(4);
    let layers = full_dag(&committee, 4);
    let mut dag = manager(&committee);
    add_all(&mut dag, &layers[0]);
    add_all(&mut dag, &layers[1][..3]);
    add_all(&mut dag, &layers[2]);
    add_all(&mut dag, &layers[3][..2]);
    assert_eq!(dag.missing().collect::<Vec<_>>(), [layers[1][3].reference()]);
    let collected = dag.collect(2);
    assert_eq!(collected.dropped.len(), 7);
    assert_eq!(collected.outcome.accepted.len(), 6);
    assert_eq!((dag.missing().count(), dag.suspended_len(), dag.len()), (0, 0, 6));
    assert!(dag.get(&layers[1][0].reference()).is_none());
    assert_eq!(dag.collect(1), kaldrix_dag::Collected::default());
    assert_eq!(dag.gc_round(), 2);
}

#[test]
fn a_full_authors_quota_keeps_its_lowest_rounds_and_costs_nobody_else() {
    let committee = committee(4);
    let layers = full_dag(&committee, 8);
    let mut dag = BlockManager::new(committee, Limits { suspended_max: 2, ..Limits::default() });
    for round in [6, 5] {
        dag.add(layers[round][0].clone()).unwrap();
    }
    assert_eq!(dag.add(layers[7][0].clone()), Err(Refused::TooManySuspended));
    dag.add(layers[3][0].clone()).unwrap();
    assert!(!dag.is_suspended(&layers[6][0].reference()));
    assert!(dag.is_suspended(&layers[5][0].reference()) && dag.is_suspended(&layers[3][0].reference()));
    dag.add(layers[7][1].clone()).unwrap();
    assert_eq!(dag.suspended_len(), 3);
    // The one that gave way is missing again as soon as somebody waits for it.
    assert!(dag.missing().any(|r| r == layers[6][0].reference()));
}

#[test]
fn a_block_that_gives_way_while_others_wait_for_it_is_reported_missing_again() {
    let committee = committee(4);
    let layers = full_dag(&committee, 8);
    let mut dag = BlockManager::new(committee, Limits { suspended_max: 1, ..Limits::default() });
    dag.add(layers[5][0].clone()).unwrap();
    dag.add(layers[6][1].clone()).unwrap();
    let outcome = dag.add(layers[2][0].clone()).unwrap();
    assert!(outcome.missing.contains(&layers[5][0].reference()));
}

#[test]
fn a_recovered_store_goes_on_where_it_was() {
    let committee = committee(4);
    let layers = full_dag(&committee, 5);
    let mut dag = manager(&committee);
    dag.collect(2);
    for block in layers[..4].iter().flatten() {
        dag.recover(block.clone());
    }
    assert_eq!((dag.len(), dag.highest_round()), (8, 4));
    assert_eq!(dag.add(layers[4][0].clone()).unwrap().accepted.len(), 1);
    assert_eq!(dag.newest_below(ValidatorIndex(0), 5).unwrap(), &layers[3][0]);
    assert_eq!(dag.newest_below(ValidatorIndex(1), 100).unwrap(), &layers[3][1]);
    assert!(dag.newest_below(ValidatorIndex(1), 3).is_none());
    assert_eq!(dag.blocks_above(3).count(), 5);
}
