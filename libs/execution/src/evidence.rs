//! Equivocation: who signed two different headers of one round pays for it.
//!
//! An honest validator signs one header per round of an epoch, and only ones that name itself as the author; crypto-service keeps to that
//! across restarts. Nobody else can sign with its key, and a header's digest covers chain, epoch, round and author. So two headers that
//! agree in these four, differ otherwise, and both hold under the key that the accused author had in that epoch, prove the offence.

use crate::amount::share;
use crate::apply::Environment;
use crate::overlay::Overlay;
use crate::{SignatureChecker, StateView};
use kaldrix_types::{
    Address, ChainId, Culprit, Epoch, EpochRecord, EquivocationProof, PublicKey, RejectCode, ValidatorRecord, ValidatorStatus,
};

/// Ten-thousandths in a whole.
const BASIS_POINTS: u128 = 10_000;

/// A proven equivocation that was not punished yet.
pub(crate) struct Offence {
    operator: Address,
    /// When it happened.
    epoch: Epoch,
    record: Box<ValidatorRecord>,
}

/// The operator who had the accused's seat in the accused's epoch: the running one or the one before.
pub(crate) fn accused(epoch: &EpochRecord, culprit: &Culprit) -> Option<Address> {
    let members = if culprit.epoch == epoch.epoch {
        &epoch.members
    } else if culprit.epoch.checked_add(1) == Some(epoch.epoch) {
        &epoch.previous_members
    } else {
        return None;
    };
    members.get(culprit.author.as_usize()).map(|member| member.operator)
}

/// Whether a proof holds and is news. The signatures, which cost most, come last.
pub(crate) fn examine<S: StateView, C: SignatureChecker>(
    environment: &Environment<'_, C>,
    state: &Overlay<'_, S>,
    chain: ChainId,
    proof: &EquivocationProof,
) -> Result<Offence, RejectCode> {
    let culprit = proof.culprit().filter(|culprit| culprit.chain_id == chain).ok_or(RejectCode::BadEvidence)?;
    let running = state.epoch();
    let operator = accused(&running, &culprit).ok_or(RejectCode::BadEvidence)?;
    // A member of the epoch before may have lost everything and be gone.
    let record = state.validator(operator).ok_or(RejectCode::NotValidator)?;
    // Once per epoch; and none for the epoch before when the running one was punished first, since only the last is remembered.
    if record.slashed_epoch.is_some_and(|slashed| slashed >= culprit.epoch) {
        return Err(RejectCode::AlreadyReported);
    }
    let key = key_in(&record, culprit.epoch == running.epoch);
    if [&proof.first, &proof.second].iter().all(|header| header.is_signed_by(key, environment.checker)) {
        Ok(Offence { operator, epoch: culprit.epoch, record })
    } else {
        Err(RejectCode::BadEvidence)
    }
}

/// The session key of the running epoch or of the one before. Keys change at epoch ends only.
fn key_in(record: &ValidatorRecord, running: bool) -> &PublicKey {
    match &record.previous_key {
        Some(previous) if !running => previous,
        _ => &record.key,
    }
}

/// Slashes bonded and unbonding stake alike, and jails. Returns what was taken out of the stake pool, which belongs to the fee pool now.
pub(crate) fn punish<S: StateView, C>(environment: &Environment<'_, C>, state: &mut Overlay<'_, S>, offence: Offence) -> u128 {
    let Offence { operator, epoch, mut record } = offence;
    let parameters = environment.parameters;
    let basis_points = u128::from(parameters.slash_basis_points).min(BASIS_POINTS);
    let mut slashed = 0;
    for amount in std::iter::once(&mut record.stake).chain(record.unbonding.iter_mut().map(|entry| &mut entry.amount)) {
        let part = share(*amount, basis_points, BASIS_POINTS);
        *amount -= part;
        slashed += part;
    }
    // An entry of nothing would be paid out as nothing; without it, records stay minimal.
    record.unbonding.retain(|entry| entry.amount > 0);
    record.slashed_epoch = Some(epoch);
    // Who leaves goes on leaving: jail keeps validators from coming back, and leaving does too.
    if record.status != ValidatorStatus::Leaving {
        let until_epoch = state.epoch().epoch.saturating_add(parameters.jail_epochs);
        record.status = ValidatorStatus::Jailed { until_epoch };
    }
    state.debit_stake_pool(slashed);
    state.set_validator(operator, record);
    slashed
}
