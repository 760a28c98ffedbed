//! One transaction: whether it counts, what it costs, and whether its operations hold together.

use crate::evidence;
use crate::operations::apply_operations;
use crate::overlay::{Overlay, Writes};
use crate::{OrderedTransaction, SignatureChecker, StateView};
use kaldrix_types::{
    Account, Address, AssetId, CommitIndex, DecodedTransaction, KeyRef, KeySlot, Operation, OutcomeStatus, Parameters, PublicKey,
    RejectCode, StateKey, TimestampMs, TxBody,
};

/// What all transactions of one commit share.
pub(crate) struct Environment<'a, C> {
    pub(crate) index: CommitIndex,
    pub(crate) now_ms: TimestampMs,
    pub(crate) parameters: &'a Parameters,
    pub(crate) checker: &'a C,
}

/// What one transaction did.
pub(crate) struct Applied {
    pub(crate) status: OutcomeStatus,
    /// Fee and slashed stake, to be credited to the fee pool with those of the commit's other transactions.
    pub(crate) to_fee_pool: u128,
    pub(crate) writes: Writes,
}

/// Applies one transaction to `base` without changing it: reads and writes only the transaction's declared keys.
pub(crate) fn apply_transaction<S: StateView, C: SignatureChecker>(
    environment: &Environment<'_, C>,
    base: &S,
    ordered: &OrderedTransaction<'_>,
) -> Applied {
    let tx = ordered.tx;
    let mut charged = Overlay::new(base);
    if let Err(code) = admit(environment, &mut charged, ordered) {
        return Applied { status: OutcomeStatus::Discarded(code), to_fee_pool: 0, writes: Writes::new() };
    }
    let mut operated = Overlay::new(&charged);
    let mut to_fee_pool = tx.body().fee;
    let status = match apply_operations(environment, &mut operated, tx) {
        Ok(slashed) => {
            let writes = operated.into_writes();
            charged.absorb(writes);
            to_fee_pool = to_fee_pool.checked_add(slashed).expect("both were part of the supply, which fits 128 bits");
            OutcomeStatus::Success
        }
        Err(code) => OutcomeStatus::Failed(code),
    };
    Applied { status, to_fee_pool, writes: charged.into_writes() }
}

/// The gates in their order, then what stays even when the operations fail: sequence number, first key, fee.
/// Nothing is written when a gate refuses.
fn admit<S: StateView, C: SignatureChecker>(
    environment: &Environment<'_, C>,
    state: &mut Overlay<'_, S>,
    ordered: &OrderedTransaction<'_>,
) -> Result<(), RejectCode> {
    let body = ordered.tx.body();
    check_validity(environment, body.valid_until_ms)?;

    let account_key = StateKey::Account(body.sender);
    let mut account = state.account(&account_key).unwrap_or_default();
    let (key, first_use) = signing_key(ordered.tx, &account)?;
    if first_use {
        // A small-order Ed25519 key would let anybody sign for the account it opens.
        environment.checker.check_key(key).map_err(|_| RejectCode::WeakKey)?;
    }
    if ordered.verified_with != Some(key.id()) {
        environment.checker.check(ordered.tx, key).map_err(|_| RejectCode::BadSignature)?;
    }

    let lane_key = (body.lane > 0).then_some(StateKey::Lane(body.sender, body.lane));
    let next = lane_key.map_or(account.next_sequence, |lane| state.lane(&lane));
    if body.sequence < next {
        return Err(RejectCode::SequenceReplayed);
    }
    // The last number of all is never used, so that "next" always exists.
    let following = body.sequence.checked_add(1).filter(|_| body.sequence == next).ok_or(RejectCode::SequenceGap)?;

    if body.fee < environment.parameters.minimum_fee {
        check_exempt(environment, state, body)?;
    }
    let native_key = StateKey::Balance(body.sender, AssetId::NATIVE);
    let rest = state.balance(&native_key).checked_sub(body.fee).ok_or(RejectCode::InsufficientBalance)?;

    let first_key = first_use.then(|| KeySlot { key: key.clone(), since: environment.index });
    let account_changes = first_key.is_some() || lane_key.is_none();
    account.keys.extend(first_key);
    match lane_key {
        Some(lane) => state.set_lane(lane, following),
        None => account.next_sequence = following,
    }
    if account_changes {
        state.set_account(account_key, account);
    }
    if body.fee > 0 {
        state.set_balance(native_key, rest);
    }
    Ok(())
}

/// Only evidence that holds may go without a fee: whoever sees an equivocation need not own anything to report it, and a report that
/// would not be acted upon does not count at all.
fn check_exempt<S: StateView, C: SignatureChecker>(
    environment: &Environment<'_, C>,
    state: &Overlay<'_, S>,
    body: &TxBody,
) -> Result<(), RejectCode> {
    match body.operations.as_slice() {
        [Operation::ReportEquivocation { proof }] => evidence::examine(environment, state, body.chain_id, proof).map(|_| ()),
        _ => Err(RejectCode::FeeTooLow),
    }
}

fn check_validity<C>(environment: &Environment<'_, C>, valid_until_ms: TimestampMs) -> Result<(), RejectCode> {
    if valid_until_ms <= environment.now_ms {
        Err(RejectCode::Expired)
    } else if valid_until_ms > environment.now_ms.saturating_add(environment.parameters.validity_ms_max) {
        Err(RejectCode::ValidityTooLong)
    } else {
        Ok(())
    }
}

/// The key that has to have signed, and whether this is the account's first one.
pub(crate) fn signing_key<'k>(tx: &'k DecodedTransaction, account: &'k Account) -> Result<(&'k PublicKey, bool), RejectCode> {
    match &tx.signature().key {
        KeyRef::Index(_) if account.keys.is_empty() => Err(RejectCode::UnknownAccount),
        KeyRef::Index(index) => {
            let slot = account.keys.get(usize::from(*index)).ok_or(RejectCode::WrongKey)?;
            Ok((&slot.key, false))
        }
        KeyRef::Inline(key) if account.keys.is_empty() => {
            if Address::of_key(key) == tx.body().sender {
                Ok((key, true))
            } else {
                Err(RejectCode::WrongKey)
            }
        }
        KeyRef::Inline(key) => {
            if account.keys.iter().any(|slot| slot.key == *key) {
                Ok((key, false))
            } else {
                Err(RejectCode::WrongKey)
            }
        }
    }
}
