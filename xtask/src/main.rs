//! Chores of this repository: `cargo xtask test | check | soak`.
//!
//! ```text
//!   test ──▶ tools ─▶ format ─▶ dependency direction ─▶ clippy ─▶ tests ─▶ doc tests ─▶ summary
//! ```
//!
//! Plain and quick to build: it is compiled before anything else on a clean checkout. It never downloads toolchains.
#![expect(clippy::print_stdout, reason = "a command for people: its output is its purpose")]

mod check;
mod rules;
mod soak;
mod test;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of this repository")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Everything that continuous integration runs.
    Test(test::Options),
    /// The dependency-direction rule alone.
    Check,
    /// Random simulated runs with faults, for as long as asked.
    Soak(soak::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Test(options) => test::run(&options),
        Chore::Check => check::run(),
        Chore::Soak(options) => soak::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
