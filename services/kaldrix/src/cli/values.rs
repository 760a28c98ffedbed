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

/// Writes milliseconds since 1970 as a date and a time of day (UTC). Days are counted as in Howard Hinnant's "chrono-compatible low-level date
/// algorithms": years begin in March, so that a leap day is a year's last.
pub(crate) fn utc(ms: u64) -> String {
    let (day, of_day) = (ms / 86_400_000 + 719_468, ms % 86_400_000);
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (seconds, ms) = (of_day / 1_000, of_day % 1_000);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}.{ms:03} UTC", seconds / 3_600, seconds / 60 % 60, seconds % 60)
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
    fn times_are_dates() {
        assert_eq!(utc(0), "1970-01-01 00:00:00.000 UTC");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00.000 UTC");
        assert_eq!(utc(1_700_000_000_123), "2023-11-14 22:13:20.123 UTC");
        assert_eq!(utc(4_107_542_399_999), "2100-02-28 23:59:59.999 UTC");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01 00:00:00.000 UTC");
        assert!(utc(u64::MAX).ends_with("UTC"));
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
