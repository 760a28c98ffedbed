//! The committee that a state says is running.

use crate::StateView;
use kaldrix_types::{
    Address, ChainId, Committee, CommitteeError, EpochRecord, ExecutedCommit, NextEpoch, StateKey, StateValue, Validator, ValidatorRecord,
};

/// A state from which no committee can be made: it is damaged or incomplete.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeatError {
    /// A member without a record.
    #[error("member {0} of the epoch has no validator record: load all of committee_keys(), or restore this validator's store")]
    Missing(Address),
    /// Members that form no committee.
    #[error("the epoch's members form no committee: {0}; restore this validator's store")]
    Committee(#[from] CommitteeError),
}

/// The records that [`committee_of`] asks for.
#[must_use]
pub fn committee_keys(epoch: &EpochRecord) -> Vec<StateKey> {
    epoch.members.iter().map(|member| StateKey::Validator(member.operator)).collect()
}

/// The committee of the running epoch, from its record and its members' records, all of one moment of that epoch: session keys change at
/// epoch ends only, and weights are the epoch's own.
///
/// # Errors
/// [`SeatError`] when `state` lacks a record.
pub fn committee_of(chain: ChainId, epoch: &EpochRecord, state: &impl StateView) -> Result<Committee, SeatError> {
    let validators = seats(epoch, |key| state.get(key))?;
    Ok(Committee::new(chain, epoch.epoch, validators)?.starting_at(epoch.start_round))
}

/// The epoch that `executed` begins, for the checkpoint that ends the one before; `None` unless it ends an epoch. `state` is the one that
/// the commit was executed on, or the one after it.
///
/// # Panics
/// When `state` lacks a record that executing the commit needed.
#[must_use]
pub fn next_epoch(executed: &ExecutedCommit, state: &impl StateView) -> Option<NextEpoch> {
    if !executed.commit.ends_epoch {
        return None;
    }
    let get = |key: &StateKey| match executed.changes.binary_search_by(|change| change.key.cmp(key)) {
        Ok(found) => executed.changes[found].value.clone(),
        Err(_) => state.get(key),
    };
    let Some(StateValue::Epoch(epoch)) = get(&StateKey::Epoch) else { return None };
    let validators = seats(&epoch, get).expect("the commit elected these members from records it had");
    Some(NextEpoch { start_round: epoch.start_round, validators })
}

fn seats(epoch: &EpochRecord, get: impl Fn(&StateKey) -> Option<StateValue>) -> Result<Vec<Validator>, SeatError> {
    let seat = |member: &kaldrix_types::Member| match get(&StateKey::Validator(member.operator)) {
        Some(StateValue::Validator(record)) => {
            let ValidatorRecord { name, region, key, .. } = *record;
            Ok(Validator { name, region, stake: member.weight, key, operator: member.operator })
        }
        _ => Err(SeatError::Missing(member.operator)),
    };
    epoch.members.iter().map(seat).collect()
}
