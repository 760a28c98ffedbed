//! Looks at the whole state at once: one digest to compare validators by, and the conservation of every asset's supply.

use crate::STAKE_POOL_KEY;
use kaldrix_types::hash::Context;
use kaldrix_types::{Address, AssetId, Digest, StateKey, StateValue};
use std::collections::{BTreeMap, BTreeSet};

/// Digest over a whole state, fed record by record in ascending key order (a page of a store at a time).
///
/// The hashed bytes are BCS key, BCS value, next key, and so on: BCS says where each ends, so two states never give the same bytes.
pub struct StateDigester {
    hasher: blake3::Hasher,
    last: Option<StateKey>,
}

impl Default for StateDigester {
    fn default() -> Self {
        Self { hasher: Context::StateDigest.hasher(), last: None }
    }
}

impl StateDigester {
    /// Adds the record that follows the last one.
    ///
    /// # Panics
    /// In debug builds, when `key` is not above the last one.
    pub fn push(&mut self, key: &StateKey, value: &StateValue) {
        debug_assert!(self.last.is_none_or(|last| last < *key), "records come in ascending key order, each once");
        self.last = Some(*key);
        self.hasher.update(&key.to_bytes());
        self.hasher.update(&value.to_bytes());
    }

    /// The digest over everything that was pushed.
    #[must_use]
    pub fn finish(&self) -> Digest {
        Digest(*self.hasher.finalize().as_bytes())
    }
}

/// Digest over all records of a state, given in ascending key order.
#[must_use]
pub fn state_digest(records: impl IntoIterator<Item = (StateKey, StateValue)>) -> Digest {
    let mut digester = StateDigester::default();
    for (key, value) in records {
        digester.push(&key, &value);
    }
    digester.finish()
}

/// A state in which an asset was created or destroyed outside the rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SupplyError {
    /// Balances and supply differ.
    #[error(
        "the balances of asset {asset} sum to {balances} but its supply is {supply}: this state broke a rule and must not be built upon"
    )]
    Mismatch {
        /// Which asset.
        asset: AssetId,
        /// Sum of its balances, smallest units.
        balances: u128,
        /// Its supply record, 0 when there is none.
        supply: u128,
    },
    /// Balances that cannot be added up.
    #[error("the balances of asset {asset} do not fit 128 bits: this state broke a rule and must not be built upon")]
    Overflow {
        /// Which asset.
        asset: AssetId,
    },
    /// A record of one kind under a key of another, or a balance of zero that should have been removed.
    #[error("the record {key:?} cannot be in a state: the store is damaged")]
    Damaged {
        /// Which record.
        key: StateKey,
    },
}

/// Sums balances per asset, record by record in any order (a page of a store at a time). Memory grows with the number of assets.
#[derive(Clone, Debug, Default)]
pub struct SupplyAudit {
    /// Per asset: sum of balances, supply.
    assets: BTreeMap<AssetId, (u128, u128)>,
}

impl SupplyAudit {
    /// Adds a record.
    ///
    /// # Errors
    /// [`SupplyError::Overflow`] and [`SupplyError::Damaged`].
    pub fn push(&mut self, key: &StateKey, value: &StateValue) -> Result<(), SupplyError> {
        match (key, value) {
            (StateKey::Balance(_, asset), StateValue::Balance(amount)) if *amount > 0 => {
                let sum = &mut self.assets.entry(*asset).or_default().0;
                *sum = sum.checked_add(*amount).ok_or(SupplyError::Overflow { asset: *asset })?;
            }
            (StateKey::Supply(asset), StateValue::Supply(supply)) => self.assets.entry(*asset).or_default().1 = supply.amount,
            (StateKey::Account(_), StateValue::Account(_))
            | (StateKey::Lane(..), StateValue::Lane(_))
            | (StateKey::Asset(_), StateValue::Asset(_))
            | (StateKey::Anchor(..), StateValue::Anchor(_))
            | (StateKey::Validator(_), StateValue::Validator(_))
            | (StateKey::ValidatorName(_), StateValue::ValidatorName(_))
            | (StateKey::Epoch, StateValue::Epoch(_))
            | (StateKey::Participation, StateValue::Participation(_)) => {}
            _ => return Err(SupplyError::Damaged { key: *key }),
        }
        Ok(())
    }

    /// Compares the sums once every record was pushed.
    ///
    /// # Errors
    /// [`SupplyError::Mismatch`] for the first asset whose sums differ.
    pub fn finish(&self) -> Result<(), SupplyError> {
        match self.assets.iter().find(|(_, (balances, supply))| balances != supply) {
            None => Ok(()),
            Some((asset, (balances, supply))) => Err(SupplyError::Mismatch { asset: *asset, balances: *balances, supply: *supply }),
        }
    }
}

/// Whether the balances of every asset sum to its supply. `records` is a whole state, in any order.
///
/// # Errors
/// [`SupplyError`], the first thing found.
pub fn check_supply(records: impl IntoIterator<Item = (StateKey, StateValue)>) -> Result<(), SupplyError> {
    let mut audit = SupplyAudit::default();
    for (key, value) in records {
        audit.push(&key, &value)?;
    }
    audit.finish()
}

/// A state in which stake was created or destroyed outside the rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StakeError {
    /// The pool and the validators' records differ.
    #[error("the stake pool holds {pool} but validators bond {bonded}: this state broke a rule and must not be built upon")]
    Mismatch {
        /// Balance of the pool, smallest units of KDX.
        pool: u128,
        /// Sum of stake and unbonding over all validators.
        bonded: u128,
    },
    /// Stakes that cannot be added up.
    #[error("the stakes do not fit 128 bits: this state broke a rule and must not be built upon")]
    Overflow,
    /// The epoch names other candidates than there are validators.
    #[error("the epoch's candidates are not the registered validators: this state broke a rule and must not be built upon")]
    Candidates,
    /// A member of the running epoch that is not registered.
    #[error("member {0} of the running epoch is not registered: this state broke a rule and must not be built upon")]
    Member(Address),
}

/// Compares the stake pool with the validators' records, record by record in any order. Memory grows with the number of validators.
#[derive(Clone, Debug, Default)]
pub struct StakeAudit {
    pool: u128,
    bonded: u128,
    operators: BTreeSet<Address>,
    candidates: Vec<Address>,
    members: Vec<Address>,
}

impl StakeAudit {
    /// Adds a record.
    ///
    /// # Errors
    /// [`StakeError::Overflow`].
    pub fn push(&mut self, key: &StateKey, value: &StateValue) -> Result<(), StakeError> {
        match (key, value) {
            (key, StateValue::Balance(amount)) if *key == STAKE_POOL_KEY => self.pool = *amount,
            (StateKey::Validator(operator), StateValue::Validator(record)) => {
                self.operators.insert(*operator);
                let parts = record.unbonding.iter().map(|entry| entry.amount).chain([record.stake]);
                for part in parts {
                    self.bonded = self.bonded.checked_add(part).ok_or(StakeError::Overflow)?;
                }
            }
            (StateKey::Epoch, StateValue::Epoch(epoch)) => {
                self.candidates.clone_from(&epoch.candidates);
                self.members = epoch.members.iter().map(|member| member.operator).collect();
            }
            _ => {}
        }
        Ok(())
    }

    /// Compares once every record was pushed.
    ///
    /// # Errors
    /// [`StakeError`], the first thing found.
    pub fn finish(&self) -> Result<(), StakeError> {
        if self.pool != self.bonded {
            return Err(StakeError::Mismatch { pool: self.pool, bonded: self.bonded });
        }
        if !self.operators.iter().eq(&self.candidates) {
            return Err(StakeError::Candidates);
        }
        self.members.iter().find(|member| !self.operators.contains(member)).map_or(Ok(()), |member| Err(StakeError::Member(*member)))
    }
}

/// Whether the stake pool holds exactly what validators have bonded. `records` is a whole state, in any order.
///
/// # Errors
/// [`StakeError`], the first thing found.
pub fn check_stake(records: impl IntoIterator<Item = (StateKey, StateValue)>) -> Result<(), StakeError> {
    let mut audit = StakeAudit::default();
    for (key, value) in records {
        audit.push(&key, &value)?;
    }
    audit.finish()
}
