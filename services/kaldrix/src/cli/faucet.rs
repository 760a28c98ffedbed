//! `kaldrix faucet`.

use super::ApiOptions;
use super::error::{self, CliError};
use super::output::Output;
use super::values::{self, Unit};
use clap::Args;
use kaldrix_client::WaitFor;
use kaldrix_types::Address;
use std::time::Duration;

/// `faucet`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kaldrix faucet kx1… 100")]
pub(crate) struct FaucetArgs {
    /// Who receives
    address: Address,
    /// How much KDX, with decimals
    amount: String,
    /// The amount counts smallest units
    #[arg(long)]
    raw: bool,
    /// How long to wait until the money is there
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = values::duration)]
    timeout: Duration,
    #[command(flatten)]
    pub(crate) api: ApiOptions,
}

pub(crate) async fn run(args: FaucetArgs, output: Output) -> Result<(), CliError> {
    let kdx = Unit::native();
    let amount = kdx.parse(&args.amount, args.raw)?;
    let client = args.api.connect().await?;
    let mut receipt = client.faucet(args.address, amount).await?;
    if !receipt.status.is_definite() {
        let info = client.wait_definite(receipt.id, args.timeout).await?;
        receipt = kaldrix_client::Receipt {
            status: info.status,
            success: info.success,
            code: info.code,
            detail: info.detail,
            commit: info.commit,
            ..receipt
        };
    }
    output.receipt(&format!("{} to {}", kdx.format(amount), args.address), &receipt);
    error::judge(&receipt, WaitFor::Final)
}
