//! What a transaction must satisfy to enter the mempool: the checks of execution that can be made early, against the state as it is now.
//!
//! This validator may be a few commits behind the one that told the client "final", so some refusals could turn around a moment later:
//! ledger-api hands those in a second time before it says no.

use super::hot_state::Snapshot;
use kaldrix_types::{
    Account, Address, AssetId, Committee, DecodedTransaction, KeyRef, Operation, Parameters, PublicKey, RejectCode, Sequence, StateKey,
    StateValue, TimestampMs,
};

/// Records that [`admit`] looks at.
pub(crate) fn admission_keys(tx: &DecodedTransaction, committee: &Committee) -> Vec<StateKey> {
    let body = tx.body();
    let mut keys = vec![StateKey::Account(body.sender), StateKey::Balance(body.sender, AssetId::NATIVE)];
    if body.lane > 0 {
        keys.push(StateKey::Lane(body.sender, body.lane));
    }
    if let [Operation::ReportEquivocation { proof }] = &body.operations[..]
        && let Some(accused) = proof.culprit().and_then(|culprit| committee.get(culprit.author))
    {
        keys.push(StateKey::Validator(accused.operator));
    }
    keys
}

/// The clocks that validity is measured against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    /// Timestamp of the newest commit.
    pub(crate) consensus_ms: TimestampMs,
    /// This machine's clock; only ever widens what is accepted.
    pub(crate) local_ms: TimestampMs,
}

/// The key that must have signed, by the account's state.
pub(crate) fn signing_key<'a>(tx: &'a DecodedTransaction, account: Option<&'a Account>) -> Result<&'a PublicKey, RejectCode> {
    let keys = account.map_or(&[][..], |a| &a.keys);
    match &tx.signature().key {
        KeyRef::Index(_) if keys.is_empty() => Err(RejectCode::UnknownAccount),
        KeyRef::Index(index) => keys.get(usize::from(*index)).map(|slot| &slot.key).ok_or(RejectCode::WrongKey),
        KeyRef::Inline(key) if keys.is_empty() && Address::of_key(key) == tx.body().sender => Ok(key),
        KeyRef::Inline(key) if keys.iter().any(|slot| slot.key == *key) => Ok(key),
        KeyRef::Inline(_) => Err(RejectCode::WrongKey),
    }
}

/// The account record in a snapshot.
pub(crate) fn account_of(state: &Snapshot, address: Address) -> Option<&Account> {
    match state.get(&StateKey::Account(address)) {
        Some(Some(StateValue::Account(account))) => Some(account),
        _ => None,
    }
}

/// The sender's next sequence number in a lane.
pub(crate) fn next_sequence(state: &Snapshot, tx: &DecodedTransaction) -> Sequence {
    let body = tx.body();
    if body.lane == 0 {
        return account_of(state, body.sender).map_or(0, |a| a.next_sequence);
    }
    match state.get(&StateKey::Lane(body.sender, body.lane)) {
        Some(Some(StateValue::Lane(next))) => *next,
        _ => 0,
    }
}

fn native_balance(state: &Snapshot, address: Address) -> u128 {
    match state.get(&StateKey::Balance(address, AssetId::NATIVE)) {
        Some(Some(StateValue::Balance(amount))) => *amount,
        _ => 0,
    }
}

/// Checks everything but the signature, which costs most and comes last.
pub(crate) fn admit<'a>(
    tx: &'a DecodedTransaction,
    state: &'a Snapshot,
    parameters: &Parameters,
    clocks: Clocks,
) -> Result<&'a PublicKey, RejectCode> {
    let body = tx.body();
    if body.valid_until_ms <= clocks.consensus_ms {
        return Err(RejectCode::Expired);
    }
    if body.valid_until_ms > clocks.consensus_ms.max(clocks.local_ms).saturating_add(parameters.validity_ms_max) {
        return Err(RejectCode::ValidityTooLong);
    }
    // Evidence is free: whoever brings it does the network a service, and the caller checks it before it is taken in.
    let is_evidence = body.is_evidence();
    if body.fee < parameters.minimum_fee && !is_evidence {
        return Err(RejectCode::FeeTooLow);
    }
    let account = account_of(state, body.sender);
    let balance = native_balance(state, body.sender);
    if account.is_none() && balance == 0 && !is_evidence {
        return Err(RejectCode::UnknownAccount);
    }
    let key = signing_key(tx, account)?;
    if body.sequence < next_sequence(state, tx) {
        return Err(RejectCode::SequenceReplayed);
    }
    let native_outflow = body.outflow()?.first().map_or(0, |(_, amount)| *amount);
    if native_outflow > balance {
        return Err(RejectCode::InsufficientBalance);
    }
    Ok(key)
}
