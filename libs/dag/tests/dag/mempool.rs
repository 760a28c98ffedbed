use crate::support::{Rng, Tx};
use kaldrix_dag::{AddError, Added, Mempool, MempoolConfig};
use kaldrix_types::{Address, DecodedTransaction, Lane, RejectCode, Sequence, TxId};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

fn pool() -> Mempool {
    Mempool::new(MempoolConfig::default())
}

fn add(pool: &mut Mempool, tx: Tx) -> Result<Added, AddError> {
    pool.add(tx.build(), 0, 0, 0)
}

fn take_all(pool: &mut Mempool) -> Vec<(u8, Lane, Sequence)> {
    names(&pool.take(usize::MAX, usize::MAX, 0))
}

fn names(txs: &[Arc<DecodedTransaction>]) -> Vec<(u8, Lane, Sequence)> {
    txs.iter().map(|tx| (tx.body().sender.0[0], tx.body().lane, tx.body().sequence)).collect()
}

fn address(sender: u8) -> Address {
    Address([sender; 32])
}

const fn reject(code: RejectCode) -> Result<Added, AddError> {
    Err(AddError::Reject(code))
}

#[test]
fn lanes_take_turns_and_each_stays_in_sequence() {
    let mut pool = pool();
    for (sender, lane, count) in [(1, 0, 3), (1, 1, 2), (2, 0, 1)] {
        for sequence in 0..count {
            assert_eq!(add(&mut pool, Tx::new(sender, lane, sequence)), Ok(Added::Ready));
        }
    }
    assert_eq!(names(&pool.take(2, usize::MAX, 0)), [(1, 0, 0), (1, 1, 0)]);
    assert_eq!(take_all(&mut pool), [(2, 0, 0), (1, 0, 1), (1, 1, 1), (1, 0, 2)]);
    assert_eq!((pool.has_ready(), pool.len(), pool.in_flight()), (false, 6, 6));
}

#[test]
fn with_prioritization_the_highest_fee_among_the_heads_goes_first() {
    let mut pool = Mempool::new(MempoolConfig { prioritization: true, ..MempoolConfig::default() });
    for (sender, sequence, fee) in [(1, 0, 5), (1, 1, 100), (2, 0, 7), (3, 0, 6)] {
        add(&mut pool, Tx { fee, ..Tx::new(sender, 0, sequence) }).unwrap();
    }
    assert_eq!(take_all(&mut pool), [(2, 0, 0), (3, 0, 0), (1, 0, 0), (1, 0, 1)]);
}

#[test]
fn a_transaction_behind_a_gap_is_held_until_its_predecessor_comes_or_time_is_up() {
    let mut pool = pool();
    assert_eq!(pool.add(Tx::new(1, 0, 1).build(), 0, 100, 0), Ok(Added::Held { until_ms: 2_100 }));
    assert_eq!(pool.add(Tx::new(2, 0, 2).build(), 0, 100, 0), Ok(Added::Held { until_ms: 2_100 }));
    assert!(!pool.has_ready());
    assert_eq!(pool.add(Tx::new(1, 0, 0).build(), 0, 200, 0), Ok(Added::Ready));
    assert!(pool.sweep(2_099, 0).is_empty());
    assert_eq!(pool.sweep(2_100, 0), [(Tx::new(2, 0, 2).build().id(), RejectCode::SequenceGap)]);
    assert_eq!(take_all(&mut pool), [(1, 0, 0), (1, 0, 1)]);
    assert_eq!((pool.len(), pool.sweep(100_000, 0).len()), (2, 0));
}

#[test]
fn sequence_numbers_outside_the_window_and_past_validity_are_rejected_with_their_codes() {
    let mut pool = pool();
    assert_eq!(pool.add(Tx::new(1, 0, 4).build(), 5, 0, 0), reject(RejectCode::SequenceReplayed));
    assert_eq!(pool.add(Tx::new(1, 0, 1_006).build(), 5, 0, 0), reject(RejectCode::SequenceGap));
    assert!(pool.add(Tx::new(1, 0, 1_005).build(), 5, 0, 0).is_ok());
    let tx = Tx { valid_until_ms: 50, ..Tx::new(2, 0, 0) };
    assert_eq!(pool.add(tx.build(), 0, 0, 50), reject(RejectCode::Expired));
    assert_eq!(pool.add(tx.build(), 0, 0, 49), Ok(Added::Ready));
    assert!(pool.take(10, usize::MAX, 50).is_empty(), "an expired transaction is never proposed");
    assert_eq!(pool.sweep(0, 50), [(tx.build().id(), RejectCode::Expired)]);
}

#[test]
fn a_resubmission_is_a_duplicate_while_waiting_and_while_in_flight() {
    let mut pool = pool();
    add(&mut pool, Tx::new(1, 0, 0)).unwrap();
    assert_eq!(add(&mut pool, Tx::new(1, 0, 0)), Ok(Added::Duplicate));
    take_all(&mut pool);
    assert_eq!(add(&mut pool, Tx::new(1, 0, 0)), Ok(Added::Duplicate));
    assert!(!pool.has_ready());
    assert_eq!(pool.executed(address(1), 0, 1), [Tx::new(1, 0, 0).build().id()]);
    assert!(pool.is_empty());
    assert_eq!((pool.bytes(), pool.in_flight()), (0, 0));
}

#[test]
fn a_rival_for_a_sequence_number_must_pay_more_and_come_before_the_block() {
    let mut pool = pool();
    let with_fee = |fee| Tx { fee, ..Tx::new(1, 0, 0) };
    add(&mut pool, with_fee(5)).unwrap();
    add(&mut pool, Tx::new(1, 0, 1)).unwrap();
    assert_eq!(add(&mut pool, with_fee(4)), reject(RejectCode::SequenceReplayed));
    assert_eq!(add(&mut pool, with_fee(6)), Ok(Added::Replaced { old: with_fee(5).build().id() }));
    assert_eq!(pool.len(), 2);
    let taken = pool.take(10, usize::MAX, 0);
    assert_eq!(taken[0].body().fee, 6);
    assert_eq!(names(&taken), [(1, 0, 0), (1, 0, 1)]);
    assert_eq!(add(&mut pool, with_fee(7)), reject(RejectCode::SequenceReplayed));
}

#[test]
fn full_pools_say_when_to_come_back() {
    let size = Tx::new(1, 0, 0).build().bytes().len();
    let config = MempoolConfig { capacity_transactions: 3, per_sender_max: 2, ..MempoolConfig::default() };
    let mut pool = Mempool::new(config);
    add(&mut pool, Tx::new(1, 0, 0)).unwrap();
    add(&mut pool, Tx::new(1, 5, 0)).unwrap();
    assert!(matches!(add(&mut pool, Tx::new(1, 0, 1)), Err(AddError::SenderFull { retry_after_ms: 1.. })));
    add(&mut pool, Tx::new(2, 0, 0)).unwrap();
    assert!(matches!(add(&mut pool, Tx::new(3, 0, 0)), Err(AddError::Full { retry_after_ms: 1.. })));
    pool.executed(address(1), 0, 1);
    assert_eq!(add(&mut pool, Tx::new(3, 0, 0)), Ok(Added::Ready));

    let mut small = Mempool::new(MempoolConfig { capacity_bytes: 2 * size, ..MempoolConfig::default() });
    add(&mut small, Tx::new(1, 0, 0)).unwrap();
    add(&mut small, Tx::new(2, 0, 0)).unwrap();
    assert!(matches!(add(&mut small, Tx::new(3, 0, 0)), Err(AddError::Full { .. })));
    assert_eq!(small.bytes(), 2 * size);
}

#[test]
fn a_block_takes_no_more_bytes_than_asked_and_encodes_within_them() {
    let mut pool = pool();
    for sender in 0..100 {
        add(&mut pool, Tx::new(sender, 0, 0)).unwrap();
    }
    for bytes_max in [0, 10, 500, 1_234, 5_000] {
        let taken = pool.take(usize::MAX, bytes_max, 0);
        let body = kaldrix_types::encode_body(taken.iter().map(|tx| tx.bytes()));
        assert!(taken.is_empty() || body.len() <= bytes_max);
        assert!(bytes_max < 1_000 || body.len() + 250 > bytes_max, "{} of {bytes_max}", body.len());
        pool.requeue(taken);
    }
}

#[test]
fn execution_elsewhere_releases_followers_and_drops_what_lost_its_place() {
    let mut pool = pool();
    assert!(matches!(add(&mut pool, Tx::new(1, 0, 3)), Ok(Added::Held { .. })));
    add(&mut pool, Tx::new(1, 0, 0)).unwrap();
    assert_eq!(pool.executed(address(1), 0, 3), [Tx::new(1, 0, 0).build().id()]);
    assert_eq!(take_all(&mut pool), [(1, 0, 3)]);
    assert!(pool.executed(address(1), 0, 2).is_empty(), "state never goes back");
    assert!(pool.executed(address(9), 0, 2).is_empty());
}

#[test]
fn a_discarded_transaction_is_forgotten_and_its_followers_wait_for_another() {
    let mut pool = pool();
    for sequence in 0..5 {
        add(&mut pool, Tx::new(1, 0, sequence)).unwrap();
    }
    pool.take(3, usize::MAX, 0);
    let discarded = Tx::new(1, 0, 1).build().id();
    assert!(pool.discarded(discarded, 1_000));
    assert!(!pool.discarded(discarded, 1_000) && !pool.discarded(Tx::new(1, 0, 4).build().id(), 1_000));
    assert!(!pool.has_ready());
    assert_eq!((pool.len(), pool.in_flight()), (4, 2));
    // It comes again in time: the followers that are in flight are not taken twice.
    assert_eq!(pool.add(Tx::new(1, 0, 1).build(), 0, 1_500, 0), Ok(Added::Ready));
    assert_eq!(take_all(&mut pool), [(1, 0, 1), (1, 0, 3), (1, 0, 4)]);
    assert!(pool.sweep(10_000, 0).is_empty());
}

#[test]
fn followers_of_a_discarded_transaction_that_never_returns_are_given_up_after_the_hold() {
    let mut pool = pool();
    for sequence in 0..4 {
        add(&mut pool, Tx::new(1, 0, sequence)).unwrap();
    }
    pool.take(2, usize::MAX, 0);
    pool.discarded(Tx::new(1, 0, 0).build().id(), 1_000);
    assert!(pool.sweep(2_999, 0).is_empty());
    let given_up: Vec<TxId> = pool.sweep(3_000, 0).into_iter().map(|(id, _)| id).collect();
    assert_eq!(given_up, [2, 3].map(|sequence| Tx::new(1, 0, sequence).build().id()));
    assert_eq!(pool.in_flight(), 1, "what is in flight may still be executed");
}

#[test]
fn a_transaction_that_expires_in_flight_is_given_up_for_good_and_its_place_is_free_again() {
    let mut pool = pool();
    let tx = Tx { valid_until_ms: 50, ..Tx::new(1, 0, 0) };
    add(&mut pool, tx).unwrap();
    add(&mut pool, Tx::new(1, 0, 1)).unwrap();
    take_all(&mut pool);
    assert!(pool.sweep(0, 49).is_empty());
    assert_eq!(pool.sweep(0, 50), [(tx.build().id(), RejectCode::Expired)]);
    assert!(!pool.contains(&tx.build().id()));
    assert_eq!(add(&mut pool, Tx { fee: 9, ..Tx::new(1, 0, 0) }), Ok(Added::Ready));
    assert_eq!(take_all(&mut pool), [(1, 0, 0)], "its follower is in flight already");
}

#[test]
fn transactions_of_a_cut_block_are_proposed_again_in_order() {
    let mut pool = pool();
    for sequence in 0..4 {
        add(&mut pool, Tx::new(1, 0, sequence)).unwrap();
    }
    let first = pool.take(2, usize::MAX, 0);
    take_all(&mut pool);
    let stranger = Tx::new(7, 0, 0).build();
    let unknown = pool.requeue(first.into_iter().chain([stranger.clone()]));
    assert_eq!(unknown, [stranger]);
    assert_eq!(pool.in_flight(), 2);
    assert_eq!(take_all(&mut pool), [(1, 0, 0), (1, 0, 1)]);
}

#[test]
fn transactions_in_own_blocks_from_before_a_restart_are_recognised() {
    let mut pool = pool();
    assert!(pool.adopt_in_flight(Tx::new(1, 0, 5).build(), 5));
    assert!(!pool.adopt_in_flight(Tx::new(1, 0, 4).build(), 5));
    assert_eq!(pool.add(Tx::new(1, 0, 5).build(), 5, 0, 0), Ok(Added::Duplicate));
    assert_eq!(pool.add(Tx::new(1, 0, 6).build(), 5, 0, 0), Ok(Added::Ready));
    assert_eq!(take_all(&mut pool), [(1, 0, 6)]);
}

#[test]
fn ten_thousand_transactions_that_arrive_in_reverse_are_taken_in_order_at_once() {
    let mut pool = Mempool::new(MempoolConfig { gap_max: 100_000, ..MempoolConfig::default() });
    // In reverse: all behind a gap until the very last one.
    for sequence in (0..10_000).rev() {
        pool.add(Tx::new(1, 0, sequence).build(), 0, sequence, 0).unwrap();
    }
    let taken = names(&pool.take(10_000, usize::MAX, 0));
    assert!(taken.into_iter().eq((0..10_000).map(|sequence| (1, 0, sequence))));
    assert!(pool.sweep(1_000_000, 0).is_empty());
    assert_eq!(pool.executed(address(1), 0, 10_000).len(), 10_000);
    assert!(pool.is_empty());
}

/// What the pool should be, kept the simple and slow way.
#[derive(Default)]
struct Model {
    next: BTreeMap<(u8, Lane), Sequence>,
    known: BTreeMap<(u8, Lane, Sequence), (Tx, bool)>,
}

impl Model {
    fn next(&self, sender: u8, lane: Lane) -> Sequence {
        self.next.get(&(sender, lane)).copied().unwrap_or(0)
    }

    /// Per lane, everything from `next` on without a hole that is not in flight.
    fn ready(&self) -> Vec<(u8, Lane, Sequence)> {
        let mut ready = Vec::new();
        for ((sender, lane, sequence), (_, in_flight)) in &self.known {
            let whole = (self.next(*sender, *lane)..*sequence).all(|s| self.known.contains_key(&(*sender, *lane, s)));
            if whole && !in_flight {
                ready.push((*sender, *lane, *sequence));
            }
        }
        ready
    }

    fn check(&self, pool: &Mempool) {
        assert_eq!(pool.len(), self.known.len());
        assert_eq!(pool.in_flight(), self.known.values().filter(|(_, in_flight)| *in_flight).count());
        assert_eq!(pool.bytes(), self.known.values().map(|(tx, _)| tx.build().bytes().len()).sum::<usize>());
        assert_eq!(pool.has_ready(), !self.ready().is_empty());
    }
}

fn random_tx(rng: &mut Rng, now: u64) -> Tx {
    let valid_until_ms = if rng.below(4) == 0 { now + rng.below(2_000) as u64 } else { u64::MAX };
    let fee = rng.below(3) as u128;
    Tx { sender: rng.below(3) as u8 + 1, lane: rng.below(2) as u8, sequence: rng.below(12) as u64, fee, valid_until_ms }
}

fn step(model: &mut Model, pool: &mut Mempool, rng: &mut Rng, now: u64) {
    let name = |tx: &Tx| (tx.sender, tx.lane, tx.sequence);
    let tx = random_tx(rng, now);
    match rng.below(12) {
        0..6 => match pool.add(tx.build(), model.next(tx.sender, tx.lane), now, now) {
            Ok(Added::Duplicate) => assert_eq!(model.known[&name(&tx)].0.build().id(), tx.build().id()),
            Ok(Added::Replaced { old }) => {
                let (before, in_flight) = model.known.insert(name(&tx), (tx, false)).unwrap();
                assert!(before.build().id() == old && !in_flight && before.fee < tx.fee);
            }
            Ok(added) => {
                assert!(model.known.insert(name(&tx), (tx, false)).is_none());
                assert_eq!(model.ready().contains(&name(&tx)), added == Added::Ready);
            }
            Err(AddError::Reject(RejectCode::SequenceReplayed)) => {
                assert!(tx.sequence < model.next(tx.sender, tx.lane) || model.known.contains_key(&name(&tx)));
            }
            Err(AddError::Reject(RejectCode::Expired)) => assert!(tx.valid_until_ms <= now),
            Err(other) => panic!("unexpected: {other}"),
        },
        6 | 7 => {
            // Time stands still for what is taken, so that expiry is left to the sweep.
            let mut expected = model.ready();
            let max = rng.below(6) + 1;
            let mut taken = names(&pool.take(max, usize::MAX, 0));
            assert_eq!(taken.len(), max.min(expected.len()));
            taken.iter().for_each(|n| model.known.get_mut(n).unwrap().1 = true);
            taken.sort_unstable();
            expected.retain(|n| taken.contains(n));
            assert_eq!(taken, expected);
        }
        8 => {
            let next = (model.next(tx.sender, tx.lane) + rng.below(3) as u64).min(11);
            model.next.insert((tx.sender, tx.lane), next);
            let stale = pool.executed(address(tx.sender), tx.lane, next);
            let before = model.known.len();
            model.known.retain(|(s, l, q), _| (*s, *l) != (tx.sender, tx.lane) || *q >= next);
            assert_eq!(stale.len(), before - model.known.len());
        }
        9 | 10 => {
            let Some((at, (known, in_flight))) = model.known.iter().nth(rng.below(8)).map(|(n, v)| (*n, *v)) else { return };
            if rng.below(2) == 0 {
                assert_eq!(pool.discarded(known.build().id(), now), in_flight);
                if in_flight {
                    model.known.remove(&at);
                }
            } else {
                assert!(pool.requeue([known.build()]).is_empty());
                model.known.get_mut(&at).unwrap().1 = false;
            }
        }
        _ => {
            for (id, code) in pool.sweep(now, now) {
                let (at, (gone, in_flight)) = model.known.iter().find(|(_, (t, _))| t.build().id() == id).map(|(n, v)| (*n, *v)).unwrap();
                match code {
                    RejectCode::Expired => assert!(gone.valid_until_ms <= now),
                    RejectCode::SequenceGap => assert!(!in_flight && !model.ready().contains(&at)),
                    other => panic!("unexpected: {other}"),
                }
                model.known.remove(&at);
            }
            assert!(model.known.values().all(|(tx, _)| tx.valid_until_ms > now));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_history_leaves_the_pool_as_the_slow_model_says(seed: u64, prioritization: bool) {
        let mut rng = Rng(seed);
        let mut pool = Mempool::new(MempoolConfig { gap_hold_ms: 300, prioritization, ..MempoolConfig::default() });
        let mut model = Model::default();
        let mut now = 0;
        for _ in 0..400 {
            now += rng.below(60) as u64;
            step(&mut model, &mut pool, &mut rng, now);
            model.check(&pool);
        }
        for (sender, lane) in model.next.keys().copied().chain((1..4).flat_map(|s| [(s, 0), (s, 1)])).collect::<Vec<_>>() {
            pool.executed(address(sender), lane, 100);
        }
        prop_assert_eq!((pool.len(), pool.bytes(), pool.in_flight(), pool.has_ready()), (0, 0, 0, false));
    }
}
