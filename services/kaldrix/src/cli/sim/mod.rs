//! `kaldrix sim`: a whole network under a virtual clock, replayable from one number.
//!
//! ```text
//!   kaldrix sim --seed 42 …          one run ──────────▶ report
//!   kaldrix sim random --runs N      N short runs with random faults, until one fails ──▶ summary
//!   kaldrix sim check-vectors FILE   the commit rule against decisions of another implementation
//! ```

mod random;
mod report;
mod vectors;

use super::OutputOptions;
use super::error::CliError;
use super::output::Output;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use kaldrix_sim::faults::Origin;
use kaldrix_sim::{Faults, Outcome, Progress, Regions, Report, SimConfig, random_faults, run};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// `sim`
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  kaldrix sim --validators 21 --regions aws --seconds 10 --rate 100 --seed 42\n  \
                  kaldrix sim --seed 7 --faults crash.faults --json     the last line of stdout is the report\n  \
                  kaldrix sim random --runs 500\n  \
                  kaldrix sim check-vectors commit-rule-vectors.jsonl\n\n\
                  A faults file has one fault per line, such as:\n  at 2s crash 3 for 5s\n  from 1s to 4s partition 0,1 | 2,3\n  \
                  byzantine 3 equivocate-halves\n\n\
                  Exit code 0 only for Pass. NoProgress: something that should have become final did not. Diverged: an invariant was broken."
)]
pub(crate) struct SimOptions {
    #[command(subcommand)]
    command: Option<SimCommand>,
    #[command(flatten)]
    run: RunArgs,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
enum SimCommand {
    /// Run the commit rule over decision vectors, one JSON object per line
    CheckVectors(vectors::VectorsArgs),
    /// Many short runs with random faults; stops at the first that fails
    Random(random::RandomArgs),
}

/// One run.
#[derive(Debug, Args)]
struct RunArgs {
    /// How many validators, 4 to 400
    #[arg(long, value_name = "N", default_value_t = 4)]
    validators: usize,
    /// lan, or aws: us-east-1, us-west-2, eu-west-1 and eu-central-1 with measured latencies
    #[arg(long, value_name = "WHERE", default_value_t = Regions::Lan)]
    regions: Regions,
    /// Virtual seconds of payments
    #[arg(long, value_name = "S", default_value_t = 10)]
    seconds: u64,
    /// Payments per second
    #[arg(long, value_name = "TPS", default_value_t = 100)]
    rate: u32,
    /// Everything random comes from this: equal seeds give equal runs (default: another one each time)
    #[arg(long, value_name = "K")]
    seed: Option<u64>,
    /// What goes wrong: a file, or random:SEED for a random script
    #[arg(long, value_name = "FILE")]
    faults: Option<String>,
    /// Leader slots per round
    #[arg(long, value_name = "L")]
    leaders: Option<u32>,
    /// Length of an epoch
    #[arg(long, value_name = "S", conflicts_with = "epoch_ms")]
    epoch_seconds: Option<u64>,
    /// The same in milliseconds
    #[arg(long, value_name = "MS")]
    epoch_ms: Option<u64>,
    /// Commits after which leaders are chosen anew by reputation; 0: never
    #[arg(long, value_name = "N")]
    schedule_commits: Option<u32>,
    /// Voting weight of each validator (default: all equal)
    #[arg(long, value_name = "N,N,…", value_delimiter = ',')]
    stakes: Vec<u64>,
    #[command(flatten)]
    output: OutputOptions,
}

/// The command's life; nothing here needs a ledger or a runtime.
pub(crate) fn main(options: &SimOptions) -> ExitCode {
    let (output, result) = match &options.command {
        None => (Output::new(options.run.output), one(&options.run)),
        Some(SimCommand::CheckVectors(args)) => (Output::new(args.output), vectors::run(args)),
        Some(SimCommand::Random(args)) => (Output::new(args.output), random::run(args)),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            output.problem(error.code(), &error.to_string());
            error.exit_code()
        }
    }
}

impl RunArgs {
    fn config(&self) -> Result<SimConfig, CliError> {
        let seed = self.seed.unwrap_or_else(|| rand::random::<u32>().into());
        let mut config = SimConfig::new(self.validators, self.regions, self.seconds, self.rate, seed);
        let rules = &mut config.parameters;
        rules.leaders_per_round = self.leaders.unwrap_or(rules.leaders_per_round);
        rules.schedule_commits = self.schedule_commits.unwrap_or(rules.schedule_commits);
        rules.epoch_ms = self.epoch_seconds.map(|s| s.saturating_mul(1_000)).or(self.epoch_ms).unwrap_or(rules.epoch_ms);
        config.stakes.clone_from(&self.stakes);
        if let Some(faults) = &self.faults {
            config.faults = self.read_faults(faults)?;
        }
        config.check().map_err(|e| CliError::Usage(e.to_string()))?;
        Ok(config)
    }

    fn read_faults(&self, name: &str) -> Result<Faults, CliError> {
        if let Some(seed) = name.strip_prefix("random:") {
            let seed = seed.parse().map_err(|_| CliError::Usage(format!("{seed:?} is no seed: write random:NUMBER")))?;
            return Ok(random_faults(seed, self.validators, self.seconds));
        }
        let text = std::fs::read_to_string(name).map_err(|source| CliError::File { path: name.to_owned(), source })?;
        let faults = Faults::parse(&text).map_err(|e| CliError::Usage(format!("{name}, {e}")))?;
        Ok(faults.with_origin(Origin::File(name.to_owned())))
    }
}

/// One run to its report. True: Pass.
fn one(args: &RunArgs) -> Result<bool, CliError> {
    let (config, output) = (args.config()?, Output::new(args.output));
    let bar = bar(config.seconds * 1_000, "{bar:30} {percent}% of the virtual time, {msg}");
    let result = watched(&config, &mut |progress| {
        bar.set_position(progress.virtual_ms.min(progress.end_ms));
        bar.set_message(format!("{} commits, {} payments final", progress.commits, progress.finals));
    });
    bar.finish_and_clear();
    let report = result.map_err(|panic| CliError::Simulation { detail: panic, replay: config.replay() })?;
    output.show(&report, || report::text(&report));
    if report.outcome != Outcome::Pass {
        output.hint(&format!("the same run again: {}", report.replay));
    }
    Ok(report.outcome == Outcome::Pass)
}

/// Runs, measures the real time, and turns a panic of a core into text: it is a finding like any other.
fn watched(config: &SimConfig, progress: &mut dyn FnMut(Progress)) -> Result<Report, String> {
    let started = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| run(config, progress)));
    result.map(|report| Report { wall_ms: u64::try_from(started.elapsed().as_millis()).ok(), ..report }).map_err(|panic| {
        panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
    })
}

/// A progress bar on stderr; it hides itself when that is no terminal.
fn bar(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        sim: SimOptions,
    }

    fn parse(line: &str) -> Result<SimOptions, clap::Error> {
        Cli::try_parse_from(std::iter::once("sim").chain(line.split_whitespace())).map(|c| c.sim)
    }

    fn config(line: &str) -> SimConfig {
        parse(line).unwrap().run.config().unwrap()
    }

    #[test]
    fn the_line_that_scripts_use_is_understood() {
        let options = parse("--validators 21 --regions aws --seconds 5 --rate 20 --seed 42 --json").unwrap();
        let config = options.run.config().unwrap();
        assert_eq!((config.validators, config.regions, config.seconds, config.rate, config.seed), (21, Regions::Aws, 5, 20, 42));
        assert!(options.run.output.json);
        assert!(matches!(parse("check-vectors v.jsonl").unwrap().command, Some(SimCommand::CheckVectors(_))));
        assert!(matches!(parse("random --runs 20 --seed 3").unwrap().command, Some(SimCommand::Random(_))));
        assert!(parse("--regions mars").is_err());
    }

    #[test]
    fn the_replay_line_of_a_run_gives_the_same_run() {
        for line in [
            "--validators 7 --regions aws --seconds 5 --rate 20 --seed 42 --leaders 2 --epoch-seconds 3 --schedule-commits 20",
            "--seed 9 --faults random:77 --stakes 1,2,3,4",
        ] {
            let first = config(line);
            let replay = first.replay();
            assert_eq!(config(replay.strip_prefix("kaldrix sim ").unwrap()), first, "{replay}");
        }
    }

    #[test]
    fn faults_are_read_from_a_file_and_mistakes_name_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.faults");
        let line = format!("--seed 1 --faults {}", path.display());
        assert_eq!(parse(&line).unwrap().run.config().unwrap_err().code(), "FILE");
        std::fs::write(&path, "at 1s crash 3 for 1s\n").unwrap();
        assert_eq!(config(&line).faults.list.len(), 1);
        std::fs::write(&path, "at 1s crash 9\n").unwrap();
        assert_eq!(parse(&line).unwrap().run.config().unwrap_err().code(), "USAGE");
        std::fs::write(&path, "explode\n").unwrap();
        let error = parse(&line).unwrap().run.config().unwrap_err().to_string();
        assert!(error.contains("x.faults"), "{error}");
    }
}
