//! Shares of amounts that need more than 128 bits on the way.

/// ⌊amount · part / whole⌋ without overflow, for `part` ≤ `whole`; 0 when `whole` is 0.
///
/// Long multiplication and division in one: quotient and remainder of the product so far are doubled bit by bit (Knuth, The Art of Computer
/// Programming, volume 2, section 4.3.1, in base 2). 128 steps.
pub(crate) fn share(amount: u128, part: u128, whole: u128) -> u128 {
    debug_assert!(part <= whole && whole < 1 << 127);
    if whole == 0 {
        return 0;
    }
    let (mut quotient, mut remainder) = (0u128, 0u128);
    let mut add = |quotient: &mut u128, addend: u128| {
        remainder += addend;
        if remainder >= whole {
            remainder -= whole;
            *quotient += 1;
        }
        remainder
    };
    for bit in (0..u128::BITS).rev() {
        quotient <<= 1;
        let doubled = add(&mut quotient, 0);
        add(&mut quotient, doubled);
        if amount >> bit & 1 == 1 {
            add(&mut quotient, part);
        }
    }
    quotient
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_amounts_are_shared_exactly() {
        assert_eq!(share(u128::MAX, 1, 1), u128::MAX);
        assert_eq!(share(u128::MAX, 1, 2), u128::MAX / 2);
        assert_eq!(share(u128::MAX, (1 << 127) - 2, (1 << 127) - 1), u128::MAX - 3);
        assert_eq!(share(0, 1, 2), 0);
        assert_eq!(share(7, 0, 0), 0);
        assert_eq!(share(10, 3, 3), 10);
    }

    proptest! {
        #[test]
        fn a_share_is_the_rounded_down_product(amount in 0u128..1 << 64, parts in (0u128..1 << 63, 1u128..1 << 63)) {
            let (part, whole) = (parts.0.min(parts.1), parts.1);
            prop_assert_eq!(share(amount, part, whole), amount * part / whole);
        }

        #[test]
        fn shares_never_sum_to_more_than_the_amount(amount: u128, parts in prop::collection::vec(0u128..1 << 100, 1..9)) {
            let whole: u128 = parts.iter().sum();
            let sum = parts.iter().try_fold(0u128, |sum, part| sum.checked_add(share(amount, *part, whole)));
            prop_assert!(sum.is_some_and(|sum| sum <= amount));
            prop_assert!(whole == 0 || amount - sum.unwrap() < parts.len() as u128);
        }
    }
}
