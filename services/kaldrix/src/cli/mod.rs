//! The wallet and query commands: everything a person or a script does with a running ledger.
//!
//! ```text
//!   arguments ──▶ keys · faucet · transfer · asset · anchor · account · tx · status · validator · proof ──kaldrix_client──▶ ledger-api
//!                                           │
//!   stdout: the result (text, or one JSON value with --json)      stderr: notes and problems      exit: 0, 1, or 2 for usage
//! ```
//!
//! `verify` and `sim` need no ledger: one checks a proof against the genesis file, the other runs a whole network under a virtual clock.
//!
//! These commands never talk to a validator or a store directly, and a key never leaves this process.

mod account;
mod anchor;
mod asset;
mod error;
mod faucet;
mod keys;
mod output;
mod proof;
mod signing;
pub(crate) mod sim;
mod status;
mod transfer;
mod tx;
mod validator;
mod validator_live;
mod values;
mod verify;

use clap::{Args, Subcommand};
use error::CliError;
use kaldrix_client::Client;
use output::Output;
use std::process::ExitCode;

/// Commands that need a running ledger, or only a key file.
#[derive(Debug, Subcommand)]
pub(crate) enum WalletCommand {
    /// Make, look at and replace keys
    #[command(subcommand)]
    Keys(Box<keys::KeysCommand>),
    /// Get test money from a development network
    Faucet(faucet::FaucetArgs),
    /// Send KDX or another asset
    Transfer(Box<transfer::TransferArgs>),
    /// Show an account: balances, keys, next sequence numbers
    Account(account::AccountArgs),
    /// Show a transaction, or wait for it
    Tx(tx::TxArgs),
    /// Show the network and its validators
    Status(status::StatusArgs),
    /// Create, mint, burn and look at assets
    #[command(subcommand)]
    Asset(Box<asset::AssetCommand>),
    /// Put a document's hash on the record
    Anchor(Box<anchor::AnchorArgs>),
    /// Show who validates; register, stake, unstake, leave, unjail
    #[command(subcommand)]
    Validator(Box<validator::ValidatorCommand>),
    /// Get a proof that can be verified offline
    #[command(subcommand)]
    Proof(proof::ProofCommand),
    /// Verify a proof offline, with nothing but the genesis file
    Verify(verify::VerifyArgs),
    /// Show a checkpoint: what a quorum of validators vouches for
    Checkpoint(proof::CheckpointArgs),
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct OutputOptions {
    /// Print one JSON value on stdout; problems go to stderr as {"code","detail"}
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// Which ledger is asked.
#[derive(Clone, Debug, Args)]
pub(crate) struct ApiOptions {
    /// API endpoint, or several separated by commas: the next is used when one does not answer
    #[arg(long, env = "KALDRIX_API", default_value = "http://127.0.0.1:8080", value_name = "URL", help_heading = "Connection")]
    pub(crate) api: String,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

impl ApiOptions {
    /// A client that has spoken to the ledger once.
    async fn connect(&self) -> Result<Client, CliError> {
        Ok(Client::connect(&self.api).await?)
    }
}

/// Runs a command to its end. Errors are printed here, with their code.
pub(crate) async fn run(command: WalletCommand) -> ExitCode {
    let output = Output::new(command.output());
    match dispatch(command, output).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.problem(error.code(), &error.to_string());
            error.exit_code()
        }
    }
}

impl WalletCommand {
    fn output(&self) -> OutputOptions {
        match self {
            Self::Keys(command) => command.output(),
            Self::Faucet(args) => args.api.output,
            Self::Transfer(args) => args.signing.api.output,
            Self::Account(args) => args.api.output,
            Self::Tx(args) => args.api.output,
            Self::Status(args) => args.api.output,
            Self::Asset(command) => command.output(),
            Self::Anchor(args) => args.signing.api.output,
            Self::Validator(command) => command.output(),
            Self::Proof(command) => command.output(),
            Self::Verify(args) => args.output,
            Self::Checkpoint(args) => args.api.output,
        }
    }
}

async fn dispatch(command: WalletCommand, output: Output) -> Result<(), CliError> {
    match command {
        WalletCommand::Keys(command) => keys::run(*command, output).await,
        WalletCommand::Faucet(args) => faucet::run(args, output).await,
        WalletCommand::Transfer(args) => transfer::run(*args, output).await,
        WalletCommand::Account(args) => account::run(args, output).await,
        WalletCommand::Tx(args) => tx::run(args, output).await,
        WalletCommand::Status(args) => status::run(args, output).await,
        WalletCommand::Asset(command) => asset::run(*command, output).await,
        WalletCommand::Anchor(args) => anchor::run(*args, output).await,
        WalletCommand::Validator(command) => validator::run(*command, output).await,
        WalletCommand::Proof(command) => proof::run(command, output).await,
        WalletCommand::Verify(args) => verify::run(&args, output),
        WalletCommand::Checkpoint(args) => proof::checkpoint(args, output).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(subcommand)]
        command: WalletCommand,
    }

    fn parse(line: &str) -> Result<WalletCommand, clap::Error> {
        Cli::try_parse_from(std::iter::once("kaldrix").chain(line.split_whitespace())).map(|c| c.command)
    }

    /// A public key: the generator of the group (RFC 8032, section 5.1).
    const ED25519_POINT: &str = "5866666666666666666666666666666666666666666666666666666666666666";

    #[test]
    fn the_command_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_documented_lines_are_understood() {
        let address = kaldrix_types::Address([7; 32]);
        let id = "ab".repeat(32);
        for line in [
            "keys new --out a.key".to_owned(),
            "keys new --out a.key --scheme hybrid --no-passphrase --json".to_owned(),
            "keys show a.key --json".to_owned(),
            "keys show a.key --address".to_owned(),
            "keys rotate --key a.key --new b.key".to_owned(),
            "keys register --key a.key --new b.key".to_owned(),
            format!("faucet {address} 100 --json"),
            format!("transfer --key a.key --to {address} --amount 1.5 --wait final --timeout 10s --json"),
            format!("transfer --key a.key --to {address} --amount 15 --raw --asset {id} --api 127.0.0.1:1,127.0.0.1:2"),
            format!("account {address} --json"),
            format!("tx {id} --json"),
            "status --json".to_owned(),
            "asset create --key a.key --symbol GOLD --initial 10".to_owned(),
            format!("asset mint --key a.key --asset {id} --to {address} --amount 1"),
            format!("asset burn --key a.key --asset {id} --amount 1"),
            format!("asset show {id}"),
            "anchor --key a.key contract.pdf".to_owned(),
            "validator add --name v4 --region us-east-1 --stake 1000 --json".to_owned(),
            "validator remove v4 --data-dir net".to_owned(),
            "validator list --json".to_owned(),
            format!("validator register --key a.key --name v5 --region eu --stake 10 --session-key ed25519:{} --proof 00", ED25519_POINT),
            "validator stake 10 --key a.key --json".to_owned(),
            "validator unstake 10 --raw --key a.key".to_owned(),
            format!("validator rotate --key a.key --session-key ed25519:{} --proof 00", ED25519_POINT),
            "validator leave --key a.key".to_owned(),
            "validator unjail --key a.key".to_owned(),
            format!("proof tx {id} --out p.json"),
            format!("proof account {address} --asset {id} --json"),
            format!("proof account {address} --keys"),
            "verify p.json --genesis g.json --json".to_owned(),
            "verify - --genesis g.json".to_owned(),
            "checkpoint --json".to_owned(),
            "checkpoint 7".to_owned(),
        ] {
            parse(&line).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }

    #[test]
    fn a_line_that_makes_no_sense_is_a_usage_error() {
        for line in [
            "transfer --key a.key --to nobody --amount 1",
            "keys new",
            "tx 12",
            "keys new --out a --scheme rsa",
            "account",
            "checkpoint 0",
            "verify p.json",
            "proof tx 12",
            "proof",
            "validator register --key a.key --name v5 --region eu --stake 10 --session-key rsa:00 --proof 00",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
