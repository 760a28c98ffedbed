//! Looks at the whole state at once: one digest to compare validators by, and the conservation of every asset's supply.

use kaldrix_types::hash::Context;
use kaldrix_types::{AssetId, Digest, StateKey, StateValue};
use std::collections::BTreeMap;

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
            | (StateKey::Anchor(..), StateValue::Anchor(_)) => {}
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
