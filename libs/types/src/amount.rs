//! Amounts: u128 in an asset's smallest unit; decimal text for people.

/// Decimals of the native asset.
pub const NATIVE_DECIMALS: u8 = 18;
/// Symbol of the native asset.
pub const NATIVE_SYMBOL: &str = "KDX";

/// Why a text is not an amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not digits with at most one point.
    #[error("not an amount: write digits with at most one decimal point, such as 12.5")]
    Malformed,
    /// More decimals than the asset has.
    #[error("too many decimals: this asset has {decimals}")]
    TooPrecise {
        /// How many the asset has.
        decimals: u8,
    },
    /// Larger than 2^128 - 1 smallest units.
    #[error("the amount is larger than the ledger can hold")]
    Overflow,
}

/// Reads decimal text (`12.5`) as smallest units of an asset with `decimals` decimals.
///
/// # Errors
/// [`AmountError`] when the text is not digits with one point, has too many decimals, or overflows u128.
pub fn parse_amount(text: &str, decimals: u8) -> Result<u128, AmountError> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits_only = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits_only(whole) || !digits_only(fraction) {
        return Err(AmountError::Malformed);
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > usize::from(decimals) {
        return Err(AmountError::TooPrecise { decimals });
    }
    let digits = format!("{whole}{fraction:0<width$}", width = usize::from(decimals));
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Ok(0);
    }
    digits.parse().map_err(|_| AmountError::Overflow)
}

/// Writes smallest units as decimal text without trailing zeroes.
#[must_use]
pub fn format_amount(amount: u128, decimals: u8) -> String {
    let width = usize::from(decimals);
    let digits = format!("{amount:0>width$}", width = width + 1);
    let (whole, fraction) = digits.split_at(digits.len() - width);
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn people_write_amounts_with_a_point() {
        assert_eq!(parse_amount("1", 18), Ok(1_000_000_000_000_000_000));
        assert_eq!(parse_amount("12.50", 2), Ok(1250));
        assert_eq!(parse_amount(".5", 1), Ok(5));
        assert_eq!(parse_amount("0", 0), Ok(0));
        assert_eq!(parse_amount("1.05", 1), Err(AmountError::TooPrecise { decimals: 1 }));
        assert_eq!(parse_amount("-1", 1), Err(AmountError::Malformed));
        assert_eq!(parse_amount(".", 1), Err(AmountError::Malformed));
        assert_eq!(parse_amount("999999999999999999999999999999", 18), Err(AmountError::Overflow));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(amount: u128, decimals in 0u8..=30) {
            prop_assert_eq!(parse_amount(&format_amount(amount, decimals), decimals), Ok(amount));
        }
    }
}
