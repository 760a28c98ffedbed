//! Load generator: real signed payments at a fixed schedule, and how long each took to become FINAL.
//!
//! ```text
//!   accounts ─▶ fund (faucet → root → batches) ─▶ open (first transaction, carries the key) ─▶ sign everything ahead of time
//!                                                                                                   │
//!   schedule: transaction i is due at i / rate ─▶ one RPC each, wait_for FINAL ─▶ latency = answer − due time ─▶ report
//! ```
//!
//! The loop is open: a slow ledger does not slow the offer down, and latency counts from the time a transaction was due, so a stall shows
//! in every transaction it delayed (no coordinated omission). It never runs against another machine unless told so, and everything is
//! bounded: transactions, memory, transactions in flight, time.

mod accounts;
mod args;
mod engine;
mod funding;
mod limits;
mod network;
mod progress;
mod ramp;
mod report;
mod run;
mod schedule;
mod verify;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = args::Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(async {
            match arguments.command {
                args::Command::Run(args) => run::run(args).await,
                args::Command::Ramp(args) => ramp::ramp(args).await,
            }
        }),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            progress::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
