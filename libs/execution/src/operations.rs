//! What each operation does to the state.

use crate::apply::Environment;
use crate::evidence;
use crate::overlay::Overlay;
use crate::validators::{self, Registration};
use crate::{SignatureChecker, StateView};
use kaldrix_types::{Address, Anchor, Asset, AssetId, DecodedTransaction, KeySlot, Operation, PublicKey, RejectCode, StateKey, limits};

/// Applies all operations in order to an overlay that the caller drops when one fails. Returns what goes to the fee pool beside the fee:
/// slashed stake.
pub(crate) fn apply_operations<S: StateView, C: SignatureChecker>(
    environment: &Environment<'_, C>,
    state: &mut Overlay<'_, S>,
    tx: &DecodedTransaction,
) -> Result<u128, RejectCode> {
    let sender = tx.body().sender;
    let chain = tx.body().chain_id;
    let mut slashed = 0u128;
    for (index, operation) in (0u32..).zip(&tx.body().operations) {
        match operation {
            Operation::Transfer { to, asset, amount } => transfer(state, sender, *to, *asset, *amount)?,
            Operation::CreateAsset { symbol, decimals, initial_supply, maximum_supply } => {
                let id = AssetId::derive(tx.id(), index);
                let asset = Asset { issuer: sender, symbol: symbol.clone(), decimals: *decimals, maximum_supply: *maximum_supply };
                create_asset(state, id, asset, *initial_supply)?;
            }
            Operation::Mint { asset, to, amount } => mint(state, sender, *to, *asset, *amount)?,
            Operation::Burn { asset, amount } => burn(state, sender, *asset, *amount)?,
            Operation::Anchor { document, metadata } => {
                let key = StateKey::Anchor(sender, *document);
                if state.exists(&key) {
                    return Err(RejectCode::AnchorExists);
                }
                state.set_anchor(key, Anchor { timestamp_ms: environment.now_ms, metadata: metadata.clone() });
            }
            Operation::RegisterKey { key } => put_key(environment, state, sender, None, key)?,
            Operation::RotateKey { index, key } => put_key(environment, state, sender, Some(*index), key)?,
            Operation::RegisterValidator { name, region, key, stake, proof } => {
                let registration = Registration { name, region, key, stake: *stake, proof };
                validators::register(environment, state, chain, sender, &registration)?;
            }
            Operation::Stake { amount } => validators::stake(state, sender, *amount)?,
            Operation::Unstake { amount } => validators::unstake(environment, state, sender, *amount)?,
            Operation::RotateSessionKey { key, proof } => validators::rotate_key(environment, state, chain, sender, key, proof)?,
            Operation::LeaveValidators => validators::leave(environment, state, sender)?,
            Operation::Unjail => validators::unjail(environment, state, sender)?,
            Operation::ReportEquivocation { proof } => {
                let offence = evidence::examine(environment, state, chain, proof)?;
                let amount = evidence::punish(environment, state, offence);
                slashed = slashed.checked_add(amount).ok_or(RejectCode::AmountOverflow)?;
            }
        }
    }
    Ok(slashed)
}

fn transfer<S: StateView>(state: &mut Overlay<'_, S>, from: Address, to: Address, asset: AssetId, amount: u128) -> Result<(), RejectCode> {
    if asset != AssetId::NATIVE && !state.exists(&StateKey::Asset(asset)) {
        return Err(RejectCode::UnknownAsset);
    }
    state.debit(from, asset, amount)?;
    state.credit(to, asset, amount)
}

fn create_asset<S: StateView>(state: &mut Overlay<'_, S>, id: AssetId, asset: Asset, supply: u128) -> Result<(), RejectCode> {
    // The id is a hash of a transaction that takes effect at most once, so no asset can have it already.
    let issuer = asset.issuer;
    state.set_asset(StateKey::Asset(id), asset);
    state.set_supply(StateKey::Supply(id), supply);
    if supply > 0 { state.credit(issuer, id, supply) } else { Ok(()) }
}

fn mint<S: StateView>(state: &mut Overlay<'_, S>, sender: Address, to: Address, id: AssetId, amount: u128) -> Result<(), RejectCode> {
    if id == AssetId::NATIVE {
        return Err(RejectCode::NotIssuer);
    }
    let asset = state.asset(&StateKey::Asset(id)).ok_or(RejectCode::UnknownAsset)?;
    if asset.issuer != sender {
        return Err(RejectCode::NotIssuer);
    }
    let supply_key = StateKey::Supply(id);
    let supply = state.supply(&supply_key).checked_add(amount).filter(|sum| *sum <= asset.maximum_supply);
    state.set_supply(supply_key, supply.ok_or(RejectCode::SupplyLimit)?);
    state.credit(to, id, amount)
}

fn burn<S: StateView>(state: &mut Overlay<'_, S>, sender: Address, id: AssetId, amount: u128) -> Result<(), RejectCode> {
    if id == AssetId::NATIVE {
        return Err(RejectCode::NotIssuer);
    }
    if !state.exists(&StateKey::Asset(id)) {
        return Err(RejectCode::UnknownAsset);
    }
    state.debit(sender, id, amount)?;
    let supply_key = StateKey::Supply(id);
    let supply = state.supply(&supply_key).checked_sub(amount).ok_or(RejectCode::AmountOverflow)?;
    state.set_supply(supply_key, supply);
    Ok(())
}

/// Adds `key` at the next free index, or puts it in place of the key at `index`.
fn put_key<S: StateView, C: SignatureChecker>(
    environment: &Environment<'_, C>,
    state: &mut Overlay<'_, S>,
    sender: Address,
    index: Option<u8>,
    key: &PublicKey,
) -> Result<(), RejectCode> {
    let account_key = StateKey::Account(sender);
    let mut account = state.account(&account_key).unwrap_or_default();
    if index.is_some_and(|index| usize::from(index) >= account.keys.len()) {
        return Err(RejectCode::UnknownKey);
    }
    if account.keys.iter().any(|slot| slot.key == *key) {
        return Err(RejectCode::KeyExists);
    }
    if index.is_none() && account.keys.len() >= limits::ACCOUNT_KEYS_MAX {
        return Err(RejectCode::TooManyKeys);
    }
    environment.checker.check_key(key).map_err(|_| RejectCode::WeakKey)?;
    let slot = KeySlot { key: key.clone(), since: environment.index };
    match index {
        Some(index) => account.keys[usize::from(index)] = slot,
        None => account.keys.push(slot),
    }
    state.set_account(account_key, account);
    Ok(())
}
