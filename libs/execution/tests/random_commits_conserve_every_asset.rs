//! Whatever clients send, no asset is created or destroyed outside the rules, and nothing panics.
mod common;

use bytes::Bytes;
use common::{Ledger, address, draft, key};
use kaldrix_execution::{SupplyError, check_supply, state_digest};
use kaldrix_types::{AssetId, DecodedTransaction, Digest, KeyRef, Operation, OutcomeStatus, StateKey, StateValue};
use proptest::prelude::*;

fn amount() -> impl Strategy<Value = u128> {
    prop_oneof![8 => 1u128..200, 1 => Just(u128::MAX), 1 => any::<u128>().prop_map(|a| a.max(1))]
}

/// Assets 0..4 are slots: the native one, two that the first commit creates, one that does not exist.
fn operation(assets: [AssetId; 4]) -> impl Strategy<Value = Operation> {
    let asset = prop::sample::select(assets.to_vec());
    let other = prop::sample::select(assets[1..].to_vec());
    let to = (0u8..6).prop_map(address);
    prop_oneof![
        6 => (to.clone(), asset.clone(), amount()).prop_map(|(to, asset, amount)| Operation::Transfer { to, asset, amount }),
        2 => (to, asset, amount()).prop_map(|(to, asset, amount)| Operation::Mint { asset, to, amount }),
        2 => (other, amount()).prop_map(|(asset, amount)| Operation::Burn { asset, amount }),
        1 => (0u128..50, 50u128..100).prop_map(|(initial_supply, maximum_supply)| Operation::CreateAsset {
            symbol: "X".into(), decimals: 0, initial_supply, maximum_supply,
        }),
        1 => (0u8..3).prop_map(|d| Operation::Anchor { document: Digest([d; 32]), metadata: Bytes::new() }),
        1 => (0u8..9).prop_map(|s| Operation::RegisterKey { key: key(s) }),
        1 => (0u8..3, 0u8..9).prop_map(|(index, s)| Operation::RotateKey { index, key: key(s) }),
    ]
}

fn transaction(assets: [AssetId; 4]) -> impl Strategy<Value = Option<DecodedTransaction>> {
    let key_ref = prop_oneof![4 => Just(None), 1 => (0u8..3).prop_map(|i| Some(KeyRef::Index(i)))];
    let parts = (0u8..6, 0u64..4, 0u8..3, 0u128..40, key_ref, 0u8..12, prop::collection::vec(operation(assets), 1..6));
    parts.prop_map(|(seed, sequence, lane, fee, key_ref, signer, operations)| {
        let mut draft = draft(seed, sequence, operations).lane(lane).fee(fee);
        draft.signer = if signer < 9 { seed } else { signer - 9 };
        if let Some(key_ref) = key_ref {
            draft.key = key_ref;
        }
        // `None` for batches that the decoder refuses by itself (contradictions, overflow).
        draft.try_sign().ok()
    })
}

fn ledger() -> (Ledger, [AssetId; 4]) {
    let mut ledger = Ledger::new(&[0, 1, 2, 3], 1_000);
    let create = |maximum_supply| Operation::CreateAsset { symbol: "A".into(), decimals: 0, initial_supply: 100, maximum_supply };
    let tx = draft(0, 0, vec![create(u128::MAX), create(300)]).lane(9).sign();
    assert_eq!(ledger.execute(std::slice::from_ref(&tx)).outcomes[0].status, OutcomeStatus::Success);
    (ledger, [AssetId::NATIVE, AssetId::derive(tx.id(), 0), AssetId::derive(tx.id(), 1), AssetId(Digest([7; 32]))])
}

fn commits() -> impl Strategy<Value = Vec<Vec<DecodedTransaction>>> {
    let assets = ledger().1;
    let commit = prop::collection::vec(transaction(assets), 0..25).prop_map(|txs| txs.into_iter().flatten().collect());
    prop::collection::vec(commit, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn supply_is_conserved_and_two_validators_agree(commits in commits()) {
        let (mut one, _) = ledger();
        let mut two = one.clone();
        for txs in &commits {
            let (first, second) = (one.execute(txs), two.execute(txs));
            prop_assert_eq!(&first, &second);
            prop_assert!(first.changes.windows(2).all(|pair| pair[0].key < pair[1].key));
            prop_assert_eq!(check_supply(one.records()), Ok(()));
            prop_assert_eq!(state_digest(one.records()), state_digest(two.records()));
        }
    }

    #[test]
    fn what_has_landed_once_never_lands_again(commits in commits()) {
        let (mut ledger, _) = ledger();
        let mut landed = vec![];
        for txs in &commits {
            let executed = ledger.execute(txs);
            let counted = executed.outcomes.iter().zip(txs).filter(|(o, _)| !matches!(o.status, OutcomeStatus::Discarded(_)));
            landed.extend(counted.map(|(_, tx)| tx.clone()));
        }
        let before = ledger.state.clone();
        let replayed = ledger.execute(&landed);
        prop_assert!(replayed.outcomes.iter().all(|o| matches!(o.status, OutcomeStatus::Discarded(_))));
        prop_assert!(replayed.changes.is_empty());
        prop_assert_eq!(ledger.state, before);
    }

    #[test]
    fn one_commit_or_many_give_the_same_balances(commits in commits()) {
        let (mut together, _) = ledger();
        let (mut apart, _) = ledger();
        together.execute(&commits.concat());
        for tx in commits.concat() {
            apart.execute(&[tx]);
        }
        let balances = |l: &Ledger| l.records().filter(|(k, _)| matches!(k, StateKey::Balance(..))).collect::<Vec<_>>();
        prop_assert_eq!(balances(&together), balances(&apart));
    }
}

#[test]
fn the_audit_sees_every_kind_of_broken_state() {
    let (ledger, [_, gold, ..]) = ledger();
    assert_eq!(check_supply(ledger.records()), Ok(()));
    let broken = |key, value| {
        let mut state = ledger.state.clone();
        state.insert(key, value);
        check_supply(state).unwrap_err()
    };
    let key = StateKey::Balance(address(5), gold);
    assert_eq!(broken(key, StateValue::Balance(1)), SupplyError::Mismatch { asset: gold, balances: 101, supply: 100 });
    assert_eq!(broken(key, StateValue::Balance(u128::MAX)), SupplyError::Overflow { asset: gold });
    assert_eq!(broken(key, StateValue::Balance(0)), SupplyError::Damaged { key });
    assert_eq!(broken(key, StateValue::Lane(1)), SupplyError::Damaged { key });
}

#[test]
fn the_state_digest_depends_on_every_record() {
    let (ledger, _) = ledger();
    let whole = state_digest(ledger.records());
    assert_ne!(whole, state_digest(ledger.records().skip(1)));
    let mut changed = ledger.state.clone();
    changed.insert(StateKey::Balance(address(0), AssetId::NATIVE), StateValue::Balance(1));
    assert_ne!(whole, state_digest(changed));
}
