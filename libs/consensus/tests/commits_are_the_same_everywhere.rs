//! Random DAGs, delivered in random orders, cut off and restarted at random points: always the same commits.

use kaldrix_consensus::{Action, ConsensusCore, CoreConfig, Leaders, Recovered, RoundRobin, StakeSchedule};
use kaldrix_testkit::random_dag::{RandomDag, Shape, TestRandom};
use kaldrix_types::{BlockRef, Commit, Committee, Header, ValidatorIndex};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;

type Blocks = [(BlockRef, Arc<Header>)];

fn config(gc_depth: u64, leaders_per_round: u32) -> CoreConfig {
    CoreConfig { gc_depth, leaders_per_round, ..CoreConfig::default() }
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
    deliver(&mut core(&dag.committee, config, Recovered::default()), blocks, &BTreeSet::new())
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

/// What every list of commits must be, whatever the DAG was.
fn check_commits(dag: &RandomDag, commits: &[Commit]) {
    let mut seen = BTreeSet::new();
    let mut previous: Option<&Commit> = None;
    for commit in commits {
        assert_eq!(commit.index, previous.map_or(1, |p| p.index + 1));
        assert_eq!(commit.previous, previous.map_or_else(Default::default, Commit::digest));
        assert!(commit.timestamp_ms >= previous.map_or(1_000_000, |p| p.timestamp_ms));
        assert!(commit.gc_round >= previous.map_or(0, |p| p.gc_round));
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
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_causal_order_of_delivery_gives_the_same_commits(shape in shape(), seed: u64, leaders in 1u32..4, gc_depth in 4u64..14) {
        let dag = RandomDag::generate(&shape, seed);
        let config = config(gc_depth, leaders);
        let in_order = run(&dag, config, &dag.blocks);
        check_commits(&dag, &in_order);
        for order in 0..3 {
            let shuffled = dag.shuffled(seed ^ (order + 1));
            // A block may come after its round was collected: then it is ignored, as it would be by everybody else.
            prop_assert_eq!(&run(&dag, config, &shuffled), &in_order);
        }
    }

    #[test]
    fn a_validator_that_has_seen_less_has_a_prefix_of_the_commits(shape in shape(), seed: u64, leaders in 1u32..4, part in 0u64..1000) {
        let dag = RandomDag::generate(&shape, seed);
        let config = config(8, leaders);
        let all = run(&dag, config, &dag.blocks);
        let order = dag.shuffled(seed);
        let seen = &order[..order.len() * part as usize / 1000];
        let fewer = run(&dag, config, seen);
        prop_assert!(fewer.len() <= all.len());
        prop_assert_eq!(&all[..fewer.len()], &fewer[..]);
    }

    #[test]
    fn a_restart_at_any_point_goes_on_with_the_same_commits(shape in shape(), seed: u64, leaders in 1u32..4, gc_depth in 4u64..14) {
        let dag = RandomDag::generate(&shape, seed);
        let config = config(gc_depth, leaders);
        let uninterrupted = run(&dag, config, &dag.blocks);
        let order = dag.shuffled(!seed);
        let mut random = TestRandom::new(seed);
        let cut = random.below(order.len() + 1);
        let before = run(&dag, config, &order[..cut]);
        // Any number of the commits up to the cut had become durable.
        let durable = &before[..random.below(before.len() + 1)];
        let committed: BTreeSet<BlockRef> = durable.iter().flat_map(|c| c.blocks.iter().copied()).collect();
        let kept = durable.last().map_or(0, |c| c.gc_round);
        let mut replay: Vec<_> = order[..cut].iter().filter(|(b, _)| b.round > kept).cloned().collect();
        replay.sort_by_key(|(b, _)| *b);

        let recovered = Recovered { last_commit: durable.last().cloned(), own_last_round: 0 };
        let mut core = core(&dag.committee, config, recovered);
        let mut commits = durable.to_vec();
        commits.extend(deliver(&mut core, &replay, &committed));
        core.finish_recovery(0);
        commits.extend(deliver(&mut core, &order[cut..], &BTreeSet::new()));
        prop_assert_eq!(&commits, &uninterrupted);
    }
}

#[test]
fn the_random_dags_are_worth_the_name() {
    // Guards the tests above against a generator that only makes easy DAGs.
    let (mut decisions, mut skipped, mut cut, mut equivocations) = (BTreeSet::new(), BTreeSet::new(), 0, 0);
    for seed in 0..60 {
        let shape = Shape { stakes: vec![1; 4], rounds: 30, miss: 15, unlinked: 40, weak: 50, equivocate: 50, transactions: 0 };
        let dag = RandomDag::generate(&shape, seed);
        let mut core = core(&dag.committee, config(5, 1), Recovered::default());
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
        let gc_round = core.status().gc_round;
        let all: BTreeSet<BlockRef> = dag.blocks.iter().map(|(b, _)| *b).collect();
        cut += all.iter().filter(|b| b.round <= gc_round && !committed.contains(b)).count();
        equivocations += dag.blocks.len() - all.iter().map(|b| (b.round, b.author)).collect::<BTreeSet<_>>().len();
    }
    assert_eq!(decisions.len() + skipped.len(), 4, "{decisions:?} {skipped:?}");
    assert!(cut > 20 && equivocations > 100, "{cut} {equivocations}");
}
