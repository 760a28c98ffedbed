//! Catching up with honest peers, whose state moves on meanwhile.

use crate::world::{State, World, equal, verifier};
use bytes::Bytes;
use kaldrix_checkpoint::{
    CatchUp, CatchUpAnswer, CatchUpAsk, CatchUpConfig, CatchUpOutcome, CatchUpRequest, CheckpointBuilder, EpochChain, Installed, PeerFault,
};
use kaldrix_types::{BlockRef, Commit, ExecutedCommit, StateKey, StateValue, encode};
use std::ops::Bound;

/// Small pages and answers, so that there are many.
pub(crate) fn config(world: &World) -> CatchUpConfig {
    let gc_depth = world.genesis.parameters.gc_depth;
    CatchUpConfig { gc_depth, page_records: 40, answer_bytes_max: 64 << 10, ..CatchUpConfig::default() }
}

pub(crate) fn page(world: &World, after: Option<StateKey>, limit: u32) -> (Vec<(StateKey, StateValue)>, bool) {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut records: Vec<_> = world.state.range((from, Bound::Unbounded)).map(|(k, v)| (*k, v.clone())).take(limit as usize + 1).collect();
    let is_last = records.len() <= limit as usize;
    records.truncate(limit as usize);
    (records, is_last)
}

/// What an honest validator answers.
pub(crate) fn honest(world: &World, request: &CatchUpRequest) -> CatchUpAnswer {
    match request {
        CatchUpRequest::Checkpoints { from_index: 0, .. } => {
            CatchUpAnswer::Checkpoints(world.checkpoints.last().map(|c| encode(c).into()).into_iter().collect())
        }
        CatchUpRequest::Checkpoints { from_index, epoch_ends_only, limit } => {
            let asked = world.checkpoints.iter().filter(|c| c.checkpoint.index >= *from_index);
            let asked = asked.filter(|c| !epoch_ends_only || c.checkpoint.next_epoch.is_some()).take(*limit as usize);
            // No more than three fit an answer.
            CatchUpAnswer::Checkpoints(asked.take(3).map(|c| encode(c).into()).collect())
        }
        CatchUpRequest::StatePage { after, limit } => {
            let (records, is_last) = page(world, *after, *limit);
            CatchUpAnswer::StatePage { at: world.commits.len() as u64, records: encode(&records).into(), is_last }
        }
        CatchUpRequest::Executed { from, .. } => {
            let from = usize::try_from(*from).unwrap() - 1;
            let items: Vec<Bytes> = world.commits.iter().skip(from).take(4).map(|executed| encode(&**executed).into()).collect();
            // Every fourth answer is a commit in parts, as if it were large.
            if from % 4 == 0 && !items.is_empty() { part(&items[0], 0) } else { CatchUpAnswer::Executed(items) }
        }
        CatchUpRequest::ExecutedPart { index, offset } => {
            let whole: Bytes = encode(&*world.commits[usize::try_from(*index).unwrap() - 1]).into();
            part(&whole, usize::try_from(*offset).unwrap())
        }
    }
}

fn part(whole: &Bytes, offset: usize) -> CatchUpAnswer {
    if offset >= whole.len() {
        return CatchUpAnswer::Refused;
    }
    let end = whole.len().min(offset + 300);
    CatchUpAnswer::Part { total_bytes: whole.len() as u64, bytes: whole.slice(offset..end) }
}

/// Who plays the peers. `None`: no answer.
pub(crate) trait Peers {
    fn answer(&mut self, ask: &CatchUpAsk<u8>) -> Option<CatchUpAnswer>;
}

impl<F: FnMut(&CatchUpAsk<u8>) -> Option<CatchUpAnswer>> Peers for F {
    fn answer(&mut self, ask: &CatchUpAsk<u8>) -> Option<CatchUpAnswer> {
        self(ask)
    }
}

/// Runs to the end: the outcome, who was given up, and how long it took.
pub(crate) fn run(catch_up: &mut CatchUp<u8>, peers: &mut impl Peers) -> (CatchUpOutcome, Vec<(u8, PeerFault)>, u64) {
    let verifier = verifier();
    for now_ms in (0..3_600_000).step_by(50) {
        for ask in catch_up.poll(now_ms) {
            if let Some(answer) = peers.answer(&ask) {
                catch_up.answer(ask.id, answer, now_ms + 20, &verifier);
            }
        }
        if let Some(outcome) = catch_up.outcome() {
            assert!(catch_up.poll(now_ms).is_empty(), "nothing is asked after the end");
            return (outcome, catch_up.given_up(), now_ms);
        }
    }
    panic!("no end: {:?}", catch_up.progress());
}

pub(crate) fn start(world: &World, peers: std::ops::Range<u8>) -> CatchUp<u8> {
    CatchUp::new(config(world), EpochChain::from_genesis(&world.genesis).unwrap(), 0, peers, 0)
}

/// A chain of three epochs and some hundred records.
pub(crate) fn grown() -> World {
    let mut world = World::new(300);
    for validators in [1..5, 2..7] {
        for _ in 0..23 {
            world.step(4);
        }
        world.end_epoch(equal(validators));
    }
    for _ in 0..12 {
        world.step(4);
    }
    world
}

pub(crate) fn installed(outcome: CatchUpOutcome) -> Box<Installed> {
    match outcome {
        CatchUpOutcome::Installed(installed) => installed,
        other => panic!("{other:?}"),
    }
}

/// What is installed is exactly what `world` had at that checkpoint, and enough to go on with.
pub(crate) fn assert_exact(installed: &Installed, world: &World) {
    let checkpoint = &installed.checkpoint.checkpoint;
    let at = usize::try_from(checkpoint.index - 1).unwrap();
    assert_eq!(installed.checkpoint, world.checkpoints[at]);
    let expected: &State = &world.states[at];
    assert_eq!(&installed.records, expected);
    assert_eq!((installed.tree.root(), installed.tree.records()), (checkpoint.state_root, expected.len() as u64));
    let last = installed.last_commit();
    assert_eq!((last.index, last.digest()), (checkpoint.last_commit, checkpoint.last_commit_digest));
    let first = installed.executed[0].commit.index;
    let all: Vec<&ExecutedCommit> = world.commits.iter().map(|c| &**c).filter(|c| (first..=last.index).contains(&c.commit.index)).collect();
    assert!(installed.executed.iter().map(|c| &**c).eq(all));
    assert_committed(installed, world, last);
    let ends = world.epoch_ends().filter(|end| end.checkpoint.index <= checkpoint.index);
    assert!(installed.epoch_ends.iter().eq(ends));
    assert_eq!(installed.checkpoints().last(), Some(&installed.checkpoint));
    let epoch = checkpoint.epoch + u64::from(checkpoint.next_epoch.is_some());
    assert_eq!(installed.committee().epoch(), epoch);
}

/// No block that a later commit could bring again is missing.
fn assert_committed(installed: &Installed, world: &World, last: &Commit) {
    let gc_round = last.leader.round.saturating_sub(world.genesis.parameters.gc_depth);
    let floor = gc_round.max(installed.committee().start_round());
    let before = world.commits.iter().map(|c| &c.commit).filter(|c| c.index <= last.index);
    let mut expected: Vec<BlockRef> = before.flat_map(|c| c.blocks.iter().copied()).filter(|b| b.round > floor).collect();
    expected.sort_unstable();
    assert_eq!(installed.committed(), expected);
}

#[test]
fn a_validator_that_lost_everything_gets_the_state_of_a_certified_checkpoint_while_the_chain_moves_on() {
    let mut world = grown();
    let mut steps = 0;
    let mut catch_up = start(&world, 0..3);
    let (outcome, given_up, _) = run(&mut catch_up, &mut |ask: &CatchUpAsk<u8>| {
        let answer = honest(&world, &ask.request);
        steps += 1;
        // Faster than pages are read, and the validators change on the way.
        world.step(5);
        if steps == 9 {
            world.end_epoch(equal(3..7));
        }
        Some(answer)
    });
    let installed = installed(outcome);
    assert_eq!(given_up, []);
    assert_exact(&installed, &world);
    assert!(installed.checkpoint.checkpoint.last_commit > 60 && installed.committee().epoch() == 3);

    // The same checkpoints come of it as at the others.
    let checkpoint = &installed.checkpoint.checkpoint;
    let (chain, parameters) = (world.genesis.chain_id(), &world.genesis.parameters);
    let mut builder = CheckpointBuilder::new(chain, parameters, Some(checkpoint), installed.tree.clone(), Vec::<ExecutedCommit>::new());
    let later = world.commits.iter().filter(|c| c.commit.index > checkpoint.last_commit);
    let made: Vec<_> = later.filter_map(|executed| builder.on_executed(executed, None)).collect();
    let expected: Vec<_> = world.checkpoints.iter().map(|c| c.checkpoint.clone()).filter(|c| c.index > checkpoint.index).collect();
    assert!(!made.is_empty());
    assert_eq!(made, expected);
}

#[test]
fn whenever_catching_up_begins_the_result_is_exact() {
    let mut world = World::new(90);
    for seed in 0..60 {
        let mut moving = world.clone();
        for _ in 0..seed {
            moving.random(2);
        }
        let mut catch_up = start(&moving, 0..2);
        let (outcome, given_up, _) = run(&mut catch_up, &mut |ask: &CatchUpAsk<u8>| {
            let answer = honest(&moving, &ask.request);
            for _ in 0..moving.random(4) {
                moving.step(2);
            }
            (moving.random(5) > 0).then_some(answer)
        });
        if seed < 4 && moving.checkpoints.is_empty() {
            assert!(matches!(outcome, CatchUpOutcome::NothingNewer), "{outcome:?}");
        } else if !matches!(outcome, CatchUpOutcome::NothingNewer | CatchUpOutcome::Failed) {
            assert_eq!(given_up.iter().filter(|(_, fault)| *fault != PeerFault::Silent).count(), 0, "seed {seed}: {given_up:?}");
            assert_exact(&installed(outcome), &moving);
        }
        world.step(1);
        if seed % 20 == 19 {
            let first = u8::try_from(seed / 20).unwrap();
            world.end_epoch(equal(first..first + 4));
        }
    }
}

#[test]
fn a_checkpoint_that_ends_its_epoch_begins_the_next_one() {
    let mut world = grown();
    world.end_epoch(equal(3..7));
    let mut catch_up = start(&world, 0..2);
    let (outcome, given_up, _) = run(&mut catch_up, &mut |ask: &CatchUpAsk<u8>| Some(honest(&world, &ask.request)));
    let installed = installed(outcome);
    assert_exact(&installed, &world);
    assert_eq!((installed.committee(), given_up), (&*world.committee, vec![]));
    assert_eq!(installed.committed(), []);
}

#[test]
fn one_who_was_only_away_begins_with_the_epoch_it_knows() {
    let mut world = grown();
    let end = world.epoch_ends().next().unwrap().checkpoint.clone();
    let mut catch_up = CatchUp::new(config(&world), EpochChain::after(end).unwrap(), 30, 0..2, 0);
    let (outcome, ..) = run(&mut catch_up, &mut |ask: &CatchUpAsk<u8>| {
        world.step(1);
        Some(honest(&world, &ask.request))
    });
    let installed = installed(outcome);
    assert_eq!(installed.epoch_ends.len(), 1, "the one end that was not known");
    assert_eq!(installed.records, world.states[usize::try_from(installed.checkpoint.checkpoint.index).unwrap() - 1]);
}

#[test]
fn one_who_is_not_behind_is_told_so_at_once() {
    let world = grown();
    let last = world.checkpoints.last().unwrap().checkpoint.last_commit;
    let end = world.epoch_ends().last().unwrap().checkpoint.clone();
    let mut catch_up = CatchUp::new(config(&world), EpochChain::after(end).unwrap(), last, 0..3, 0);
    let (outcome, given_up, took_ms) = run(&mut catch_up, &mut |ask: &CatchUpAsk<u8>| Some(honest(&world, &ask.request)));
    assert!(matches!(outcome, CatchUpOutcome::NothingNewer));
    assert_eq!((given_up, took_ms), (vec![], 50));

    let fresh = World::new(3);
    let (outcome, ..) = run(&mut start(&fresh, 0..3), &mut |ask: &CatchUpAsk<u8>| Some(honest(&fresh, &ask.request)));
    assert!(matches!(outcome, CatchUpOutcome::NothingNewer), "a chain without a checkpoint");
}

#[test]
fn when_the_network_is_idle_the_next_checkpoint_is_waited_for() {
    let mut world = grown();
    // The state is two commits ahead of the newest checkpoint, and nothing happens for a while.
    while world.commits.len() as u64 != world.checkpoints.last().unwrap().checkpoint.last_commit + 2 {
        world.step(1);
    }
    let covered = world.checkpoints.len();
    let mut asked = 0;
    let (outcome, given_up, took_ms) = run(&mut start(&world, 0..3), &mut |ask: &CatchUpAsk<u8>| {
        asked += 1;
        if asked > 60 && world.checkpoints.len() == covered {
            world.step(1);
        }
        Some(honest(&world, &ask.request))
    });
    assert_eq!(given_up, []);
    assert!(took_ms > 5_000);
    let installed = installed(outcome);
    assert_eq!(installed.checkpoint.checkpoint.index, covered as u64 + 1);
    assert_exact(&installed, &world);
}
