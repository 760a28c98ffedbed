use crate::support::{Rng, block, committee};
use kaldrix_dag::{BlockManager, Limits, Refused};
use kaldrix_types::{BlockRef, Committee, Digest, Round, ValidatorIndex, VerifiedBlock};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A DAG as a network might build it: authors miss rounds, link late blocks weakly, and sometimes equivocate.
fn random_dag(committee: &Committee, rounds: Round, rng: &mut Rng) -> Vec<Arc<VerifiedBlock>> {
    let size = committee.size();
    let quorum = committee.quorum() as usize;
    let genesis = committee.genesis_blocks();
    let mut newest: Vec<BlockRef> = genesis.clone();
    let mut previous: Vec<Vec<BlockRef>> = genesis.iter().map(|g| vec![*g]).collect();
    let mut all = Vec::new();
    for round in 1..=rounds {
        let mut authors: Vec<usize> = (0..size).collect();
        rng.shuffle(&mut authors);
        authors.truncate(quorum + rng.below(size - quorum + 1));
        let mut current: Vec<Vec<BlockRef>> = vec![Vec::new(); size];
        for author in authors.iter().copied() {
            for variant in 0..1 + u64::from(rng.below(8) == 0) {
                let mut parents = vec![newest[author]];
                for (other, blocks) in previous.iter().enumerate().filter(|(other, _)| *other != author) {
                    match blocks.as_slice() {
                        [] if rng.below(2) == 0 && newest[other].round > 0 => parents.push(newest[other]),
                        [] => {}
                        some => parents.push(some[rng.below(some.len())]),
                    }
                }
                let strong = parents.iter().filter(|p| p.round + 1 == round).count();
                if strong < quorum {
                    continue;
                }
                let block = block(committee, round, author as u16, &parents, 10 * round, variant);
                current[author].push(block.reference());
                all.push(block);
            }
        }
        if current.iter().filter(|blocks| !blocks.is_empty()).count() < quorum {
            break;
        }
        for (author, blocks) in current.iter().enumerate() {
            if !blocks.is_empty() {
                newest[author] = blocks[rng.below(blocks.len())];
            }
        }
        previous = current;
    }
    all
}

fn assert_causal(accepted: &[Arc<VerifiedBlock>], gc_round: Round) {
    let mut seen = BTreeSet::new();
    for block in accepted {
        for parent in &block.header().parents {
            assert!(parent.round <= gc_round || seen.contains(parent), "{} before its parent {parent}", block.reference());
        }
        assert!(seen.insert(block.reference()), "{} accepted twice", block.reference());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_delivery_order_with_duplicates_accepts_every_block_once_and_in_causal_order(seed: u64, size in 4u8..8, rounds in 1u64..20) {
        let mut rng = Rng(seed);
        let committee = committee(size);
        let blocks = random_dag(&committee, rounds, &mut rng);
        let mut delivery: Vec<_> = blocks.iter().chain(&blocks).cloned().collect();
        rng.shuffle(&mut delivery);
        let mut dag = BlockManager::new(committee, Limits::default());
        let (mut accepted, mut equivocations, mut asked) = (Vec::new(), 0, BTreeSet::new());
        for block in delivery {
            // A third block of a slot cannot occur here, hence nothing but duplicates is ever refused.
            match dag.add(block) {
                Ok(outcome) => {
                    accepted.extend(outcome.accepted);
                    equivocations += outcome.equivocations.len();
                    asked.extend(outcome.missing);
                    prop_assert!(dag.missing().all(|r| asked.contains(&r)), "a missing block was never reported");
                }
                Err(refused) => prop_assert_eq!(refused, Refused::Duplicate),
            }
        }
        let mut slots: BTreeMap<(Round, ValidatorIndex), usize> = BTreeMap::new();
        blocks.iter().for_each(|b| *slots.entry((b.header().round, b.header().author)).or_default() += 1);
        assert_causal(&accepted, 0);
        prop_assert_eq!(accepted.len(), blocks.len());
        prop_assert_eq!(equivocations, slots.values().filter(|n| **n == 2).count());
        prop_assert_eq!((dag.suspended_len(), dag.suspended_bytes(), dag.missing().count()), (0, 0, 0));
    }

    #[test]
    fn garbage_collection_in_between_never_strands_a_block(seed: u64, rounds in 5u64..20) {
        let mut rng = Rng(seed);
        let committee = committee(4);
        let blocks = random_dag(&committee, rounds, &mut rng);
        let mut delivery = blocks.clone();
        rng.shuffle(&mut delivery);
        let mut dag = BlockManager::new(committee, Limits::default());
        let gc_final = rounds / 2;
        for (i, block) in delivery.iter().enumerate() {
            let _ = dag.add(block.clone());
            if rng.below(10) == 0 {
                dag.collect((i as u64 * gc_final) / delivery.len() as u64);
            }
        }
        dag.collect(gc_final);
        let left: BTreeSet<BlockRef> = blocks.iter().map(|b| b.reference()).filter(|r| r.round > gc_final).collect();
        prop_assert_eq!(dag.blocks_above(0).map(|b| b.reference()).collect::<BTreeSet<_>>(), left);
        prop_assert_eq!((dag.suspended_len(), dag.suspended_bytes(), dag.missing().count()), (0, 0, 0));
    }

    #[test]
    fn a_flood_by_one_author_stays_within_its_quota_and_the_others_go_on(seed: u64) {
        let mut rng = Rng(seed);
        let committee = committee(4);
        let limits = Limits { rounds_ahead_max: 50, suspended_max: 20, suspended_bytes_max: 8_000, missing_max: 30 };
        let mut dag = BlockManager::new(committee.clone(), limits.clone());
        let honest = random_honest(&committee, 10);
        let mut accepted = 0;
        for block in honest.iter().flatten() {
            for _ in 0..30 {
                let round = 2 + rng.below(60) as u64;
                let lie = |author: u16, rng: &mut Rng| {
                    let mut digest = [0; 32];
                    digest[0] = rng.below(3) as u8 + 1;
                    BlockRef { round: round - 1, author: ValidatorIndex(author), digest: Digest(digest) }
                };
                let parents: Vec<BlockRef> = (0..4).map(|a| lie(a, &mut rng)).collect();
                let _ = dag.add(crate::support::block(&committee, round, 3, &parents, 1, rng.next()));
                prop_assert!(dag.suspended_len() <= limits.suspended_max);
                prop_assert!(dag.suspended_bytes() <= limits.suspended_bytes_max);
                prop_assert!(dag.missing().count() <= limits.missing_max);
            }
            accepted += dag.add(block.clone()).unwrap().accepted.len();
        }
        prop_assert_eq!(accepted, 30);
        dag.collect(100);
        prop_assert_eq!((dag.suspended_len(), dag.suspended_bytes(), dag.missing().count(), dag.len()), (0, 0, 0, 0));
    }
}

/// Three authors who see one another at once.
fn random_honest(committee: &Committee, rounds: Round) -> Vec<Vec<Arc<VerifiedBlock>>> {
    let mut parents: Vec<BlockRef> = committee.genesis_blocks();
    (1..=rounds)
        .map(|round| {
            let blocks = crate::support::layer(committee, round, &[0, 1, 2], &parents);
            parents = crate::support::refs(&blocks);
            blocks
        })
        .collect()
}
