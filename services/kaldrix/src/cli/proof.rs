//! `kaldrix proof` and `kaldrix checkpoint`: what can be verified, from a ledger that need not be trusted.

use super::error::CliError;
use super::output::{Output, fields};
use super::values::{self, utc};
use super::{ApiOptions, OutputOptions};
use clap::{Args, Subcommand};
use kaldrix_client::CheckpointInfo;
use kaldrix_client::verify::Proof;
use kaldrix_types::{Address, AssetId, TxId};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum ProofCommand {
    /// Of what became of a transaction
    Tx(TxProofArgs),
    /// Of what an account holds, or of its keys
    Account(AccountProofArgs),
}

impl ProofCommand {
    pub(crate) const fn output(&self) -> OutputOptions {
        match self {
            Self::Tx(args) => args.to.api.output,
            Self::Account(args) => args.to.api.output,
        }
    }
}

/// `proof tx`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  kaldrix proof tx 4f… --out payment.json\n  kaldrix verify payment.json --genesis kaldrix-data/genesis.json\n\n\
                        A proof is available about a second after the transaction is FINAL; that long this command waits."
)]
pub(crate) struct TxProofArgs {
    /// The transaction's id: 64 hexadecimal digits
    id: TxId,
    #[command(flatten)]
    to: Destination,
}

/// `proof account`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kaldrix proof account kx1… --out balance.json\n  kaldrix proof account kx1… --keys")]
pub(crate) struct AccountProofArgs {
    /// The address
    address: Address,
    /// KDX, or the id of the asset whose balance is to be proven
    #[arg(long, value_name = "ASSET", default_value = "KDX", value_parser = values::asset)]
    asset: AssetId,
    /// Prove the account's keys and next sequence number instead
    #[arg(long, conflicts_with = "asset")]
    keys: bool,
    #[command(flatten)]
    to: Destination,
}

#[derive(Debug, Args)]
struct Destination {
    /// File to write; without it the proof goes to stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    api: ApiOptions,
}

/// `checkpoint`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kaldrix checkpoint        the newest\n  kaldrix checkpoint 7 --json")]
pub(crate) struct CheckpointArgs {
    /// Which one, from 1 (default: the newest)
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    index: Option<u64>,
    #[command(flatten)]
    pub(crate) api: ApiOptions,
}

#[derive(Serialize)]
struct Written {
    file: String,
    checkpoint: u64,
    bytes: usize,
}

pub(crate) async fn run(command: ProofCommand, output: Output) -> Result<(), CliError> {
    let (proof, to) = match command {
        ProofCommand::Tx(args) => (args.to.api.connect().await?.transaction_proof(args.id).await?, args.to),
        ProofCommand::Account(args) => {
            let asset = (!args.keys).then_some(args.asset);
            (args.to.api.connect().await?.account_proof(args.address, asset).await?, args.to)
        }
    };
    let Some(path) = to.out else {
        output.show(&proof, || proof.to_json());
        return Ok(());
    };
    let written = write(&path, &proof)?;
    output.show(&written, || {
        format!("{} holds the proof, which ends in checkpoint {}: check it with `kaldrix verify`", written.file, written.checkpoint)
    });
    Ok(())
}

fn write(path: &Path, proof: &Proof) -> Result<Written, CliError> {
    let (file, text) = (path.display().to_string(), proof.to_json());
    std::fs::write(path, &text).map_err(|source| CliError::File { path: file.clone(), source })?;
    Ok(Written { file, checkpoint: proof.checkpoint.checkpoint.index, bytes: text.len() })
}

pub(crate) async fn checkpoint(args: CheckpointArgs, output: Output) -> Result<(), CliError> {
    let info = args.api.connect().await?.checkpoint(args.index).await?;
    output.show(&info, || text(&info));
    Ok(())
}

fn text(info: &CheckpointInfo) -> String {
    let voters: Vec<String> = info.voters.iter().map(|v| v.0.to_string()).collect();
    let mut pairs = vec![
        ("checkpoint", format!("{} of epoch {}", info.index, info.epoch)),
        ("digest", info.digest.to_string()),
        ("previous", info.previous.to_string()),
        ("commits", format!("{} to {}", info.first_commit, info.last_commit)),
        ("time", utc(info.timestamp_ms)),
        ("outcomes", format!("{}, root {}", info.outcome_count, info.outcomes_root)),
        ("state root", info.state_root.to_string()),
        ("vouched for", format!("by validators {}", voters.join(", "))),
    ];
    if let Some(next) = &info.next_epoch {
        let names: Vec<&str> = next.validators.iter().map(|v| v.name.as_str()).collect();
        pairs.push(("next epoch", format!("{} from round {}: {}", info.epoch + 1, next.start_round, names.join(", "))));
    }
    fields(&pairs)
}
