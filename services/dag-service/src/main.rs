//! `kaldrix-dag-service --config FILE`: the data plane of one validator.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

// Transactions of a few kilobytes come and go between threads all the time: measured in docs/benchmarks.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The data plane of one validator.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file (TOML); `kaldrix config default` prints one with every key explained.
    #[arg(long)]
    config: PathBuf,
}

fn main() -> ExitCode {
    kaldrix_dag_service::wiring::run(&Arguments::parse().config)
}
