//! Writes on top of a view that is not changed: dropped or kept as a whole.

use crate::StateView;
use kaldrix_types::{
    Account, Address, Anchor, Asset, AssetId, EpochRecord, Lane, RejectCode, Sequence, StateChange, StateKey, StateValue, Supply,
    ValidatorRecord,
};
use std::collections::HashMap;

/// New values by key; `None` removes the record. Never iterated in an order that could reach a result.
pub(crate) type Writes = HashMap<StateKey, Option<StateValue>>;

/// A view with writes on top.
pub(crate) struct Overlay<'a, S> {
    base: &'a S,
    writes: Writes,
}

impl<S: StateView> StateView for Overlay<'_, S> {
    fn get(&self, key: &StateKey) -> Option<StateValue> {
        match self.writes.get(key) {
            Some(written) => written.clone(),
            None => self.base.get(key),
        }
    }
}

impl<'a, S: StateView> Overlay<'a, S> {
    pub(crate) fn new(base: &'a S) -> Self {
        Self { base, writes: Writes::new() }
    }

    pub(crate) fn into_writes(self) -> Writes {
        self.writes
    }

    /// What was written and differs from the base, sorted by key.
    pub(crate) fn into_changes(self) -> Vec<StateChange> {
        let differs = |(key, value): &(StateKey, Option<StateValue>)| self.base.get(key) != *value;
        let mut changes: Vec<_> = self.writes.into_iter().filter(differs).map(|(key, value)| StateChange { key, value }).collect();
        changes.sort_unstable_by_key(|change| change.key);
        changes
    }

    /// Puts the writes of a later overlay on top of these.
    pub(crate) fn absorb(&mut self, later: Writes) {
        if self.writes.is_empty() {
            self.writes = later;
        } else {
            self.writes.extend(later);
        }
    }

    fn set(&mut self, key: StateKey, value: StateValue) {
        self.writes.insert(key, Some(value));
    }

    pub(crate) fn account(&self, key: &StateKey) -> Option<Account> {
        match self.get(key) {
            None => None,
            Some(StateValue::Account(account)) => Some(account),
            Some(other) => damaged(key, &other),
        }
    }

    pub(crate) fn set_account(&mut self, key: StateKey, account: Account) {
        self.set(key, StateValue::Account(account));
    }

    /// Next sequence number of a lane above 0.
    pub(crate) fn lane(&self, key: &StateKey) -> Sequence {
        match self.get(key) {
            None => 0,
            Some(StateValue::Lane(next)) => next,
            Some(other) => damaged(key, &other),
        }
    }

    pub(crate) fn set_lane(&mut self, key: StateKey, next: Sequence) {
        debug_assert!(matches!(key, StateKey::Lane(_, lane) if lane > Lane::MIN));
        self.set(key, StateValue::Lane(next));
    }

    /// Smallest units; 0 when there is no record.
    pub(crate) fn balance(&self, key: &StateKey) -> u128 {
        match self.get(key) {
            None => 0,
            Some(StateValue::Balance(amount)) => amount,
            Some(other) => damaged(key, &other),
        }
    }

    /// A balance of zero has no record: an emptied account costs no storage.
    pub(crate) fn set_balance(&mut self, key: StateKey, amount: u128) {
        self.writes.insert(key, (amount > 0).then_some(StateValue::Balance(amount)));
    }

    /// Takes from a balance.
    pub(crate) fn debit(&mut self, from: Address, asset: AssetId, amount: u128) -> Result<(), RejectCode> {
        let key = StateKey::Balance(from, asset);
        let rest = self.balance(&key).checked_sub(amount).ok_or(RejectCode::InsufficientBalance)?;
        self.set_balance(key, rest);
        Ok(())
    }

    /// Adds to a balance.
    pub(crate) fn credit(&mut self, to: Address, asset: AssetId, amount: u128) -> Result<(), RejectCode> {
        let key = StateKey::Balance(to, asset);
        let sum = self.balance(&key).checked_add(amount).ok_or(RejectCode::AmountOverflow)?;
        self.set_balance(key, sum);
        Ok(())
    }

    /// Takes stake out of the pool that holds all of it.
    pub(crate) fn debit_stake_pool(&mut self, amount: u128) {
        let taken = self.debit(Address::STAKE_POOL, AssetId::NATIVE, amount);
        taken.expect("the stake pool holds the sum of all validators' stake, so it holds each part of one validator's");
    }

    /// Adds KDX that was taken from another balance, or minted within the supply's 128 bits.
    pub(crate) fn credit_native(&mut self, to: Address, amount: u128) {
        self.credit(to, AssetId::NATIVE, amount).expect("balances sum to the supply, which fits 128 bits");
    }

    pub(crate) fn asset(&self, key: &StateKey) -> Option<Asset> {
        match self.get(key) {
            None => None,
            Some(StateValue::Asset(asset)) => Some(asset),
            Some(other) => damaged(key, &other),
        }
    }

    pub(crate) fn set_asset(&mut self, key: StateKey, asset: Asset) {
        self.set(key, StateValue::Asset(asset));
    }

    pub(crate) fn supply(&self, key: &StateKey) -> u128 {
        match self.get(key) {
            None => 0,
            Some(StateValue::Supply(supply)) => supply.amount,
            Some(other) => damaged(key, &other),
        }
    }

    pub(crate) fn set_supply(&mut self, key: StateKey, amount: u128) {
        self.set(key, StateValue::Supply(Supply { amount }));
    }

    pub(crate) fn exists(&self, key: &StateKey) -> bool {
        self.get(key).is_some()
    }

    pub(crate) fn set_anchor(&mut self, key: StateKey, anchor: Anchor) {
        self.set(key, StateValue::Anchor(anchor));
    }

    /// The running epoch.
    pub(crate) fn epoch(&self) -> EpochRecord {
        match self.get(&StateKey::Epoch) {
            Some(StateValue::Epoch(epoch)) => epoch,
            Some(other) => damaged(&StateKey::Epoch, &other),
            None => missing(&StateKey::Epoch),
        }
    }

    pub(crate) fn set_epoch(&mut self, epoch: EpochRecord) {
        self.set(StateKey::Epoch, StateValue::Epoch(epoch));
    }

    /// In how many commits of the epoch each member had a block.
    pub(crate) fn participation(&self) -> Vec<u64> {
        match self.get(&StateKey::Participation) {
            Some(StateValue::Participation(counts)) => counts,
            Some(other) => damaged(&StateKey::Participation, &other),
            None => missing(&StateKey::Participation),
        }
    }

    pub(crate) fn set_participation(&mut self, counts: Vec<u64>) {
        self.set(StateKey::Participation, StateValue::Participation(counts));
    }

    pub(crate) fn validator(&self, operator: Address) -> Option<Box<ValidatorRecord>> {
        let key = StateKey::Validator(operator);
        match self.get(&key) {
            None => None,
            Some(StateValue::Validator(record)) => Some(record),
            Some(other) => damaged(&key, &other),
        }
    }

    /// A validator that the epoch's record names: its record is there for as long as that.
    pub(crate) fn candidate(&self, operator: Address) -> Box<ValidatorRecord> {
        self.validator(operator).unwrap_or_else(|| missing(&StateKey::Validator(operator)))
    }

    pub(crate) fn set_validator(&mut self, operator: Address, record: Box<ValidatorRecord>) {
        self.set(StateKey::Validator(operator), StateValue::Validator(record));
    }

    pub(crate) fn remove_validator(&mut self, operator: Address) {
        self.writes.insert(StateKey::Validator(operator), None);
    }

    /// Who has this name or session key.
    pub(crate) fn name_holder(&self, key: &StateKey) -> Option<Address> {
        match self.get(key) {
            None => None,
            Some(StateValue::ValidatorName(operator)) => Some(operator),
            Some(other) => damaged(key, &other),
        }
    }

    pub(crate) fn set_name_holder(&mut self, key: StateKey, operator: Address) {
        self.set(key, StateValue::ValidatorName(operator));
    }
}

/// A value of another kind than its key's cannot be gone on from: whatever this validator did next, it would diverge.
fn damaged(key: &StateKey, value: &StateValue) -> ! {
    panic!("the state is damaged: the record {key:?} holds {value:?}; restore this validator's store or rebuild it from blocks")
}

/// Genesis writes this record and no rule removes it: either the store is damaged, or the caller did not prefetch it.
fn missing(key: &StateKey) -> ! {
    panic!("the record {key:?} is not in the prefetched state: fetch all of prefetch_keys(), or restore this validator's store")
}
