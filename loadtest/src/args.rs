//! The command line.

use clap::{Args, Parser, Subcommand};
use kaldrix_types::Scheme;
use std::path::PathBuf;

/// Offers signed payments to a Kaldrix ledger and measures submit → FINAL.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Offer a fixed rate for a fixed time
    Run(RunArgs),
    /// Find the highest rate that is held: doubles, then bisects
    Ramp(RampArgs),
}

/// Where the ledger is and who pays whom.
#[derive(Clone, Debug, Args)]
pub(crate) struct TargetArgs {
    /// API endpoints, separated by commas; each account keeps to one of them (not used with --spawn)
    #[arg(long, env = "KALDRIX_API", default_value = "http://127.0.0.1:8080", value_name = "URLS")]
    pub(crate) api: String,
    /// Start a fresh `kaldrix dev --ephemeral` for this run, measure its processes, and stop it afterwards
    #[arg(long)]
    pub(crate) spawn: bool,
    /// The kaldrix binary for --spawn (default: beside this program)
    #[arg(long, value_name = "PATH", requires = "spawn")]
    pub(crate) kaldrix: Option<PathBuf>,
    /// First API address of the network started with --spawn
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:28080", requires = "spawn")]
    pub(crate) spawn_api: String,
    /// More arguments for `kaldrix dev`, separated by spaces
    #[arg(long, value_name = "ARGS", value_delimiter = ' ', allow_hyphen_values = true, requires = "spawn")]
    pub(crate) spawn_args: Vec<String>,
    /// Allow endpoints that are not on this machine
    #[arg(long)]
    pub(crate) allow_remote: bool,
    /// Accounts that pay one another in turn
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    pub(crate) accounts: u32,
    /// How they sign: ml-dsa-44, ml-dsa-65, ml-dsa-87, hybrid or ed25519
    #[arg(long, default_value_t = Scheme::default())]
    pub(crate) scheme: Scheme,
    /// Connections per endpoint (default: grows with the rate)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) connections: Option<u32>,
    /// Transactions in flight; those due beyond it are counted as not offered
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    pub(crate) in_flight_max: u32,
    /// How long one transaction is waited for
    #[arg(long, value_name = "MS", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    pub(crate) timeout_ms: u64,
    /// Print one JSON value as the last line of stdout
    #[arg(long)]
    pub(crate) json: bool,
}

/// `run`
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  loadtest run --rate 1000 --seconds 30\n  loadtest run --rate 1000 --total 10000 --spawn --verify --json\n  \
                        loadtest run --rate 500 --seconds 10 --scheme hybrid --api 127.0.0.1:8080,127.0.0.1:8081"
)]
pub(crate) struct RunArgs {
    /// Transactions per second offered
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) rate: u64,
    /// How long to offer them
    #[arg(long, value_name = "S", required_unless_present = "total", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: Option<u64>,
    /// Exactly this many transactions instead
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..=crate::limits::TRANSACTIONS_MAX))]
    pub(crate) total: Option<u64>,
    /// Afterwards: every accepted transaction is FINAL, no money came or went, and all regions agree; otherwise exit with 1
    #[arg(long)]
    pub(crate) verify: bool,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

impl RunArgs {
    /// How many transactions this run offers.
    pub(crate) fn count(&self) -> u64 {
        self.total.unwrap_or_else(|| self.rate.saturating_mul(self.seconds.unwrap_or(1)))
    }
}

/// `ramp`
#[derive(Clone, Debug, Args)]
pub(crate) struct RampArgs {
    /// First rate tried
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) from: u64,
    /// No rate above this is tried
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) to: u64,
    /// How long each rate is offered
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub(crate) seconds: u64,
    /// A rate is held when every transaction is FINAL and p99 stays below this
    #[arg(long, value_name = "MS", default_value_t = 1_000)]
    pub(crate) p99_ms: u64,
    /// No more rates than this are tried
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub(crate) steps: u32,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_run_needs_a_rate_and_an_end() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(parse("loadtest run --rate 10").is_err());
        assert!(parse("loadtest run --seconds 10").is_err());
        assert!(parse("loadtest run --rate 10 --seconds 1 --total 3").is_err());
        let Command::Run(run) = parse("loadtest run --rate 10 --seconds 3").unwrap().command else { panic!("not a run") };
        assert_eq!(run.count(), 30);
        assert!(parse("loadtest run --rate 10 --total 30 --spawn --spawn-args --validators=7 --verify --json").is_ok());
    }
}
