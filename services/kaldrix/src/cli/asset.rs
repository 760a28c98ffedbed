//! `kaldrix asset`.

use super::error::CliError;
use super::output::{Output, fields, receipt_text};
use super::signing::SigningOptions;
use super::values::{self, Unit};
use super::{ApiOptions, OutputOptions};
use clap::{Args, Subcommand};
use kaldrix_client::Receipt;
use kaldrix_types::{Address, AssetId, Operation};
use serde::Serialize;

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum AssetCommand {
    /// Create an asset; the signer is its issuer
    Create(CreateArgs),
    /// Create more of an asset; only its issuer can
    Mint(MintArgs),
    /// Destroy some of one's own holding
    Burn(BurnArgs),
    /// Show an asset's definition and supply
    Show(ShowArgs),
}

impl AssetCommand {
    pub(crate) const fn output(&self) -> OutputOptions {
        match self {
            Self::Create(args) => args.signing.api.output,
            Self::Mint(args) => args.signing.api.output,
            Self::Burn(args) => args.signing.api.output,
            Self::Show(args) => args.api.output,
        }
    }
}

/// `asset create`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kaldrix asset create --key alice.key --symbol GOLD --decimals 2 --initial 1000 --maximum 5000")]
pub(crate) struct CreateArgs {
    /// 1 to 12 of A-Z and 0-9
    #[arg(long)]
    symbol: String,
    /// Decimals, 0 to 30
    #[arg(long, value_name = "N", default_value_t = 2)]
    decimals: u8,
    /// Credited to the issuer at once
    #[arg(long, value_name = "AMOUNT", default_value = "0")]
    initial: String,
    /// Upper bound of the supply (default: the initial supply, or no bound if that is 0)
    #[arg(long, value_name = "AMOUNT")]
    maximum: Option<String>,
    /// Amounts count smallest units
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    signing: SigningOptions,
}

/// `asset mint`
#[derive(Debug, Args)]
pub(crate) struct MintArgs {
    /// The asset's id
    #[arg(long, value_name = "ASSET", value_parser = values::asset)]
    asset: AssetId,
    /// Who receives
    #[arg(long, value_name = "ADDRESS")]
    to: Address,
    /// How much
    #[arg(long, value_name = "AMOUNT")]
    amount: String,
    /// The amount counts smallest units
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    signing: SigningOptions,
}

/// `asset burn`
#[derive(Debug, Args)]
pub(crate) struct BurnArgs {
    /// The asset's id
    #[arg(long, value_name = "ASSET", value_parser = values::asset)]
    asset: AssetId,
    /// How much
    #[arg(long, value_name = "AMOUNT")]
    amount: String,
    /// The amount counts smallest units
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    signing: SigningOptions,
}

/// `asset show`
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The asset's id, or KDX
    #[arg(value_parser = values::asset)]
    asset: AssetId,
    #[command(flatten)]
    api: ApiOptions,
}

#[derive(Serialize)]
struct Created<'a> {
    #[serde(flatten)]
    receipt: &'a Receipt,
    asset: AssetId,
}

pub(crate) async fn run(command: AssetCommand, output: Output) -> Result<(), CliError> {
    match command {
        AssetCommand::Create(args) => create(args, output).await,
        AssetCommand::Mint(args) => {
            let session = args.signing.session().await?;
            let unit = Unit::of(session.client(), args.asset).await?;
            let amount = unit.parse(&args.amount, args.raw)?;
            let what = format!("{} minted for {}", unit.format(amount), args.to);
            let operation = Operation::Mint { asset: args.asset, to: args.to, amount };
            args.signing.execute_and_show(&session, operation, &what, output).await
        }
        AssetCommand::Burn(args) => {
            let session = args.signing.session().await?;
            let unit = Unit::of(session.client(), args.asset).await?;
            let amount = unit.parse(&args.amount, args.raw)?;
            let what = format!("{} burnt", unit.format(amount));
            args.signing.execute_and_show(&session, Operation::Burn { asset: args.asset, amount }, &what, output).await
        }
        AssetCommand::Show(args) => show(args, output).await,
    }
}

async fn create(args: CreateArgs, output: Output) -> Result<(), CliError> {
    let unit = Unit { symbol: args.symbol.clone(), decimals: args.decimals };
    let initial_supply = unit.parse(&args.initial, args.raw)?;
    let maximum_supply = match &args.maximum {
        Some(text) => unit.parse(text, args.raw)?,
        None if initial_supply == 0 => u128::MAX,
        None => initial_supply,
    };
    let operation = Operation::CreateAsset { symbol: args.symbol, decimals: args.decimals, initial_supply, maximum_supply };
    let session = args.signing.session().await?;
    let what = format!("{} created", unit.format(initial_supply));
    let show = |receipt: &Receipt| {
        let asset = AssetId::derive(receipt.id, 0);
        output.show(&Created { receipt, asset }, || format!("{}  asset {asset}", receipt_text(&what, receipt)));
    };
    args.signing.execute(&session, vec![operation], show).await
}

async fn show(args: ShowArgs, output: Output) -> Result<(), CliError> {
    let client = args.api.connect().await?;
    let info = client.asset(args.asset).await?;
    let unit = Unit { symbol: info.symbol.clone(), decimals: info.decimals };
    output.show(&info, || {
        fields(&[
            ("asset", info.id.to_string()),
            ("symbol", format!("{} ({} decimals)", info.symbol, info.decimals)),
            ("issuer", info.issuer.map_or_else(|| "none".into(), |i| i.to_string())),
            ("supply", unit.format(info.supply)),
            ("maximum", info.maximum_supply.map_or_else(|| "none".into(), |m| unit.format(m))),
        ])
    });
    Ok(())
}
