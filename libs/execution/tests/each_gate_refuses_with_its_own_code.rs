//! What keeps a transaction from counting at all.
mod common;

use common::{Ledger, MINIMUM_FEE, NOW_MS, Pretended, address, draft, key, pay};
use kaldrix_types::{AssetId, KeyRef, Operation, OutcomeStatus, RejectCode, StateKey, StateValue};

const SUCCESS: OutcomeStatus = OutcomeStatus::Success;

fn discarded(code: RejectCode) -> OutcomeStatus {
    OutcomeStatus::Discarded(code)
}

#[test]
fn a_refused_transaction_changes_nothing() {
    let transfer = || draft(1, 0, vec![pay(address(2), 5)]);
    let day_ms = 86_400_000;
    let cases = [
        (transfer().valid_until(NOW_MS), RejectCode::Expired),
        (transfer().valid_until(0), RejectCode::Expired),
        (transfer().valid_until(NOW_MS + day_ms + 1), RejectCode::ValidityTooLong),
        (transfer().valid_until(u64::MAX), RejectCode::ValidityTooLong),
        (transfer().by(KeyRef::Index(0), 1), RejectCode::UnknownAccount),
        (transfer().by(KeyRef::Inline(key(2)), 2), RejectCode::WrongKey),
        (transfer().by(KeyRef::Inline(key(1)), 2), RejectCode::BadSignature),
        (draft(255, 0, vec![pay(address(2), 5)]), RejectCode::WeakKey),
        (draft(1, 1, vec![pay(address(2), 5)]), RejectCode::SequenceGap),
        (draft(1, u64::MAX, vec![pay(address(2), 5)]), RejectCode::SequenceGap),
        (transfer().fee(MINIMUM_FEE - 1), RejectCode::FeeTooLow),
        (transfer().fee(101), RejectCode::InsufficientBalance),
        (draft(3, 0, vec![pay(address(2), 5)]), RejectCode::InsufficientBalance),
    ];
    for (refused, code) in cases {
        let mut ledger = Ledger::new(&[1, 255], 100);
        let before = ledger.state.clone();
        let executed = ledger.execute(&[refused.sign()]);
        assert_eq!(executed.outcomes[0].status, discarded(code));
        assert!(executed.changes.is_empty());
        assert_eq!(ledger.state, before);
    }
}

#[test]
fn validity_reaches_exactly_as_far_as_the_parameters_say() {
    let mut ledger = Ledger::new(&[1], 100);
    assert_eq!(ledger.run_one(draft(1, 0, vec![pay(address(2), 5)]).valid_until(NOW_MS + 86_400_000)), SUCCESS);
}

#[test]
fn the_first_transaction_brings_the_key_and_later_ones_name_it() {
    let mut ledger = Ledger::new(&[1], 100);
    assert_eq!(ledger.run_one(draft(1, 0, vec![pay(address(2), 5)])), SUCCESS);
    let account = ledger.account(1).unwrap();
    assert_eq!((account.keys.len(), account.keys[0].since, account.next_sequence), (1, 1, 1));
    assert_eq!(ledger.run_one(draft(1, 1, vec![pay(address(2), 5)]).by(KeyRef::Index(0), 1)), SUCCESS);
    assert_eq!(ledger.run_one(draft(1, 2, vec![pay(address(2), 5)])), SUCCESS);
    assert_eq!(ledger.run_one(draft(1, 3, vec![pay(address(2), 5)]).by(KeyRef::Index(1), 1)), discarded(RejectCode::WrongKey));
    assert_eq!(ledger.run_one(draft(1, 3, vec![pay(address(2), 5)]).by(KeyRef::Inline(key(2)), 2)), discarded(RejectCode::WrongKey));
    assert_eq!(ledger.kdx(1), 100 - 3 * 15);
}

#[test]
fn a_transaction_that_stands_twice_in_a_commit_counts_once() {
    let mut ledger = Ledger::new(&[1], 100);
    let transfer = draft(1, 0, vec![pay(address(2), 5)]);
    assert_eq!(ledger.run(&[transfer.clone(), transfer.clone()]), [SUCCESS, discarded(RejectCode::SequenceReplayed)]);
    assert_eq!(ledger.run_one(transfer), discarded(RejectCode::SequenceReplayed));
    assert_eq!(ledger.kdx(2), 5);
}

#[test]
fn lanes_count_independently_of_one_another() {
    let mut ledger = Ledger::new(&[1], 1_000);
    let transfer = |lane, sequence| draft(1, sequence, vec![pay(address(2), 1)]).lane(lane);
    let outcomes = ledger.run(&[transfer(7, 0), transfer(0, 0), transfer(7, 1), transfer(255, 0), transfer(7, 1), transfer(8, 1)]);
    let replayed = discarded(RejectCode::SequenceReplayed);
    assert_eq!(outcomes, [SUCCESS, SUCCESS, SUCCESS, SUCCESS, replayed, discarded(RejectCode::SequenceGap)]);
    assert_eq!(ledger.account(1).unwrap().next_sequence, 1);
    assert_eq!(ledger.state.get(&StateKey::Lane(address(1), 7)), Some(&StateValue::Lane(2)));
}

#[test]
fn the_last_sequence_number_of_all_is_never_used() {
    let mut ledger = Ledger::new(&[1], 100);
    ledger.state.insert(StateKey::Lane(address(1), 1), StateValue::Lane(u64::MAX));
    let last = draft(1, u64::MAX, vec![pay(address(2), 5)]).lane(1);
    assert_eq!(ledger.run_one(last), discarded(RejectCode::SequenceGap));
}

#[test]
fn a_signature_verified_before_is_checked_again_only_under_another_key() {
    let rotate = draft(1, 0, vec![Operation::RotateKey { index: 0, key: key(9) }]).sign();
    let by_old = draft(1, 1, vec![pay(address(2), 5)]).by(KeyRef::Index(0), 1).sign();
    let by_new = draft(1, 1, vec![pay(address(2), 5)]).by(KeyRef::Index(0), 9).sign();
    let mut ledger = Ledger::new(&[1], 100);
    let checker = Pretended::default();
    // All three were verified against key 1 when they arrived, or so the caller says.
    let executed = ledger.execute_with(&[rotate, by_old, by_new], Some(key(1).id()), &checker);
    let statuses: Vec<_> = executed.outcomes.iter().map(|o| o.status).collect();
    assert_eq!(statuses, [SUCCESS, discarded(RejectCode::BadSignature), SUCCESS]);
    assert_eq!(checker.checks.into_inner(), 2);
}

#[test]
fn fees_reach_the_pool_once_per_commit_and_a_free_commit_leaves_it_alone() {
    let mut ledger = Ledger::new(&[1, 2], 100);
    ledger.run(&[draft(1, 0, vec![pay(address(3), 1)]), draft(2, 0, vec![pay(address(3), 1)]).fee(20)]);
    assert_eq!(ledger.balance(kaldrix_types::Address::FEE_POOL, AssetId::NATIVE), 30);
    ledger.parameters.minimum_fee = 0;
    let executed = ledger.execute(&[draft(1, 1, vec![pay(address(3), 1)]).fee(0).sign()]);
    assert!(executed.changes.iter().all(|c| c.key != kaldrix_execution::FEE_POOL_KEY));
}
