//! Several leader slots in each round.

use crate::support::check_with;

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
fn with_several_leaders_per_round_an_equivocating_one_does_not_hold_up_the_other_for_ever() {
    // B equivocates with half the support each; C1 is committed at once but waits for B1's turn, which the anchor A4 ends.
    check_with(
        2,
        "validators A B C D
         1: * B'
         2: A B C(* B1') D(* B1')
         3: *
         4: *
         5: *
         =>
         6: *
         => B1 indirect-skip
         => C1 direct-commit
         => C2 direct-commit
         => D2 direct-commit
         => D3 direct-commit
         => A3 direct-commit
         => A4 direct-commit
         => B4 direct-commit",
    );
}
