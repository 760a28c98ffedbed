//! Which records a transaction may touch, known from its bytes alone.

use kaldrix_types::{Address, AssetId, DecodedTransaction, Operation, StateKey};

/// The fee pool's balance: read and written once per commit that took fees. Not part of [`declared_keys`], since otherwise every two
/// transactions would conflict; prefetch it beside them.
pub const FEE_POOL_KEY: StateKey = StateKey::Balance(Address::FEE_POOL, AssetId::NATIVE);

/// Every record that executing `tx` may read or write, sorted, without repeats: what to prefetch.
#[must_use]
pub fn declared_keys(tx: &DecodedTransaction) -> Vec<StateKey> {
    let body = tx.body();
    let sender = body.sender;
    let mut keys = vec![StateKey::Account(sender), StateKey::Balance(sender, AssetId::NATIVE)];
    if body.lane > 0 {
        keys.push(StateKey::Lane(sender, body.lane));
    }
    for (index, operation) in (0u32..).zip(&body.operations) {
        match operation {
            Operation::Transfer { to, asset, .. } => {
                if *asset != AssetId::NATIVE {
                    keys.push(StateKey::Asset(*asset));
                }
                keys.extend([StateKey::Balance(sender, *asset), StateKey::Balance(*to, *asset)]);
            }
            Operation::CreateAsset { .. } => {
                let asset = AssetId::derive(tx.id(), index);
                keys.extend([StateKey::Asset(asset), StateKey::Supply(asset), StateKey::Balance(sender, asset)]);
            }
            Operation::Mint { asset, to, .. } => {
                keys.extend([StateKey::Asset(*asset), StateKey::Supply(*asset), StateKey::Balance(*to, *asset)]);
            }
            Operation::Burn { asset, .. } => {
                keys.extend([StateKey::Asset(*asset), StateKey::Supply(*asset), StateKey::Balance(sender, *asset)]);
            }
            Operation::Anchor { document, .. } => keys.push(StateKey::Anchor(sender, *document)),
            Operation::RegisterKey { .. } | Operation::RotateKey { .. } => {}
        }
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}
