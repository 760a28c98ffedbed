//! When to propose: quorum, leaders, timeouts, idling, jumps, recovery. Four validators; A is the own one; B leads round 1, C round 2, …

use kaldrix_consensus::{Action, ConsensusCore, CoreConfig, Recovered, Refusal, RoundRobin};
use kaldrix_testkit::dag::{Picture, header};
use kaldrix_types::{BlockRef, Round, ValidatorIndex};
use std::sync::Arc;

const CONFIG: CoreConfig =
    CoreConfig { min_round_delay_ms: 50, idle_round_delay_ms: 500, leader_timeout_ms: 250, gc_depth: 10, leaders_per_round: 1 };

const FULL: &str = "validators A B C D
    1: *
    2: *
    3: *
    4: *
    5: *
    6: *";

const NOTHING: [Round; 0] = [];

struct Run {
    picture: Picture,
    core: ConsensusCore,
}

impl Run {
    fn recovering(text: &str, config: CoreConfig, own_last_round: Round) -> Self {
        let picture = Picture::parse(text);
        let recovered = Recovered { last_commit: None, own_last_round };
        let leaders = RoundRobin::new(picture.committee.size());
        let core = ConsensusCore::new(Arc::clone(&picture.committee), ValidatorIndex(0), config, leaders, recovered, 0);
        Self { picture, core }
    }

    /// Busy from the start, and has asked for round 1 at time 0.
    fn started(text: &str, config: CoreConfig) -> Self {
        let mut run = Self::recovering(text, config, 0);
        assert_eq!(proposed(&run.core.on_pending(true, 0)), NOTHING);
        assert_eq!(proposed(&run.core.finish_recovery(0)), [1]);
        run
    }

    fn see(&mut self, names: &str, now_ms: u64) -> Vec<Round> {
        let mut rounds = Vec::new();
        for name in names.split_whitespace() {
            let reference = self.picture.reference(name);
            let header = self.picture.blocks.iter().find(|b| b.reference == reference).expect("drawn").header.clone();
            let actions = self.core.on_header(reference, header, false, now_ms);
            assert!(!actions.iter().any(|a| matches!(a, Action::Refused { .. })), "{name}: {actions:?}");
            rounds.extend(proposed(&actions));
        }
        rounds
    }

    fn tick(&mut self, now_ms: u64) -> Vec<Round> {
        proposed(&self.core.on_tick(now_ms))
    }
}

fn proposed(actions: &[Action]) -> Vec<Round> {
    actions.iter().filter_map(|a| if let Action::Propose { round } = a { Some(*round) } else { None }).collect()
}

#[test]
fn the_next_round_is_due_with_a_quorum_and_the_leader_after_the_round_delay() {
    let mut run = Run::started(FULL, CONFIG);
    assert_eq!(run.see("A1 B1", 10), NOTHING);
    assert_eq!(run.core.next_deadline_ms(), None, "without a quorum only a header can help");
    assert_eq!(run.see("C1", 20), NOTHING);
    assert_eq!(run.core.next_deadline_ms(), Some(50));
    assert_eq!(run.tick(49), NOTHING);
    assert_eq!(run.tick(50), [2]);
    assert_eq!(run.tick(60), NOTHING, "once per round");
    assert_eq!(run.see("D1", 60), NOTHING);
    // A slow quorum: the round delay is long over.
    assert_eq!(run.see("A2 B2 C2", 300), [3]);
}

#[test]
fn a_leader_that_is_missing_is_waited_for_until_the_timeout() {
    let mut run = Run::started(FULL, CONFIG);
    assert_eq!(run.see("A1 C1 D1", 100), NOTHING);
    assert_eq!(run.core.next_deadline_ms(), Some(350));
    assert_eq!(run.tick(349), NOTHING);
    assert_eq!(run.tick(350), [2]);

    let mut run = Run::started(FULL, CONFIG);
    run.see("A1 C1 D1", 100);
    assert_eq!(run.see("B1", 180), [2], "it comes late, but it comes");
}

#[test]
fn with_several_leaders_per_round_all_of_them_are_waited_for() {
    let mut run = Run::started(FULL, CoreConfig { leaders_per_round: 2, ..CONFIG });
    assert_eq!(run.see("A1 B1 D1", 100), NOTHING);
    assert_eq!(run.see("C1", 120), [2]);
}

#[test]
fn without_a_round_delay_rounds_follow_at_network_speed() {
    let mut run = Run::started(FULL, CoreConfig { min_round_delay_ms: 0, ..CONFIG });
    assert_eq!(run.see("A1 B1 C1 D1", 0), [2]);
    assert_eq!(run.see("A2 B2 C2", 0), [3]);
}

#[test]
fn with_nothing_to_order_rounds_slow_down_and_a_transaction_wakes_them() {
    let mut run = Run::recovering(FULL, CONFIG, 0);
    assert_eq!(proposed(&run.core.finish_recovery(0)), [1]);
    assert_eq!(run.see("A1 B1 C1 D1", 10), NOTHING);
    assert_eq!(run.core.next_deadline_ms(), Some(500));
    assert_eq!(run.tick(499), NOTHING);
    assert_eq!(run.tick(500), [2]);
    run.see("A2 B2 C2 D2", 510);
    assert_eq!(proposed(&run.core.on_pending(true, 530)), NOTHING, "the least delay still holds");
    assert_eq!(run.core.next_deadline_ms(), Some(550));
    assert_eq!(run.tick(550), [3]);
    run.see("A3 B3 C3 D3", 560);
    run.core.on_pending(false, 570);
    assert_eq!(run.core.next_deadline_ms(), Some(1050));
    assert_eq!(proposed(&run.core.on_pending(true, 700)), [4], "at once");
}

#[test]
fn transactions_of_others_keep_the_rounds_fast_until_they_are_ordered() {
    let mut run = Run::recovering(FULL, CONFIG, 0);
    run.core.finish_recovery(0);
    run.see("A1 B1 C1", 10);
    assert_eq!(run.core.next_deadline_ms(), Some(500));
    // D1 again, with a transaction; B2 links it.
    let committee = Arc::clone(&run.picture.committee);
    let mut loaded = header(&committee, 1, ValidatorIndex(3), 1000, committee.genesis_blocks());
    loaded.parents.rotate_right(1);
    loaded.transaction_count = 1;
    let d1 = loaded.reference();
    run.core.on_header(d1, Arc::new(loaded), false, 20);
    assert_eq!(run.core.next_deadline_ms(), Some(50), "there is something to order");

    let mut parents: Vec<BlockRef> = ["A1", "B1", "C1"].iter().map(|n| run.picture.reference(n)).collect();
    parents.push(d1);
    for round in 2..=5u64 {
        let now_ms = round * 50;
        let mut next = Vec::new();
        for (position, author) in committee.indices().enumerate() {
            let mut own_first = parents.clone();
            own_first.swap(0, position);
            let header = header(&committee, round, author, round * 1000, own_first);
            let reference = header.reference();
            run.core.on_header(reference, Arc::new(header), false, now_ms);
            next.push(reference);
        }
        parents = next;
        let committed = run.core.status().last_commit >= 2;
        assert_eq!(committed, round >= 4, "C2 brings D1 once round 4 certifies it");
        assert_eq!(run.core.next_deadline_ms().is_some_and(|t| t > now_ms + 50), committed, "then there is nothing left to do");
        run.tick(now_ms + 40);
    }
}

#[test]
fn a_validator_that_lags_jumps_to_the_round_of_the_quorum() {
    let mut run = Run::started(
        "validators A B C D
         1: *
         2: * -A
         3: * -A
         4: * -A",
        CONFIG,
    );
    run.see("A1 B1 C1 D1 B2 C2 D2 B3 C3 D3", 20);
    assert_eq!(run.see("B4 C4", 30), NOTHING);
    assert_eq!(run.core.status().round, 4);
    assert_eq!(run.tick(50), [4]);
    assert_eq!(run.see("D4", 110), NOTHING, "the leader of round 4 is A itself: its block is not here yet");
    assert_eq!(run.tick(360), [5]);
}

#[test]
fn nothing_is_proposed_at_or_below_the_last_own_round() {
    let text = "validators A B C D
        1: *
        2: * -A
        3: * -A";
    let mut run = Run::recovering(text, CONFIG, 2);
    run.core.on_pending(true, 0);
    assert_eq!(proposed(&run.core.finish_recovery(0)), NOTHING);
    assert_eq!(run.see("A1 B1 C1 D1", 10), NOTHING);
    // Peers report an own block of round 3.
    run.core.note_own_round(3);
    assert_eq!(run.see("B2 C2 D2", 20), NOTHING);
    assert_eq!(run.see("B3 C3 D3", 30), [4]);
}

#[test]
fn own_blocks_in_the_replay_count_as_proposed_and_the_replay_proposes_nothing() {
    let mut run = Run::recovering(FULL, CONFIG, 0);
    run.core.on_pending(true, 0);
    assert_eq!(run.see("A1 B1 C1 D1 A2 B2 C2 D2 A3 B3", 0), NOTHING);
    assert_eq!(run.core.next_deadline_ms(), None);
    assert_eq!(run.core.status().last_commit, 0);
    assert_eq!(run.see("C3", 0), NOTHING);
    assert_eq!(run.core.status().last_commit, 1, "commits go on in the replay");
    assert_eq!(proposed(&run.core.finish_recovery(5_000)), NOTHING, "D, the leader of round 3, is waited for from now on");
    assert_eq!(run.core.next_deadline_ms(), Some(5_250));
    assert_eq!(run.see("D3", 5_010), [4]);
}

#[test]
fn a_proposal_that_never_came_is_asked_for_again_in_a_new_session_only() {
    let mut run = Run::started(FULL, CONFIG);
    assert_eq!(run.tick(10_000), NOTHING);
    assert_eq!(proposed(&run.core.on_new_session(10_000)), [1]);
    assert_eq!(run.tick(20_000), NOTHING);
    // Once it is there, a new session changes nothing.
    run.see("A1", 20_010);
    assert_eq!(proposed(&run.core.on_new_session(20_020)), NOTHING);
}

#[test]
fn a_header_without_its_parents_is_refused_and_so_is_one_from_far_ahead() {
    let mut run = Run::started(FULL, CONFIG);
    let find = |run: &Run, name: &str| run.picture.blocks.iter().find(|b| b.name == name).expect("drawn").clone();
    let b2 = find(&run, "B2");
    let missing = Refusal::MissingParent(b2.header.parents[0]);
    let refused = vec![Action::Refused { block: b2.reference, why: missing }];
    assert_eq!(run.core.on_header(b2.reference, Arc::clone(&b2.header), false, 0), refused);

    let far = header(&run.picture.committee, 1_001, ValidatorIndex(1), 0, Vec::new());
    let refused = vec![Action::Refused { block: far.reference(), why: Refusal::TooFarAhead { round: 1_001, highest: 0 } }];
    assert_eq!(run.core.on_header(far.reference(), Arc::new(far), false, 0), refused);
    assert_eq!((run.core.status().refused, run.core.status().headers), (2, 0));
    // Nothing is lost by it.
    assert_eq!(run.see("A1 B1 C1 D1 B2", 100), [2]);
}

#[test]
fn memory_holds_the_rounds_above_the_cut_only() {
    let text = (1..=60).fold("validators A B C D\n".to_owned(), |text, round| text + &format!("{round}: *\n"));
    let mut run = Run::started(&text, CONFIG);
    let names: Vec<String> = run.picture.blocks.iter().map(|b| b.name.clone()).collect();
    run.see(&names.join(" "), 0);
    let status = run.core.status();
    assert_eq!((status.last_commit, status.last_decided, status.gc_round), (58, 58, 48));
    assert_eq!(status.headers, 12 * 4);
    // Old news are ignored, without a complaint.
    assert_eq!(run.see("A1 B48", 0), NOTHING);
    assert_eq!(run.core.status().refused, 0);
}
