//! Two signed blocks of one round cost stake and seat; nothing else anybody sends does.
mod common;

use common::{
    CHAIN, KDX, Ledger, OPERATORS, address, draft, equivocation, key_proof, pay, pretend, register, report, session_key, sign_header,
    signed_header,
};
use kaldrix_execution::{check_stake, check_supply};
use kaldrix_types::{
    Address, AssetId, ChainId, Digest, Operation, OutcomeStatus, PublicKey, Purpose, RejectCode, SignedHeader, Unbonding, ValidatorIndex,
    ValidatorStatus, signing_message,
};
use proptest::prelude::*;

const SUCCESS: OutcomeStatus = OutcomeStatus::Success;

fn failed(code: RejectCode) -> OutcomeStatus {
    OutcomeStatus::Failed(code)
}

fn ledger() -> Ledger {
    Ledger::new(&[1, 200], 1_000 * KDX)
}

fn fee_pool(ledger: &Ledger) -> u128 {
    ledger.balance(Address::FEE_POOL, AssetId::NATIVE)
}

#[test]
fn an_equivocation_costs_five_per_cent_of_bonded_and_unbonding_stake_and_jails() {
    let mut ledger = ledger();
    assert_eq!(ledger.run_one(draft(200, 0, vec![Operation::Unstake { amount: 40 * KDX }]).fee(10)), SUCCESS);
    assert_eq!(ledger.run_one(draft(1, 0, vec![equivocation(&session_key(200), 0, 0)])), SUCCESS);
    let record = ledger.validator(200).unwrap();
    assert_eq!((record.stake, record.unbonding), (57 * KDX, vec![Unbonding { amount: 38 * KDX, release_epoch: 1 }]));
    assert_eq!((record.status, record.slashed_epoch), (ValidatorStatus::Jailed { until_epoch: 2 }, Some(0)));
    assert_eq!(fee_pool(&ledger), 5 * KDX + 20);
    assert_eq!(ledger.epoch().members[0].weight, 100, "weights are fixed for the epoch");
    assert_eq!((check_supply(ledger.records()), check_stake(ledger.records())), (Ok(()), Ok(())));
}

#[test]
fn one_epoch_s_equivocations_are_punished_once() {
    let mut ledger = ledger();
    let again = report(signed_header(&session_key(200), 0, 0, 9, 1), signed_header(&session_key(200), 0, 0, 9, 2));
    let txs = [draft(1, 0, vec![equivocation(&session_key(200), 0, 0)]), draft(1, 1, vec![again.clone()])];
    assert_eq!(ledger.run(&txs), [SUCCESS, failed(RejectCode::AlreadyReported)]);
    ledger.end_epoch(&[]);
    assert_eq!(ledger.run_one(draft(1, 2, vec![again])), failed(RejectCode::AlreadyReported));
    // In the next epoch it had another seat (the committee is sorted by stake), and is punished again.
    assert_eq!(ledger.members()[3], 200);
    assert_eq!(ledger.run_one(draft(1, 3, vec![equivocation(&session_key(200), 1, 3)])), SUCCESS);
    assert_eq!(ledger.validator(200).unwrap().stake, 100 * KDX * 95 / 100 * 95 / 100);
}

#[test]
fn evidence_is_good_until_the_end_of_the_next_epoch_under_the_key_of_its_own() {
    let mut ledger = ledger();
    let (old, new) = (session_key(200), session_key(99));
    let rotate = Operation::RotateSessionKey { key: new.clone(), proof: key_proof(200, &new) };
    assert_eq!(ledger.run_one(draft(200, 0, vec![rotate])), SUCCESS);
    ledger.end_epoch(&[]);
    let mut late = ledger.clone();
    assert_eq!(ledger.run_one(draft(1, 0, vec![equivocation(&new, 0, 0)])), failed(RejectCode::BadEvidence));
    assert_eq!(ledger.run_one(draft(1, 1, vec![equivocation(&old, 1, 3)])), failed(RejectCode::BadEvidence));
    assert_eq!(ledger.run_one(draft(1, 2, vec![equivocation(&old, 0, 0)])), SUCCESS);
    assert_eq!(ledger.validator(200).unwrap().status, ValidatorStatus::Jailed { until_epoch: 3 });
    late.end_epoch(&[]);
    assert_eq!(late.run_one(draft(1, 0, vec![equivocation(&old, 0, 0)])), failed(RejectCode::BadEvidence));
}

#[test]
fn who_leaves_right_after_an_equivocation_is_slashed_all_the_same() {
    let mut ledger = Ledger::new(&[1, 2, 200], 1_000 * KDX);
    ledger.run_one(draft(2, 0, vec![register(2, 5 * KDX)]));
    assert_eq!(ledger.run_one(draft(200, 0, vec![Operation::LeaveValidators])), SUCCESS);
    ledger.end_epoch(&[]);
    assert_eq!(ledger.run_one(draft(1, 0, vec![equivocation(&session_key(200), 0, 0)])), SUCCESS);
    let before = ledger.kdx(200);
    ledger.end_epoch(&[]);
    assert_eq!(ledger.kdx(200), before + 95 * KDX);
    assert!(ledger.validator(200).is_none());
    assert_eq!((check_supply(ledger.records()), check_stake(ledger.records())), (Ok(()), Ok(())));
}

#[test]
fn everything_can_be_slashed_and_nothing_breaks() {
    let mut ledger = ledger();
    ledger.parameters.slash_basis_points = u32::MAX;
    for (seat, seed) in (0u16..).zip(OPERATORS) {
        assert_eq!(ledger.run_one(draft(1, u64::from(seat), vec![equivocation(&session_key(seed), 0, seat)])), SUCCESS);
    }
    ledger.end_epoch(&[]);
    assert_eq!(ledger.epoch().members.iter().map(|member| member.weight).collect::<Vec<_>>(), [1; 4]);
    assert_eq!((check_supply(ledger.records()), check_stake(ledger.records())), (Ok(()), Ok(())));
}

#[test]
fn only_evidence_that_holds_goes_without_a_fee() {
    let evidence = || equivocation(&session_key(200), 0, 0);
    let mut ledger = Ledger::new(&[1], 100);
    // Account 5 owns nothing.
    let free = |sequence, operations| draft(5, sequence, operations).fee(0);
    let discarded = OutcomeStatus::Discarded;
    assert_eq!(ledger.run_one(free(0, vec![equivocation(&session_key(201), 0, 0)])), discarded(RejectCode::BadEvidence));
    assert_eq!(ledger.run_one(free(0, vec![evidence(), evidence()])), discarded(RejectCode::FeeTooLow));
    assert_eq!(ledger.run_one(free(0, vec![evidence(), pay(address(1), 1)])), discarded(RejectCode::FeeTooLow));
    assert!(ledger.account(5).is_none());
    let other = draft(6, 0, vec![evidence()]).fee(0);
    assert_eq!(ledger.run(&[free(0, vec![evidence()]), other]), [SUCCESS, discarded(RejectCode::AlreadyReported)]);
    assert_eq!(ledger.account(5).unwrap().next_sequence, 1);
    assert_eq!(fee_pool(&ledger), 5 * KDX);
}

#[test]
fn a_slash_is_undone_with_the_rest_of_a_failing_transaction() {
    let mut ledger = ledger();
    let status = ledger.run_one(draft(1, 0, vec![equivocation(&session_key(200), 0, 0), pay(address(2), u128::MAX / 2)]));
    assert_eq!(status, failed(RejectCode::InsufficientBalance));
    assert_eq!((ledger.validator(200).unwrap().stake, fee_pool(&ledger)), (100 * KDX, 10));
}

/// The session key of a seat. From epoch 1 on the seats are in order of stake, which turns them round.
fn seat_key(epoch: u64, author: u16) -> PublicKey {
    let seat = usize::from(author % 4);
    session_key(OPERATORS[if epoch == 0 { seat } else { 3 - seat }])
}

/// Everything the honest validators ever signed: one header per seat, round and epoch.
fn honest(epoch: u64, author: u16, round: u64) -> SignedHeader {
    signed_header(&seat_key(epoch, author), epoch, author, round, 1_000 + round)
}

/// One way to lie with a header that an honest validator signed, or that somebody else made up.
fn forge(header: SignedHeader, kind: u8, other: u16, value: u64) -> SignedHeader {
    let mut forged = header;
    match kind {
        // As it is: alone it proves nothing.
        0 => {}
        // Another content under the old signature.
        1 => forged.header.timestamp_ms = value,
        // Another content signed by an attacker's key, or by another validator that colludes.
        2 => {
            forged.header.timestamp_ms = value;
            forged = sign_header(forged.header, &session_key(50));
        }
        3 => {
            forged.header.timestamp_ms = value;
            let neighbour = seat_key(forged.header.epoch, forged.header.author.0 + 1);
            forged = sign_header(forged.header, &neighbour);
        }
        // Replayed from another chain on which the same key signs.
        4 => {
            forged.header.chain_id = ChainId(Digest([8; 32]));
            forged = sign_header(forged.header, &session_key(OPERATORS[usize::from(other)]));
            forged.header.chain_id = CHAIN;
        }
        5 => forged.header.author = ValidatorIndex(other),
        6 => forged.header.round = value,
        7 => forged.header.epoch = value % 4,
        // A signature of the right key for another purpose.
        8 => {
            forged.header.timestamp_ms = value;
            let message = signing_message(Purpose::Checkpoint, CHAIN, forged.header.digest());
            forged.signature = pretend(&session_key(OPERATORS[usize::from(other)]), &message);
        }
        _ => forged.signature = pretend(&session_key(50), b"nothing"),
    }
    forged
}

fn headers() -> impl Strategy<Value = (SignedHeader, SignedHeader)> {
    let one = || (0u64..3, 0u16..4, 1u64..4, 0u8..10, 0u16..4, 0u64..6);
    let make = |(epoch, author, round, kind, other, value)| forge(honest(epoch, author, round), kind, other, value);
    // Independent ones, and two lies about one header.
    let pair = (one(), 0u8..10, 0u64..6).prop_map(|((epoch, author, round, kind, other, value), kind2, value2)| {
        let header = honest(epoch, author, round);
        (forge(header.clone(), kind, other, value), forge(header, kind2, other, value2))
    });
    prop_oneof![2 => pair, 1 => (one().prop_map(make), one().prop_map(make))]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn an_honest_validator_is_never_slashed_or_jailed(pairs in prop::collection::vec(headers(), 1..8), epochs in 0u64..3) {
        let mut ledger = ledger();
        for _ in 0..epochs {
            ledger.end_epoch(&[]);
        }
        for (first, second) in pairs {
            let sequence = ledger.account(1).map_or(0, |account| account.next_sequence);
            // Some the decoder refuses already.
            if let Ok(tx) = draft(1, sequence, vec![report(first, second)]).try_sign() {
                let status = ledger.execute(&[tx]).outcomes[0].status;
                prop_assert!(status != SUCCESS);
            }
        }
        for (seed, stake) in OPERATORS.into_iter().zip([100, 200, 300, 400]) {
            let record = ledger.validator(seed).unwrap();
            prop_assert_eq!((record.stake, record.status, record.slashed_epoch), (stake * KDX, ValidatorStatus::Active, None));
        }
    }
}
