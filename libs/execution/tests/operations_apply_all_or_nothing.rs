//! What each operation does, and what a failing one leaves behind.
mod common;

use bytes::Bytes;
use common::{Ledger, MINIMUM_FEE, NOW_MS, address, draft, key, pay};
use kaldrix_types::{Anchor, AssetId, Digest, KeyRef, Operation, OutcomeStatus, RejectCode, StateKey, StateValue, Supply, TxBody};

const SUCCESS: OutcomeStatus = OutcomeStatus::Success;

fn failed(code: RejectCode) -> OutcomeStatus {
    OutcomeStatus::Failed(code)
}

fn create(initial_supply: u128, maximum_supply: u128) -> Operation {
    Operation::CreateAsset { symbol: "GOLD".into(), decimals: 2, initial_supply, maximum_supply }
}

/// A ledger in which account 1 has created GOLD: 50 of at most 100. Account 1 goes on at sequence 1.
fn with_gold() -> (Ledger, AssetId) {
    let mut ledger = Ledger::new(&[1, 2, 3], 1_000);
    let tx = draft(1, 0, vec![create(50, 100)]).sign();
    assert_eq!(ledger.execute(std::slice::from_ref(&tx)).outcomes[0].status, SUCCESS);
    (ledger, AssetId::derive(tx.id(), 0))
}

fn supply(ledger: &Ledger, asset: AssetId) -> u128 {
    match ledger.state.get(&StateKey::Supply(asset)) {
        Some(StateValue::Supply(Supply { amount })) => *amount,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_failing_operation_undoes_the_ones_before_it_but_not_fee_sequence_and_first_key() {
    let mut ledger = Ledger::new(&[1], 100);
    let status = ledger.run_one(draft(1, 0, vec![pay(address(2), 60), pay(address(3), 60)]));
    assert_eq!(status, failed(RejectCode::InsufficientBalance));
    assert_eq!((ledger.kdx(1), ledger.kdx(2), ledger.kdx(3)), (100 - MINIMUM_FEE, 0, 0));
    let account = ledger.account(1).unwrap();
    assert_eq!((account.next_sequence, account.keys.len()), (1, 1));
}

#[test]
fn the_fee_comes_first_and_an_emptied_account_has_no_balance_record() {
    let mut ledger = Ledger::new(&[1, 2], 100);
    assert_eq!(ledger.run_one(draft(1, 0, vec![pay(address(3), 91)])), failed(RejectCode::InsufficientBalance));
    assert_eq!(ledger.run_one(draft(1, 1, vec![pay(address(3), 80)])), SUCCESS);
    assert!(!ledger.state.contains_key(&StateKey::Balance(address(1), AssetId::NATIVE)));
    assert_eq!(ledger.kdx(3), 80);
}

#[test]
fn money_received_earlier_in_a_commit_can_be_spent_in_it() {
    let mut ledger = Ledger::new(&[1], 100);
    assert_eq!(ledger.run(&[draft(1, 0, vec![pay(address(2), 90)]), draft(2, 0, vec![pay(address(3), 80)])]), [SUCCESS, SUCCESS]);
    assert_eq!((ledger.kdx(1), ledger.kdx(2), ledger.kdx(3)), (0, 0, 80));
}

#[test]
fn a_transfer_to_oneself_moves_nothing_and_needs_the_amount() {
    let mut ledger = Ledger::new(&[1], 100);
    assert_eq!(ledger.run_one(draft(1, 0, vec![pay(address(1), 90)])), SUCCESS);
    assert_eq!(ledger.kdx(1), 90);
    assert_eq!(ledger.run_one(draft(1, 1, vec![pay(address(1), 90)])), failed(RejectCode::InsufficientBalance));
}

#[test]
fn only_records_that_differ_afterwards_are_reported_sorted_by_key() {
    let mut ledger = Ledger::new(&[1, 2], 100);
    ledger.parameters.minimum_fee = 0;
    let there = draft(1, 0, vec![pay(address(2), 7)]).fee(0).sign();
    let back = draft(2, 0, vec![pay(address(1), 7)]).fee(0).sign();
    let executed = ledger.execute(&[there, back]);
    let mut accounts = [StateKey::Account(address(1)), StateKey::Account(address(2))];
    accounts.sort();
    assert_eq!(executed.changes.iter().map(|c| c.key).collect::<Vec<_>>(), accounts);
}

#[test]
fn an_issuer_mints_up_to_the_maximum_and_nobody_else_does() {
    let (mut ledger, gold) = with_gold();
    let mint = |seed, sequence, asset, amount| draft(seed, sequence, vec![Operation::Mint { asset, to: address(2), amount }]);
    assert_eq!(ledger.balance(address(1), gold), 50);
    assert_eq!(ledger.run_one(mint(1, 1, gold, 50)), SUCCESS);
    assert_eq!((ledger.balance(address(2), gold), supply(&ledger, gold)), (50, 100));
    assert_eq!(ledger.run_one(mint(1, 2, gold, 1)), failed(RejectCode::SupplyLimit));
    assert_eq!(ledger.run_one(mint(1, 3, gold, u128::MAX)), failed(RejectCode::SupplyLimit));
    assert_eq!(ledger.run_one(mint(2, 0, gold, 1)), failed(RejectCode::NotIssuer));
    assert_eq!(ledger.run_one(mint(1, 4, AssetId::NATIVE, 1)), failed(RejectCode::NotIssuer));
    assert_eq!(ledger.run_one(mint(1, 5, AssetId(Digest([1; 32])), 1)), failed(RejectCode::UnknownAsset));
}

#[test]
fn burning_takes_from_the_holder_and_makes_room_to_mint() {
    let (mut ledger, gold) = with_gold();
    let burn = |sequence, asset, amount| draft(1, sequence, vec![Operation::Burn { asset, amount }]);
    assert_eq!(ledger.run_one(burn(1, gold, 51)), failed(RejectCode::InsufficientBalance));
    assert_eq!(ledger.run_one(burn(2, gold, 50)), SUCCESS);
    assert_eq!((ledger.balance(address(1), gold), supply(&ledger, gold)), (0, 0));
    assert_eq!(ledger.run_one(burn(3, AssetId(Digest([1; 32])), 1)), failed(RejectCode::UnknownAsset));
    assert_eq!(ledger.run_one(draft(1, 4, vec![Operation::Mint { asset: gold, to: address(1), amount: 100 }])), SUCCESS);
}

#[test]
fn assets_are_transferred_like_kdx_and_unknown_ones_are_not() {
    let (mut ledger, gold) = with_gold();
    let send = |sequence, asset, amount| draft(1, sequence, vec![Operation::Transfer { to: address(7), asset, amount }]);
    assert_eq!(ledger.run_one(send(1, gold, 20)), SUCCESS);
    assert_eq!((ledger.balance(address(1), gold), ledger.balance(address(7), gold)), (30, 20));
    assert_eq!(ledger.run_one(send(2, gold, 31)), failed(RejectCode::InsufficientBalance));
    assert_eq!(ledger.run_one(send(3, AssetId(Digest([1; 32])), 1)), failed(RejectCode::UnknownAsset));
}

#[test]
fn an_asset_without_initial_supply_has_a_supply_record_of_zero() {
    let mut ledger = Ledger::new(&[1], 100);
    let tx = draft(1, 0, vec![pay(address(2), 1), create(0, 5)]).sign();
    ledger.execute(std::slice::from_ref(&tx));
    let asset = AssetId::derive(tx.id(), 1);
    assert_eq!(supply(&ledger, asset), 0);
    assert!(!ledger.state.contains_key(&StateKey::Balance(address(1), asset)));
}

#[test]
fn a_document_is_anchored_once_per_sender_with_consensus_time() {
    let mut ledger = Ledger::new(&[1, 2], 100);
    let document = Digest([5; 32]);
    let anchor = |seed, sequence| draft(seed, sequence, vec![Operation::Anchor { document, metadata: Bytes::from_static(b"m") }]);
    assert_eq!(ledger.run(&[anchor(1, 0), anchor(1, 1), anchor(2, 0)]), [SUCCESS, failed(RejectCode::AnchorExists), SUCCESS]);
    let expected = StateValue::Anchor(Anchor { timestamp_ms: NOW_MS, metadata: Bytes::from_static(b"m") });
    assert_eq!(ledger.state.get(&StateKey::Anchor(address(1), document)), Some(&expected));
}

#[test]
fn keys_are_registered_up_to_sixteen_and_every_one_signs() {
    let mut ledger = Ledger::new(&[1], 1_000);
    let register = |sequence, seeds: std::ops::Range<u8>| {
        draft(1, sequence, seeds.map(|s| Operation::RegisterKey { key: key(s) }).collect()).by(KeyRef::Inline(key(1)), 1)
    };
    assert_eq!(ledger.run_one(register(0, 20..35)), SUCCESS);
    assert_eq!(ledger.account(1).unwrap().keys.len(), 16);
    assert_eq!(ledger.run_one(register(1, 40..41)), failed(RejectCode::TooManyKeys));
    assert_eq!(ledger.run_one(register(2, 20..21)), failed(RejectCode::KeyExists));
    assert_eq!(ledger.run_one(draft(1, 3, vec![pay(address(2), 1)]).by(KeyRef::Index(15), 34)), SUCCESS);
    assert_eq!(ledger.run_one(draft(1, 4, vec![pay(address(2), 1)]).by(KeyRef::Inline(key(25)), 25)), SUCCESS);
}

#[test]
fn rotation_replaces_a_key_and_refuses_known_weak_and_missing_ones() {
    let mut ledger = Ledger::new(&[1], 1_000);
    let rotate = |sequence, index, seed| draft(1, sequence, vec![Operation::RotateKey { index, key: key(seed) }]);
    assert_eq!(ledger.run_one(rotate(0, 1, 9)), failed(RejectCode::UnknownKey));
    assert_eq!(ledger.run_one(rotate(1, 0, 1)), failed(RejectCode::KeyExists));
    assert_eq!(ledger.run_one(rotate(2, 0, 255)), failed(RejectCode::WeakKey));
    assert_eq!(ledger.run_one(draft(1, 3, vec![Operation::RegisterKey { key: key(255) }])), failed(RejectCode::WeakKey));
    assert_eq!(ledger.run_one(rotate(4, 0, 9)), SUCCESS);
    assert_eq!(ledger.account(1).unwrap().keys[0].since, 5);
    let old = draft(1, 5, vec![pay(address(2), 1)]);
    assert_eq!(ledger.run_one(old.clone()), OutcomeStatus::Discarded(RejectCode::WrongKey));
    assert_eq!(ledger.run_one(old.by(KeyRef::Index(0), 9)), SUCCESS);
}

#[test]
fn bodies_are_the_bytes_that_hash_to_the_ids_and_share_the_block_s_memory() {
    let mut ledger = Ledger::new(&[1], 1_000);
    let txs = [
        draft(1, 0, vec![pay(address(2), 1)]).sign(),
        draft(1, 1, vec![create(1, 1)]).sign(),
        draft(1, 9, vec![pay(address(2), 1)]).sign(),
    ];
    let executed = ledger.execute(&txs);
    for ((body, outcome), tx) in executed.bodies.iter().zip(&executed.outcomes).zip(&txs) {
        let decoded: TxBody = kaldrix_types::decode(body, 1 << 20).unwrap();
        assert_eq!(decoded.id(), outcome.id);
        assert_eq!(body.as_ptr(), tx.bytes().as_ptr());
    }
}
