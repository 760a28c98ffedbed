//! Which records a transaction or a commit may touch, known before it is executed.

use crate::OrderedTransaction;
use crate::evidence::accused;
use crate::validators::{name_key, session_key_key};
use kaldrix_types::{Address, AssetId, Commit, DecodedTransaction, EpochRecord, Operation, StateKey};

/// The fee pool's balance: read and written once per commit that took fees. Not part of [`declared_keys`], since otherwise every two
/// transactions would conflict; part of [`commit_keys`].
pub const FEE_POOL_KEY: StateKey = StateKey::Balance(Address::FEE_POOL, AssetId::NATIVE);
/// The balance that holds all bonded and unbonding KDX.
pub const STAKE_POOL_KEY: StateKey = StateKey::Balance(Address::STAKE_POOL, AssetId::NATIVE);

/// Everything to prefetch for a commit, sorted, without repeats: [`declared_keys`] of its transactions, and [`commit_keys`].
///
/// `epoch` is the [`StateKey::Epoch`] record before this commit (after the one before it): read that one first. Within a commit its
/// committees do not change, so what is declared by it stays right until the commit is executed.
#[must_use]
pub fn prefetch_keys(commit: &Commit, txs: &[OrderedTransaction<'_>], epoch: &EpochRecord) -> Vec<StateKey> {
    let mut keys = commit_keys(commit, epoch);
    keys.extend(txs.iter().flat_map(|ordered| declared_keys(ordered.tx, epoch)));
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Every record that a commit touches beside its transactions: little in the middle of an epoch; at its end all registered validators'
/// records and their operators' balances. Validators that register in this very commit are declared by their transactions.
#[must_use]
pub fn commit_keys(commit: &Commit, epoch: &EpochRecord) -> Vec<StateKey> {
    let mut keys = vec![FEE_POOL_KEY, StateKey::Epoch, StateKey::Participation];
    if commit.ends_epoch {
        keys.extend([STAKE_POOL_KEY, StateKey::Supply(AssetId::NATIVE)]);
        let records = |operator: &Address| [StateKey::Validator(*operator), StateKey::Balance(*operator, AssetId::NATIVE)];
        keys.extend(epoch.candidates.iter().flat_map(records));
    }
    keys
}

/// Every record that executing `tx` may read or write, sorted, without repeats: what to prefetch for it, and what it conflicts by.
///
/// `epoch` is the [`StateKey::Epoch`] record before the commit: evidence names its culprit by a seat in one of its two committees.
#[must_use]
pub fn declared_keys(tx: &DecodedTransaction, epoch: &EpochRecord) -> Vec<StateKey> {
    let mut keys = Vec::with_capacity(4);
    visit_keys(tx, epoch, &mut |key| keys.push(key));
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Calls `visit` with every key of [`declared_keys`], in no particular order, some more than once.
pub(crate) fn visit_keys(tx: &DecodedTransaction, epoch: &EpochRecord, visit: &mut impl FnMut(StateKey)) {
    let body = tx.body();
    let sender = body.sender;
    visit(StateKey::Account(sender));
    visit(StateKey::Balance(sender, AssetId::NATIVE));
    if body.lane > 0 {
        visit(StateKey::Lane(sender, body.lane));
    }
    for (index, operation) in (0u32..).zip(&body.operations) {
        match operation {
            Operation::Transfer { to, asset, .. } => {
                if *asset != AssetId::NATIVE {
                    visit(StateKey::Asset(*asset));
                    visit(StateKey::Balance(sender, *asset));
                }
                visit(StateKey::Balance(*to, *asset));
            }
            Operation::CreateAsset { .. } => {
                let asset = AssetId::derive(tx.id(), index);
                [StateKey::Asset(asset), StateKey::Supply(asset), StateKey::Balance(sender, asset)].into_iter().for_each(&mut *visit);
            }
            Operation::Mint { asset, to, .. } => {
                [StateKey::Asset(*asset), StateKey::Supply(*asset), StateKey::Balance(*to, *asset)].into_iter().for_each(&mut *visit);
            }
            Operation::Burn { asset, .. } => {
                [StateKey::Asset(*asset), StateKey::Supply(*asset), StateKey::Balance(sender, *asset)].into_iter().for_each(&mut *visit);
            }
            Operation::Anchor { document, .. } => visit(StateKey::Anchor(sender, *document)),
            Operation::RegisterKey { .. } | Operation::RotateKey { .. } => {}
            Operation::RegisterValidator { .. }
            | Operation::Stake { .. }
            | Operation::Unstake { .. }
            | Operation::RotateSessionKey { .. }
            | Operation::LeaveValidators
            | Operation::Unjail
            | Operation::ReportEquivocation { .. } => visit_validator_keys(sender, operation, epoch, visit),
        }
    }
}

/// All of these look at the epoch, so every two of them conflict: they are rare.
fn visit_validator_keys(sender: Address, operation: &Operation, epoch: &EpochRecord, visit: &mut impl FnMut(StateKey)) {
    visit(StateKey::Epoch);
    visit(STAKE_POOL_KEY);
    if let Operation::ReportEquivocation { proof } = operation {
        if let Some(operator) = proof.culprit().and_then(|culprit| accused(epoch, &culprit)) {
            visit(StateKey::Validator(operator));
        }
        return;
    }
    visit(StateKey::Validator(sender));
    match operation {
        Operation::RegisterValidator { name, key, .. } => [name_key(name), session_key_key(key)].into_iter().for_each(visit),
        Operation::RotateSessionKey { key, .. } => visit(session_key_key(key)),
        _ => {}
    }
}
