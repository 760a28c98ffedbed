//! Reading what people type: amounts, durations, assets.

use super::error::CliError;
use kaldrix_client::Client;
use kaldrix_types::{AssetId, NATIVE_DECIMALS, NATIVE_SYMBOL, format_amount, parse_amount};
use std::time::Duration;

/// An asset with what is needed to write its amounts.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub(crate) symbol: String,
    pub(crate) decimals: u8,
}

impl Unit {
    /// KDX.
    pub(crate) fn native() -> Self {
        Self { symbol: NATIVE_SYMBOL.to_owned(), decimals: NATIVE_DECIMALS }
    }

    /// The asset's symbol and decimals, asked of the ledger unless it is KDX.
    pub(crate) async fn of(client: &Client, asset: AssetId) -> Result<Self, CliError> {
        if asset == AssetId::NATIVE {
            return Ok(Self::native());
        }
        let info = client.asset(asset).await?;
        Ok(Self { symbol: info.symbol, decimals: info.decimals })
    }

    /// Reads an amount: with decimals, or in smallest units when `raw`.
    pub(crate) fn parse(&self, text: &str, raw: bool) -> Result<u128, CliError> {
        let decimals = if raw { 0 } else { self.decimals };
        let hint = if raw { " (--raw counts smallest units)" } else { "" };
        parse_amount(text, decimals).map_err(|e| CliError::Usage(format!("{text:?}: {e}{hint}")))
    }

    /// Writes an amount with its symbol.
    pub(crate) fn format(&self, amount: u128) -> String {
        format!("{} {}", format_amount(amount, self.decimals), self.symbol)
    }
}

/// Reads `10s`, `500ms`, `2m`; a plain number means seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let bad = || format!("{text:?} is not a duration: write 500ms, 10s or 2m");
    let number: u64 = number.parse().map_err(|_| bad())?;
    let ms = match unit {
        "ms" => Some(number),
        "" | "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        _ => None,
    };
    ms.filter(|ms| *ms <= 86_400_000).map(Duration::from_millis).ok_or_else(bad)
}

/// Reads an asset id, or `KDX`.
pub(crate) fn asset(text: &str) -> Result<AssetId, String> {
    if text.eq_ignore_ascii_case(NATIVE_SYMBOL) {
        return Ok(AssetId::NATIVE);
    }
    text.parse().map_err(|e| format!("{text:?} is neither KDX nor an asset id: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_a_plain_number_is_seconds() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10s"), duration("10"));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "s", "1h30", "-1", "1.5s", "99999999999999999999"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn amounts_are_decimal_unless_raw() {
        let kdx = Unit::native();
        assert_eq!(kdx.parse("1.5", false).unwrap(), 1_500_000_000_000_000_000);
        assert_eq!(kdx.parse("15", true).unwrap(), 15);
        assert_eq!(kdx.parse("1.5", true).unwrap_err().code(), "USAGE");
        assert_eq!(kdx.format(1_500_000_000_000_000_000), "1.5 KDX");
    }

    #[test]
    fn the_native_asset_has_a_name() {
        assert_eq!(asset("kdx"), Ok(AssetId::NATIVE));
        assert!(asset("gold").unwrap_err().contains("KDX"));
    }
}
