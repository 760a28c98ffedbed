//! Validators of unequal stake.

use crate::support::check;

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

#[test]
fn with_unequal_stake_a_heavy_validators_late_block_decides_alone() {
    // Total 10, quorum 7. Without A the others hold 5: neither end is reached. A's support makes 7 with B's; its certificate too.
    check(
        "validators A=5 B=2 C=1 D=1 E=1
         1: *
         2: * -A
         =>
         2: A
         3: A B
         => B1 direct-commit",
    );
}
