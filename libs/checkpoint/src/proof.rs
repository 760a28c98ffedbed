//! Proofs that somebody can keep, pass on and check offline.

use crate::StateTreeProof;
use crate::builder::ProvenRecord;
use crate::readable;
use crate::verify::ProofError;
use kaldrix_types::{
    Account, Address, AssetId, CertifiedCheckpoint, Checkpoint, Digest, MerklePath, StateKey, StateValue, TxId, TxOutcome, merkle_path,
};
use serde::{Deserialize, Serialize};

/// Text of a proof, bytes. A committee of 100 takes about 1.5 MiB per epoch.
pub const PROOF_BYTES_MAX: usize = 1 << 30;

/// Something about the ledger, and everything needed to believe it with the genesis in hand. JSON: digests and signatures are hexadecimal,
/// amounts decimal text in smallest units, addresses `kx1…`.
///
/// Every field is covered by a signature or by a Merkle path: none can be changed unnoticed, and nothing can be left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// Format, 1.
    pub version: u16,
    /// The last checkpoint of every epoch before the checkpoint's own, from epoch 0 on.
    pub epochs: Vec<CertifiedCheckpoint>,
    /// The checkpoint that holds the item.
    pub checkpoint: CertifiedCheckpoint,
    /// What is proven.
    pub item: Item,
}

/// What a [`Proof`] proves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// What became of a transaction.
    Transaction(TransactionItem),
    /// An account's keys and what it holds of one asset.
    Account(Box<AccountItem>),
    /// Any record of the state.
    Record(Box<RecordItem>),
}

/// An outcome and its place among those of the checkpoint's commits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransactionItem {
    /// Transaction, sender, sequence number, and what became of it.
    pub outcome: TxOutcome,
    /// From the outcome's leaf to the checkpoint's `outcomes_root`.
    pub path: MerklePath,
}

/// An account at a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountItem {
    /// Which account.
    pub address: Address,
    /// Its keys and next sequence number; `null`: it has never signed a transaction.
    pub account: Option<Account>,
    /// From the account's record, or its absence, to the checkpoint's `state_root`.
    pub account_path: StateTreeProof,
    /// Which asset; all zeroes is KDX.
    pub asset: AssetId,
    /// What it holds of that, smallest units; `null`: no such record, which is nothing.
    #[serde(with = "readable::decimal_option")]
    pub balance: Option<u128>,
    /// From the balance's record, or its absence, to the checkpoint's `state_root`.
    pub balance_path: StateTreeProof,
}

/// A record of the state at a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordItem {
    /// Which record.
    pub key: StateKey,
    /// Its value; `null`: there is none.
    #[serde(with = "readable::value_option")]
    pub value: Option<StateValue>,
    /// From the record, or its absence, to the checkpoint's `state_root`.
    pub path: StateTreeProof,
}

impl Proof {
    /// Current format.
    pub const VERSION: u16 = 1;

    /// Puts a proof together.
    #[must_use]
    pub const fn new(epochs: Vec<CertifiedCheckpoint>, checkpoint: CertifiedCheckpoint, item: Item) -> Self {
        Self { version: Self::VERSION, epochs, checkpoint, item }
    }

    /// Reads a proof; [`crate::verify_proof`] says whether it holds.
    ///
    /// # Errors
    /// [`ProofError::Json`] for anything else, and for more than [`PROOF_BYTES_MAX`].
    pub fn from_json(text: &str) -> Result<Self, ProofError> {
        if text.len() > PROOF_BYTES_MAX {
            return Err(ProofError::Json(format!("{} bytes are more than the limit of {PROOF_BYTES_MAX}", text.len())));
        }
        serde_json::from_str(text).map_err(|e| ProofError::Json(e.to_string()))
    }

    /// The text to keep.
    ///
    /// # Panics
    /// Never: every field has a JSON form.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("every field has a JSON form")
    }

    pub(crate) const fn check_version(&self) -> Result<(), ProofError> {
        if self.version == Self::VERSION { Ok(()) } else { Err(ProofError::Version(self.version)) }
    }
}

impl Item {
    /// Proves what became of transaction `id`, from all outcomes of a checkpoint's commits, in order. `None` when it is not among them.
    ///
    /// A transaction that was discarded and ordered again has several outcomes: the last one that was not discarded is proven, otherwise
    /// the last.
    pub fn transaction<'a>(outcomes: impl IntoIterator<Item = &'a TxOutcome>, id: TxId) -> Option<Self> {
        let (mut leaves, mut found) = (Vec::new(), None::<(usize, &TxOutcome)>);
        for outcome in outcomes {
            let is_discarded = |o: &TxOutcome| matches!(o.status, kaldrix_types::OutcomeStatus::Discarded(_));
            if outcome.id == id && (!is_discarded(outcome) || found.is_none_or(|(_, earlier)| is_discarded(earlier))) {
                found = Some((leaves.len(), outcome));
            }
            leaves.push(outcome.leaf());
        }
        let (index, outcome) = found?;
        Some(Self::Transaction(TransactionItem { outcome: outcome.clone(), path: merkle_path(&leaves, index)? }))
    }

    /// Proves an account and one balance from [`crate::CheckpointBuilder::prove`] of [`Self::account_keys`], both of one checkpoint.
    /// `None` when they are of two checkpoints, or are not such records.
    #[must_use]
    pub fn account(address: Address, asset: AssetId, account: ProvenRecord, balance: ProvenRecord) -> Option<Self> {
        if account.checkpoint != balance.checkpoint {
            return None;
        }
        let account_value = match account.value {
            None => None,
            Some(StateValue::Account(value)) => Some(value),
            Some(_) => return None,
        };
        let balance_value = match balance.value {
            None => None,
            Some(StateValue::Balance(value)) => Some(value),
            Some(_) => return None,
        };
        Some(Self::Account(Box::new(AccountItem {
            address,
            account: account_value,
            account_path: account.proof,
            asset,
            balance: balance_value,
            balance_path: balance.proof,
        })))
    }

    /// The records that [`Self::account`] is about.
    #[must_use]
    pub const fn account_keys(address: Address, asset: AssetId) -> [StateKey; 2] {
        [StateKey::Account(address), StateKey::Balance(address, asset)]
    }

    /// Proves a record or its absence from [`crate::CheckpointBuilder::prove`].
    #[must_use]
    pub fn record(key: StateKey, proven: ProvenRecord) -> Self {
        Self::Record(Box::new(RecordItem { key, value: proven.value, path: proven.proof }))
    }

    /// Whether this is under the roots of `checkpoint`.
    ///
    /// # Errors
    /// [`ProofError::Item`].
    pub fn check(&self, checkpoint: &Checkpoint) -> Result<(), ProofError> {
        let root = checkpoint.state_root;
        let require = |holds: bool, what: &'static str| if holds { Ok(()) } else { Err(ProofError::Item(what)) };
        match self {
            Self::Transaction(TransactionItem { outcome, path }) => {
                let leads_to: Option<Digest> = path.root(outcome.leaf()).filter(|_| path.count == checkpoint.outcome_count);
                require(leads_to == Some(checkpoint.outcomes_root), "transaction's outcome")
            }
            Self::Account(item) => {
                let [account, balance] = Self::account_keys(item.address, item.asset);
                let account_value = item.account.clone().map(StateValue::Account);
                require(item.account_path.holds(root, &account, account_value.as_ref()), "account")?;
                require(item.balance_path.holds(root, &balance, item.balance.map(StateValue::Balance).as_ref()), "balance")
            }
            Self::Record(item) => require(item.path.holds(root, &item.key, item.value.as_ref()), "record"),
        }
    }
}
