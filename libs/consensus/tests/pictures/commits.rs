//! Commits in pictures: what each leader brings, late blocks, the change of the schedule, the end of an epoch. Leaders go round: round r is led
//! by the validator number r mod 4 (A is 0) as long as nobody is swapped.

use kaldrix_consensus::{Action, ConsensusCore, CoreConfig, DecidedCommit, Recovered, Refusal, RoundRobin};
use kaldrix_testkit::dag::{Picture, committee_in, header};
use kaldrix_types::{BlockRef, Commit, ValidatorIndex};
use std::collections::BTreeSet;
use std::sync::Arc;

fn config() -> CoreConfig {
    CoreConfig { schedule_commits: 0, ..CoreConfig::default() }
}

fn core(picture: &Picture, config: CoreConfig, last_commit: Option<Commit>) -> ConsensusCore {
    let recovered = Recovered { last_commit, own_last_round: 0 };
    let leaders = RoundRobin::new(picture.committee.size());
    ConsensusCore::new(Arc::clone(&picture.committee), ValidatorIndex::OBSERVER, config, leaders, recovered, 0)
}

fn describe(picture: &Picture, decided: &DecidedCommit) -> Vec<String> {
    let skipped = decided.skipped.iter().map(|s| format!("skip {}{}", Picture::author_name(s.author), s.round));
    let commit = &decided.commit;
    let blocks: Vec<String> = commit.blocks.iter().map(|b| picture.name_of(b)).collect();
    let changes = commit.reputation.commits == 0 && !commit.reputation.effective.is_empty();
    let schedule = if changes { ", new schedule" } else { "" };
    let end = if commit.ends_epoch { ", epoch over" } else { "" };
    skipped.chain([format!("{}: {}{schedule}{end}", picture.name_of(&commit.leader), blocks.join(" "))]).collect()
}

fn feed(core: &mut ConsensusCore, picture: &Picture, blocks: &[usize], committed: &BTreeSet<BlockRef>) -> Vec<DecidedCommit> {
    let mut commits = Vec::new();
    for block in blocks.iter().map(|i| &picture.blocks[*i]) {
        for action in core.on_header(block.reference, Arc::clone(&block.header), committed.contains(&block.reference), 0) {
            match action {
                Action::Commit(decided) => commits.push(decided),
                other => panic!("{}: {other:?}", block.name),
            }
        }
    }
    commits
}

/// Checks each stage; then that a core recovered from any one of the commits goes on with the next ones.
fn check(config: CoreConfig, text: &str) -> Vec<DecidedCommit> {
    let picture = Picture::parse(text);
    let mut running = core(&picture, config, None);
    let mut commits = Vec::new();
    let mut next = 0;
    for stage in &picture.stages {
        let new: Vec<usize> = (next..stage.blocks).collect();
        commits.extend(feed(&mut running, &picture, &new, &BTreeSet::new()));
        next = stage.blocks;
        let found: Vec<String> = commits.iter().flat_map(|c| describe(&picture, c)).collect();
        assert_eq!(found, picture.expected[..stage.expected], "with {next} blocks");
    }
    for (i, last) in commits.iter().enumerate() {
        let committed: BTreeSet<BlockRef> = commits[..=i].iter().flat_map(|c| c.commit.blocks.iter().copied()).collect();
        let mut recovered = core(&picture, config, Some(last.commit.clone()));
        let all: Vec<usize> = (0..picture.blocks.len()).collect();
        let again: Vec<Commit> = feed(&mut recovered, &picture, &all, &committed).into_iter().map(|c| c.commit).collect();
        let expected: Vec<Commit> = commits[i + 1..].iter().map(|c| c.commit.clone()).collect();
        assert_eq!(again, expected, "recovered from commit {}", last.commit.index);
    }
    commits
}

#[test]
fn each_leader_brings_what_no_leader_before_it_brought() {
    check(
        config(),
        "validators A B C D
         1: *
         2: *
         3: *
         => B1: B1
         4: *
         => C2: A1 C1 D1 C2
         5: *
         => D3: A2 B2 D2 D3",
    );
}

#[test]
fn a_late_block_is_in_the_commit_of_the_first_leader_that_reaches_it_by_a_weak_link() {
    check(
        config(),
        "validators A B C D
         1: * -D
         2: * -D
         3: * -D
         => B1: B1
         4: * -D
         => C2: A1 C1 C2
         1: D                # late
         5: A B(* D1) C
         =>
         6: A B C
         => skip D3
         => A4: A2 B2 A3 B3 C3 A4
         7: A B C
         => B5: D1 B4 C4 B5",
    );
}

#[test]
fn a_block_that_comes_after_its_round_was_cut_is_in_no_commit() {
    check(
        CoreConfig { gc_depth: 4, ..config() },
        "validators A B C D
         1: * -D
         2: * -D
         3: * -D
         => B1: B1
         4: * -D
         => C2: A1 C1 C2
         5: * -D
         6: * -D
         => skip D3
         => A4: A2 B2 A3 B3 C3 A4
         7: * -D
         => B5: B4 C4 B5
         8: * -D
         => C6: A5 C5 C6
         1: D
         9: A(* D1) B C
         10: * -D
         => skip D7
         => A8: A6 B6 A7 B7 C7 A8
         11: * -D
         => B9: B8 C8 B9
         12: * -D
         => C10: A9 C9 C10",
    );
}

#[test]
fn at_the_end_of_a_period_the_lowest_score_hands_its_slots_to_the_best() {
    // C2 votes for B1: C is the best. Of those without a vote in these two commits D is the last: C leads in its place until the next change.
    let commits = check(
        CoreConfig { schedule_commits: 2, ..config() },
        "validators A B C D
         1: *
         2: *
         3: *
         4: *
         => B1: B1
         => C2: A1 C1 D1 C2, new schedule
         5: *
         => C3: A2 B2 D2 C3
         6: *
         => A4: A3 B3 D3 A4, new schedule",
    );
    let reputations: Vec<_> = commits.iter().map(|c| (c.commit.reputation.commits, c.commit.reputation.effective.clone())).collect();
    // Of commit 3 the votes are A2, B2 and D2 for B1, C3 for C2; of commit 4, A3, B3 and D3 for C2, A4 for C3.
    assert_eq!(reputations, [(1, vec![]), (0, vec![0, 0, 1, 0]), (1, vec![0, 0, 1, 0]), (0, vec![3, 2, 1, 2])]);
}

#[test]
fn what_was_decided_after_the_end_of_a_period_is_decided_again_under_the_new_schedule() {
    // A4 is undecided until the anchor D7 is committed; then A4, B5, C6 and D7 are decided all at once. But C6 ends the period, and in the new
    // one C stands in for D: slot 7 is C's.
    check(
        CoreConfig { schedule_commits: 2, ..config() },
        "validators A B C D from 3
         4: *
         5: A B C(-A) D(-A)
         6: *
         7: *
         8: *
         =>
         9: *
         => skip A4
         => B5: A4 B4 C4 D4 B5
         => C6: A5 C5 D5 C6, new schedule
         => C7: A6 B6 D6 C7",
    );
}

#[test]
fn with_several_leaders_per_round_the_other_slots_of_the_round_that_ends_a_period_are_left_out() {
    // B1, C1 and the first slot of round 2 make a period: the other slot of round 2, D's, is not decided any more.
    check(
        CoreConfig { schedule_commits: 3, leaders_per_round: 2, ..config() },
        "validators A B C D
         1: *
         2: *
         3: *
         => B1: B1
         => C1: C1
         4: *
         => C2: A1 D1 C2, new schedule
         5: * -A -B
         =>
         5: A B
         => C3: A2 B2 D2 C3
         => A3: A3",
    );
}

#[test]
fn the_first_commit_at_the_end_of_an_epoch_is_its_last() {
    // A commit's time is that of the round below its leader: 1,000 ms per round.
    check(
        CoreConfig { epoch_ends_at_ms: Some(2_000), ..config() },
        "validators A B C D
         1: *
         2: *
         3: *
         4: *
         => B1: B1
         => C2: A1 C1 D1 C2
         5: *
         => D3: A2 B2 D2 D3, epoch over
         6: *
         7: *
         8: *
         9: *",
    );
}

#[test]
fn the_first_commit_of_an_epoch_holds_nothing_from_its_start_round_or_below() {
    check(
        config(),
        "validators A B C D from 40
         41: *
         42: *
         43: *
         => B41: B41
         44: *
         => C42: A41 C41 D41 C42",
    );
}

#[test]
fn a_new_epoch_goes_on_with_index_and_time_of_the_one_before_and_begins_reputation_anew() {
    let ending = CoreConfig { epoch_ends_at_ms: Some(2_000), schedule_commits: 2, ..config() };
    let commits = check(
        ending,
        "validators A B C D
         1: *
         2: *
         3: *
         4: *
         5: *
         => B1: B1
         => C2: A1 C1 D1 C2, new schedule
         => C3: A2 B2 D2 C3, epoch over",
    );
    let last = &commits.last().expect("three").commit;
    // D is swapped for C no longer: it leads round 7.
    let picture = Picture::parse(
        "validators A B C D from 3
         4: *
         5: *
         6: *
         7: *
         8: *
         9: *",
    );
    let committee = committee_in(1, 3, &[1; 4]);
    let mut next = ConsensusCore::new(
        Arc::clone(&committee),
        ValidatorIndex(0),
        CoreConfig { epoch_ends_at_ms: None, schedule_commits: 20, ..ending },
        RoundRobin::new(4),
        Recovered { last_commit: Some(last.clone()), own_last_round: 0 },
        0,
    );
    let refused = next.on_header(picture.blocks[0].reference, Arc::clone(&picture.blocks[0].header), false, 0);
    assert!(matches!(refused[..], [Action::Refused { why: Refusal::OtherEpoch(0), .. }]), "a block of the old epoch");

    let mut parents = committee.genesis_blocks();
    let mut found = Vec::new();
    for round in 4..=9 {
        let blocks: Vec<_> = committee
            .indices()
            .map(|author| {
                let mut own_first = parents.clone();
                own_first.swap(0, author.as_usize());
                Arc::new(header(&committee, round, author, 1_000, own_first))
            })
            .collect();
        parents = blocks.iter().map(|h| h.reference()).collect();
        for block in blocks {
            found.extend(next.on_header(block.reference(), block, false, 0));
        }
    }
    let found: Vec<_> = found.into_iter().filter_map(|a| if let Action::Commit(c) = a { Some(c.commit) } else { None }).collect();
    let essence: Vec<_> = found.iter().map(|c| (c.index, c.epoch, c.leader.round, c.leader.author.0, c.reputation.commits)).collect();
    assert_eq!(essence, [(4, 1, 4, 0, 1), (5, 1, 5, 1, 2), (6, 1, 6, 2, 3), (7, 1, 7, 3, 4)]);
    assert_eq!(found[0].previous, last.digest());
    assert_eq!(found[0].gc_round, 3);
    assert!(found.iter().all(|c| c.timestamp_ms == last.timestamp_ms), "time never goes back");
}
