use crate::support::{Tx, block, committee, full_dag, layer, refs, verified};
use kaldrix_dag::{BlockManager, Limits, Mempool, MempoolConfig, ProposalInput, Proposer};
use kaldrix_types::{BlockRef, CommitVote, Committee, Digest, ValidatorIndex, limits};
use std::sync::Arc;

const OWN: ValidatorIndex = ValidatorIndex(0);

fn dag(committee: &Arc<Committee>) -> BlockManager {
    BlockManager::new(committee.clone(), Limits::default())
}

fn input(round: u64, last_own: Option<BlockRef>) -> ProposalInput {
    ProposalInput { round, last_own, now_ms: 1_000, ..ProposalInput::default() }
}

#[test]
fn the_first_block_stands_on_all_genesis_blocks_and_carries_what_the_pool_gave() {
    let committee = committee(4);
    let mut pool = Mempool::new(MempoolConfig::default());
    for sequence in 0..5 {
        pool.add(Tx::new(1, 0, sequence).build(), 0, 0, 0).unwrap();
    }
    let transactions = pool.take(limits::BLOCK_TRANSACTIONS_MAX, limits::BLOCK_BODY_BYTES_MAX, 0);
    let (header, body) = Proposer::new(OWN).build(&dag(&committee), ProposalInput { transactions, ..input(1, None) }).unwrap();
    assert_eq!(header.parents, committee.genesis_blocks());
    assert_eq!((header.transaction_count, header.timestamp_ms), (5, 1_000));
    let block = verified(&committee, header, body);
    assert_eq!(block.transactions().iter().map(|tx| tx.body().sequence).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[test]
fn four_proposers_build_rounds_that_every_rule_accepts() {
    let committee = committee(4);
    let mut dag = dag(&committee);
    let mut proposers: Vec<Proposer> = committee.indices().map(Proposer::new).collect();
    let mut last: Vec<Option<BlockRef>> = vec![None; 4];
    for round in 1..=20 {
        let built: Vec<_> = (0..4).map(|i| proposers[i].build(&dag, input(round, last[i])).unwrap()).collect();
        for (i, (header, body)) in built.into_iter().enumerate() {
            let block = verified(&committee, header, body);
            assert_eq!(dag.add(block.clone()).unwrap().accepted.len(), 1);
            proposers[i].on_own_block(&dag, &block);
            last[i] = Some(block.reference());
        }
        dag.collect(round.saturating_sub(6));
    }
    assert_eq!(dag.highest_accepted_rounds(), [20; 4]);
}

#[test]
fn without_a_quorum_at_the_round_before_there_is_no_block() {
    let committee = committee(4);
    let mut dag = dag(&committee);
    let first = layer(&committee, 1, &[0, 1, 2], &committee.genesis_blocks());
    for block in &first[..2] {
        dag.add(block.clone()).unwrap();
    }
    let proposer = Proposer::new(OWN);
    let last = Some(first[0].reference());
    assert!(proposer.build(&dag, input(2, last)).is_none());
    dag.add(first[2].clone()).unwrap();
    assert!(proposer.build(&dag, input(2, last)).is_some());
    // A second block in a round would be an equivocation.
    assert!(proposer.build(&dag, input(1, last)).is_none());
}

#[test]
fn a_validator_that_missed_rounds_links_its_old_block_first_and_counts_only_the_others() {
    let committee = committee(4);
    let mut dag = dag(&committee);
    let layers = full_dag(&committee, 1);
    layers[0].iter().for_each(|b| drop(dag.add(b.clone()).unwrap()));
    let mut parents = refs(&layers[0]);
    for round in 2..=4 {
        let blocks = layer(&committee, round, &[1, 2, 3], &parents);
        blocks.iter().for_each(|b| drop(dag.add(b.clone()).unwrap()));
        parents = refs(&blocks);
    }
    let own = layers[0][0].reference();
    let (header, body) = Proposer::new(OWN).build(&dag, input(5, Some(own))).unwrap();
    assert_eq!(header.parents[0], own);
    assert_eq!(header.parents[1..], parents);
    assert_eq!(header.strong_parents().count(), 3);
    verified(&committee, header, body);
}

#[test]
fn a_late_block_is_linked_weakly_and_only_once() {
    let committee = committee(4);
    let mut dag = dag(&committee);
    let mut proposer = Proposer::new(OWN);
    let first = layer(&committee, 1, &[0, 1, 2, 3], &committee.genesis_blocks());
    let second = layer(&committee, 2, &[0, 1, 2], &refs(&first[..3]));
    first[..3].iter().chain(&second).for_each(|b| drop(dag.add(b.clone()).unwrap()));
    proposer.on_own_block(&dag, &second[0]);
    let late = first[3].clone();
    dag.add(late.clone()).unwrap();

    let (header, body) = proposer.build(&dag, input(3, Some(second[0].reference()))).unwrap();
    assert_eq!(header.parents, [refs(&second), vec![late.reference()]].concat());
    let third = verified(&committee, header, body);
    dag.add(third.clone()).unwrap();
    proposer.on_own_block(&dag, &third);
    layer(&committee, 3, &[1, 2], &refs(&second)).iter().for_each(|b| drop(dag.add(b.clone()).unwrap()));
    let (header, _) = proposer.build(&dag, input(4, Some(third.reference()))).unwrap();
    assert!(!header.parents.contains(&late.reference()));

    // After a restart the newest own block tells the same.
    let mut restarted = Proposer::new(OWN);
    restarted.on_own_block(&dag, &third);
    assert_eq!(restarted.build(&dag, input(4, Some(third.reference()))).unwrap().0, header);
}

#[test]
fn of_equivocating_blocks_the_first_accepted_becomes_a_parent_and_time_never_goes_back() {
    let committee = committee(4);
    let mut dag = dag(&committee);
    let genesis = committee.genesis_blocks();
    let variants = [block(&committee, 1, 3, &genesis, 5_000, 2), block(&committee, 1, 3, &genesis, 10, 1)];
    let first = layer(&committee, 1, &[0, 1, 2], &genesis);
    variants.iter().chain(&first).for_each(|b| drop(dag.add(b.clone()).unwrap()));
    let (header, body) = Proposer::new(OWN).build(&dag, input(2, Some(first[0].reference()))).unwrap();
    assert!(header.parents.contains(&variants[0].reference()) && !header.parents.contains(&variants[1].reference()));
    assert_eq!(header.timestamp_ms, 5_000);
    assert_eq!(dag.add(verified(&committee, header, body)).unwrap().accepted.len(), 1);
}

#[test]
fn too_many_votes_are_cut_to_the_newest() {
    let committee = committee(4);
    let commit_votes = (1..=300).map(|index| CommitVote { index, digest: Digest::ZERO }).collect();
    let (header, body) = Proposer::new(OWN).build(&dag(&committee), ProposalInput { commit_votes, ..input(1, None) }).unwrap();
    assert_eq!(header.commit_votes.len(), limits::VOTES_MAX);
    assert_eq!(header.commit_votes.last().unwrap().index, 300);
    verified(&committee, header, body);
}
