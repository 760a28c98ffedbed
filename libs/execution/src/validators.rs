//! What operators do: register, bond, withdraw, change the session key, leave, come back from jail.
//!
//! Nothing here changes the running committee: the records say what the end of the epoch is to do.
//!
//! ```text
//!                   ┌──────────── Unjail ───────────┐
//!                   ▼                               │
//!   Register ──▶ Active ── evidence, absence ──▶ Jailed
//!                   │                               │ once its time is over
//!                   └──▶ Leaving ◀──────────────────┘
//!                           │ end of the epoch: out of the committee (as soon as the network can spare it)
//!                           ▼ end of the next: stake paid out, record deleted
//! ```

use crate::apply::Environment;
use crate::overlay::Overlay;
use crate::{SignatureChecker, StateView};
use bytes::Bytes;
use kaldrix_types::{
    Address, AssetId, ChainId, Epoch, Parameters, PublicKey, Purpose, RejectCode, StateKey, Unbonding, ValidatorRecord, ValidatorStatus,
    limits, signing_message, validator_key_digest, validator_name_digest,
};

/// What an operator asks for with `RegisterValidator`; name and region follow their rules, the decoder has seen to that.
pub(crate) struct Registration<'a> {
    pub(crate) name: &'a str,
    pub(crate) region: &'a str,
    pub(crate) key: &'a PublicKey,
    pub(crate) stake: u128,
    pub(crate) proof: &'a Bytes,
}

/// Who has this name. The record stays for ever: nobody can take over the name of a validator that has left.
pub(crate) fn name_key(name: &str) -> StateKey {
    StateKey::ValidatorName(validator_name_digest(name))
}

/// Who has this session key. The record stays for ever: evidence against a key must never meet another operator.
pub(crate) fn session_key_key(key: &PublicKey) -> StateKey {
    StateKey::ValidatorName(key.id())
}

pub(crate) fn register<S: StateView, C: SignatureChecker>(
    environment: &Environment<'_, C>,
    state: &mut Overlay<'_, S>,
    chain: ChainId,
    operator: Address,
    wanted: &Registration<'_>,
) -> Result<(), RejectCode> {
    if state.validator(operator).is_some() {
        return Err(RejectCode::AlreadyValidator);
    }
    let mut epoch = state.epoch();
    if epoch.candidates.len() >= limits::VALIDATORS_MAX {
        return Err(RejectCode::TooManyValidators);
    }
    if wanted.stake < environment.parameters.minimum_stake {
        return Err(RejectCode::StakeTooLow);
    }
    claim(state, name_key(wanted.name), operator)?;
    claim(state, session_key_key(wanted.key), operator)?;
    check_session_key(environment, chain, operator, wanted.key, wanted.proof)?;
    bond(state, operator, wanted.stake)?;
    let record = ValidatorRecord {
        name: wanted.name.to_owned(),
        region: wanted.region.to_owned(),
        key: wanted.key.clone(),
        next_key: None,
        previous_key: None,
        stake: wanted.stake,
        unbonding: Vec::new(),
        status: ValidatorStatus::Active,
        slashed_epoch: None,
    };
    state.set_validator(operator, Box::new(record));
    // Not there yet: candidates are exactly the operators with a record.
    let place = epoch.candidates.partition_point(|other| *other < operator);
    epoch.candidates.insert(place, operator);
    state.set_epoch(epoch);
    Ok(())
}

/// More stake; a jailed validator may need it to come back after it was slashed.
pub(crate) fn stake<S: StateView>(state: &mut Overlay<'_, S>, operator: Address, amount: u128) -> Result<(), RejectCode> {
    let mut record = own_record(state, operator)?;
    bond(state, operator, amount)?;
    record.stake = record.stake.checked_add(amount).ok_or(RejectCode::AmountOverflow)?;
    state.set_validator(operator, record);
    Ok(())
}

/// Part of the stake on its way back. It stays in the pool, and can be slashed, until evidence of the running epoch is no longer accepted:
/// that is the end of the next.
pub(crate) fn unstake<S: StateView, C>(
    environment: &Environment<'_, C>,
    state: &mut Overlay<'_, S>,
    operator: Address,
    amount: u128,
) -> Result<(), RejectCode> {
    let mut record = own_record(state, operator)?;
    let epoch = state.epoch().epoch;
    check_not_serving_time(&record, epoch)?;
    let rest = record.stake.checked_sub(amount).filter(|rest| *rest >= environment.parameters.minimum_stake);
    record.stake = rest.ok_or(RejectCode::StakeTooLow)?;
    begin_unbonding(&mut record, amount, epoch)?;
    state.set_validator(operator, record);
    Ok(())
}

/// A session key for the next epoch on; a second one in one epoch replaces the first.
pub(crate) fn rotate_key<S: StateView, C: SignatureChecker>(
    environment: &Environment<'_, C>,
    state: &mut Overlay<'_, S>,
    chain: ChainId,
    operator: Address,
    key: &PublicKey,
    proof: &Bytes,
) -> Result<(), RejectCode> {
    let mut record = own_record(state, operator)?;
    if *key == record.key {
        return Err(RejectCode::KeyExists);
    }
    claim(state, session_key_key(key), operator)?;
    check_session_key(environment, chain, operator, key, proof)?;
    record.next_key = Some(key.clone());
    state.set_validator(operator, record);
    Ok(())
}

/// Refused only where it can never be granted as things are; when several leave at once, the end of the epoch keeps those that are
/// needed and lets them go later ([`crate::epoch`]).
pub(crate) fn leave<S: StateView, C>(
    environment: &Environment<'_, C>,
    state: &mut Overlay<'_, S>,
    operator: Address,
) -> Result<(), RejectCode> {
    let mut record = own_record(state, operator)?;
    let epoch = state.epoch();
    check_not_serving_time(&record, epoch.epoch)?;
    if epoch.candidates.len() <= environment.parameters.min_validators as usize {
        return Err(RejectCode::TooFewValidators);
    }
    record.status = ValidatorStatus::Leaving;
    state.set_validator(operator, record);
    Ok(())
}

pub(crate) fn unjail<S: StateView, C>(
    environment: &Environment<'_, C>,
    state: &mut Overlay<'_, S>,
    operator: Address,
) -> Result<(), RejectCode> {
    let mut record = state.validator(operator).ok_or(RejectCode::NotValidator)?;
    if !matches!(record.status, ValidatorStatus::Jailed { .. }) {
        return Err(RejectCode::NotJailed);
    }
    check_not_serving_time(&record, state.epoch().epoch)?;
    if record.stake < environment.parameters.minimum_stake {
        return Err(RejectCode::StakeTooLow);
    }
    record.status = ValidatorStatus::Active;
    state.set_validator(operator, record);
    Ok(())
}

/// Whether a validator has what a seat needs.
pub(crate) fn is_eligible(record: &ValidatorRecord, parameters: &Parameters) -> bool {
    record.status == ValidatorStatus::Active && record.stake >= parameters.minimum_stake
}

/// Adds to what is paid out at the end of the epoch after `epoch`. One entry per epoch, and each is paid out an epoch later: there are
/// never more than two, so a full list means a damaged store.
pub(crate) fn begin_unbonding(record: &mut ValidatorRecord, amount: u128, epoch: Epoch) -> Result<(), RejectCode> {
    let release_epoch = epoch.saturating_add(1);
    if let Some(entry) = record.unbonding.iter_mut().find(|entry| entry.release_epoch == release_epoch) {
        entry.amount = entry.amount.checked_add(amount).ok_or(RejectCode::AmountOverflow)?;
    } else if record.unbonding.len() < limits::UNBONDINGS_MAX {
        record.unbonding.push(Unbonding { amount, release_epoch });
    } else {
        return Err(RejectCode::TooManyUnbondings);
    }
    Ok(())
}

/// The record of a validator that is not on its way out.
fn own_record<S: StateView>(state: &Overlay<'_, S>, operator: Address) -> Result<Box<ValidatorRecord>, RejectCode> {
    let record = state.validator(operator).ok_or(RejectCode::NotValidator)?;
    if record.status == ValidatorStatus::Leaving { Err(RejectCode::Leaving) } else { Ok(record) }
}

/// Who is jailed can neither leave nor withdraw before the time is over: otherwise leaving and registering again would cut it short.
fn check_not_serving_time(record: &ValidatorRecord, epoch: Epoch) -> Result<(), RejectCode> {
    match record.status {
        ValidatorStatus::Jailed { until_epoch } if epoch < until_epoch => Err(RejectCode::Jailed),
        _ => Ok(()),
    }
}

/// Takes a name or session key that nobody else has ever had.
fn claim<S: StateView>(state: &mut Overlay<'_, S>, key: StateKey, operator: Address) -> Result<(), RejectCode> {
    match state.name_holder(&key) {
        Some(holder) if holder != operator => Err(RejectCode::NameTaken),
        Some(_) => Ok(()),
        None => {
            state.set_name_holder(key, operator);
            Ok(())
        }
    }
}

/// The key must be sound, and whoever holds it must have agreed to work for this operator: otherwise one could register another's key, and
/// have it slashed for what it signs elsewhere.
fn check_session_key<C: SignatureChecker>(
    environment: &Environment<'_, C>,
    chain: ChainId,
    operator: Address,
    key: &PublicKey,
    proof: &Bytes,
) -> Result<(), RejectCode> {
    environment.checker.check_key(key).map_err(|_| RejectCode::WeakKey)?;
    let message = signing_message(Purpose::ValidatorKey, chain, validator_key_digest(operator, key));
    if environment.checker.verify(key, &message, proof) { Ok(()) } else { Err(RejectCode::BadKeyProof) }
}

fn bond<S: StateView>(state: &mut Overlay<'_, S>, operator: Address, amount: u128) -> Result<(), RejectCode> {
    state.debit(operator, AssetId::NATIVE, amount)?;
    state.credit(Address::STAKE_POOL, AssetId::NATIVE, amount)
}
