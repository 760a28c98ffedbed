//! The highest rate that is held: doubled until one is not, then bisected.

use crate::args::RampArgs;
use crate::funding::wait_for_quiet;
use crate::limits::require_memory;
use crate::network::Network;
use crate::progress::{result, say};
use crate::report::Report;
use crate::run::{interruptible, measure};
use serde::Serialize;
use std::process::ExitCode;

/// The search ends when the bounds are this close.
const CLOSE: f64 = 1.1;

/// Where the search is.
#[derive(Clone, Copy, Debug)]
struct Search {
    next: Option<u64>,
    held: u64,
    failed: Option<u64>,
    to: u64,
}

impl Search {
    const fn new(from: u64, to: u64) -> Self {
        Self { next: Some(if from < to { from } else { to }), held: 0, failed: None, to }
    }

    /// Takes in what came of the rate that was next.
    fn learn(&mut self, rate: u64, held: bool) {
        if held {
            self.held = self.held.max(rate);
        } else {
            self.failed = Some(self.failed.map_or(rate, |f| f.min(rate)));
        }
        self.next = match self.failed {
            None if self.held >= self.to => None,
            None => Some((self.held * 2).min(self.to)),
            Some(failed) if failed as f64 <= self.held as f64 * CLOSE || failed <= self.held + 1 => None,
            Some(failed) => Some(self.held + (failed - self.held) / 2),
        };
    }
}

#[derive(Serialize)]
struct Step {
    rate: u64,
    held: bool,
    #[serde(flatten)]
    report: Report,
}

#[derive(Serialize)]
struct Found {
    highest_rate_held: u64,
    p99_ms_max: u64,
    seconds: u64,
    steps: Vec<Step>,
}

/// `ramp`
pub(crate) async fn ramp(args: RampArgs) -> anyhow::Result<ExitCode> {
    require_memory(args.to.saturating_mul(args.seconds), args.target.scheme)?;
    let network = Network::open(&args.target).await?;
    let outcome = interruptible(search(&network, &args)).await;
    network.close().await;
    let found = outcome?;
    if args.target.json {
        say(&table(&found));
        result(&serde_json::to_string(&found)?);
    } else {
        result(&table(&found));
    }
    Ok(if found.highest_rate_held == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn search(network: &Network, args: &RampArgs) -> anyhow::Result<Found> {
    let mut search = Search::new(args.from, args.to);
    let mut steps = Vec::new();
    while let Some(rate) = search.next
        && steps.len() < args.steps as usize
    {
        wait_for_quiet(&network.clients(1)?[0]).await?;
        let report = measure(network, &args.target, rate, rate * args.seconds, false).await?;
        let held = report.is_complete() && report.latency_ms.p99 <= args.p99_ms as f64;
        say(&format!("{rate}/s {}: {} final/s, p99 {} ms", verdict(held), report.tps, report.latency_ms.p99));
        search.learn(rate, held);
        steps.push(Step { rate, held, report });
    }
    Ok(Found { highest_rate_held: search.held, p99_ms_max: args.p99_ms, seconds: args.seconds, steps })
}

const fn verdict(held: bool) -> &'static str {
    if held { "held" } else { "not held" }
}

fn table(found: &Found) -> String {
    let mut text = format!(
        "{:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}\n",
        "rate/s", "", "final", "not final", "final/s", "p50 ms", "p99 ms", "CPU µs/tx"
    );
    for step in &found.steps {
        let r = &step.report;
        text.push_str(&format!(
            "{:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}\n",
            step.rate,
            verdict(step.held),
            r.finals,
            r.offered + r.not_offered - r.finals,
            r.tps,
            r.latency_ms.p50,
            r.latency_ms.p99,
            r.cpu_us_per_tx
        ));
    }
    text.push_str(&format!(
        "highest rate held: {}/s (everything FINAL, p99 ≤ {} ms, {} s each)",
        found.highest_rate_held, found.p99_ms_max, found.seconds
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(limit: u64, from: u64, to: u64) -> (u64, usize) {
        let mut search = Search::new(from, to);
        let mut steps = 0;
        while let Some(rate) = search.next {
            search.learn(rate, rate <= limit);
            steps += 1;
            assert!(steps < 40, "the search ends");
        }
        (search.held, steps)
    }

    #[test]
    fn the_search_comes_within_a_tenth_of_the_true_limit() {
        for limit in [600, 2_345, 7_000, 19_999] {
            let (held, steps) = find(limit, 500, 20_000);
            assert!(held <= limit && held as f64 * CLOSE * 1.05 >= limit as f64, "{limit}: {held}");
            assert!(steps <= 12, "{steps}");
        }
    }

    #[test]
    fn the_search_ends_at_its_bounds() {
        assert_eq!(find(1_000_000, 500, 2_000).0, 2_000);
        assert_eq!(find(0, 500, 2_000).0, 0);
        assert_eq!(find(10, 500, 2_000).0, 10);
    }
}
