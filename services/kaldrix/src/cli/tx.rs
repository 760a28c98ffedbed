//! `kaldrix tx`.

use super::ApiOptions;
use super::error::CliError;
use super::output::{Output, fields};
use super::values;
use clap::Args;
use kaldrix_client::{OperationInfo, TransactionInfo};
use kaldrix_types::{AssetId, NATIVE_DECIMALS, TxId, format_amount};
use std::time::Duration;

/// `tx`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kaldrix tx 4f…\n  kaldrix tx 4f… --wait --timeout 30s --json")]
pub(crate) struct TxArgs {
    /// The transaction's id: 64 hexadecimal digits
    id: TxId,
    /// Wait until its outcome is decided
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = values::duration)]
    timeout: Duration,
    #[command(flatten)]
    pub(crate) api: ApiOptions,
}

pub(crate) async fn run(args: TxArgs, output: Output) -> Result<(), CliError> {
    let client = args.api.connect().await?;
    let info = if args.wait { client.wait_definite(args.id, args.timeout).await? } else { client.transaction(args.id).await? };
    output.show(&info, || text(&info));
    Ok(())
}

fn text(info: &TransactionInfo) -> String {
    let outcome = match (&info.code, info.status.is_final()) {
        (Some(code), true) => format!("{} without effect: {code}", info.status),
        (Some(code), false) => format!("{}: {code}", info.status),
        (None, _) => info.status.to_string(),
    };
    let mut pairs = vec![("id", info.id.to_string()), ("status", outcome)];
    if let Some(detail) = &info.detail {
        pairs.push(("", detail.clone()));
    }
    if let Some(commit) = info.commit {
        pairs.push(("commit", format!("{commit}, position {}", info.position)));
    }
    if let Some(checkpoint) = info.checkpoint {
        pairs.push(("checkpoint", format!("{checkpoint}: `kaldrix proof tx {}` proves it", info.id)));
    }
    if let Some(block) = info.block {
        pairs.push(("block", block.to_string()));
    }
    if let Some(time) = info.timestamp_ms {
        pairs.push(("time", values::utc(time)));
    }
    if let Some(sender) = info.sender {
        pairs.push(("sender", sender.to_string()));
        pairs.push(("sequence", format!("{} in lane {}", info.sequence, info.lane)));
        pairs.push(("fee", format!("{} KDX", format_amount(info.fee, NATIVE_DECIMALS))));
    }
    for operation in info.operations.iter().take(20) {
        pairs.push(("operation", operation_text(operation)));
    }
    if info.operations.len() > 20 {
        pairs.push(("operation", format!("… and {} more (--json shows all)", info.operations.len() - 20)));
    }
    if !info.memo.is_empty() {
        pairs.push(("memo", memo_text(&info.memo)));
    }
    fields(&pairs)
}

/// A memo as text when it is text, else as hex.
fn memo_text(memo: &str) -> String {
    let text = hex::decode(memo).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    // Control characters could rewrite the terminal.
    text.filter(|t| !t.chars().any(char::is_control)).unwrap_or_else(|| memo.to_owned())
}

fn operation_text(operation: &OperationInfo) -> String {
    let mut parts = vec![operation.kind.replace('_', " ")];
    match (operation.amount, operation.asset) {
        (Some(amount), None | Some(AssetId::NATIVE)) if operation.symbol.is_none() => {
            parts.push(format!("{} KDX", format_amount(amount, NATIVE_DECIMALS)));
        }
        (Some(amount), Some(asset)) => parts.push(format!("{amount} units of {asset}")),
        (Some(amount), None) => parts.push(format!("{amount} units")),
        (None, _) => {}
    }
    if let Some(symbol) = &operation.symbol {
        parts.push(format!("{symbol} with {} decimals", operation.decimals.unwrap_or(0)));
    }
    if let Some(name) = &operation.validator_name {
        parts.push(format!("{name} in {}", operation.region.as_deref().unwrap_or_default()));
    }
    if let (Some(index), Some(round), Some(epoch)) = (operation.accused_index, operation.accused_round, operation.accused_epoch) {
        parts.push(format!("by validator {index} in round {round} of epoch {epoch}"));
    }
    if let Some(to) = operation.to {
        parts.push(format!("to {to}"));
    }
    if let Some(document) = operation.document {
        parts.push(document.to_string());
    }
    if let (Some(scheme), Some(key)) = (operation.scheme, operation.key_id) {
        parts.push(format!("{scheme} key {key}"));
    }
    if let Some(index) = operation.key_index {
        parts.push(format!("in place of key {index}"));
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memo_cannot_write_control_characters_to_the_terminal() {
        assert_eq!(memo_text(&hex::encode("rent, June")), "rent, June");
        let nasty = hex::encode("\u{1b}[2J");
        assert_eq!(memo_text(&nasty), nasty);
        assert_eq!(memo_text("ff"), "ff");
    }

    #[test]
    fn native_amounts_are_shown_in_kdx() {
        let operation = OperationInfo {
            kind: "transfer".into(),
            amount: Some(1_500_000_000_000_000_000),
            asset: Some(AssetId::NATIVE),
            ..Default::default()
        };
        assert_eq!(operation_text(&operation), "transfer 1.5 KDX");
        let stake = OperationInfo { kind: "stake".into(), amount: Some(1_500_000_000_000_000_000), ..Default::default() };
        assert_eq!(operation_text(&stake), "stake 1.5 KDX");
        let report = OperationInfo {
            kind: "report_equivocation".into(),
            accused_epoch: Some(1),
            accused_round: Some(2),
            accused_index: Some(3),
            ..Default::default()
        };
        assert_eq!(operation_text(&report), "report equivocation by validator 3 in round 2 of epoch 1");
    }
}
