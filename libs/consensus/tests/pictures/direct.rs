//! Slots that are decided by their own votes, or not at all.

use crate::support::check;

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
fn an_epoch_that_begins_at_a_later_round_has_its_first_leader_one_round_above() {
    // 42 mod 4 = 2: C leads round 42, D round 43. Nobody leads round 41, where the genesis blocks are.
    check(
        "validators A B C D from 41
         42: *
         43: *
         =>
         44: *
         => C42 direct-commit
         45: * -A
         => D43 direct-commit",
    );
}
