//! What operators do, and which code refuses what.
mod common;

use common::{KDX, Ledger, MINIMUM_FEE, OPERATORS, draft, key, key_proof, register, session_key};
use kaldrix_execution::{check_stake, check_supply};
use kaldrix_types::{Address, AssetId, Operation, OutcomeStatus, RejectCode, Unbonding, ValidatorStatus};

const SUCCESS: OutcomeStatus = OutcomeStatus::Success;

fn failed(code: RejectCode) -> OutcomeStatus {
    OutcomeStatus::Failed(code)
}

/// Accounts 1 to 3 and the operators hold 1,000 KDX.
fn ledger() -> Ledger {
    Ledger::new(&[1, 2, 3, 200, 201, 202, 203], 1_000 * KDX)
}

fn check(ledger: &Ledger) {
    assert_eq!(check_supply(ledger.records()), Ok(()));
    assert_eq!(check_stake(ledger.records()), Ok(()));
}

fn pool(ledger: &Ledger) -> u128 {
    ledger.balance(Address::STAKE_POOL, AssetId::NATIVE)
}

#[test]
fn registering_bonds_the_stake_and_gives_a_seat_in_the_next_epoch_only() {
    let mut ledger = ledger();
    let before = pool(&ledger);
    assert_eq!(ledger.run_one(draft(1, 0, vec![register(1, 250 * KDX)])), SUCCESS);
    assert_eq!((ledger.kdx(1), pool(&ledger)), (750 * KDX - MINIMUM_FEE, before + 250 * KDX));
    assert_eq!(ledger.members(), OPERATORS);
    assert_eq!(ledger.epoch().candidates.len(), 5);
    check(&ledger);
    ledger.end_epoch(&[]);
    assert_eq!(ledger.members(), [203, 202, 1, 201, 200]);
    assert_eq!(ledger.epoch().members[2].weight, 250);
    assert_eq!(ledger.participation(), [0; 5]);
    check(&ledger);
}

#[test]
fn a_registration_that_breaks_a_rule_is_refused_with_its_own_code_and_bonds_nothing() {
    let named = |name: &str, seed: u8, key| {
        let proof = key_proof(seed, &key);
        Operation::RegisterValidator { name: name.into(), region: "r".into(), key, stake: KDX, proof }
    };
    let weak = key(255);
    let cases = [
        (register(1, KDX - 1), RejectCode::StakeTooLow),
        (register(1, 1_000 * KDX), RejectCode::InsufficientBalance),
        (named("validator-200", 1, session_key(1)), RejectCode::NameTaken),
        (named("other", 1, session_key(200)), RejectCode::NameTaken),
        (named("weak", 1, weak), RejectCode::WeakKey),
        // The key agreed to work for account 2.
        (
            Operation::RegisterValidator {
                name: "a".into(),
                region: "r".into(),
                key: session_key(1),
                stake: KDX,
                proof: key_proof(2, &session_key(1)),
            },
            RejectCode::BadKeyProof,
        ),
    ];
    for (operation, code) in cases {
        let mut ledger = ledger();
        assert_eq!(ledger.run_one(draft(1, 0, vec![operation])), failed(code));
        assert!(ledger.validator(1).is_none());
        check(&ledger);
    }
    let mut ledger = ledger();
    assert_eq!(ledger.run_one(draft(200, 0, vec![register(200, KDX)])), failed(RejectCode::AlreadyValidator));
}

#[test]
fn no_more_validators_register_than_there_can_be() {
    let mut ledger = ledger();
    let mut epoch = ledger.epoch();
    epoch.candidates = (0..kaldrix_types::limits::VALIDATORS_MAX).map(|n| Address([(n % 251) as u8; 32])).collect();
    ledger.state.insert(kaldrix_types::StateKey::Epoch, kaldrix_types::StateValue::Epoch(epoch));
    assert_eq!(ledger.run_one(draft(1, 0, vec![register(1, KDX)])), failed(RejectCode::TooManyValidators));
}

#[test]
fn names_and_session_keys_stay_with_their_operator_after_it_left() {
    let mut ledger = ledger();
    ledger.run_one(draft(1, 0, vec![register(1, 5 * KDX)]));
    assert_eq!(ledger.run_one(draft(1, 1, vec![Operation::LeaveValidators])), SUCCESS);
    ledger.end_epoch(&[]);
    ledger.end_epoch(&[]);
    assert!(ledger.validator(1).is_none());
    let Operation::RegisterValidator { name, region, key, stake, .. } = register(1, KDX) else { unreachable!() };
    let stolen = |proof| Operation::RegisterValidator { name: name.clone(), region: region.clone(), key: key.clone(), stake, proof };
    assert_eq!(ledger.run_one(draft(2, 0, vec![stolen(key_proof(2, &key))])), failed(RejectCode::NameTaken));
    assert_eq!(ledger.run_one(draft(1, 2, vec![stolen(key_proof(1, &key))])), SUCCESS);
    check(&ledger);
}

#[test]
fn more_stake_weighs_from_the_next_epoch_on() {
    let mut ledger = ledger();
    assert_eq!(ledger.run_one(draft(200, 0, vec![Operation::Stake { amount: 500 * KDX + 1 }])), SUCCESS);
    assert_eq!(ledger.epoch().members[0].weight, 100);
    assert_eq!(ledger.run_one(draft(1, 0, vec![Operation::Stake { amount: KDX }])), failed(RejectCode::NotValidator));
    assert_eq!(ledger.run_one(draft(200, 1, vec![Operation::Stake { amount: 500 * KDX }])), failed(RejectCode::InsufficientBalance));
    ledger.end_epoch(&[]);
    assert_eq!(ledger.members(), [200, 203, 202, 201]);
    assert_eq!(ledger.epoch().members[0].weight, 600);
    check(&ledger);
}

#[test]
fn withdrawn_stake_is_paid_out_at_the_end_of_the_next_epoch() {
    let mut ledger = ledger();
    let unstake = |sequence, amount| draft(200, sequence, vec![Operation::Unstake { amount }]);
    assert_eq!(ledger.run_one(unstake(0, 99 * KDX + 1)), failed(RejectCode::StakeTooLow));
    assert_eq!(ledger.run_one(unstake(1, u128::MAX)), failed(RejectCode::StakeTooLow));
    assert_eq!(ledger.run(&[unstake(2, 30 * KDX), unstake(3, 20 * KDX)]), [SUCCESS, SUCCESS]);
    assert_eq!(ledger.validator(200).unwrap().unbonding, [Unbonding { amount: 50 * KDX, release_epoch: 1 }]);
    let paid = ledger.kdx(200);
    ledger.end_epoch(&[]);
    assert_eq!((ledger.kdx(200), ledger.epoch().members[3].weight), (paid, 50));
    assert_eq!(ledger.run_one(unstake(4, 10 * KDX)), SUCCESS);
    check(&ledger);
    ledger.end_epoch(&[]);
    assert_eq!(ledger.kdx(200), paid + 50 * KDX - MINIMUM_FEE);
    ledger.end_epoch(&[]);
    assert_eq!(ledger.kdx(200), paid + 60 * KDX - MINIMUM_FEE);
    assert_eq!(pool(&ledger), 940 * KDX);
    check(&ledger);
}

#[test]
fn a_session_key_is_changed_at_the_end_of_the_epoch_and_the_old_one_is_remembered_for_one() {
    let mut ledger = ledger();
    let rotate = |sequence, key: &kaldrix_types::PublicKey, proof_for| {
        let proof = key_proof(proof_for, key);
        draft(200, sequence, vec![Operation::RotateSessionKey { key: key.clone(), proof }])
    };
    let (old, new) = (session_key(200), session_key(100));
    assert_eq!(ledger.run_one(rotate(0, &old, 200)), failed(RejectCode::KeyExists));
    assert_eq!(ledger.run_one(rotate(1, &session_key(201), 200)), failed(RejectCode::NameTaken));
    assert_eq!(ledger.run_one(rotate(2, &new, 201)), failed(RejectCode::BadKeyProof));
    assert_eq!(ledger.run_one(rotate(3, &key(255), 200)), failed(RejectCode::WeakKey));
    assert_eq!(ledger.run_one(rotate(4, &session_key(99), 200)), SUCCESS);
    assert_eq!(ledger.run_one(rotate(5, &new, 200)), SUCCESS);
    assert_eq!(ledger.validator(200).unwrap().key, old);
    ledger.end_epoch(&[]);
    let record = ledger.validator(200).unwrap();
    assert_eq!((record.key, record.next_key, record.previous_key), (new.clone(), None, Some(old)));
    ledger.end_epoch(&[]);
    let record = ledger.validator(200).unwrap();
    assert_eq!((record.key, record.previous_key), (new, None));
}

#[test]
fn who_leaves_is_out_after_the_epoch_and_paid_after_the_next() {
    let mut ledger = ledger();
    ledger.run_one(draft(1, 0, vec![register(1, 250 * KDX)]));
    ledger.end_epoch(&[]);
    assert_eq!(ledger.run_one(draft(201, 0, vec![Operation::LeaveValidators])), SUCCESS);
    for operation in [Operation::LeaveValidators, Operation::Stake { amount: 1 }, Operation::Unstake { amount: 1 }] {
        let sequence = ledger.account(201).unwrap().next_sequence;
        assert_eq!(ledger.run_one(draft(201, sequence, vec![operation])), failed(RejectCode::Leaving));
    }
    assert!(ledger.members().contains(&201));
    ledger.end_epoch(&[]);
    assert_eq!(ledger.members(), [203, 202, 1, 200]);
    let record = ledger.validator(201).unwrap();
    assert_eq!((record.stake, record.unbonding), (0, vec![Unbonding { amount: 200 * KDX, release_epoch: 2 }]));
    let before = ledger.kdx(201);
    ledger.end_epoch(&[]);
    assert_eq!(ledger.kdx(201), before + 200 * KDX);
    assert!(ledger.validator(201).is_none());
    assert_eq!(ledger.epoch().candidates.len(), 4);
    check(&ledger);
}

#[test]
fn the_last_four_validators_cannot_leave() {
    let mut ledger = ledger();
    assert_eq!(ledger.run_one(draft(200, 0, vec![Operation::LeaveValidators])), failed(RejectCode::TooFewValidators));
    assert_eq!(ledger.run_one(draft(1, 0, vec![Operation::LeaveValidators])), failed(RejectCode::NotValidator));
}

#[test]
fn a_jailed_validator_waits_out_its_time_and_needs_the_minimum_stake() {
    let mut ledger = ledger();
    let run = |ledger: &mut Ledger, operation| {
        let sequence = ledger.account(200).map_or(0, |account| account.next_sequence);
        ledger.run_one(draft(200, sequence, vec![operation]))
    };
    assert_eq!(run(&mut ledger, Operation::Unjail), failed(RejectCode::NotJailed));
    ledger.run_one(draft(1, 0, vec![register(1, 250 * KDX)]));
    ledger.edit(200, |record| record.status = ValidatorStatus::Jailed { until_epoch: 2 });
    for operation in [Operation::Unjail, Operation::LeaveValidators, Operation::Unstake { amount: KDX }] {
        assert_eq!(run(&mut ledger, operation), failed(RejectCode::Jailed));
    }
    ledger.end_epoch(&[]);
    assert_eq!(ledger.members(), [203, 202, 1, 201]);
    ledger.end_epoch(&[]);
    ledger.parameters.minimum_stake = 101 * KDX;
    assert_eq!(run(&mut ledger, Operation::Unjail), failed(RejectCode::StakeTooLow));
    assert_eq!(run(&mut ledger, Operation::Stake { amount: KDX }), SUCCESS);
    assert_eq!(run(&mut ledger, Operation::Unjail), SUCCESS);
    ledger.end_epoch(&[]);
    assert_eq!(ledger.members(), [203, 202, 1, 201, 200]);
    check(&ledger);
}
