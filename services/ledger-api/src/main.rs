//! `kaldrix-ledger-api --config FILE`: the public API of one region.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

// Transactions of a few kilobytes come and go between threads all the time: measured in docs/benchmarks.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Serves the public gRPC and REST API of one region.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file (TOML); `kaldrix config default` prints one with every key explained.
    #[arg(long)]
    config: PathBuf,
}

fn main() -> ExitCode {
    kaldrix_ledger_api::wiring::run(&Arguments::parse().config)
}
