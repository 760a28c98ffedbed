//! `kaldrix`: the command. Without a sub-command it starts the local network, which is what a newcomer wants to see first.
//!
//! ```text
//!   kaldrix ─▶ dev                       four validators, three regions, all services, on this machine
//!           ─▶ run <service> --config F  one service as a process
//!           ─▶ config check|default      what is wrong with a file; a file with every key explained
//!           ─▶ sim                       a whole network under a virtual clock, replayable
//!           ─▶ audit                     compare all validators and regions of a local network
//!           ─▶ keys · faucet · transfer · account · tx · status · validator · proof …   talk to a running ledger's API
//!           ─▶ verify                    whether a proof holds, offline
//! ```

mod audit;
mod cli;
mod config_command;
mod dev;
mod run;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

// Transactions of a few kilobytes come and go between threads all the time: measured in docs/benchmarks.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A post-quantum, DAG-based BFT ledger.
#[derive(Debug, Parser)]
#[command(name = "kaldrix", version, propagate_version = true, after_help = EXAMPLES)]
struct Kaldrix {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    dev: dev::DevOptions,
}

const EXAMPLES: &str = "\
First payment, with `kaldrix` running in another terminal:
  kaldrix keys new --out alice.json --no-passphrase
  kaldrix faucet $(kaldrix keys show alice.json --address) 100
  kaldrix transfer --key alice.json --to kx1… --amount 12.5";

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a whole network on this machine (the default)
    Dev(Box<dev::DevOptions>),
    /// Run one service as a process
    Run(run::RunOptions),
    /// Check a configuration file, or print one with every key explained
    #[command(subcommand)]
    Config(config_command::ConfigCommand),
    /// Run a whole network under a virtual clock, with whatever faults, replayable from one number
    Sim(Box<cli::sim::SimOptions>),
    /// Compare all validators and regions of a local network
    Audit(audit::AuditOptions),
    #[command(flatten)]
    Wallet(cli::WalletCommand),
}

fn main() -> ExitCode {
    let arguments = Kaldrix::parse();
    match arguments.command {
        None => dev::main(arguments.dev),
        Some(Command::Dev(options)) => dev::main(*options),
        Some(Command::Run(options)) => run::main(&options),
        Some(Command::Config(command)) => config_command::main(&command),
        Some(Command::Sim(options)) => cli::sim::main(&options),
        Some(Command::Audit(options)) => audit::main(&options),
        Some(Command::Wallet(command)) => wallet(command),
    }
}

fn wallet(command: cli::WalletCommand) -> ExitCode {
    kaldrix_service_kit::install_crypto_provider();
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(cli::run(command)),
        Err(error) => {
            dev::say(&format!("error: the runtime cannot start: {error}"));
            ExitCode::FAILURE
        }
    }
}
