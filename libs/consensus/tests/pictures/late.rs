//! Blocks that come after blocks of higher rounds.

use crate::support::check;

#[test]
fn a_late_leader_block_does_not_undo_its_skip() {
    check(
        "validators A B C D
         1: * -B
         2: * -B
         => B1 direct-skip
         1: B
         =>
         2: B
         3: * B
         =>
         4: *
         => C2 direct-commit",
    );
}

#[test]
fn a_late_support_makes_the_certificates_that_were_missing() {
    // D2 comes after round 3: as the parent of late blocks of round 3 only it counts.
    check(
        "validators A B C D
         1: *
         2: A B(-B) C
         =>
         2: D
         3: A(A C D) C(A C D) D(A C D)
         => B1 direct-commit",
    );
}

#[test]
fn a_late_certificate_that_the_anchor_has_not_seen_agrees_with_it() {
    // A3 and B3 certify B1, the anchor A4 reaches both. C3 comes late and would have made a quorum of certificates: the same end.
    check(
        "validators A B C D
         1: *
         2: *
         3: A B D(-A)
         4: A(A B D) B(A B D) D(A B D)
         5: A B D
         6: A B
         => B1 direct-commit
         => C2 direct-commit
         => D3 direct-commit
         3: C
         =>
         6: D
         => A4 direct-commit",
    );
}
