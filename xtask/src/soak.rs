//! Random runs of the simulator, for as long as asked: every run has its own faults, and what fails can be replayed by one command.

use anyhow::{Context, bail};
use clap::Args;
use std::process::Command;

/// What to run.
#[derive(Args)]
pub(crate) struct Options {
    /// How long, in minutes.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_080))]
    minutes: u64,
    /// First seed; every run takes the next one. By default it comes from the clock, and is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Runs at a time; by default one per processor.
    #[arg(long)]
    threads: Option<usize>,
}

/// Builds the simulator with optimisation and lets it run. Stops at the first run that fails.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut arguments = vec!["--minutes".to_owned(), options.minutes.to_string()];
    for (name, value) in [("--seed", options.seed.map(|s| s.to_string())), ("--threads", options.threads.map(|t| t.to_string()))] {
        arguments.extend(value.into_iter().flat_map(|value| [name.to_owned(), value]));
    }
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["run", "--release", "--package", "kaldrix-sim", "--example", "soak", "--"]).args(&arguments);
    let status = command.status().context("cargo cannot be started")?;
    if !status.success() {
        bail!("a simulated run failed; the command above replays it");
    }
    Ok(())
}
