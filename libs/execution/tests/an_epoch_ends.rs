//! Participation, rewards, absence, the smallest network, and the committee that follows.
mod common;

use common::{CHAIN, KDX, Ledger, NOW_MS, OPERATORS, address, draft, equivocation, pay, register, session_key};
use kaldrix_execution::{SeatError, StateView, check_stake, check_supply, committee_keys, committee_of, next_epoch};
use kaldrix_types::{Address, AssetId, Committee, Operation, OutcomeStatus, StateKey, StateValue, Supply, ValidatorIndex, ValidatorStatus};
use std::collections::BTreeMap;

const ALL: [u16; 4] = [0, 1, 2, 3];

struct View<'a>(&'a BTreeMap<StateKey, StateValue>);

impl StateView for View<'_> {
    fn get(&self, key: &StateKey) -> Option<StateValue> {
        self.0.get(key).cloned()
    }
}

fn fee_pool(ledger: &Ledger) -> u128 {
    ledger.balance(Address::FEE_POOL, AssetId::NATIVE)
}

fn jailed(ledger: &Ledger) -> Vec<u8> {
    let is_jailed = |seed: &u8| matches!(ledger.validator(*seed), Some(r) if matches!(r.status, ValidatorStatus::Jailed { .. }));
    (0..=255).filter(is_jailed).collect()
}

/// The four validators and 1, 2, 3 with 250 KDX each, in epoch 1: seats 203, 202, then 1, 2, 3 by address, 201, 200.
fn seven() -> Ledger {
    let mut ledger = Ledger::new(&[1, 2, 3, 200, 201, 202, 203], 1_000 * KDX);
    for seed in [1, 2, 3] {
        assert_eq!(ledger.run_one(draft(seed, 0, vec![register(seed, 250 * KDX)])), OutcomeStatus::Success);
    }
    ledger.end_epoch(&[]);
    assert_eq!(ledger.members().len(), 7);
    ledger
}

fn seat(ledger: &Ledger, seed: u8) -> u16 {
    ledger.members().iter().position(|member| *member == seed).expect("a member") as u16
}

#[test]
fn an_author_counts_once_per_commit_and_the_next_epoch_begins_at_zero() {
    let mut ledger = Ledger::new(&[1], 100);
    ledger.pass(3, &[0, 2, 2, 0]);
    assert_eq!(ledger.participation(), [3, 0, 3, 0]);
    ledger.authors = vec![1, 3];
    ledger.end_epoch(&[]);
    assert_eq!(ledger.participation(), [0; 4]);
}

#[test]
fn an_epoch_begins_where_the_one_before_ended() {
    let mut ledger = Ledger::new(&[1], 100);
    ledger.pass(4, &ALL);
    let before = ledger.epoch();
    ledger.end_epoch(&[]);
    let epoch = ledger.epoch();
    assert_eq!((epoch.epoch, epoch.start_round, epoch.start_ms, epoch.first_commit), (1, 5, NOW_MS, 6));
    assert_eq!(epoch.previous_members, before.members);
}

#[test]
fn rewards_and_fees_go_by_weight_and_participation_and_the_rest_stays() {
    let mut ledger = Ledger::new(&[1], 1_000);
    ledger.parameters.block_reward = 1_000;
    ledger.pass(1, &[3, 1]);
    ledger.authors = vec![3];
    ledger.end_epoch(&[draft(1, 0, vec![pay(address(2), 1)]).fee(18).sign()]);
    // Weights 200 and 400, once and twice: 1018 · 200 / 1000 and 1018 · 800 / 1000, rounded down.
    assert_eq!(OPERATORS.map(|seed| ledger.kdx(seed)), [0, 203, 0, 814]);
    assert_eq!(fee_pool(&ledger), 1);
    let supply = StateValue::Supply(Supply { amount: 1_000 + 1_000 + 1_000 * KDX });
    assert_eq!(ledger.state.get(&StateKey::Supply(AssetId::NATIVE)), Some(&supply));
    assert_eq!(check_supply(ledger.records()), Ok(()));
}

#[test]
fn an_epoch_in_which_nobody_took_part_pays_nobody() {
    let mut ledger = Ledger::new(&[1], 1_000);
    ledger.parameters.block_reward = 7;
    ledger.end_epoch(&[]);
    assert_eq!(fee_pool(&ledger), 7);
    assert_eq!(check_supply(ledger.records()), Ok(()));
}

#[test]
fn a_reward_that_the_supply_cannot_hold_is_not_created() {
    let mut ledger = Ledger::new(&[1], 1_000);
    ledger.parameters.block_reward = u128::MAX;
    ledger.end_epoch(&[]);
    assert_eq!(fee_pool(&ledger), 0);
    assert_eq!(check_supply(ledger.records()), Ok(()));
}

#[test]
fn long_absence_jails_without_slashing_and_without_pay() {
    let mut ledger = seven();
    let (absent, nearly) = (seat(&ledger, 1), seat(&ledger, 2));
    ledger.parameters.block_reward = 1_000;
    let others: Vec<u16> = (0..7).filter(|seat| *seat != absent).collect();
    ledger.pass(4, &[absent]);
    ledger.pass(5, &[nearly]);
    let others_but: Vec<u16> = others.iter().copied().filter(|seat| *seat != nearly).collect();
    ledger.pass(90, &others_but);
    let paid = ledger.kdx(1);
    // 100 commits: 5 % is 5 of them.
    ledger.end_epoch(&[]);
    assert_eq!(jailed(&ledger), [1]);
    let record = ledger.validator(1).unwrap();
    assert_eq!((record.stake, record.status, ledger.kdx(1)), (250 * KDX, ValidatorStatus::Jailed { until_epoch: 3 }, paid));
    assert!(ledger.kdx(2) > 0 && !ledger.members().contains(&1));
    assert_eq!(check_stake(ledger.records()), Ok(()));
}

#[test]
fn absence_says_nothing_in_a_short_epoch() {
    let mut ledger = seven();
    ledger.pass(48, &[0, 1, 2, 3, 4]);
    ledger.end_epoch(&[]);
    assert_eq!((jailed(&ledger), ledger.members().len()), (vec![], 7));
    ledger.pass(49, &[0, 1, 2, 3, 4]);
    ledger.end_epoch(&[]);
    assert_eq!((jailed(&ledger).len(), ledger.members().len()), (2, 5));
}

#[test]
fn absence_jails_the_most_absent_first_and_leaves_the_smallest_network() {
    let mut ledger = seven();
    // Nobody but 203 and 202; of the others, 200 had the most blocks, then 201.
    let (first, second) = (seat(&ledger, 200), seat(&ledger, 201));
    ledger.pass(1, &[0, 1, first, second]);
    ledger.pass(1, &[0, 1, first]);
    ledger.pass(97, &[0, 1]);
    ledger.end_epoch(&[]);
    assert_eq!(jailed(&ledger), [1, 2, 3]);
    assert_eq!(ledger.members(), [203, 202, 201, 200]);
    // And of four, none.
    ledger.pass(99, &[0]);
    ledger.end_epoch(&[]);
    assert_eq!((jailed(&ledger), ledger.members().len()), (vec![1, 2, 3], 4));
}

#[test]
fn when_too_many_leave_those_with_most_stake_stay_until_others_come() {
    let mut ledger = seven();
    for seed in [1, 2, 3, 200, 201] {
        let sequence = ledger.account(seed).map_or(0, |account| account.next_sequence);
        assert_eq!(ledger.run_one(draft(seed, sequence, vec![Operation::LeaveValidators])), OutcomeStatus::Success);
    }
    ledger.end_epoch(&[]);
    let mut stayed: Vec<u8> = ledger.members();
    assert_eq!(stayed[..2], [203, 202]);
    stayed.sort_unstable();
    // Two of 1, 2 and 3, which have the most stake of those that leave, lowest addresses first.
    let mut expected = [1, 2, 3];
    expected.sort_by_key(|seed| address(*seed));
    let mut expected = [&expected[..2], &[202, 203]].concat();
    expected.sort_unstable();
    assert_eq!(stayed, expected);
    assert_eq!(check_stake(ledger.records()), Ok(()));
    // 201 has left; nobody but the leavers and 202, 203 is there, until 200 and 201 are gone and come back.
    ledger.end_epoch(&[]);
    assert!(ledger.validator(200).is_none() && ledger.validator(201).is_none());
    for seed in [200, 201] {
        let sequence = ledger.account(seed).unwrap().next_sequence;
        assert_eq!(ledger.run_one(draft(seed, sequence, vec![register(seed, 5 * KDX)])), OutcomeStatus::Success);
    }
    ledger.end_epoch(&[]);
    let mut members = ledger.members();
    members.sort_unstable();
    assert_eq!(members, [200, 201, 202, 203]);
    ledger.end_epoch(&[]);
    assert_eq!(ledger.epoch().candidates.len(), 4);
    assert_eq!((check_stake(ledger.records()), check_supply(ledger.records())), (Ok(()), Ok(())));
}

#[test]
fn a_jailed_validator_keeps_its_seat_unpaid_when_there_is_nobody_else() {
    let mut ledger = Ledger::new(&[1], 1_000 * KDX);
    assert_eq!(ledger.run_one(draft(1, 0, vec![equivocation(&session_key(200), 0, 0)])), OutcomeStatus::Success);
    ledger.authors = ALL.to_vec();
    ledger.end_epoch(&[]);
    assert_eq!(ledger.members(), [203, 202, 201, 200]);
    assert_eq!((jailed(&ledger), ledger.kdx(200)), (vec![200], 0));
    assert!(ledger.kdx(203) > 0);
    assert_eq!(ledger.run_one(draft(1, 1, vec![register(1, 5 * KDX)])), OutcomeStatus::Success);
    ledger.end_epoch(&[]);
    assert_eq!(ledger.members(), [203, 202, 201, 1]);
}

#[test]
fn a_validator_that_registers_in_the_last_commit_of_an_epoch_has_a_seat_in_the_next() {
    let mut ledger = Ledger::new(&[1], 1_000 * KDX);
    ledger.end_epoch(&[draft(1, 0, vec![register(1, 999 * KDX)]).sign()]);
    assert_eq!(ledger.members(), [1, 203, 202, 201, 200]);
}

#[test]
fn the_checkpoint_and_the_state_name_the_same_next_committee() {
    let mut ledger = Ledger::new(&[1], 1_000 * KDX);
    let before = ledger.state.clone();
    let executed = ledger.end_epoch(&[draft(1, 0, vec![register(1, 250 * KDX)]).sign()]);
    let next = next_epoch(&executed, &View(&before)).unwrap();
    assert_eq!(next_epoch(&executed, &View(&ledger.state)).as_ref(), Some(&next));
    let committee = Committee::new(CHAIN, 1, next.validators).unwrap().starting_at(next.start_round);
    assert_eq!(committee_of(CHAIN, &ledger.epoch(), &View(&ledger.state)).unwrap(), committee);
    let first = committee.get(ValidatorIndex(2)).unwrap();
    assert_eq!((first.name.as_str(), first.stake, &first.key), ("validator-1", 250, &session_key(1)));
    assert_eq!((committee.start_round(), committee.epoch(), committee.size()), (1, 1, 5));
    // Stake and keys that change during the epoch do not change its committee.
    let rotate = Operation::RotateSessionKey { key: session_key(9), proof: common::key_proof(1, &session_key(9)) };
    assert_eq!(ledger.run_one(draft(1, 1, vec![Operation::Stake { amount: KDX }, rotate])), OutcomeStatus::Success);
    let keys = committee_keys(&ledger.epoch());
    let loaded = keys.into_iter().map(|key| (key, ledger.state[&key].clone())).collect();
    assert_eq!(committee_of(CHAIN, &ledger.epoch(), &View(&loaded)).unwrap(), committee);
    assert!(next_epoch(&ledger.execute(&[]), &View(&ledger.state)).is_none());
}

#[test]
fn a_committee_is_not_made_from_a_state_that_lacks_a_member() {
    let mut ledger = Ledger::new(&[1], 100);
    ledger.state.remove(&StateKey::Validator(address(202)));
    let error = committee_of(CHAIN, &ledger.epoch(), &View(&ledger.state)).unwrap_err();
    assert_eq!(error, SeatError::Missing(address(202)));
}

#[test]
#[should_panic(expected = "another epoch")]
fn a_commit_of_another_epoch_than_the_state_stops_the_validator() {
    let ledger = Ledger::new(&[1], 100);
    let mut other = ledger.clone();
    other.end_epoch(&[]);
    let mut executed = other.execute(&[]);
    executed.commit.epoch = 3;
    let commit = executed.commit;
    let _ = kaldrix_execution::execute(&commit, vec![], &[], &ledger.parameters, &View(&other.state), &common::Pretended::default());
}
