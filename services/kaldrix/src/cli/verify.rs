//! `kaldrix verify`: whether a proof holds, offline, with nothing but the genesis file.

use super::OutputOptions;
use super::error::CliError;
use super::output::{Output, fields};
use super::values::{Unit, utc};
use clap::Args;
use kaldrix_client::verify::{AccountItem, Item, Proof, RecordItem, verifier, verify_proof};
use kaldrix_types::{
    Account, Address, AssetId, ChainId, Checkpoint, CommitIndex, Digest, Epoch, Genesis, KeyId, Lane, OutcomeStatus, Scheme, Sequence,
    StateKey, StateValue, TimestampMs, TxId, TxOutcome,
};
use serde::Serialize;
use std::io::Read;
use std::path::{Path, PathBuf};

/// `verify`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kaldrix proof tx 4f… --out payment.json\n  kaldrix verify payment.json --genesis kaldrix-data/genesis.json\n  \
                        curl -s http://127.0.0.1:8080/v1/accounts/kx1…/proof | kaldrix verify - --genesis genesis.json --json\n\n\
                        Nothing is asked of any server. Exit code 0: what is printed is true, if the genesis is the right one. Exit code 1: \
                        the proof does not hold, and why."
)]
pub(crate) struct VerifyArgs {
    /// The proof's file; - reads it from stdin
    #[arg(value_name = "PROOF")]
    proof: PathBuf,
    /// The genesis file of the chain: what everything is verified from
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

#[derive(Serialize)]
struct Shown {
    /// Always true: a proof that does not hold ends the command.
    valid: bool,
    network: String,
    chain_id: ChainId,
    checkpoint: ShownCheckpoint,
    #[serde(flatten)]
    item: ShownItem,
}

#[derive(Serialize)]
struct ShownCheckpoint {
    index: u64,
    digest: Digest,
    epoch: Epoch,
    first_commit: CommitIndex,
    last_commit: CommitIndex,
    timestamp_ms: TimestampMs,
    voters: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum ShownItem {
    Transaction(ShownTransaction),
    Account(ShownAccount),
    Balance(ShownBalance),
    Record(ShownRecord),
}

#[derive(Serialize)]
struct ShownTransaction {
    id: TxId,
    /// success, failed or discarded.
    outcome: &'static str,
    code: Option<&'static str>,
    sender: Address,
    lane: Lane,
    sequence: Sequence,
}

#[derive(Serialize)]
struct ShownAccount {
    address: Address,
    /// Whether it has ever signed.
    exists: bool,
    next_sequence: Sequence,
    keys: Vec<ShownKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    balance: Option<ShownBalance>,
}

#[derive(Serialize)]
struct ShownKey {
    index: usize,
    scheme: Scheme,
    key_id: KeyId,
}

#[derive(Serialize)]
struct ShownBalance {
    address: Address,
    asset: AssetId,
    /// Smallest units.
    amount: String,
    #[serde(skip)]
    units: u128,
}

#[derive(Serialize)]
struct ShownRecord {
    key: StateKey,
    /// Absent: there is no such record.
    value: serde_json::Value,
}

pub(crate) fn run(args: &VerifyArgs, output: Output) -> Result<(), CliError> {
    let genesis = Genesis::from_json(&read(&args.genesis)?).map_err(CliError::Genesis)?;
    let proof = Proof::from_json(&read(&args.proof)?).map_err(CliError::Proof)?;
    let shown = check(&genesis, &proof)?;
    output.show(&shown, || text(&shown));
    Ok(())
}

fn read(path: &Path) -> Result<String, CliError> {
    let problem = |source| CliError::File { path: path.display().to_string(), source };
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).map_err(problem)?;
        return Ok(text);
    }
    std::fs::read_to_string(path).map_err(problem)
}

fn check(genesis: &Genesis, proof: &Proof) -> Result<Shown, CliError> {
    let verified = verify_proof(genesis, proof, &verifier()).map_err(CliError::Proof)?;
    Ok(Shown {
        valid: true,
        network: genesis.name.clone(),
        chain_id: genesis.chain_id(),
        checkpoint: checkpoint(verified.checkpoint, proof.checkpoint.votes.len()),
        item: item(verified.item),
    })
}

fn checkpoint(checkpoint: &Checkpoint, voters: usize) -> ShownCheckpoint {
    ShownCheckpoint {
        index: checkpoint.index,
        digest: checkpoint.digest(),
        epoch: checkpoint.epoch,
        first_commit: checkpoint.first_commit,
        last_commit: checkpoint.last_commit,
        timestamp_ms: checkpoint.timestamp_ms,
        voters,
    }
}

fn item(item: &Item) -> ShownItem {
    match item {
        Item::Transaction(item) => ShownItem::Transaction(transaction(&item.outcome)),
        Item::Account(item) => {
            let AccountItem { address, account: value, asset, balance: amount, .. } = &**item;
            let balance = Some(balance(*address, *asset, amount.unwrap_or(0)));
            ShownItem::Account(ShownAccount { balance, ..account(*address, value.as_ref()) })
        }
        Item::Record(item) => record(item),
    }
}

fn transaction(outcome: &TxOutcome) -> ShownTransaction {
    let (text, code) = match outcome.status {
        OutcomeStatus::Success => ("success", None),
        OutcomeStatus::Failed(code) => ("failed", Some(code.as_str())),
        OutcomeStatus::Discarded(code) => ("discarded", Some(code.as_str())),
    };
    let TxOutcome { id, sender, lane, sequence, .. } = *outcome;
    ShownTransaction { id, outcome: text, code, sender, lane, sequence }
}

fn account(address: Address, account: Option<&Account>) -> ShownAccount {
    let keys = account.map_or(&[][..], |a| &a.keys);
    let key = |(index, slot): (usize, &kaldrix_types::KeySlot)| ShownKey { index, scheme: slot.key.scheme(), key_id: slot.key.id() };
    ShownAccount {
        address,
        exists: account.is_some(),
        next_sequence: account.map_or(0, |a| a.next_sequence),
        keys: keys.iter().enumerate().map(key).collect(),
        balance: None,
    }
}

fn balance(address: Address, asset: AssetId, units: u128) -> ShownBalance {
    ShownBalance { address, asset, amount: units.to_string(), units }
}

fn record(item: &RecordItem) -> ShownItem {
    match (item.key, &item.value) {
        (StateKey::Account(address), None) => ShownItem::Account(account(address, None)),
        (StateKey::Account(address), Some(StateValue::Account(value))) => ShownItem::Account(account(address, Some(value))),
        (StateKey::Balance(address, asset), None) => ShownItem::Balance(balance(address, asset, 0)),
        (StateKey::Balance(address, asset), Some(StateValue::Balance(units))) => ShownItem::Balance(balance(address, asset, *units)),
        (key, _) => {
            // The proof's own text of it: amounts there are decimal texts.
            let value = serde_json::to_value(item).ok().and_then(|mut item| item.get_mut("value").map(serde_json::Value::take));
            ShownItem::Record(ShownRecord { key, value: value.unwrap_or_default() })
        }
    }
}

fn text(shown: &Shown) -> String {
    let checkpoint = &shown.checkpoint;
    let (what, mut pairs) = item_text(&shown.item);
    let time = utc(checkpoint.timestamp_ms);
    pairs.push(match &shown.item {
        ShownItem::Transaction(_) => {
            ("commit", format!("one of {} to {}, the last of which is of {time}", checkpoint.first_commit, checkpoint.last_commit))
        }
        _ => ("as of", format!("commit {}, {time}", checkpoint.last_commit)),
    });
    pairs.push(("checkpoint", format!("{} of epoch {}, {}", checkpoint.index, checkpoint.epoch, checkpoint.digest)));
    pairs.push(("vouched for", format!("by {} validators, a quorum of the epoch's stake", checkpoint.voters)));
    pairs.push(("chain", format!("{} ({})", shown.chain_id, printable(&shown.network))));
    format!("PROVEN: {what}\n{}", fields(&pairs))
}

fn item_text(item: &ShownItem) -> (String, Vec<(&'static str, String)>) {
    match item {
        ShownItem::Transaction(tx) => {
            let what = match (tx.outcome, tx.code) {
                ("success", _) => "the transaction took effect".to_owned(),
                (outcome, code) => format!("the transaction was {outcome} without effect: {}", code.unwrap_or_default()),
            };
            let pairs = vec![
                ("transaction", tx.id.to_string()),
                ("sender", tx.sender.to_string()),
                ("sequence", format!("{} in lane {}", tx.sequence, tx.lane)),
            ];
            (what, pairs)
        }
        ShownItem::Balance(balance) => balance_text(balance),
        ShownItem::Account(account) => {
            let (what, mut pairs) = match &account.balance {
                Some(balance) => balance_text(balance),
                None if account.exists => ("the account's keys and sequence number".into(), vec![("account", account.address.to_string())]),
                None => ("the account has never signed anything".into(), vec![("account", account.address.to_string())]),
            };
            pairs.extend(account.keys.iter().map(|key| ("key", format!("{} {} {}", key.index, key.scheme, key.key_id))));
            pairs.push(("next sequence", account.next_sequence.to_string()));
            (what, pairs)
        }
        ShownItem::Record(record) => {
            let what = if record.value.is_null() { "there is no such record" } else { "a record of the state" };
            (what.into(), vec![("record", format!("{:?}", record.key)), ("value", printable(&record.value.to_string()))])
        }
    }
}

fn balance_text(balance: &ShownBalance) -> (String, Vec<(&'static str, String)>) {
    let amount = match balance.asset {
        AssetId::NATIVE => Unit::native().format(balance.units),
        asset => format!("{} smallest units of {asset}", balance.amount),
    };
    (format!("the account holds {amount}"), vec![("account", balance.address.to_string())])
}

/// Text from a file, without what could rewrite the terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kaldrix_types::RejectCode;

    fn shown(item: ShownItem) -> Shown {
        let checkpoint = ShownCheckpoint {
            index: 7,
            digest: Digest([1; 32]),
            epoch: 2,
            first_commit: 10,
            last_commit: 19,
            timestamp_ms: 1_700_000_000_123,
            voters: 3,
        };
        Shown { valid: true, network: "net\u{1b}[2J".into(), chain_id: ChainId::default(), checkpoint, item }
    }

    fn outcome(status: OutcomeStatus) -> TxOutcome {
        TxOutcome { id: TxId(Digest([5; 32])), block: 0, position: 0, sender: Address([6; 32]), lane: 1, sequence: 2, status }
    }

    #[test]
    fn what_is_proven_is_said_in_words_and_in_fields() {
        let paid = shown(ShownItem::Transaction(transaction(&outcome(OutcomeStatus::Success))));
        let words = text(&paid);
        assert!(words.starts_with("PROVEN: the transaction took effect\n"), "{words}");
        for part in ["0505", "2 in lane 1", "10 to 19", "2023-11-14 22:13:20", "7 of epoch 2", "by 3 validators"] {
            assert!(words.contains(part), "{part} in {words}");
        }
        assert!(!words.contains('\u{1b}'), "a genesis cannot write control characters to the terminal");
        let json = serde_json::to_value(&paid).unwrap();
        assert_eq!(
            (&json["valid"], &json["transaction"]["outcome"], &json["checkpoint"]["index"]),
            (&true.into(), &"success".into(), &7.into())
        );

        let failed = shown(ShownItem::Transaction(transaction(&outcome(OutcomeStatus::Failed(RejectCode::InsufficientBalance)))));
        assert!(text(&failed).contains("failed without effect: INSUFFICIENT_BALANCE"));
    }

    #[test]
    fn a_balance_is_shown_in_kdx_and_exactly() {
        let kdx = shown(ShownItem::Balance(balance(Address([6; 32]), AssetId::NATIVE, 1_500_000_000_000_000_000)));
        assert!(text(&kdx).contains("the account holds 1.5 KDX"));
        assert_eq!(serde_json::to_value(&kdx).unwrap()["balance"]["amount"], "1500000000000000000");
        let nobody = shown(ShownItem::Account(account(Address([6; 32]), None)));
        assert!(text(&nobody).contains("never signed"));
        assert_eq!(serde_json::to_value(&nobody).unwrap()["account"]["exists"], false);
    }

    #[test]
    fn files_that_are_no_genesis_or_no_proof_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file.json");
        std::fs::write(&path, "{}").unwrap();
        let output = Output::new(OutputOptions { json: true });
        let code = |proof: &Path, genesis: &Path| {
            let args = VerifyArgs { proof: proof.into(), genesis: genesis.into(), output: OutputOptions { json: true } };
            run(&args, output).unwrap_err().code().to_owned()
        };
        assert_eq!(code(&path, &path), "GENESIS_INVALID");
        assert_eq!(code(&path, &directory.path().join("missing")), "FILE");
        let genesis = Genesis {
            name: "n".into(),
            timestamp_ms: 0,
            parameters: kaldrix_types::Parameters::default(),
            validators: Vec::new(),
            accounts: Vec::new(),
        };
        let good = directory.path().join("genesis.json");
        std::fs::write(&good, genesis.to_json()).unwrap();
        assert_eq!(code(&path, &good), "PROOF_INVALID");
    }
}
