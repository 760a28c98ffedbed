//! Whatever clients and operators send, in however many epochs: the books are straight, the network keeps its size, and parallel execution
//! gives what serial execution gives (the test ledger compares them in every commit).
mod common;

use common::{KDX, Ledger, OPERATORS, address, draft, equivocation, key, key_proof, pay, report, session_key, signed_header};
use kaldrix_execution::{StateView, check_stake, check_supply, committee_of, state_digest};
use kaldrix_types::{DecodedTransaction, Digest, KeyRef, Operation, OutcomeStatus, Parameters, StateKey, StateValue, ValidatorStatus};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Ordinary accounts; beside them the four operators act.
const ACCOUNTS: [u8; 6] = [0, 1, 2, 3, 4, 5];

struct View<'a>(&'a BTreeMap<StateKey, StateValue>);

impl StateView for View<'_> {
    fn get(&self, key: &StateKey) -> Option<StateValue> {
        self.0.get(key).cloned()
    }
}

fn seed() -> impl Strategy<Value = u8> + Clone {
    prop::sample::select([ACCOUNTS.as_slice(), OPERATORS.as_slice()].concat())
}

fn amount() -> impl Strategy<Value = u128> {
    prop_oneof![4 => (1u128..200).prop_map(|n| n * KDX), 2 => 1u128..3 * KDX, 1 => Just(u128::MAX)]
}

fn any_key() -> impl Strategy<Value = kaldrix_types::PublicKey> + Clone {
    prop_oneof![3 => seed().prop_map(session_key), 3 => (100u8..110).prop_map(session_key), 1 => Just(key(255))]
}

/// What account `seed` may try.
fn operation(seed: u8) -> impl Strategy<Value = Operation> {
    let names = prop::sample::select(vec!["a", "b", "validator-200", "validator-201"]);
    // The right consent more often than not.
    let consent = (any_key(), 0u8..8).prop_map(move |(key, by)| (key.clone(), key_proof(if by == 0 { by } else { seed }, &key)));
    let registration = (names, consent.clone(), amount()).prop_map(|(name, (key, proof), stake)| Operation::RegisterValidator {
        name: name.into(),
        region: "r".into(),
        key,
        stake,
        proof,
    });
    let accused = (prop_oneof![3 => prop::sample::select(OPERATORS.to_vec()).prop_map(session_key), 1 => any_key()], 0u64..5, 0u16..6);
    let reported = (accused, 0u8..4).prop_map(|((key, epoch, author), good)| {
        let evidence = equivocation(&key, epoch, author);
        // A decoder refuses headers that are alike; these differ but one has the wrong signature.
        let forged = report(signed_header(&session_key(1), epoch, author, 5, 1), signed_header(&key, epoch, author, 5, 2));
        if good > 0 { evidence } else { forged }
    });
    prop_oneof![
        4 => ((0u8..6).prop_map(address), amount()).prop_map(|(to, amount)| pay(to, amount)),
        3 => registration,
        3 => amount().prop_map(|amount| Operation::Stake { amount }),
        3 => amount().prop_map(|amount| Operation::Unstake { amount }),
        2 => consent.prop_map(|(key, proof)| Operation::RotateSessionKey { key, proof }),
        2 => Just(Operation::LeaveValidators),
        4 => Just(Operation::Unjail),
        3 => reported,
        1 => (0u8..3).prop_map(|d| Operation::Anchor { document: Digest([d; 32]), metadata: bytes::Bytes::new() }),
        1 => (0u8..9).prop_map(|s| Operation::RegisterKey { key: key(s) }),
        1 => (0u128..50).prop_map(|initial_supply| Operation::CreateAsset {
            symbol: "X".into(), decimals: 0, initial_supply, maximum_supply: 50,
        }),
    ]
}

/// What is left open until the state is known: whether the sequence number fits.
#[derive(Clone, Debug)]
struct Wish {
    seed: u8,
    lane: u8,
    fits: bool,
    fee: u128,
    signer: u8,
    operations: Vec<Operation>,
}

fn wish() -> impl Strategy<Value = Wish> {
    seed().prop_flat_map(|seed| {
        let operations = prop::collection::vec(operation(seed), 1..3);
        (0u8..3, 0u8..10, 0u128..40, 0u8..20, operations).prop_map(move |(lane, fits, fee, signer, operations)| Wish {
            seed,
            lane,
            fits: fits > 0,
            fee: if fits < 7 { fee.max(10) } else { fee },
            signer: if signer == 0 { 1 } else { seed },
            operations,
        })
    })
}

/// A commit: what is wished for, whose blocks are in it, how many empty ones follow, whether it ends the epoch.
type Step = (Vec<Wish>, Vec<u16>, u64, bool);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let authors = prop::collection::vec(0u16..7, 0..7);
    let step = (prop::collection::vec(wish(), 0..14), authors, prop_oneof![3 => Just(0u64), 1 => Just(60u64)], any::<bool>());
    prop::collection::vec(step, 1..10)
}

/// Signs wishes with sequence numbers that follow one another, so that most of them get as far as their operations.
fn transactions(ledger: &Ledger, wishes: &[Wish]) -> Vec<DecodedTransaction> {
    let mut next: BTreeMap<(u8, u8), u64> = BTreeMap::new();
    let mut txs = Vec::new();
    for wish in wishes {
        let sequence = next.entry((wish.seed, wish.lane)).or_insert_with(|| {
            let lane = ledger.state.get(&StateKey::Lane(address(wish.seed), wish.lane));
            match (wish.lane, lane) {
                (0, _) => ledger.account(wish.seed).map_or(0, |account| account.next_sequence),
                (_, Some(StateValue::Lane(next))) => *next,
                _ => 0,
            }
        });
        let used = if wish.fits { *sequence } else { sequence.saturating_sub(1) };
        let draft = draft(wish.seed, used, wish.operations.clone()).lane(wish.lane).fee(wish.fee);
        let tx = draft.by(KeyRef::Inline(key(wish.seed)), wish.signer).try_sign();
        if let Ok(tx) = tx {
            *sequence += u64::from(wish.fits && wish.fee >= 10 && wish.signer == wish.seed);
            txs.push(tx);
        }
    }
    txs
}

fn ledger() -> Ledger {
    let mut ledger = Ledger::new(&[ACCOUNTS.as_slice(), OPERATORS.as_slice()].concat(), 300 * KDX);
    ledger.parameters = Parameters { block_reward: 12_345, slash_basis_points: 3_333, jail_epochs: 1, ..ledger.parameters };
    ledger
}

fn straight(ledger: &Ledger) -> Result<(), TestCaseError> {
    prop_assert_eq!(check_supply(ledger.records()), Ok(()));
    prop_assert_eq!(check_stake(ledger.records()), Ok(()));
    let epoch = ledger.epoch();
    prop_assert!(epoch.members.len() >= ledger.parameters.min_validators as usize);
    prop_assert_eq!(epoch.members.len(), ledger.participation().len());
    prop_assert!(committee_of(common::CHAIN, &epoch, &View(&ledger.state)).is_ok());
    prop_assert!(epoch.candidates.windows(2).all(|pair| pair[0] < pair[1]));
    for record in ledger.state.values() {
        if let StateValue::Validator(record) = record {
            prop_assert!(record.unbonding.len() <= 2);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn supply_and_stake_are_conserved_across_epochs(steps in steps()) {
        let mut ledger = ledger();
        for (wishes, authors, quiet, ends) in &steps {
            let txs = transactions(&ledger, wishes);
            ledger.authors = authors.clone();
            let mut twin = ledger.clone();
            let executed = if *ends { ledger.end_epoch(&txs) } else { ledger.execute(&txs) };
            prop_assert_eq!(executed.outcomes.len(), txs.len());
            if *ends { twin.end_epoch(&txs) } else { twin.execute(&txs) };
            prop_assert_eq!(state_digest(ledger.records()), state_digest(twin.records()));
            straight(&ledger)?;
            ledger.pass(*quiet, authors);
        }
    }

    #[test]
    fn everybody_who_leaves_gets_back_what_was_bonded(stakes in prop::collection::vec(1u128..200, 6)) {
        let mut ledger = ledger();
        ledger.parameters.block_reward = 0;
        let before: Vec<u128> = ACCOUNTS.iter().map(|seed| ledger.kdx(*seed)).collect();
        let mut fees = vec![];
        for (seed, stake) in ACCOUNTS.into_iter().zip(stakes) {
            ledger.run_one(draft(seed, 0, vec![common::register(seed, stake * KDX)]));
            fees.push(common::MINIMUM_FEE);
        }
        ledger.end_epoch(&[]);
        for (seed, fee) in ACCOUNTS.into_iter().zip(&mut fees) {
            prop_assert_eq!(ledger.run_one(draft(seed, 1, vec![Operation::LeaveValidators])), OutcomeStatus::Success);
            *fee += common::MINIMUM_FEE;
        }
        ledger.end_epoch(&[]);
        ledger.end_epoch(&[]);
        let after: Vec<u128> = ACCOUNTS.iter().zip(fees).map(|(seed, fee)| ledger.kdx(*seed) + fee).collect();
        prop_assert_eq!(before, after);
        straight(&ledger)?;
    }
}

#[test]
fn the_random_wishes_reach_every_operation_and_every_ending() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    // A test of the test: that it does not only see refusals.
    let mut runner = TestRunner::deterministic();
    let mut succeeded = std::collections::BTreeSet::new();
    let mut slashed = 0;
    for _ in 0..200 {
        let mut ledger = ledger();
        for (wishes, authors, quiet, ends) in steps().new_tree(&mut runner).unwrap().current() {
            ledger.authors = authors.clone();
            let txs = transactions(&ledger, &wishes);
            let executed = if ends { ledger.end_epoch(&txs) } else { ledger.execute(&txs) };
            for (outcome, tx) in executed.outcomes.iter().zip(&txs) {
                if outcome.status == OutcomeStatus::Success {
                    succeeded.extend(tx.body().operations.iter().map(std::mem::discriminant).map(|d| format!("{d:?}")));
                }
            }
            ledger.pass(quiet, &authors);
        }
        let jailed = |v: &StateValue| matches!(v, StateValue::Validator(r) if matches!(r.status, ValidatorStatus::Jailed { .. }));
        slashed += usize::from(ledger.state.values().any(jailed));
    }
    // Transfer, CreateAsset, Anchor, RegisterKey and all seven of validators.
    assert_eq!(succeeded.len(), 11, "{succeeded:?}");
    assert!(slashed > 10, "{slashed}");
}
