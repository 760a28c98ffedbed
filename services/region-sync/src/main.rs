//! `kaldrix-region-sync --config FILE`: the read model of one region.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

// Transactions of a few kilobytes come and go between threads all the time: measured in docs/benchmarks.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keeps the read model of one region in step with the ledger.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file (TOML); `kaldrix config default` prints one with every key explained.
    #[arg(long)]
    config: PathBuf,
}

fn main() -> ExitCode {
    kaldrix_region_sync::wiring::run(&Arguments::parse().config)
}
