//! Genesis: the file that defines a chain. Its hash is the chain id.

use crate::hash::Context;
use crate::{
    Address, AssetId, ChainId, Committee, CommitteeError, EpochRecord, Member, StateChange, StateKey, StateValue, Supply, TimestampMs,
    Validator, ValidatorRecord, ValidatorStatus, codec,
};
use serde::{Deserialize, Serialize};

/// One unit of voting weight: this much bonded KDX, in smallest units (one whole KDX).
pub const WEIGHT_UNIT: u128 = 10u128.pow(crate::NATIVE_DECIMALS as u32);

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
    /// Created at each epoch's end and paid to its validators beside the fees, smallest units of KDX.
    #[serde(with = "decimal_text")]
    pub block_reward: u128,
    /// Least length of an epoch in consensus time.
    pub epoch_ms: u64,
    /// Most commits of one checkpoint.
    pub checkpoint_commits: u64,
    /// Longest time, in consensus time, between two checkpoints while there are transactions.
    pub checkpoint_ms: u64,
    /// Commits after which leaders are chosen anew by reputation; 0: never.
    pub schedule_commits: u32,
    /// Least stake of a validator, smallest units of KDX.
    #[serde(with = "decimal_text")]
    pub minimum_stake: u128,
    /// What an equivocation costs, in ten-thousandths of the stake.
    pub slash_basis_points: u32,
    /// Full epochs that a jailed validator sits out.
    pub jail_epochs: u64,
    /// A validator with blocks in fewer than this many ten-thousandths of an epoch's commits is jailed.
    pub absence_basis_points: u32,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            minimum_fee: 0,
            validity_ms_max: 86_400_000,
            gc_depth: 60,
            leaders_per_round: 1,
            min_validators: 4,
            block_reward: 0,
            epoch_ms: 3_600_000,
            checkpoint_commits: 64,
            checkpoint_ms: 1_000,
            schedule_commits: 300,
            minimum_stake: WEIGHT_UNIT,
            slash_basis_points: 500,
            jail_epochs: 2,
            absence_basis_points: 500,
        }
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
        let (mut changes, bonded) = self.validator_records()?;
        let mut supply = bonded;
        for account in &self.accounts {
            supply = supply.checked_add(account.amount).ok_or(GenesisError::Accounts)?;
            let key = StateKey::Balance(account.address, AssetId::NATIVE);
            changes.push(StateChange { key, value: Some(StateValue::Balance(account.amount)) });
        }
        changes.push(StateChange { key: StateKey::Supply(AssetId::NATIVE), value: Some(StateValue::Supply(Supply { amount: supply })) });
        if bonded > 0 {
            let key = StateKey::Balance(Address::STAKE_POOL, AssetId::NATIVE);
            changes.push(StateChange { key, value: Some(StateValue::Balance(bonded)) });
        }
        changes.sort_by_key(|c| c.key);
        if changes.windows(2).any(|pair| pair[0].key == pair[1].key) { Err(GenesisError::Accounts) } else { Ok(changes) }
    }
}

impl Genesis {
    /// The records of the first epoch, and how much stake they say is bonded: it exists beside the accounts' balances.
    fn validator_records(&self) -> Result<(Vec<StateChange>, u128), GenesisError> {
        let mut changes = Vec::new();
        let mut bonded = 0u128;
        let mut put = |key, value| changes.push(StateChange { key, value: Some(value) });
        for validator in &self.validators {
            let stake = u128::from(validator.stake) * WEIGHT_UNIT;
            bonded = bonded.checked_add(stake).ok_or(GenesisError::Accounts)?;
            put(StateKey::ValidatorName(validator_name_digest(&validator.name)), StateValue::ValidatorName(validator.operator));
            put(StateKey::ValidatorName(crate::Digest(validator.key.id().0)), StateValue::ValidatorName(validator.operator));
            let record = ValidatorRecord {
                name: validator.name.clone(),
                region: validator.region.clone(),
                key: validator.key.clone(),
                next_key: None,
                previous_key: None,
                stake,
                unbonding: Vec::new(),
                status: ValidatorStatus::Active,
                slashed_epoch: None,
            };
            put(StateKey::Validator(validator.operator), StateValue::Validator(Box::new(record)));
        }
        let members: Vec<Member> = self.validators.iter().map(|v| Member { operator: v.operator, weight: v.stake }).collect();
        let mut candidates: Vec<Address> = members.iter().map(|m| m.operator).collect();
        candidates.sort_unstable();
        put(StateKey::Participation, StateValue::Participation(vec![0; members.len()]));
        let epoch = EpochRecord { start_ms: self.timestamp_ms, first_commit: 1, members, candidates, ..EpochRecord::default() };
        put(StateKey::Epoch, StateValue::Epoch(epoch));
        Ok((changes, bonded))
    }
}

/// What [`StateKey::ValidatorName`] names a validator's name by.
#[must_use]
pub fn validator_name_digest(name: &str) -> crate::Digest {
    Context::ValidatorName.hash(&[name.as_bytes()])
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
