//! The messages of the public API as JSON: ids in lower-case hex, amounts as decimal strings, names in snake_case. A value that does not
//! exist (yet) is `null`.

mod chain;
mod proofs;

pub use chain::{Asset, Block, BlockRef, Commit, CommitPage, Network, Parameters, Readiness, Validator, Validators};
pub use proofs::{Checkpoint, NextValidator};

use kaldrix_proto::ledger as pb;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// How far a transaction has come.
#[must_use]
pub fn status_text(status: pb::TransactionStatus) -> &'static str {
    match status {
        pb::TransactionStatus::Unspecified => "UNSPECIFIED",
        pb::TransactionStatus::Accepted => "ACCEPTED",
        pb::TransactionStatus::Included => "INCLUDED",
        pb::TransactionStatus::Final => "FINAL",
        pb::TransactionStatus::Checkpointed => "CHECKPOINTED",
        pb::TransactionStatus::Rejected => "REJECTED",
        pb::TransactionStatus::Expired => "EXPIRED",
    }
}

/// Body of `POST /v1/transactions`.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitTransactionRequest {
    /// Base64 of the signed transaction's BCS bytes, at most 128 KiB of them.
    pub transaction: String,
    /// How far to wait: ACCEPTED (default), INCLUDED, FINAL or CHECKPOINTED.
    #[serde(default)]
    #[schema(example = "FINAL")]
    pub wait_for: Option<String>,
    /// How long to wait in milliseconds; 5000 by default. A wait that runs out is not an error.
    #[serde(default)]
    pub timeout_ms: Option<u32>,
}

/// Body of `POST /v1/faucet`.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FaucetRequest {
    /// Who gets the money.
    pub address: String,
    /// Smallest units of KDX, as decimal text.
    #[schema(example = "1000000000000000000")]
    pub amount: String,
}

/// A transaction, as far as it has come.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Transaction {
    /// Hash of its body.
    pub id: String,
    /// ACCEPTED, INCLUDED, FINAL, CHECKPOINTED, REJECTED or EXPIRED.
    #[schema(example = "FINAL")]
    pub status: &'static str,
    /// Whether it took effect; null before it is final.
    pub success: Option<bool>,
    /// Stable code when it failed, was rejected or expired.
    pub code: Option<String>,
    /// What to do about the code.
    pub detail: Option<String>,
    /// Commit that ordered it.
    pub commit_index: Option<u64>,
    /// Block that carried it.
    pub block: Option<String>,
    /// Position in the commit.
    pub position: Option<u32>,
    /// Consensus time of the commit, milliseconds since 1970.
    pub timestamp_ms: Option<u64>,
    /// Checkpoint that covers it; null before CHECKPOINTED, and where this server has not seen which one it is.
    pub checkpoint_index: Option<u64>,
    /// Who sent it; null while only its id is known here.
    pub sender: Option<String>,
    /// Its lane.
    pub lane: u32,
    /// Its position in the lane.
    pub sequence: u64,
    /// Smallest units of KDX.
    pub fee: Option<String>,
    /// Consensus time after which it can never land.
    pub valid_until_ms: u64,
    /// What it does.
    pub operations: Vec<Operation>,
    /// Hex.
    pub memo: String,
}

impl From<pb::Transaction> for Transaction {
    fn from(t: pb::Transaction) -> Self {
        let ordered = t.commit_index > 0;
        let is_final = matches!(t.status(), pb::TransactionStatus::Final | pb::TransactionStatus::Checkpointed);
        Self {
            status: status_text(t.status()),
            id: t.id,
            success: is_final.then_some(t.success),
            code: some(t.code),
            detail: some(t.detail),
            commit_index: ordered.then_some(t.commit_index),
            block: some(t.block),
            position: ordered.then_some(t.position),
            timestamp_ms: ordered.then_some(t.timestamp_ms),
            checkpoint_index: (t.checkpoint_index > 0).then_some(t.checkpoint_index),
            sender: some(t.sender),
            lane: t.lane,
            sequence: t.sequence,
            fee: some(t.fee),
            valid_until_ms: t.valid_until_ms,
            operations: t.operations.into_iter().map(Operation::from).collect(),
            memo: t.memo,
        }
    }
}

/// One operation; fields that do not apply are left out.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Operation {
    /// transfer, create_asset, mint, burn, anchor, register_key, rotate_key, register_validator, stake, unstake, rotate_session_key,
    /// leave_validators, unjail or report_equivocation.
    pub kind: String,
    /// Recipient of a transfer or mint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Asset id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asset: Option<String>,
    /// Smallest units; the initial supply of a new asset, the stake of a new validator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<String>,
    /// Symbol of a new asset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// Decimals of a new asset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decimals: Option<u32>,
    /// Upper bound of a new asset's supply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_supply: Option<String>,
    /// Hex of the anchored hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// Hex of what was anchored beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    /// Id of the key that was added or put in place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// Its scheme.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// Index of the key that was replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_index: Option<u32>,
    /// Name of a new validator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validator_name: Option<String>,
    /// Region of a new validator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Epoch of an equivocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accused_epoch: Option<u64>,
    /// Round in which the accused signed two blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accused_round: Option<u64>,
    /// Index of the accused in that epoch's committee.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accused_index: Option<u32>,
}

impl From<pb::Operation> for Operation {
    fn from(o: pb::Operation) -> Self {
        let (creates, anchors, rotates) = (o.kind == "create_asset", o.kind == "anchor", o.kind == "rotate_key");
        let accuses = o.kind == "report_equivocation";
        Self {
            to: some(o.to),
            asset: some(o.asset),
            amount: some(o.amount),
            symbol: some(o.symbol),
            decimals: creates.then_some(o.decimals),
            maximum_supply: some(o.maximum_supply),
            document: some(o.document),
            metadata: anchors.then_some(o.metadata),
            key_id: some(o.key_id),
            scheme: some(o.scheme),
            key_index: rotates.then_some(o.key_index),
            validator_name: some(o.validator_name),
            region: some(o.region),
            accused_epoch: accuses.then_some(o.accused_epoch),
            accused_round: accuses.then_some(o.accused_round),
            accused_index: accuses.then_some(o.accused_index),
            kind: o.kind,
        }
    }
}

/// An account.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Account {
    /// Its address.
    pub address: String,
    /// What it holds: KDX first, at most 1,000 assets.
    pub balances: Vec<Balance>,
    /// Who may sign for it; empty until its first transaction.
    pub keys: Vec<AccountKey>,
    /// Next sequence number of lane 0.
    pub next_sequence: u64,
    /// Lanes above 0 that were used.
    pub lanes: Vec<Lane>,
    /// Commit that this answer reflects at least.
    pub as_of_commit: u64,
}

impl From<pb::Account> for Account {
    fn from(a: pb::Account) -> Self {
        let balance = |b: pb::Balance| Balance { asset: b.asset, amount: b.amount, symbol: b.symbol, decimals: b.decimals };
        let key = |k: pb::AccountKey| AccountKey { index: k.index, scheme: k.scheme, key_id: k.key_id };
        Self {
            address: a.address,
            balances: a.balances.into_iter().map(balance).collect(),
            keys: a.keys.into_iter().map(key).collect(),
            next_sequence: a.next_sequence,
            lanes: a.lanes.into_iter().map(|l| Lane { lane: l.lane, next_sequence: l.next_sequence }).collect(),
            as_of_commit: a.as_of_commit,
        }
    }
}

/// How much an account holds of an asset.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Balance {
    /// Asset id; KDX is 64 zeroes.
    pub asset: String,
    /// Smallest units.
    pub amount: String,
    /// The asset's symbol.
    pub symbol: String,
    /// The asset's decimals.
    pub decimals: u32,
}

/// A key of an account.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AccountKey {
    /// What transactions name it by.
    pub index: u32,
    /// How it signs.
    pub scheme: String,
    /// Hash of the public key.
    pub key_id: String,
}

/// One of an account's independent sequences.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Lane {
    /// 1 to 255.
    pub lane: u32,
    /// Its next sequence number.
    pub next_sequence: u64,
}

/// A page of an account's history, newest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TransactionPage {
    /// The transactions.
    pub transactions: Vec<Transaction>,
    /// Give it as `after` for the next page; null at the end.
    pub next: Option<String>,
}

impl From<pb::ListAccountTransactionsResponse> for TransactionPage {
    fn from(page: pb::ListAccountTransactionsResponse) -> Self {
        Self { transactions: page.transactions.into_iter().map(Transaction::from).collect(), next: some(page.next) }
    }
}
