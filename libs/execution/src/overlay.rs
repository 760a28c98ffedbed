//! Writes on top of a view that is not changed: dropped or kept as a whole.

use crate::StateView;
use kaldrix_types::{Account, Anchor, Asset, Lane, Sequence, StateKey, StateValue, Supply};
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
}

/// A value of another kind than its key's cannot be gone on from: whatever this validator did next, it would diverge.
fn damaged(key: &StateKey, value: &StateValue) -> ! {
    panic!("the state is damaged: the record {key:?} holds {value:?}; restore this validator's store or rebuild it from blocks")
}
