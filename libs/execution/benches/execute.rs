//! What executing a commit costs, on one thread and on two, by contention and by what is known of signatures beforehand.
//!
//! `cargo bench -p kaldrix-execution`; the numbers that decided the default are in docs/adr/0010.
#![allow(missing_docs, reason = "criterion's macros generate public functions")]

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kaldrix_crypto::{SecretKey, Verifier, sign_transaction};
use kaldrix_execution::{Execution, OrderedTransaction, SignatureChecker, StateView, execute_as, prefetch_keys};
use kaldrix_types::{
    Account, Address, AssetId, BlockRef, BlockVerifier, ChainId, Commit, DecodedTransaction, Digest, EpochRecord, KeyRef, KeySlot,
    Operation, OutcomeStatus, Parameters, PublicKey, RejectCode, Reputation, Scheme, StateKey, StateValue, TxBody, ValidatorIndex, encode,
};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

const CHAIN: ChainId = ChainId(Digest([9; 32]));

struct View(HashMap<StateKey, Option<StateValue>>);

impl StateView for View {
    fn get(&self, key: &StateKey) -> Option<StateValue> {
        self.0.get(key).cloned().flatten()
    }
}

struct Checker(Verifier);

impl BlockVerifier for Checker {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        BlockVerifier::verify(&self.0, key, message, signature)
    }
}

impl SignatureChecker for Checker {
    fn check(&self, tx: &DecodedTransaction, key: &PublicKey) -> Result<(), RejectCode> {
        self.0.verify_transaction(tx, key)
    }

    fn check_key(&self, key: &PublicKey) -> Result<(), RejectCode> {
        self.0.check_key(key)
    }
}

/// Who pays whom.
#[derive(Clone, Copy, PartialEq)]
enum Contention {
    /// Nobody twice: no two payments conflict.
    Low,
    /// Each to anybody of as many accounts as there are payments: a large part of them hangs together.
    Mixed,
    /// All to one account, such as an exchange's: every two conflict.
    High,
}

impl Contention {
    fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Mixed => "mixed",
            Self::High => "high",
        }
    }

    fn recipient(self, sender: usize, senders: &[SecretKey]) -> Address {
        let address = |index: usize| Address::of_key(senders[index % senders.len()].public_key());
        match self {
            Self::Low => Address(*blake3::hash(&sender.to_le_bytes()).as_bytes()),
            Self::Mixed => address(sender.wrapping_mul(2_654_435_761) >> 7),
            Self::High => Address([5; 32]),
        }
    }
}

fn accounts(scheme: Scheme, count: usize) -> Vec<SecretKey> {
    (0..count).map(|_| SecretKey::generate(scheme).expect("the operating system has randomness")).collect()
}

fn payment(sender: &SecretKey, to: Address) -> DecodedTransaction {
    let body = TxBody {
        chain_id: CHAIN,
        sender: Address::of_key(sender.public_key()),
        lane: 0,
        sequence: 0,
        valid_until_ms: 2,
        fee: 1,
        operations: vec![Operation::Transfer { to, asset: AssetId::NATIVE, amount: 1 }],
        memo: Bytes::new(),
    };
    let signed = sign_transaction(body, sender, KeyRef::Index(0)).expect("software keys sign");
    DecodedTransaction::decode(encode(&signed).into(), CHAIN).expect("a payment decodes")
}

fn commit() -> Commit {
    let leader = BlockRef { round: 1, author: ValidatorIndex(0), digest: Digest::ZERO };
    Commit {
        index: 1,
        epoch: 0,
        leader,
        previous: Digest::ZERO,
        timestamp_ms: 1,
        gc_round: 0,
        blocks: vec![leader],
        reputation: Reputation::default(),
        ends_epoch: false,
    }
}

/// The prefetched state of accounts that all exist and hold enough.
fn view(senders: &[SecretKey], keys: &BTreeSet<StateKey>) -> View {
    let mut state: HashMap<_, _> = keys.iter().map(|key| (*key, None)).collect();
    for sender in senders {
        let address = Address::of_key(sender.public_key());
        let account = Account { keys: vec![KeySlot { key: sender.public_key().clone(), since: 1 }], next_sequence: 0 };
        state.insert(StateKey::Account(address), Some(StateValue::Account(account)));
        state.insert(StateKey::Balance(address, AssetId::NATIVE), Some(StateValue::Balance(1_000)));
    }
    state.insert(StateKey::Epoch, Some(StateValue::Epoch(EpochRecord::default())));
    state.insert(StateKey::Participation, Some(StateValue::Participation(vec![0; 4])));
    View(state)
}

fn measure(c: &mut Criterion, name: &str, scheme: Scheme, verified: bool, counts: &[usize]) {
    let all = accounts(scheme, *counts.iter().max().expect("counts are given"));
    let checker = Checker(Verifier::new(100_000));
    let commit = commit();
    for contention in [Contention::Low, Contention::Mixed, Contention::High] {
        let mut group = c.benchmark_group(format!("{name}/{}", contention.name()));
        group.sample_size(12).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(800));
        for count in counts {
            let senders = &all[..*count];
            let txs: Vec<_> = (0..*count).map(|i| payment(&senders[i], contention.recipient(i, senders))).collect();
            let ordered: Vec<_> = (0u32..)
                .zip(txs.iter().zip(senders))
                .map(|(position, (tx, sender))| {
                    let verified_with = verified.then(|| sender.public_key().id());
                    OrderedTransaction { block: 0, position, tx, verified_with }
                })
                .collect();
            let keys = prefetch_keys(&commit, &ordered, &EpochRecord::default()).into_iter().collect();
            let state = view(senders, &keys);
            let run = |execution| execute_as(execution, &commit, vec![], &ordered, &Parameters::default(), &state, &checker);
            assert!(run(Execution::Serial).outcomes.iter().all(|outcome| outcome.status == OutcomeStatus::Success));
            group.throughput(Throughput::Elements(*count as u64));
            group.bench_function(BenchmarkId::new("serial", count), |b| b.iter(|| run(Execution::Serial)));
            let parallel = Execution::Parallel { threads: 2, signatures_min: 0, operations_min: 0 };
            group.bench_function(BenchmarkId::new("two threads", count), |b| b.iter(|| run(parallel)));
        }
        group.finish();
    }
}

fn benchmark(c: &mut Criterion) {
    measure(c, "verified before", Scheme::Ed25519, true, &[500, 2_000, 8_000]);
    measure(c, "ed25519", Scheme::Ed25519, false, &[50, 200, 1_000]);
    measure(c, "ml-dsa-65", Scheme::MlDsa65, false, &[50, 200, 1_000]);
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
