//! The commit rule in pictures. Leaders go round: B leads round 1, C round 2, D round 3, A round 4, B round 5.

use kaldrix_consensus::{Committer, HeaderDag, LeaderDecision, RoundRobin, Wave};
use kaldrix_testkit::dag::Picture;
use std::sync::Arc;

fn describe(picture: &Picture, decided: &LeaderDecision) -> String {
    let subject =
        decided.block.map_or_else(|| format!("{}{}", Picture::author_name(decided.author), decided.round), |b| picture.name_of(&b));
    format!("{subject} {}", decided.decision.as_str())
}

/// Checks the decisions from scratch, those after every single block (with a cursor, and idempotent), and that neither says more than drawn.
fn check_with(leaders_per_round: u32, text: &str) {
    let picture = Picture::parse(text);
    let wave = Wave::new(leaders_per_round, picture.committee.size());
    let schedule = RoundRobin::new(picture.committee.size());
    let mut dag = HeaderDag::new(Arc::clone(&picture.committee), 0);
    let mut running = Committer::new(wave, schedule);
    let mut ends: Vec<LeaderDecision> = Vec::new();
    for block in &picture.blocks {
        assert_eq!(dag.insert(block.reference, Arc::clone(&block.header), false), Ok(true));
        let cursor = ends.last().map(LeaderDecision::slot);
        let new = running.try_decide(&dag, cursor);
        assert_eq!(new, running.try_decide(&dag, cursor), "idempotent");
        ends.extend(new);
    }
    let decided = Committer::new(wave, schedule).try_decide(&dag, None);
    let found: Vec<String> = decided.iter().map(|d| describe(&picture, d)).collect();
    assert_eq!(found, picture.expected);
    let blocks = |decided: &[LeaderDecision]| decided.iter().map(|d| (d.slot(), d.author, d.block)).collect::<Vec<_>>();
    assert_eq!(blocks(&ends), blocks(&decided), "deciding early must not change the end");
}

fn check(text: &str) {
    check_with(1, text);
}

#[test]
fn a_leader_with_a_quorum_of_certificates_is_committed_directly() {
    check(
        "validators A B C D
         1: *
         2: *
         3: * -D
         => B1 direct-commit",
    );
}

#[test]
fn one_certificate_less_than_a_quorum_decides_nothing() {
    check(
        "validators A B C D
         1: *
         2: *
         3: A B",
    );
}

#[test]
fn a_certificate_needs_a_quorum_of_supports_among_its_own_parents() {
    // A2, B2 and C2 support B1, but D3 saw only two of them: two certificates.
    check(
        "validators A B C D
         1: *
         2: * D(-B)
         3: A(A B C) B(A B C) D(A B D)",
    );
}

#[test]
fn a_leader_that_a_quorum_does_not_support_is_skipped_directly() {
    check(
        "validators A B C D
         1: *
         2: A(-B) B C(-B) D(-B)
         => B1 direct-skip",
    );
}

#[test]
fn a_leader_that_made_no_block_is_skipped_as_soon_as_a_quorum_went_on_without_it() {
    check(
        "validators A B C D
         1: * -B
         2: * -B
         3: * -B
         4: * -B
         => B1 direct-skip
         => C2 direct-commit",
    );
}

#[test]
fn a_leader_without_enough_direct_votes_is_committed_by_a_certificate_under_the_anchor() {
    // Only A3 is a certificate of B1; the anchor A4 has it among its parents.
    check(
        "validators A B C D
         1: *
         2: * D(-B)
         3: A(A B C) B(A B D) C(A C D) D(B C D)
         4: *
         5: *
         6: *
         => B1 indirect-commit
         => C2 direct-commit
         => D3 direct-commit
         => A4 direct-commit",
    );
}

#[test]
fn a_leader_without_a_certificate_under_the_anchor_is_skipped() {
    check(
        "validators A B C D
         1: *
         2: A B C(-B) D(-B)
         3: *
         4: *
         5: *
         6: *
         => B1 indirect-skip
         => C2 direct-commit
         => D3 direct-commit
         => A4 direct-commit",
    );
}

#[test]
fn a_certificate_that_the_anchor_does_not_reach_commits_nothing() {
    // D3 is the only certificate of B1, and nobody links it before the anchor A4 is made.
    check(
        "validators A B C D
         1: *
         2: A B C(-B) D
         3: A(A B C) B(A B C) C(A B C) D(A B D)
         4: A(A B C) B(A B C) C(A B C)
         5: A(A B C) B(A B C) C(A B C)
         6: A(A B C) B(A B C) C(A B C)
         => B1 indirect-skip
         => C2 direct-commit
         => D3 direct-skip
         => A4 direct-commit",
    );
}

#[test]
fn a_chain_of_undecided_slots_waits_and_is_decided_at_once_by_one_anchor() {
    let undecided = "validators A B C D
         1: *
         2: A B C(-B) D(-B)
         3: A(-C) B(-C) C D
         4: A(-D) B(-D) C D
         5: A B C(-A) D(-A)
         6: A B C D
         7: A B";
    check(undecided);
    // A round more and B5 is committed; it is the anchor of C2 and B1, A4 waits for C6.
    check(&format!(
        "{undecided} C D
         8: *
         9: *
         10: *
         => B1 indirect-skip
         => C2 indirect-skip
         => D3 indirect-skip
         => A4 indirect-skip
         => B5 direct-commit
         => C6 direct-commit
         => D7 direct-commit
         => A8 direct-commit"
    ));
}

#[test]
fn an_undecided_slot_that_might_be_the_anchor_holds_up_the_ones_before_it() {
    // B1 has no quorum either way. A4, its first candidate, is supported by half: undecided, so the committed B5 may not be used.
    check(
        "validators A B C D
         1: *
         2: A B C(-B) D(-B)
         3: *
         4: *
         5: A B C(-A) D(-A)
         6: *
         7: *",
    );
}

#[test]
fn skipped_slots_are_passed_over_in_the_search_for_an_anchor() {
    // A4 is missing: the anchor of B1 is B5.
    check(
        "validators A B C D
         1: *
         2: A B C(-B) D(-B)
         3: *
         4: * -A
         5: *
         6: *
         7: *
         => B1 indirect-skip
         => C2 direct-commit
         => D3 direct-commit
         => A4 direct-skip
         => B5 direct-commit",
    );
}

#[test]
fn an_equivocating_leader_whose_blocks_have_half_the_support_each_is_skipped() {
    // Every block of round 2 supports one of the two, so nothing is skipped directly; neither can have a certificate.
    check(
        "validators A B C D
         1: * B'
         2: A B C(* B1') D(* B1')
         3: *
         4: *
         5: *
         6: *
         => B1 indirect-skip
         => C2 direct-commit
         => D3 direct-commit
         => A4 direct-commit",
    );
}

#[test]
fn an_equivocating_leader_can_have_one_of_its_blocks_committed() {
    check(
        "validators A B C D
         1: * B'
         2: A(* B1') B C(* B1') D(* B1')
         3: A(A C D) B(A C D B) C(A C D) D(A C D)
         => B1' direct-commit",
    );
}

#[test]
fn a_supporter_that_equivocates_counts_as_one() {
    // A supports B1 with A2 and not with A2' and A2''. Three blocks are against B1, but only two authors: A and C.
    check(
        "validators A B C D
         1: *
         2: A A'(-B) A''(-B) B C(-B) D",
    );
}

#[test]
fn the_certificates_of_one_author_count_as_one() {
    check(
        "validators A B C D
         1: *
         2: *
         3: A A' A'' B",
    );
}

#[test]
fn a_weak_link_to_the_leader_is_no_support() {
    // A2, C2 and D2 were made without B1 and link it weakly a round later.
    check(
        "validators A B C D
         1: *
         2: A(-B) B C(-B) D(-B)
         3: A(A C D B1) C(A C D B1) D(A C D B1)
         => B1 direct-skip",
    );
}

#[test]
fn a_certificate_that_the_anchor_reaches_by_a_weak_link_only_does_not_commit() {
    // Seven validators, quorum five. D3 is the only certificate of B1 and nobody's strong parent. D and E stop, so the anchor of B1 is F5,
    // which links D3 weakly: the block is in F5's commit, but it decides nothing.
    let text = "validators A B C D E F G
         1: *
         2: A B C D E F(-B) G(-B)
         3: A(A B C F G) B(A B C F G) C(A B C F G) D(A B C D E) E(A B E F G) F(A B C F G) G(A B C F G)
         4: A(-D) B(-D) C(-D) F(-D) G(-D)
         5: A B C F(* D3) G
         6: A B C F G
         7: A B C F G
         => B1 indirect-skip
         => C2 direct-commit
         => D3 direct-skip
         => E4 direct-skip
         => F5 direct-commit";
    check(text);
    // As a strong parent of a block under the anchor it does (and D3 is no longer skipped: one of five supports it).
    let strong = text.replace("4: A(-D)", "4: A").replace("5: A B C F(* D3)", "5: A B C F");
    let strong = strong.replace("B1 indirect-skip", "B1 indirect-commit");
    check(strong.split("=> D3").next().expect("the part before"));
}

#[test]
fn with_several_leaders_per_round_the_slots_are_decided_in_order() {
    // Round 1: B, C; round 2: C, D. C1 is missing.
    check_with(
        2,
        "validators A B C D
         1: * -C
         2: *
         3: *
         4: *
         => B1 direct-commit
         => C1 direct-skip
         => C2 direct-commit
         => D2 direct-commit",
    );
}

#[test]
fn with_several_leaders_per_round_the_first_committed_slot_of_a_later_round_is_the_anchor() {
    // B1 is undecided by its votes. A4 is missing, so the anchor is the other slot of round 4, B4.
    check_with(
        2,
        "validators A B C D
         1: *
         2: A B C(-B) D(-B)
         3: *
         4: * -A
         5: *
         6: *
         => B1 indirect-skip
         => C1 direct-commit
         => C2 direct-commit
         => D2 direct-commit
         => D3 direct-commit
         => A3 direct-commit
         => A4 direct-skip
         => B4 direct-commit",
    );
}

#[test]
fn an_undecided_slot_holds_up_the_decided_ones_of_its_own_round() {
    check_with(
        3,
        "validators A B C D
         1: *
         2: A B C(-B) D(-B)
         3: *",
    );
}

#[test]
fn stake_counts_and_not_the_number_of_validators() {
    // Total 10, quorum 7: A and B alone decide (C makes no block 2), three and even four validators without A do not.
    check(
        "validators A=5 B=2 C=1 D=1 E=1
         1: *
         2: A(A B) B(A B)
         3: A(A B) B(A B)
         => B1 direct-commit
         => C2 direct-skip",
    );
    check(
        "validators A=5 B=2 C=1 D=1 E=1
         1: *
         2: * A(-B)
         3: B(B C D E) C(B C D E) D(B C D E) E(B C D E)",
    );
}
