//! Slots that an anchor decides, and those that wait for one.

use crate::support::check;

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
fn an_anchor_may_itself_be_committed_by_a_later_anchor() {
    // B1 and A4 are each certified by one block only. D7, once committed, is the anchor of A4; A4 is then the anchor of B1.
    check(
        "validators A B C D
         1: *
         2: * D(-B)
         3: A(A B C) B(A B D) C(A C D) D(B C D)
         4: *
         5: * D(-A)
         6: A(A B C) B(A B D) C(A C D) D(B C D)
         7: *
         8: *
         =>
         9: *
         => B1 indirect-commit
         => C2 direct-commit
         => D3 direct-commit
         => A4 indirect-commit
         => B5 direct-commit
         => C6 direct-commit
         => D7 direct-commit",
    );
}
