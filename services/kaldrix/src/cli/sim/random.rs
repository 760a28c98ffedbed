//! `kaldrix sim random`: many short runs, each with its own network, rules and faults, until one of them fails.

use super::{bar, watched};
use crate::cli::OutputOptions;
use crate::cli::error::CliError;
use crate::cli::output::{Output, fields};
use clap::Args;
use kaldrix_sim::{Outcome, Regions, Report, SimConfig, random_faults};
use serde::Serialize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// `sim random`
#[derive(Debug, Args)]
#[command(
    after_help = "Run number i of seed K is always the same run; each can be had again by the one command that is printed when it fails."
)]
pub(super) struct RandomArgs {
    /// How many runs
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// Where all of them come from (default: another one each time)
    #[arg(long, value_name = "K")]
    seed: Option<u64>,
    /// Virtual seconds of payments of each run
    #[arg(long, value_name = "S", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Runs at once (default: one per processor)
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    #[command(flatten)]
    pub(super) output: OutputOptions,
}

/// What all runs found together.
#[derive(Debug, Default, Serialize)]
struct Summary {
    outcome: Option<Outcome>,
    seed: u64,
    runs: u64,
    passed: u64,
    virtual_seconds: f64,
    commits: u64,
    transactions: u64,
    crashes: u64,
    equivocations: u64,
    epochs: u64,
    wall_ms: u64,
    /// The first run that failed.
    failure: Option<Failure>,
}

#[derive(Debug, Serialize)]
struct Failure {
    run: u64,
    outcome: Outcome,
    problem: String,
    faults: String,
    replay: String,
}

/// Steele, Lea and Flood's SplitMix64: numbers that are spread well over consecutive seeds.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Run number `run` of `seed`: everything about it follows from the two.
fn config(seed: u64, run: u64, seconds: u64) -> SimConfig {
    let own = mix(mix(seed) ^ run);
    let pick = |what: u64, choices: &[u64]| choices[usize::try_from(mix(own ^ (what << 56)) % choices.len() as u64).unwrap_or(0)];
    let validators = usize::try_from(pick(1, &[4, 4, 4, 4, 5, 6, 7, 7, 10])).unwrap_or(4);
    let regions = if pick(2, &[0, 0, 1]) == 1 { Regions::Aws } else { Regions::Lan };
    let rate = u32::try_from(pick(3, &[5, 20, 30, 50])).unwrap_or(20);
    // Seeds that a person can type.
    let mut config = SimConfig::new(validators, regions, seconds, rate, own % 1_000_000_000);
    config.parameters.leaders_per_round = u32::try_from(pick(4, &[1, 1, 1, 2, 3])).unwrap_or(1);
    config.parameters.schedule_commits = u32::try_from(pick(5, &[300, 300, 10, 25])).unwrap_or(300);
    config.parameters.epoch_ms = pick(6, &[3_600_000, 3_600_000, 1_000, 2_000]);
    let script = mix(own ^ (7 << 56)) % 1_000_000_000;
    config.with_faults(random_faults(script, validators, seconds))
}

/// True: all passed.
pub(super) fn run(args: &RandomArgs) -> Result<bool, CliError> {
    let seed = args.seed.unwrap_or_else(|| rand::random::<u32>().into());
    let output = Output::new(args.output);
    let jobs = args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).clamp(1, 64);
    let started = Instant::now();
    let bar = bar(args.runs, "{bar:30} {pos} of {len} runs, {msg}, {eta} left");
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let summary = Mutex::new(Summary { seed, ..Summary::default() });
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let run = next.fetch_add(1, Ordering::Relaxed);
                    if run >= args.runs {
                        break;
                    }
                    let config = config(seed, run, args.seconds);
                    let result = watched(&config, &mut |_| {});
                    let mut summary = summary.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    summary.add(run, &config, result);
                    stop.fetch_or(summary.failure.is_some(), Ordering::Relaxed);
                    bar.inc(1);
                    bar.set_message(format!("{:.0} virtual seconds", summary.virtual_seconds));
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut summary = summary.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    summary.outcome = Some(summary.failure.as_ref().map_or(Outcome::Pass, |failure| failure.outcome));
    summary.wall_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    output.show(&summary, || text(&summary));
    if let Some(failure) = &summary.failure {
        output.hint(&format!("the same run again: {}", failure.replay));
    }
    Ok(summary.failure.is_none())
}

impl Summary {
    fn add(&mut self, run: u64, config: &SimConfig, result: Result<Report, String>) {
        self.runs += 1;
        let failure = |outcome, problem| Failure { run, outcome, problem, faults: config.faults.to_string(), replay: config.replay() };
        let found = match result {
            Ok(report) => {
                self.virtual_seconds += report.virtual_seconds;
                self.commits += report.commits;
                self.transactions += report.transactions.succeeded;
                self.crashes += report.crashes;
                self.equivocations += report.equivocations;
                self.epochs += report.epochs;
                if report.outcome == Outcome::Pass {
                    self.passed += 1;
                    return;
                }
                let problem = report.problem.map(|p| format!("at {} ms: {}", p.at_ms, p.what)).unwrap_or_default();
                failure(report.outcome, problem)
            }
            Err(panic) => failure(Outcome::Diverged, format!("a core panicked: {panic}")),
        };
        // Several may fail before all threads have stopped: the same one is told each time.
        if self.failure.as_ref().is_none_or(|known| known.run > run) {
            self.failure = Some(found);
        }
    }
}

fn text(summary: &Summary) -> String {
    let s = summary;
    let mut pairs = vec![
        ("virtual time", format!("{:.0} s in {:.1} s", s.virtual_seconds, s.wall_ms as f64 / 1_000.0)),
        ("commits", format!("{} in {} epochs, {} payments took effect", s.commits, s.epochs, s.transactions)),
        ("went wrong", format!("{} crashes, {} equivocations", s.crashes, s.equivocations)),
    ];
    if let Some(failure) = &s.failure {
        pairs.push(("run", format!("{}: {:?}", failure.run, failure.outcome)));
        pairs.push(("problem", failure.problem.clone()));
        pairs.extend(failure.faults.lines().map(|line| ("fault", line.to_owned())));
    }
    format!("{} of {} runs of seed {} passed\n{}", s.passed, s.runs, s.seed, fields(&pairs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_is_one_that_the_simulator_takes_and_follows_from_seed_and_number() {
        for run in 0..300 {
            let config = config(5, run, 4);
            assert_eq!(config.check(), Ok(()), "{}", config.replay());
            assert_eq!(config, self::config(5, run, 4));
        }
        assert_ne!(config(5, 1, 4), config(5, 2, 4));
        assert_ne!(config(5, 1, 4), config(6, 1, 4));
    }

    #[test]
    fn the_first_failing_run_is_told_whichever_thread_was_faster() {
        let mut summary = Summary::default();
        for run in [9, 3, 5] {
            summary.add(run, &config(1, run, 4), Err("boom".into()));
        }
        let failure = summary.failure.as_ref().unwrap();
        assert_eq!((failure.run, failure.outcome, summary.runs, summary.passed), (3, Outcome::Diverged, 3, 0));
        let words = text(&summary);
        assert!(words.contains("0 of 3 runs") && words.contains("a core panicked: boom"), "{words}");
        assert!(failure.replay.starts_with("kaldrix sim --validators"), "{}", failure.replay);
    }
}
