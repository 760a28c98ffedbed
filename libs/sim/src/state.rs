//! A validator's executed state in memory.

use kaldrix_checkpoint::StateTree;
use kaldrix_execution::{StakeAudit, StateView, SupplyAudit, state_digest};
use kaldrix_types::{Address, AssetId, Digest, ExecutedCommit, Lane, Sequence, StateChange, StateKey, StateValue, ValidatorRecord};
use std::collections::HashMap;

/// All records. Looked up by key; whoever needs an order sorts.
#[derive(Clone, Debug, Default)]
pub(crate) struct State(HashMap<StateKey, StateValue>);

impl State {
    pub(crate) fn of(changes: &[StateChange]) -> Self {
        let mut state = Self::default();
        state.change(changes);
        state
    }

    pub(crate) fn apply(&mut self, executed: &ExecutedCommit) {
        self.change(&executed.changes);
    }

    pub(crate) fn of_records(records: impl IntoIterator<Item = (StateKey, StateValue)>) -> Self {
        Self(records.into_iter().collect())
    }

    pub(crate) fn tree(&self) -> StateTree {
        StateTree::of(&self.0)
    }

    fn change(&mut self, changes: &[StateChange]) {
        for change in changes {
            match &change.value {
                Some(value) => self.0.insert(change.key, value.clone()),
                None => self.0.remove(&change.key),
            };
        }
    }

    /// The next sequence number of a lane.
    pub(crate) fn next_sequence(&self, sender: Address, lane: Lane) -> Sequence {
        let key = if lane == 0 { StateKey::Account(sender) } else { StateKey::Lane(sender, lane) };
        match self.0.get(&key) {
            Some(StateValue::Account(account)) => account.next_sequence,
            Some(StateValue::Lane(next)) => *next,
            _ => 0,
        }
    }

    /// What execution may read of it, and nothing else: a record that it does not announce is not there, as in production.
    pub(crate) fn view(&self, keys: impl IntoIterator<Item = StateKey>) -> View {
        View(keys.into_iter().filter_map(|key| self.0.get(&key).map(|value| (key, value.clone()))).collect())
    }

    pub(crate) fn get(&self, key: &StateKey) -> Option<&StateValue> {
        self.0.get(key)
    }

    pub(crate) fn sorted(&self) -> Vec<(StateKey, StateValue)> {
        let mut records: Vec<_> = self.0.iter().map(|(key, value)| (*key, value.clone())).collect();
        records.sort_unstable_by_key(|(key, _)| *key);
        records
    }

    pub(crate) fn digest(&self) -> Digest {
        state_digest(self.sorted())
    }

    /// Whether the balances of every asset sum to its supply, and what is bonded to the stake pool.
    pub(crate) fn audit(&self) -> Result<(), String> {
        let (mut supply, mut stake) = (SupplyAudit::default(), StakeAudit::default());
        for (key, value) in &self.0 {
            supply.push(key, value).map_err(|e| e.to_string())?;
            stake.push(key, value).map_err(|e| e.to_string())?;
        }
        supply.finish().map_err(|e| e.to_string())?;
        stake.finish().map_err(|e| e.to_string())
    }

    /// A validator's record.
    pub(crate) fn validator(&self, operator: Address) -> Option<&ValidatorRecord> {
        match self.0.get(&StateKey::Validator(operator)) {
            Some(StateValue::Validator(record)) => Some(record),
            _ => None,
        }
    }

    /// Changes a balance by one, as a flipped bit would; which one is the same on every machine. Returns whether there was one.
    pub(crate) fn corrupt(&mut self) -> bool {
        let key =
            self.0.keys().filter(|k| matches!(k, StateKey::Balance(owner, AssetId::NATIVE) if *owner != Address::FEE_POOL)).min().copied();
        match key.and_then(|key| self.0.get_mut(&key)) {
            Some(StateValue::Balance(amount)) => {
                *amount ^= 1;
                true
            }
            _ => false,
        }
    }
}

impl StateView for State {
    fn get(&self, key: &StateKey) -> Option<StateValue> {
        self.0.get(key).cloned()
    }
}

/// The records that a commit may touch.
pub(crate) struct View(HashMap<StateKey, StateValue>);

impl StateView for View {
    fn get(&self, key: &StateKey) -> Option<StateValue> {
        self.0.get(key).cloned()
    }
}
