//! On however many threads: the same bytes.
mod common;

use common::{KDX, Ledger, OPERATORS, Pretended, address, draft, equivocation, key, pay, register, session_key};
use kaldrix_execution::{Execution, OrderedTransaction, StateView, execute_as, prefetch_keys};
use kaldrix_types::{
    AssetId, BlockRef, Commit, DecodedTransaction, Digest, ExecutedCommit, KeyRef, Operation, OutcomeStatus, Reputation, StateKey,
    StateValue, ValidatorIndex, encode,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Mutex;
use std::thread::ThreadId;

/// Records who reads, and refuses what was not declared.
struct Watched<'a> {
    state: &'a BTreeMap<StateKey, StateValue>,
    declared: BTreeSet<StateKey>,
    threads: Mutex<HashSet<ThreadId>>,
}

impl StateView for Watched<'_> {
    fn get(&self, key: &StateKey) -> Option<StateValue> {
        assert!(self.declared.contains(key), "{key:?} was used but not declared");
        self.threads.lock().expect("no reader panics while it holds this").insert(std::thread::current().id());
        self.state.get(key).cloned()
    }
}

fn commit(ends_epoch: bool) -> Commit {
    let leader = BlockRef { round: 1, author: ValidatorIndex(0), digest: Digest::ZERO };
    Commit {
        index: 1,
        epoch: 0,
        leader,
        previous: Digest::ZERO,
        timestamp_ms: common::NOW_MS,
        gc_round: 0,
        blocks: vec![leader],
        reputation: Reputation::default(),
        ends_epoch,
    }
}

/// The result, and how many threads it took.
fn run(ledger: &Ledger, txs: &[OrderedTransaction<'_>], ends_epoch: bool, execution: Execution) -> (ExecutedCommit, usize) {
    let commit = commit(ends_epoch);
    let declared = prefetch_keys(&commit, txs, &ledger.epoch()).into_iter().collect();
    let view = Watched { state: &ledger.state, declared, threads: Mutex::default() };
    let executed = execute_as(execution, &commit, vec![], txs, &ledger.parameters, &view, &Pretended::default());
    (executed, view.threads.into_inner().expect("no reader panics while it holds this").len())
}

const ACCOUNTS: u8 = 40;

/// Transactions of 40 accounts. With `hot`, half of what they pay goes to account 0; else each pays its neighbours.
fn transaction(hot: bool) -> impl Strategy<Value = DecodedTransaction> {
    let to = move |seed: u8, wish: u8| if hot && wish < 20 { 0 } else { (seed / 4 * 4 + wish % 4) % ACCOUNTS };
    let asset = prop_oneof![5 => Just(AssetId::NATIVE), 1 => Just(AssetId(Digest([7; 32])))];
    let operation = move |seed: u8| {
        prop_oneof![
            12 => (0u8..40, asset.clone(), prop_oneof![9 => 1u128..50, 1 => Just(u128::MAX / 2)])
                .prop_map(move |(wish, asset, amount)| Operation::Transfer { to: address(to(seed, wish)), asset, amount }),
            1 => Just(Operation::CreateAsset { symbol: "X".into(), decimals: 0, initial_supply: 5, maximum_supply: 9 }),
            1 => (0u8..3).prop_map(|d| Operation::Anchor { document: Digest([d; 32]), metadata: bytes::Bytes::new() }),
            1 => (60u8..70).prop_map(|s| Operation::RegisterKey { key: key(s) }),
            1 => (0u8..2, 60u8..70).prop_map(|(index, s)| Operation::RotateKey { index, key: key(s) }),
            1 => Just(register(seed, 2 * KDX)),
            1 => (1u128..3).prop_map(|n| Operation::Stake { amount: n * KDX }),
            1 => Just(Operation::LeaveValidators),
            1 => Just(Operation::Unjail),
            1 => (0u16..5, 0u8..4).prop_map(|(seat, other)| equivocation(&session_key(OPERATORS[usize::from(other)]), 0, seat)),
        ]
    };
    (0..ACCOUNTS, 0u64..3, 0u8..3, 0u128..30, 0u8..12).prop_flat_map(move |(seed, sequence, lane, fee, signer)| {
        prop::collection::vec(operation(seed), 1..4).prop_filter_map("contradicts itself", move |operations| {
            let signer = if signer == 0 { seed.wrapping_add(1) } else { seed };
            let draft = draft(seed, sequence, operations).lane(lane).fee(fee);
            draft.by(KeyRef::Inline(key(seed)), signer).try_sign().ok()
        })
    })
}

fn batch() -> impl Strategy<Value = Vec<DecodedTransaction>> {
    any::<bool>().prop_flat_map(|hot| prop::collection::vec(transaction(hot), 0..120))
}

fn ledger() -> Ledger {
    Ledger::new(&(0..ACCOUNTS).collect::<Vec<_>>(), 10 * KDX)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_batch_gives_the_same_bytes_on_any_number_of_threads(txs in batch(), verified: bool, ends_epoch: bool, threads in 2usize..9, signatures_min in 0usize..200) {
        let ledger = ledger();
        // Where the caller says it checked, it may have checked under another key.
        let verified_with = |tx: &DecodedTransaction| verified.then(|| key(tx.bytes()[70]).id());
        let ordered: Vec<_> = (0u32..)
            .zip(&txs)
            .map(|(position, tx)| OrderedTransaction { block: position / 7, position: position % 7, tx, verified_with: verified_with(tx) })
            .collect();
        let (serial, _) = run(&ledger, &ordered, ends_epoch, Execution::Serial);
        let (parallel, _) = run(&ledger, &ordered, ends_epoch, Execution::Parallel { threads, signatures_min, operations_min: 0 });
        prop_assert_eq!(encode(&parallel), encode(&serial));
    }
}

/// Applies whatever can be applied apart, and checks each signature in its turn.
const fn apart(threads: usize) -> Execution {
    Execution::Parallel { threads, signatures_min: usize::MAX, operations_min: 0 }
}

fn ordered(txs: &[DecodedTransaction]) -> Vec<OrderedTransaction<'_>> {
    (0u32..).zip(txs).map(|(position, tx)| OrderedTransaction { block: 0, position, tx, verified_with: None }).collect()
}

#[test]
fn independent_payments_use_every_thread_and_payments_to_one_account_use_one() {
    let ledger = ledger();
    let single: Vec<_> = (0..20).map(|seed| draft(seed, 0, vec![pay(address(seed + 20), 1)]).sign()).collect();
    let (executed, threads) = run(&ledger, &ordered(&single), false, apart(4));
    assert_eq!(threads, 4);
    assert!(executed.outcomes.iter().all(|outcome| outcome.status == OutcomeStatus::Success));
    let together: Vec<_> = (1..20).map(|seed| draft(seed, 0, vec![pay(address(0), 1)]).sign()).collect();
    assert_eq!(run(&ledger, &ordered(&together), false, apart(4)).1, 1);
}

#[test]
fn a_chain_of_payments_is_applied_in_its_order_beside_others() {
    let ledger = Ledger::new(&[0, 10], 1_000);
    // 0 pays 1 pays 2 …: each can pay only with what the one before brought. Beside it, the same from account 10.
    let chain = |first: u8| (0..8).map(move |n| draft(first + n, 0, vec![pay(address(first + n + 1), 900 - 20 * u128::from(n))]));
    let txs: Vec<_> = chain(0).zip(chain(10)).flat_map(|(one, other)| [one.sign(), other.sign()]).collect();
    let (executed, threads) = run(&ledger, &ordered(&txs), false, apart(2));
    assert_eq!(threads, 2);
    assert!(executed.outcomes.iter().all(|outcome| outcome.status == OutcomeStatus::Success));
}

#[test]
fn little_work_stays_on_the_caller_s_thread() {
    let ledger = ledger();
    let txs: Vec<_> = (0..20).map(|seed| draft(seed, 0, vec![pay(address(seed + 20), 1)]).sign()).collect();
    let threads = |signatures_min, operations_min| {
        run(&ledger, &ordered(&txs), false, Execution::Parallel { threads: 2, signatures_min, operations_min }).1
    };
    assert_eq!((threads(21, 21), threads(21, 20), threads(20, 21)), (1, 2, 2));
}

#[test]
fn signatures_are_checked_on_every_thread_even_when_all_payments_conflict_and_each_once() {
    let ledger = ledger();
    let together: Vec<_> = (0..20).map(|n| draft(1, n, vec![pay(address(0), 1)]).sign()).collect();
    let together = ordered(&together);
    let commit = commit(false);
    let declared = prefetch_keys(&commit, &together, &ledger.epoch()).into_iter().collect();
    let view = Watched { state: &ledger.state, declared, threads: Mutex::default() };
    let checker = Pretended::default();
    let execution = Execution::Parallel { threads: 4, signatures_min: 0, operations_min: usize::MAX };
    let executed = execute_as(execution, &commit, vec![], &together, &ledger.parameters, &view, &checker);
    assert!(executed.outcomes.iter().all(|outcome| outcome.status == OutcomeStatus::Success));
    assert_eq!(checker.checks.into_inner(), 20);
    assert_eq!(view.threads.into_inner().expect("no reader panics while it holds this").len(), 4);
}

#[test]
#[should_panic(expected = "the state is damaged")]
fn damage_found_on_another_thread_stops_the_validator_with_its_own_message() {
    let mut ledger = ledger();
    for seed in 0..ACCOUNTS {
        ledger.state.insert(StateKey::Balance(address(seed), AssetId::NATIVE), StateValue::Lane(1));
    }
    // The caller's thread gets the largest group, which only fails its gates; the other one meets the damage.
    let late: Vec<_> = (0..9).map(|n| draft(1, n, vec![pay(address(2), 1)]).valid_until(0).sign()).collect();
    let txs: Vec<_> = late.into_iter().chain([draft(5, 0, vec![pay(address(6), 1)]).sign()]).collect();
    let _ = run(&ledger, &ordered(&txs), false, apart(2));
}
