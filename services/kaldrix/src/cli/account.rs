//! `kaldrix account`.

use super::ApiOptions;
use super::error::CliError;
use super::output::{Output, fields, table};
use clap::Args;
use kaldrix_client::{AccountInfo, TransactionInfo};
use kaldrix_types::{Address, format_amount};
use serde::Serialize;

/// `account`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kaldrix account kx1…\n  kaldrix account kx1… --transactions 20\n  \
                        kaldrix account kx1… --json     amounts in smallest units, as decimal strings")]
pub(crate) struct AccountArgs {
    /// The address
    address: Address,
    /// Also list the newest N transactions
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=200))]
    transactions: u32,
    #[command(flatten)]
    pub(crate) api: ApiOptions,
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    account: AccountInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    transactions: Option<Vec<TransactionInfo>>,
}

pub(crate) async fn run(args: AccountArgs, output: Output) -> Result<(), CliError> {
    let client = args.api.connect().await?;
    let account = client.account(args.address).await?;
    let transactions = match args.transactions {
        0 => None,
        limit => Some(client.account_transactions(args.address, limit, None).await?.items),
    };
    let shown = Shown { account, transactions };
    output.show(&shown, || text(&shown));
    Ok(())
}

fn text(shown: &Shown) -> String {
    let account = &shown.account;
    let mut pairs = vec![("address", account.address.to_string())];
    for balance in &account.balances {
        pairs.push(("balance", format!("{} {}", format_amount(balance.amount, balance.decimals), balance.symbol)));
    }
    for key in &account.keys {
        pairs.push(("key", format!("{} {} {}", key.index, key.scheme, key.key_id)));
    }
    if account.keys.is_empty() {
        pairs.push(("key", "none yet: the first transaction brings it".into()));
    }
    pairs.push(("next sequence", account.next_sequence.to_string()));
    for lane in &account.lanes {
        pairs.push(("next sequence", format!("{} in lane {}", lane.next_sequence, lane.lane)));
    }
    pairs.push(("as of commit", account.as_of_commit.to_string()));
    let mut text = fields(&pairs);
    if let Some(transactions) = &shown.transactions {
        let rows = transactions.iter().map(|tx| {
            let kinds: Vec<&str> = tx.operations.iter().take(3).map(|o| o.kind.as_str()).collect();
            let more = tx.operations.len().saturating_sub(kinds.len());
            let kinds = if more > 0 { format!("{} and {more} more", kinds.join(", ")) } else { kinds.join(", ") };
            let outcome = tx.code.clone().unwrap_or_else(|| tx.status.to_string());
            vec![tx.id.to_string(), outcome, tx.commit.map(|c| c.to_string()).unwrap_or_default(), kinds]
        });
        text.push('\n');
        text.push_str(&table(&["transaction", "outcome", "commit", "operations"], &[2], rows));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use kaldrix_client::BalanceInfo;
    use kaldrix_types::AssetId;

    fn shown() -> Shown {
        let balance = BalanceInfo {
            asset: AssetId::NATIVE,
            amount: 340_282_366_920_938_463_463_374_607_431_768_211_455,
            symbol: "KDX".into(),
            decimals: 18,
        };
        let account = AccountInfo {
            address: Address([7; 32]),
            balances: vec![balance],
            keys: vec![],
            next_sequence: 0,
            lanes: vec![],
            as_of_commit: 3,
        };
        Shown { account, transactions: None }
    }

    #[test]
    fn scripts_get_exact_amounts_as_text() {
        let json = serde_json::to_value(shown()).unwrap();
        assert_eq!(json["address"], Address([7; 32]).to_string());
        assert_eq!(json["balances"][0]["asset"], "00".repeat(32));
        assert_eq!(json["balances"][0]["amount"], "340282366920938463463374607431768211455");
        assert!(json.get("transactions").is_none());
    }

    #[test]
    fn people_get_decimals_and_a_symbol() {
        assert!(text(&shown()).contains("340282366920938463463.374607431768211455 KDX"));
    }
}
