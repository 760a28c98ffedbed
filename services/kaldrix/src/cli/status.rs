//! `kaldrix status`.

use super::ApiOptions;
use super::error::CliError;
use super::output::{Output, fields};
use super::validator::validator_table;
use super::values::Unit;
use clap::Args;
use kaldrix_client::{NetworkInfo, ValidatorInfo};
use serde::Serialize;

/// `status`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kaldrix status\n  kaldrix status --api 127.0.0.1:8081 --json")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) api: ApiOptions,
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    network: NetworkInfo,
    validators: Vec<ValidatorInfo>,
}

pub(crate) async fn run(args: StatusArgs, output: Output) -> Result<(), CliError> {
    let client = args.api.connect().await?;
    let (network, validators) = futures::future::try_join(client.network(), client.validators()).await?;
    let shown = Shown { network, validators };
    output.show(&shown, || text(&shown));
    Ok(())
}

fn text(shown: &Shown) -> String {
    let network = &shown.network;
    let mut text = fields(&[
        ("network", format!("{} (version {})", network.name, network.version)),
        ("chain", network.chain_id.to_string()),
        ("region", network.region.clone()),
        ("commit", format!("{} {}", network.commit_index, network.commit_digest.map(|d| d.short()).unwrap_or_default())),
        ("round", format!("{} of epoch {}", network.round, network.epoch)),
        ("checkpoint", network.checkpoint_index.map_or_else(|| "none yet".to_owned(), |index| index.to_string())),
        ("transactions", network.transaction_count.to_string()),
        ("supply", Unit::native().format(network.supply)),
        ("faucet", if network.faucet { "yes" } else { "no" }.to_owned()),
    ]);
    text.push('\n');
    text.push_str(&validator_table(&shown.validators));
    text
}
