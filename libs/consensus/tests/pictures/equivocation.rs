//! Validators that make two blocks in a round.

use crate::support::check;

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
