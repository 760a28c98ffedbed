//! When to propose: quorum, leaders, timeouts, idling, jumps, recovery. Four validators; A is the own one; B leads round 1, C round 2, …

use kaldrix_consensus::{Action, ConsensusCore, CoreConfig, Recovered, Refusal, RoundRobin};
use kaldrix_testkit::dag::{Picture, header};
use kaldrix_types::{BlockRef, Round, ValidatorIndex};
use std::sync::Arc;

/// Waits for leaders do not adapt here, except where a test says so.
const CONFIG: CoreConfig = CoreConfig {
    min_round_delay_ms: 50,
    idle_round_delay_ms: 500,
    leader_timeout_ms: 250,
    leader_timeout_min_ms: 250,
    leader_timeout_max_ms: 250,
    gc_depth: 10,
    leaders_per_round: 1,
    schedule_commits: 0,
    epoch_ends_at_ms: None,
};

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

const ADAPTIVE: CoreConfig = CoreConfig { leader_timeout_min_ms: 50, leader_timeout_max_ms: 1_000, ..CONFIG };

/// Rounds one after the other, each with `quorum` at once and `late` a time after it. Returns how long after the quorum of each round the next
/// one was proposed.
fn paces(run: &mut Run, rounds: std::ops::RangeInclusive<Round>, quorum: &str, late: Option<(&str, u64)>) -> Vec<u64> {
    let names = |authors: &str, round| authors.split_whitespace().map(|a| format!("{a}{round}")).collect::<Vec<_>>().join(" ");
    let mut paces = Vec::new();
    for round in rounds {
        let start_ms = round * 10_000;
        let mut proposed_at = run.see(&names(quorum, round), start_ms).first().map(|_| 0);
        let (mut elapsed, mut arrival) = (0, late);
        while proposed_at.is_none() || arrival.is_some() {
            let deadline = run.core.next_deadline_ms().map(|t| t - start_ms);
            elapsed = deadline.into_iter().chain(arrival.map(|(_, after)| after)).min().expect("something is to come");
            let asked = if arrival.is_some_and(|(_, after)| after == elapsed) {
                run.see(&names(arrival.take().expect("just seen").0, round), start_ms + elapsed)
            } else {
                run.tick(start_ms + elapsed)
            };
            proposed_at = proposed_at.or((!asked.is_empty()).then_some(elapsed));
        }
        paces.push(proposed_at.unwrap_or(elapsed));
    }
    paces
}

fn rounds_of(authors: &str, rounds: Round) -> String {
    (1..=rounds).fold("validators A B C D\n".to_owned(), |text, round| text + &format!("{round}: {authors}\n"))
}

#[test]
fn a_leader_that_hangs_while_connected_costs_one_full_wait_and_the_least_one_from_then_on() {
    // B stops after round 4, and would lead 5, 9, 13, 17, …
    let text = (1..=24)
        .fold("validators A B C D\n".to_owned(), |text, round| text + &format!("{round}: *{}\n", if round > 4 { " -B" } else { "" }));
    let mut run = Run::started(&text, ADAPTIVE);
    assert_eq!(paces(&mut run, 1..=4, "A B C D", None), [0; 4]);
    let waits = paces(&mut run, 5..=24, "A C D", None);
    let (turns, others): (Vec<_>, Vec<_>) = (5u64..).zip(waits).partition(|(round, _)| round % 4 == 1);
    assert!(others.iter().all(|(_, wait)| *wait == 0));
    let turns: Vec<u64> = turns.into_iter().map(|(_, wait)| wait).collect();
    assert!((50..=250).contains(&turns[0]), "{turns:?}");
    assert_eq!(turns[1..], [50; 4]);
}

#[test]
fn a_leader_that_is_always_late_is_waited_for_a_little_longer_than_it_takes() {
    let mut run = Run::started(&rounds_of("*", 60), ADAPTIVE);
    let waits = paces(&mut run, 1..=60, "A C D", Some(("B", 120)));
    let turns: Vec<u64> = waits.iter().skip(32).step_by(4).copied().collect();
    assert_eq!(turns, [120; 7], "rounds 33, 37, …: it is waited for, and no longer than it takes");
    assert!(waits.iter().skip(33).step_by(4).all(|wait| *wait == 0), "where it does not lead nobody waits for it");
    // When it falls silent the wait is near to what it took.
    let mut run = Run::started(&rounds_of("*", 60), ADAPTIVE);
    paces(&mut run, 1..=52, "A C D", Some(("B", 120)));
    let wait = paces(&mut run, 53..=53, "A C D", None)[0];
    assert!((120..200).contains(&wait), "{wait}");
}

#[test]
fn a_network_that_becomes_slower_is_waited_for_again_after_a_turn_or_two() {
    let mut run = Run::started(&rounds_of("*", 80), ADAPTIVE);
    assert_eq!(paces(&mut run, 1..=40, "A B C D", None), [0; 40]);
    let waits = paces(&mut run, 41..=80, "A C D", Some(("B", 400)));
    let turns: Vec<u64> = waits.iter().step_by(4).copied().collect();
    assert_eq!(turns[0], 50, "nobody knew: {turns:?}");
    assert_eq!(turns[2..], [400; 8], "{turns:?}");
}

#[test]
fn one_without_a_seat_follows_and_never_proposes() {
    let picture = Picture::parse(FULL);
    let leaders = RoundRobin::new(4);
    let mut core = ConsensusCore::new(Arc::clone(&picture.committee), ValidatorIndex::OBSERVER, CONFIG, leaders, Recovered::default(), 0);
    let mut actions = core.on_pending(true, 0);
    actions.extend(core.finish_recovery(0));
    for block in &picture.blocks {
        actions.extend(core.on_header(block.reference, Arc::clone(&block.header), false, 100));
        actions.extend(core.on_tick(100_000));
    }
    assert_eq!(core.next_deadline_ms(), None);
    assert_eq!(actions.len(), 4);
    assert!(actions.iter().all(|a| matches!(a, Action::Commit(_))));
}

#[test]
fn after_an_epochs_last_commit_rounds_go_on_at_full_speed_and_commit_nothing() {
    // D3 is the first leader whose parents are of time 2,000.
    let mut run = Run::recovering(&rounds_of("*", 30), CoreConfig { epoch_ends_at_ms: Some(2_000), ..CONFIG }, 0);
    run.core.finish_recovery(0);
    paces(&mut run, 1..=5, "A B C D", None);
    assert!(run.core.status().is_epoch_over);
    let last = run.core.status().last_commit;
    for round in 6..=30u64 {
        let names = ["A", "B", "C", "D"].map(|author| format!("{author}{round}"));
        run.see(&names.join(" "), 60_000 + round * 50);
        assert_eq!(run.tick(60_000 + round * 50 + 49), if round == 6 { vec![] } else { NOTHING.to_vec() });
        assert_eq!(run.core.status().round, round + 1);
        let asked_soon = run.core.next_deadline_ms().is_none_or(|t| t <= 60_000 + (round + 1) * 50);
        assert!(asked_soon, "the idle delay does not hold up the votes");
    }
    assert_eq!(run.core.status().last_commit, last);
}

#[test]
fn an_epoch_that_begins_at_a_later_round_proposes_the_round_above_it() {
    let mut run = Run::recovering(
        "validators A B C D from 40
         41: *
         42: *",
        CONFIG,
        0,
    );
    run.core.on_pending(true, 0);
    assert_eq!(proposed(&run.core.finish_recovery(0)), [41], "nobody leads round 40, so nobody is waited for");
    assert_eq!(run.see("A41 B41 C41", 60), [42]);
    assert_eq!(run.core.status().gc_round, 40);
}

#[test]
fn rounds_without_a_commit_slow_down_at_the_bound_and_speed_up_with_the_next_commit() {
    // Every leader is supported by itself and one more: neither skipped nor committed, round after round. From 510 on all support all.
    let letters = ["A", "B", "C", "D"];
    let split = |round: usize| {
        let (leader, friend) = ((round - 1) % 4, round % 4);
        let block =
            |i: usize| if i == leader || i == friend { letters[i].to_owned() } else { format!("{}(-{})", letters[i], letters[leader]) };
        (0..4).map(block).collect::<Vec<_>>().join(" ")
    };
    let text = (1..=520).fold("validators A B C D\n".to_owned(), |text, round| {
        text + &format!("{round}: {}\n", if (2..510).contains(&round) { split(round) } else { "*".to_owned() })
    });
    let mut run = Run::started(&text, CONFIG);
    let names = |round: Round| letters.map(|author| format!("{author}{round}")).join(" ");
    for round in 1..=498 {
        run.see(&names(round), round * 10_000);
        assert!(run.core.next_deadline_ms().is_none_or(|due| due <= round * 10_000 + 50), "round {round}");
        run.tick(round * 10_000 + 50);
    }
    for round in 499..=508 {
        run.see(&names(round), round * 10_000);
    }
    assert_eq!(run.see(&names(509), 5_090_000), [510]);
    assert_eq!(run.see(&names(510), 5_090_010), NOTHING);
    assert_eq!(run.core.status().last_commit, 0);
    assert_eq!(run.core.next_deadline_ms(), Some(5_092_000), "two seconds after the last one");
    // A leader that is committed by itself decides only the slots three rounds below it: the last two split ones need two more such leaders.
    for (round, now_ms) in [(511, 5_092_000), (512, 5_094_000), (513, 5_096_000)] {
        assert_eq!(run.core.status().last_commit, 0);
        assert_eq!(run.tick(now_ms), [round]);
        run.see(&names(round), now_ms + 10);
    }
    assert!(run.core.status().last_commit > 0);
    assert_eq!(run.core.next_deadline_ms(), Some(5_096_050), "the usual pace at once");
}
