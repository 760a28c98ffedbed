//! Random DAGs, delivered in random orders, cut off and restarted at random points, across changes of the schedule and the end of an epoch:
//! always the same commits.

use kaldrix_consensus::{Action, ConsensusCore, CoreConfig, Leaders, Recovered, RoundRobin, StakeSchedule, VOTE_ROUNDS};
use kaldrix_testkit::dag::committee_in;
use kaldrix_testkit::random_dag::{RandomDag, Shape, TestRandom};
use kaldrix_types::{BlockRef, Commit, Committee, Header, Reputation, ValidatorIndex};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;

type Blocks = [(BlockRef, Arc<Header>)];

fn config(gc_depth: u64, leaders_per_round: u32, schedule_commits: u32) -> CoreConfig {
    CoreConfig { gc_depth, leaders_per_round, schedule_commits, ..CoreConfig::default() }
}

fn core(committee: &Arc<Committee>, config: CoreConfig, recovered: Recovered) -> ConsensusCore {
    let leaders: Arc<dyn Leaders> =
        if config.leaders_per_round == 2 { Arc::new(RoundRobin::new(committee.size())) } else { Arc::new(StakeSchedule::new(committee)) };
    ConsensusCore::new(Arc::clone(committee), ValidatorIndex(0), config, leaders, recovered, 0)
}

fn deliver(core: &mut ConsensusCore, blocks: &Blocks, committed: &BTreeSet<BlockRef>) -> Vec<Commit> {
    let mut commits = Vec::new();
    for (reference, header) in blocks {
        for action in core.on_header(*reference, Arc::clone(header), committed.contains(reference), 0) {
            match action {
                Action::Commit(decided) => commits.push(decided.commit),
                Action::Propose { .. } => {}
                Action::Refused { block, why } => panic!("{block} refused: {why}"),
            }
        }
    }
    commits
}

fn run(dag: &RandomDag, config: CoreConfig, blocks: &Blocks) -> Vec<Commit> {
    run_after(None, dag, config, blocks)
}

/// `last` is the last commit of the epoch before, if there was one.
fn run_after(last: Option<&Commit>, dag: &RandomDag, config: CoreConfig, blocks: &Blocks) -> Vec<Commit> {
    let recovered = Recovered { last_commit: last.cloned(), own_last_round: 0 };
    deliver(&mut core(&dag.committee, config, recovered), blocks, &BTreeSet::new())
}

/// Runs up to a random point, loses all but a random part of the commits made so far, and goes on from the last commit that is left.
fn run_interrupted(last: Option<&Commit>, dag: &RandomDag, config: CoreConfig, seed: u64) -> Vec<Commit> {
    let order = dag.shuffled(!seed);
    let mut random = TestRandom::new(seed);
    let cut = random.below(order.len() + 1);
    let before = run_after(last, dag, config, &order[..cut]);
    // Any number of the commits up to the cut had become durable.
    let durable = &before[..random.below(before.len() + 1)];
    let committed: BTreeSet<BlockRef> = durable.iter().flat_map(|c| c.blocks.iter().copied()).collect();
    let kept = durable.last().map_or(0, |c| c.gc_round);
    let mut replay: Vec<_> = order[..cut].iter().filter(|(b, _)| b.round > kept).cloned().collect();
    replay.sort_by_key(|(b, _)| *b);

    let recovered = Recovered { last_commit: durable.last().or(last).cloned(), own_last_round: 0 };
    let mut core = core(&dag.committee, config, recovered);
    let mut commits = durable.to_vec();
    commits.extend(deliver(&mut core, &replay, &committed));
    core.finish_recovery(0);
    commits.extend(deliver(&mut core, &order[cut..], &BTreeSet::new()));
    commits
}

fn shape() -> impl Strategy<Value = Shape> {
    let stakes = prop_oneof![
        3 => Just(vec![1; 4]),
        1 => Just(vec![1; 7]),
        1 => Just(vec![5, 3, 2, 2, 1, 1]),
        1 => Just(vec![10; 10]),
    ];
    (stakes, 12u64..40, 0u8..40, 0u8..60, 0u8..80, 0u8..90).prop_map(|(stakes, rounds, miss, unlinked, weak, equivocate)| Shape {
        stakes,
        rounds,
        miss,
        unlinked,
        weak,
        equivocate,
        transactions: 30,
    })
}

/// What every list of commits must be, whatever the DAG was. `last` is the last commit of the epoch before.
fn check_commits(last: Option<&Commit>, dag: &RandomDag, config: CoreConfig, commits: &[Commit]) {
    let mut seen = BTreeSet::new();
    let mut previous: Option<&Commit> = last;
    let start_round = dag.committee.start_round();
    for commit in commits {
        assert_eq!(commit.index, previous.map_or(1, |p| p.index + 1));
        assert_eq!(commit.previous, previous.map_or_else(Default::default, Commit::digest));
        assert!(commit.timestamp_ms >= previous.map_or(1_000_000, |p| p.timestamp_ms));
        assert!(commit.gc_round >= previous.map_or(0, |p| p.gc_round).max(start_round));
        assert_eq!(commit.epoch, dag.committee.epoch());
        let ends = config.epoch_ends_at_ms.is_some_and(|end| commit.timestamp_ms >= end);
        assert_eq!(commit.ends_epoch, ends);
        assert!(!ends || commit.index == commits[commits.len() - 1].index, "nothing comes after the last commit");
        assert!(commit.blocks.is_sorted() && commit.blocks.contains(&commit.leader));
        assert!(commit.blocks.iter().all(|b| b.round > commit.gc_round && b.round <= commit.leader.round && seen.insert(*b)));
        previous = Some(commit);
    }
    // Nothing is left behind but what was cut.
    for commit in commits {
        for block in &commit.blocks {
            let (_, header) = dag.blocks.iter().find(|(b, _)| b == block).expect("of this DAG");
            assert!(header.parents.iter().all(|p| p.round <= commit.gc_round || seen.contains(p)));
        }
    }
    check_reputation(dag, config.schedule_commits, commits);
}

/// The scores once more, from nothing but the list of commits.
fn check_reputation(dag: &RandomDag, period: u32, commits: &[Commit]) {
    let mut expected = Reputation::default();
    for (i, commit) in commits.iter().enumerate().filter(|_| period > 0) {
        if expected.scores.is_empty() {
            expected.scores = vec![0; dag.committee.size()];
        }
        for block in &commit.blocks {
            let (_, header) = dag.blocks.iter().find(|(b, _)| b == block).expect("of this DAG");
            let newest = i.checked_sub(1).map_or(0, |before| commits[before].leader.round);
            let leaders = commits[..i].iter().map(|c| c.leader).filter(|l| l.round + VOTE_ROUNDS >= newest);
            let votes = leaders.filter(|l| l.round + 1 == header.round && header.parents.contains(l)).count();
            expected.scores[block.author.as_usize()] += votes as u32;
        }
        expected.commits += 1;
        if expected.commits == period {
            expected = Reputation { effective: expected.scores, ..Reputation::default() };
        }
        expected.leaders.clone_from(&commit.reputation.leaders);
        assert_eq!(commit.reputation, expected);
    }
    assert!(period > 0 || commits.iter().all(|c| c.reputation == Reputation::default()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_causal_order_of_delivery_gives_the_same_commits(
        shape in shape(), seed: u64, leaders in 1u32..4, gc_depth in 4u64..14, period in 0u32..9,
    ) {
        let dag = RandomDag::generate(&shape, seed);
        let config = config(gc_depth, leaders, period);
        let in_order = run(&dag, config, &dag.blocks);
        check_commits(None, &dag, config, &in_order);
        for order in 0..3 {
            let shuffled = dag.shuffled(seed ^ (order + 1));
            // A block may come after its round was collected: then it is ignored, as it would be by everybody else.
            prop_assert_eq!(&run(&dag, config, &shuffled), &in_order);
        }
    }

    #[test]
    fn a_validator_that_has_seen_less_has_a_prefix_of_the_commits(
        shape in shape(), seed: u64, leaders in 1u32..4, part in 0u64..1000, period in 0u32..9,
    ) {
        let dag = RandomDag::generate(&shape, seed);
        let config = config(8, leaders, period);
        let all = run(&dag, config, &dag.blocks);
        let order = dag.shuffled(seed);
        let seen = &order[..order.len() * part as usize / 1000];
        let fewer = run(&dag, config, seen);
        prop_assert!(fewer.len() <= all.len());
        prop_assert_eq!(&all[..fewer.len()], &fewer[..]);
    }

    #[test]
    fn a_restart_at_any_point_goes_on_with_the_same_commits(
        shape in shape(), seed: u64, leaders in 1u32..4, gc_depth in 4u64..14, period in 0u32..9,
    ) {
        let dag = RandomDag::generate(&shape, seed);
        let config = config(gc_depth, leaders, period);
        let uninterrupted = run(&dag, config, &dag.blocks);
        prop_assert_eq!(&run_interrupted(None, &dag, config, seed), &uninterrupted);
    }

    #[test]
    fn an_epoch_ends_at_the_same_commit_everywhere_and_the_next_one_goes_on_from_it(
        shape in shape(), next_shape in shape(), seed: u64, leaders in 1u32..4, gc_depth in 4u64..14, period in 0u32..6, end_ms in 0u64..900,
    ) {
        let dag = RandomDag::generate(&shape, seed);
        let ending = CoreConfig { epoch_ends_at_ms: Some(1_000_000 + end_ms), ..config(gc_depth, leaders, period) };
        let commits = run(&dag, ending, &dag.blocks);
        check_commits(None, &dag, ending, &commits);
        prop_assert_eq!(&run(&dag, ending, &dag.shuffled(seed)), &commits);
        prop_assert_eq!(&run_interrupted(None, &dag, ending, seed), &commits);
        // Up to its end the epoch is as if it had none.
        let endless = run(&dag, CoreConfig { epoch_ends_at_ms: None, ..ending }, &dag.blocks);
        let alike = commits.len() - usize::from(commits.last().is_some_and(|c| c.ends_epoch));
        prop_assert_eq!(&commits[..alike], &endless[..alike]);

        let Some(last) = commits.last().filter(|c| c.ends_epoch) else { return Ok(()) };
        let committee = committee_in(1, last.leader.round, &next_shape.stakes);
        let dag = RandomDag::generate_in(committee, &next_shape, !seed);
        let config = config(gc_depth, leaders, period);
        let next = run_after(Some(last), &dag, config, &dag.blocks);
        check_commits(Some(last), &dag, config, &next);
        // But for index, digest and time it is as if there had been no epoch before: nothing of the old one's reputation is left.
        let essence = |commits: &[Commit]| commits.iter().map(|c| (c.leader, c.gc_round, c.blocks.clone(), c.reputation.clone())).collect::<Vec<_>>();
        prop_assert_eq!(essence(&next), essence(&run(&dag, config, &dag.blocks)));
        prop_assert_eq!(&run_after(Some(last), &dag, config, &dag.shuffled(seed)), &next);
        prop_assert_eq!(&run_interrupted(Some(last), &dag, config, seed), &next);
    }
}

#[test]
fn the_random_dags_are_worth_the_name() {
    // Guards the tests above against a generator that only makes easy DAGs.
    let (mut decisions, mut skipped, mut cut, mut equivocations, mut swapped) = (BTreeSet::new(), BTreeSet::new(), 0, 0, 0);
    for seed in 0..60 {
        let shape = Shape { stakes: vec![1; 4], rounds: 30, miss: 15, unlinked: 40, weak: 50, equivocate: 50, transactions: 0 };
        let dag = RandomDag::generate(&shape, seed);
        let mut core = core(&dag.committee, config(5, 1, 6), Recovered::default());
        let mut committed = BTreeSet::new();
        for (reference, header) in &dag.blocks {
            for action in core.on_header(*reference, Arc::clone(header), false, 0) {
                if let Action::Commit(decided) = action {
                    decisions.insert(decided.decision.as_str());
                    skipped.extend(decided.skipped.iter().map(|s| s.decision.as_str()));
                    committed.extend(decided.commit.blocks);
                }
            }
        }
        swapped += core.status().swapped_out;
        let gc_round = core.status().gc_round;
        let all: BTreeSet<BlockRef> = dag.blocks.iter().map(|(b, _)| *b).collect();
        cut += all.iter().filter(|b| b.round <= gc_round && !committed.contains(b)).count();
        equivocations += dag.blocks.len() - all.iter().map(|b| (b.round, b.author)).collect::<BTreeSet<_>>().len();
    }
    assert_eq!(decisions.len() + skipped.len(), 4, "{decisions:?} {skipped:?}");
    assert!(cut > 20 && equivocations > 100 && swapped > 30, "{cut} {equivocations} {swapped}");
}
