//! The soak itself.

use super::options::Options;
use crate::say;
use kaldrix_sim::{Outcome, Report, SimConfig, run};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// A progress line once per so many runs.
const PROGRESS: u64 = 500;

#[derive(Debug, Default)]
struct Sum {
    runs: u64,
    passes: u64,
    virtual_seconds: f64,
    commits: u64,
    transactions: u64,
    crashes: u64,
    restarts: u64,
    equivocations: u64,
    epochs: u64,
    checkpoints: u64,
    slowest_ms: (u64, u64),
    failed_seeds: Vec<u64>,
}

/// Runs until the limit or the first failure; returns whether all passed.
pub(crate) fn many(options: &Options) -> bool {
    let start = Instant::now();
    let (next, stop, sum) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::new(Sum::default()));
    say(&format!("runs from seed {} on", options.seed));
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) && options.limit.is_none_or(|limit| start.elapsed() < limit) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= options.runs {
                        break;
                    }
                    let has_passed = one(options, options.seed.wrapping_add(number), &sum, start);
                    stop.fetch_or(!has_passed && !options.keep_going, Ordering::Relaxed);
                }
            });
        }
    });
    let sum = sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    say(&json(&sum, options.seed, start));
    sum.runs == sum.passes
}

fn one(options: &Options, seed: u64, sum: &Mutex<Sum>, start: Instant) -> bool {
    let config = match options.config(seed) {
        Ok(config) => config,
        Err(why) => {
            say(&why);
            return false;
        }
    };
    let began = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| run(&config, &mut |_| {})));
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut sum = sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    sum.runs += 1;
    sum.slowest_ms = sum.slowest_ms.max((took_ms, seed));
    let has_passed = match &result {
        Ok(report) => {
            sum.add(report);
            report.outcome == Outcome::Pass
        }
        Err(_) => false,
    };
    if has_passed {
        sum.passes += 1;
    } else {
        sum.failed_seeds.push(seed);
        say(&failure(&config, result.ok().as_ref()));
    }
    if sum.runs.is_multiple_of(PROGRESS) {
        let per_minute = sum.runs as f64 * 60.0 / start.elapsed().as_secs_f64();
        say(&format!("{} runs, {} passed, {per_minute:.0} a minute, seeds from {} to about {seed}", sum.runs, sum.passes, options.seed));
    }
    has_passed
}

impl Sum {
    fn add(&mut self, report: &Report) {
        self.virtual_seconds += report.virtual_seconds;
        self.commits += report.commits;
        self.transactions += report.transactions.succeeded;
        self.crashes += report.crashes;
        self.restarts += report.restarts;
        self.equivocations += report.equivocations;
        self.epochs += report.epochs;
        self.checkpoints += report.checkpoints;
    }
}

fn failure(config: &SimConfig, report: Option<&Report>) -> String {
    let what = match report {
        None => "PANIC".to_owned(),
        Some(report) => {
            let problem = report.problem.as_ref().map(|p| format!(" at {} ms, validator {:?}: {}", p.at_ms, p.validator, p.what));
            format!("{:?}{}", report.outcome, problem.unwrap_or_default())
        }
    };
    format!("FAILED seed {}: {what}\nfaults:\n{}\nagain: {}", config.seed, config.faults, config.replay())
}

fn json(sum: &Sum, seed: u64, start: Instant) -> String {
    let wall = start.elapsed().as_secs_f64();
    serde_json::json!({
        "runs": sum.runs,
        "passes": sum.passes,
        "failed_seeds": sum.failed_seeds,
        "first_seed": seed,
        "virtual_seconds": sum.virtual_seconds.round(),
        "wall_seconds": (wall * 10.0).round() / 10.0,
        "runs_per_minute": (sum.runs as f64 * 60.0 / wall.max(0.001)).round(),
        "commits": sum.commits,
        "transactions": sum.transactions,
        "crashes": sum.crashes,
        "restarts": sum.restarts,
        "equivocations": sum.equivocations,
        "epochs": sum.epochs,
        "checkpoints": sum.checkpoints,
        "slowest_run": { "ms": sum.slowest_ms.0, "seed": sum.slowest_ms.1 },
    })
    .to_string()
}
