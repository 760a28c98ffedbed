//! `kaldrix transfer`.

use super::error::CliError;
use super::output::Output;
use super::signing::SigningOptions;
use super::values::{self, Unit};
use clap::Args;
use kaldrix_types::{Address, AssetId, Operation};

/// `transfer`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kaldrix transfer --key alice.key --to kx1… --amount 1.5\n  \
                        kaldrix transfer --key alice.key --to kx1… --amount 1500 --raw --asset 4f… --wait included\n\n\
                        Exit code 0 means that the transfer reached the level waited for and took effect. A transfer \
                        that became FINAL without effect exits with 1 and says why.")]
pub(crate) struct TransferArgs {
    /// Who receives
    #[arg(long, value_name = "ADDRESS")]
    to: Address,
    /// How much, with decimals (12.5)
    #[arg(long, value_name = "AMOUNT")]
    amount: String,
    /// KDX, or an asset's id
    #[arg(long, value_name = "ASSET", default_value = "KDX", value_parser = values::asset)]
    asset: AssetId,
    /// The amount counts smallest units
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    pub(crate) signing: SigningOptions,
}

pub(crate) async fn run(args: TransferArgs, output: Output) -> Result<(), CliError> {
    if args.asset == AssetId::NATIVE {
        // A mistyped amount should not cost a passphrase.
        Unit::native().parse(&args.amount, args.raw)?;
    }
    let session = args.signing.session().await?;
    let unit = Unit::of(session.client(), args.asset).await?;
    let amount = unit.parse(&args.amount, args.raw)?;
    let what = format!("{} to {}", unit.format(amount), args.to);
    args.signing.execute_and_show(&session, Operation::Transfer { to: args.to, asset: args.asset, amount }, &what, output).await
}
