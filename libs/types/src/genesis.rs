//! Genesis: the file that defines a chain. Its hash is the chain id.

use crate::hash::Context;
use crate::{
    Address, AssetId, ChainId, Committee, CommitteeError, StateChange, StateKey, StateValue, Supply, TimestampMs, Validator, codec,
};
use serde::{Deserialize, Serialize};

/// An account that exists from the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisAccount {
    /// Its address.
    pub address: Address,
    /// Smallest units of KDX, as decimal text in the file.
    #[serde(with = "decimal_text")]
    pub amount: u128,
}

/// Rules of a chain that all validators share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Least fee of a transaction, smallest units of KDX.
    #[serde(with = "decimal_text")]
    pub minimum_fee: u128,
    /// How far ahead of consensus time `valid_until` may be.
    pub validity_ms_max: u64,
    /// Rounds below the last committed leader that a commit still includes.
    pub gc_depth: u64,
    /// Leader slots per round.
    pub leaders_per_round: u32,
    /// Least number of validators.
    pub min_validators: u32,
    /// Paid per epoch to validators, smallest units of KDX (epochs: see docs/architecture.md).
    #[serde(with = "decimal_text")]
    pub block_reward: u128,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { minimum_fee: 0, validity_ms_max: 86_400_000, gc_depth: 60, leaders_per_round: 1, min_validators: 4, block_reward: 0 }
    }
}

/// The definition of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// A name for people.
    pub name: String,
    /// When the chain begins.
    pub timestamp_ms: TimestampMs,
    /// Its rules.
    pub parameters: Parameters,
    /// Validators of epoch 0.
    pub validators: Vec<Validator>,
    /// Accounts that hold KDX from the start.
    pub accounts: Vec<GenesisAccount>,
}

/// Why a genesis defines no chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// The validators form no committee.
    #[error(transparent)]
    Committee(#[from] CommitteeError),
    /// Fewer validators than the parameters ask for.
    #[error("{found} validators are fewer than the minimum of {minimum}")]
    TooFewValidators {
        /// How many there are.
        found: usize,
        /// How many there must be.
        minimum: u32,
    },
    /// Not JSON of a genesis.
    #[error("not a genesis file: {0}")]
    Json(String),
    /// Balances that overflow, or one address twice.
    #[error("genesis accounts must be distinct and their sum must fit 128 bits")]
    Accounts,
}

impl Genesis {
    /// Reads a genesis file.
    ///
    /// # Errors
    /// [`GenesisError::Json`] for anything else than JSON of a genesis; unknown fields are refused.
    pub fn from_json(text: &str) -> Result<Self, GenesisError> {
        serde_json::from_str(text).map_err(|e| GenesisError::Json(e.to_string()))
    }

    /// The file's content.
    ///
    /// # Panics
    /// Never: every field has a JSON form.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("every field has a JSON form")
    }

    /// The chain's id.
    #[must_use]
    pub fn chain_id(&self) -> ChainId {
        ChainId(Context::ChainId.hash(&[&codec::encode(self)]))
    }

    /// The validators of epoch 0.
    ///
    /// # Errors
    /// [`GenesisError`] when they are too few or form no committee.
    pub fn committee(&self) -> Result<Committee, GenesisError> {
        if self.validators.len() < self.parameters.min_validators as usize {
            return Err(GenesisError::TooFewValidators { found: self.validators.len(), minimum: self.parameters.min_validators });
        }
        Ok(Committee::new(self.chain_id(), 0, self.validators.clone())?)
    }

    /// The state before the first commit, sorted by key.
    ///
    /// # Errors
    /// [`GenesisError::Accounts`].
    pub fn state(&self) -> Result<Vec<StateChange>, GenesisError> {
        let mut changes = Vec::with_capacity(self.accounts.len() + 1);
        let mut supply = 0u128;
        for account in &self.accounts {
            supply = supply.checked_add(account.amount).ok_or(GenesisError::Accounts)?;
            let key = StateKey::Balance(account.address, AssetId::NATIVE);
            changes.push(StateChange { key, value: Some(StateValue::Balance(account.amount)) });
        }
        changes.push(StateChange { key: StateKey::Supply(AssetId::NATIVE), value: Some(StateValue::Supply(Supply { amount: supply })) });
        changes.sort_by_key(|c| c.key);
        if changes.windows(2).any(|pair| pair[0].key == pair[1].key) { Err(GenesisError::Accounts) } else { Ok(changes) }
    }
}

/// u128 as decimal text in files (JSON numbers stop at 2^53), as u128 in BCS.
mod decimal_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(value) } else { value.serialize(serializer) }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
        } else {
            u128::deserialize(deserializer)
        }
    }
}
