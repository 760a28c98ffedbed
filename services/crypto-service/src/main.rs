//! `kaldrix-crypto-service --config FILE`: the keys of one validator.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

// Transactions of a few kilobytes come and go between threads all the time: measured in docs/benchmarks.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The keys of one validator.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file (TOML); `kaldrix config default` prints one with every key explained.
    #[arg(long)]
    config: PathBuf,
    /// Create the double-sign guard of a key whose guard is lost, and exit: before it signs, the others are asked how far it may have signed. An existing guard is not touched.
    #[arg(long)]
    new_guard: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.new_guard {
        kaldrix_crypto_service::wiring::run_new_guard(&arguments.config)
    } else {
        kaldrix_crypto_service::wiring::run(&arguments.config)
    }
}
