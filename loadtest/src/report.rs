//! What a run came to.

use hdrhistogram::Histogram;
use kaldrix_client::{ClientError, Receipt, TransactionStatus};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Latencies above this are recorded as this.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// How one transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// FINAL, and it took effect.
    Final,
    /// FINAL without effect, with the code.
    Failed(String),
    /// Accepted, and not FINAL before the wait ran out.
    Pending,
    /// Refused or expired, with the code.
    Refused(String),
    /// No answer, with the client's code.
    Unanswered(String),
}

impl Outcome {
    pub(crate) fn of(answer: Result<Receipt, ClientError>) -> Self {
        match answer {
            Ok(receipt) if receipt.is_final_success() => Self::Final,
            Ok(receipt) => {
                let code = receipt.code.unwrap_or_else(|| receipt.status.to_string());
                match receipt.status {
                    TransactionStatus::Final | TransactionStatus::Checkpointed => Self::Failed(code),
                    TransactionStatus::Rejected | TransactionStatus::Expired => Self::Refused(code),
                    TransactionStatus::Accepted | TransactionStatus::Included => Self::Pending,
                }
            }
            Err(ClientError::Api(error)) => Self::Refused(error.code.to_string()),
            Err(error) => Self::Unanswered(error.code().to_owned()),
        }
    }
}

/// Counts and latencies while a run is going on.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) offered: u64,
    pub(crate) not_offered: u64,
    pub(crate) finals: u64,
    pub(crate) failed: u64,
    pub(crate) pending: u64,
    pub(crate) refused: u64,
    pub(crate) unanswered: u64,
    /// Codes of everything that is not FINAL with effect.
    pub(crate) codes: BTreeMap<String, u64>,
    /// Due time → FINAL, in µs.
    pub(crate) latency_us: Histogram<u64>,
    /// From the start to the last FINAL.
    pub(crate) last_final: Duration,
}

impl Default for Tally {
    fn default() -> Self {
        let latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are constants");
        Self {
            offered: 0,
            not_offered: 0,
            finals: 0,
            failed: 0,
            pending: 0,
            refused: 0,
            unanswered: 0,
            codes: BTreeMap::new(),
            latency_us,
            last_final: Duration::ZERO,
        }
    }
}

impl Tally {
    /// Records an outcome that was known `now` after the start, of a transaction that was due at `due`.
    pub(crate) fn record(&mut self, outcome: Outcome, due: Duration, now: Duration) {
        if matches!(outcome, Outcome::Final | Outcome::Failed(_)) {
            let micros = u64::try_from(now.saturating_sub(due).as_micros()).unwrap_or(u64::MAX);
            self.latency_us.saturating_record(micros);
            self.last_final = self.last_final.max(now);
        }
        let (counter, code) = match outcome {
            Outcome::Final => (&mut self.finals, None),
            Outcome::Failed(code) => (&mut self.failed, Some(code)),
            Outcome::Pending => (&mut self.pending, Some("NOT_FINAL_IN_TIME".to_owned())),
            Outcome::Refused(code) => (&mut self.refused, Some(code)),
            Outcome::Unanswered(code) => (&mut self.unanswered, Some(code)),
        };
        *counter += 1;
        if let Some(code) = code {
            *self.codes.entry(code).or_default() += 1;
        }
    }

    /// How many have ended.
    pub(crate) const fn ended(&self) -> u64 {
        self.finals + self.failed + self.pending + self.refused + self.unanswered
    }

    /// A latency quantile in ms, with one decimal.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> f64 {
        one_decimal(self.latency_us.value_at_quantile(quantile) as f64 / 1_000.0)
    }
}

fn one_decimal(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Latencies in ms from the time a transaction was due to the FINAL answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

/// The last line of stdout with `--json`. Scripts depend on the names.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Sent at their time.
    pub(crate) offered: u64,
    /// Taken in by a validator.
    pub(crate) accepted: u64,
    /// FINAL, and took effect.
    #[serde(rename = "final")]
    pub(crate) finals: u64,
    /// Finals per second, from the first due time to the last FINAL.
    pub(crate) tps: f64,
    pub(crate) latency_ms: Latency,
    /// User and system time of the network's processes per final transaction; 0 when it was not started by us.
    pub(crate) cpu_us_per_tx: f64,
    /// Sum over the network's processes; 0 when it was not started by us.
    pub(crate) peak_rss_mb: f64,
    pub(crate) rounds_per_s: f64,
    /// FINAL without effect.
    pub(crate) failed: u64,
    /// Accepted and not FINAL before the wait ran out.
    pub(crate) pending: u64,
    pub(crate) refused: u64,
    pub(crate) unanswered: u64,
    /// Due while too many were in flight, or after an earlier one of the same account had not made it.
    pub(crate) not_offered: u64,
    pub(crate) codes: BTreeMap<String, u64>,
    pub(crate) rate: u64,
    pub(crate) accounts: u32,
    pub(crate) scheme: String,
    /// With `--verify`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) verified: Option<bool>,
}

/// What was measured beside the tally.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measured {
    /// CPU time of the network's processes during the run, µs.
    pub(crate) cpu_us: u64,
    /// Peak resident memory of the network's processes, KiB.
    pub(crate) peak_rss_kib: u64,
    pub(crate) rounds: u64,
    /// Between the two looks at the round.
    pub(crate) elapsed: Duration,
}

impl Report {
    pub(crate) fn new(tally: &Tally, measured: &Measured, rate: u64, accounts: u32, scheme: String) -> Self {
        let per_second = |count: u64, time: Duration| if time.is_zero() { 0.0 } else { one_decimal(count as f64 / time.as_secs_f64()) };
        Self {
            offered: tally.offered,
            accepted: tally.finals + tally.failed + tally.pending,
            finals: tally.finals,
            tps: per_second(tally.finals, tally.last_final),
            latency_ms: Latency {
                p50: tally.quantile_ms(0.5),
                p90: tally.quantile_ms(0.9),
                p99: tally.quantile_ms(0.99),
                max: one_decimal(tally.latency_us.max() as f64 / 1_000.0),
            },
            cpu_us_per_tx: one_decimal(measured.cpu_us as f64 / tally.finals.max(1) as f64),
            peak_rss_mb: one_decimal(measured.peak_rss_kib as f64 / 1024.0),
            rounds_per_s: per_second(measured.rounds, measured.elapsed),
            failed: tally.failed,
            pending: tally.pending,
            refused: tally.refused,
            unanswered: tally.unanswered,
            not_offered: tally.not_offered,
            codes: tally.codes.clone(),
            rate,
            accounts,
            scheme,
            verified: None,
        }
    }

    /// Whether everything that was due was offered and became FINAL with effect.
    pub(crate) const fn is_complete(&self) -> bool {
        self.not_offered == 0 && self.finals == self.offered
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let l = &self.latency_ms;
        let mut text = format!(
            "offered {} at {}/s by {} accounts ({})\naccepted {}, final {}, failed {}, pending {}, refused {}, unanswered {}, not offered {}\n\
             {} final/s; due → FINAL p50 {} ms, p90 {} ms, p99 {} ms, max {} ms\n{} rounds/s",
            self.offered,
            self.rate,
            self.accounts,
            self.scheme,
            self.accepted,
            self.finals,
            self.failed,
            self.pending,
            self.refused,
            self.unanswered,
            self.not_offered,
            self.tps,
            l.p50,
            l.p90,
            l.p99,
            l.max,
            self.rounds_per_s,
        );
        if self.cpu_us_per_tx > 0.0 {
            text.push_str(&format!("; network: {} µs CPU per transaction, {} MiB at its peak", self.cpu_us_per_tx, self.peak_rss_mb));
        }
        for (code, count) in &self.codes {
            text.push_str(&format!("\n  {count} × {code}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_stall_shows_in_every_transaction_it_delayed() {
        // 100 due every 10 ms; the ledger answers at once, but nothing between 0.2 s and 1.2 s.
        let mut tally = Tally::default();
        for i in 0..100 {
            let due = ms(i * 10);
            let answered = if (20..100).contains(&i) { ms(1_200) } else { due + ms(5) };
            tally.offered += 1;
            tally.record(Outcome::Final, due, answered);
        }
        assert!((tally.quantile_ms(0.1) - 5.0).abs() < 0.1);
        assert!((tally.quantile_ms(0.99) - 990.0).abs() < 12.0, "{}", tally.quantile_ms(0.99));
        assert!(tally.quantile_ms(0.5) > 500.0, "half of them waited: {}", tally.quantile_ms(0.5));
    }

    #[test]
    fn the_json_line_has_the_promised_shape() {
        let mut tally = Tally { offered: 3, ..Tally::default() };
        tally.record(Outcome::Final, ms(0), ms(100));
        tally.record(Outcome::Failed("INSUFFICIENT_BALANCE".into()), ms(0), ms(500));
        tally.record(Outcome::Refused("MEMPOOL_FULL".into()), ms(0), ms(100));
        let measured = Measured { cpu_us: 2_000, peak_rss_kib: 2_048, rounds: 20, elapsed: ms(2_000) };
        let report = Report::new(&tally, &measured, 10, 2, "ml-dsa-65".into());
        assert!(!report.is_complete());
        let json = serde_json::to_value(&report).unwrap();
        for (name, value) in [
            ("offered", 3.0),
            ("accepted", 2.0),
            ("final", 1.0),
            ("tps", 2.0),
            ("cpu_us_per_tx", 2_000.0),
            ("peak_rss_mb", 2.0),
            ("rounds_per_s", 10.0),
        ] {
            assert_eq!(json[name].as_f64(), Some(value), "{name}");
        }
        for name in ["p50", "p90", "p99", "max"] {
            assert!(json["latency_ms"][name].is_number(), "{name}");
        }
        assert_eq!(json["codes"]["MEMPOOL_FULL"], 1);
    }

    #[test]
    fn an_answer_is_told_from_no_answer() {
        let unanswered = Outcome::of(Err(ClientError::Timeout { waited_ms: 5 }));
        assert_eq!(unanswered, Outcome::Unanswered("TIMEOUT".into()));
        let refused = Outcome::of(Err(ClientError::Api(kaldrix_api::ErrorCode::MempoolFull.into())));
        assert_eq!(refused, Outcome::Refused("MEMPOOL_FULL".into()));
    }
}
