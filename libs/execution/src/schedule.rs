//! Which transactions are applied beside one another.
//!
//! ```text
//!   transactions ──▶ signatures that are still to be checked: in equal parts
//!        └──declared keys──▶ conflict graph ──▶ its connected components ──▶ one bin per thread ──▶ merged by position
//! ```
//!
//! Transactions of different components have no key in common, so neither sees what the other writes, and their writes never meet.
//! Within a component the commit's order is kept. The fee pool, which every transaction adds to, is no key: each bin keeps its own sum.

use crate::apply::{Environment, apply_transaction, signing_key};
use crate::declared::visit_keys;
use crate::overlay::Overlay;
use crate::{OrderedTransaction, SignatureChecker, StateView};
use bcs::serialized_size;
use bytes::Bytes;
use kaldrix_types::{EpochRecord, OutcomeStatus, PublicKey, StateChange, StateKey, StateValue, TxOutcome};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;

/// How to apply a commit's transactions. The result is the same whatever this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Execution {
    /// One after the other.
    Serial,
    /// On several threads, where that is expected to pay.
    Parallel {
        /// At most this many at once, the calling one among them.
        threads: usize,
        /// With fewer signatures that nobody has checked yet, each is checked when its transaction's turn comes.
        signatures_min: usize,
        /// With fewer operations, they are applied serially: what the conflict graph and threads cost would not come back.
        operations_min: usize,
    },
}

impl Default for Execution {
    /// Two threads, from where they were measured to pay: docs/adr/0010.
    fn default() -> Self {
        Self::Parallel { threads: 2, signatures_min: 50, operations_min: 1_000 }
    }
}

/// What a commit's transactions did.
pub(crate) struct Done<'a, S> {
    pub(crate) after: After<'a, S>,
    /// Fees and slashed stake.
    pub(crate) to_fee_pool: u128,
    /// Outcome and body of each, in order.
    pub(crate) results: Vec<(TxOutcome, Bytes)>,
}

/// The state after all transactions.
pub(crate) struct After<'a, S> {
    state: &'a S,
    /// Per bin, sorted by key; no key is in two of them.
    changes: Vec<Vec<StateChange>>,
}

impl<S: StateView> StateView for After<'_, S> {
    fn get(&self, key: &StateKey) -> Option<StateValue> {
        let changed = |bin: &Vec<StateChange>| bin.binary_search_by(|change| change.key.cmp(key)).ok().map(|at| bin[at].value.clone());
        self.changes.iter().find_map(changed).unwrap_or_else(|| self.state.get(key))
    }
}

impl<S: StateView> After<'_, S> {
    /// All changes, and those in `later`, which was written on top: sorted by key, each against the state before.
    pub(crate) fn with_later(self, later: Vec<StateChange>) -> Vec<StateChange> {
        let overwritten = |key: &StateKey| later.binary_search_by(|change| change.key.cmp(key)).is_ok();
        let mut changes: Vec<StateChange> = Vec::with_capacity(self.changes.iter().map(Vec::len).sum::<usize>() + later.len());
        changes.extend(self.changes.into_iter().flatten().filter(|change| !overwritten(&change.key)));
        changes.extend(later.into_iter().filter(|change| self.state.get(&change.key) != change.value));
        // Stable, since that sort makes use of the runs that are sorted already.
        changes.sort_by_key(|change| change.key);
        changes
    }
}

/// Applies all of a commit's transactions to `state`, which is not changed.
pub(crate) fn apply_all<'a, S: StateView + Sync, C: SignatureChecker + Sync>(
    execution: Execution,
    environment: &Environment<'_, C>,
    txs: &[OrderedTransaction<'_>],
    epoch: &EpochRecord,
    state: &'a S,
) -> Done<'a, S> {
    let Execution::Parallel { threads, signatures_min, operations_min } = execution else {
        return apply_serially(environment, txs, state);
    };
    let unchecked = txs.iter().filter(|ordered| ordered.verified_with.is_none()).count();
    let checked;
    let txs = if threads > 1 && unchecked >= signatures_min.max(1) {
        checked = check_ahead(environment, txs, threads, state);
        &checked
    } else {
        txs
    };
    if threads > 1 && txs.iter().map(work).sum::<usize>() >= operations_min.max(1) {
        let bins = bins(groups(txs, epoch), txs, threads);
        if bins.len() > 1 {
            return apply_bins(environment, txs, &bins, state);
        }
    }
    apply_serially(environment, txs, state)
}

fn apply_serially<'a, S: StateView, C: SignatureChecker>(
    environment: &Environment<'_, C>,
    txs: &[OrderedTransaction<'_>],
    state: &'a S,
) -> Done<'a, S> {
    let Applied { results, to_fee_pool, changes } = apply_in_order(environment, txs.iter(), state);
    Done { after: After { state, changes: vec![changes] }, to_fee_pool, results }
}

/// Checks signatures that nobody has checked yet, on all threads whatever conflicts there are, under the keys that apply before the
/// commit. Where another key turns out to apply, or where the signature does not hold, it is checked when its transaction's turn comes.
fn check_ahead<'tx, S: StateView + Sync, C: SignatureChecker + Sync>(
    environment: &Environment<'_, C>,
    txs: &[OrderedTransaction<'tx>],
    threads: usize,
    state: &S,
) -> Vec<OrderedTransaction<'tx>> {
    let check = |ordered: &mut OrderedTransaction<'_>| {
        if ordered.verified_with.is_none() {
            let account = Overlay::new(state).account(&StateKey::Account(ordered.tx.body().sender)).unwrap_or_default();
            let key = signing_key(ordered.tx, &account).ok().map(|(key, _)| key);
            ordered.verified_with = key.filter(|key| environment.checker.check(ordered.tx, key).is_ok()).map(PublicKey::id);
        }
    };
    let mut checked = txs.to_vec();
    let (own, others) = checked.split_at_mut(txs.len().div_ceil(threads));
    let check_all = |part: &mut [OrderedTransaction<'_>]| part.iter_mut().for_each(check);
    std::thread::scope(|scope| {
        let check_all = &check_all;
        let chunks = others.chunks_mut(txs.len().div_ceil(threads));
        let spawned: Vec<_> = chunks.map(|part| scope.spawn(move || check_all(part))).collect();
        check_all(own);
        spawned.into_iter().for_each(join);
    });
    checked
}

/// A damaged store stops the validator with its own message, on whichever thread it was found.
fn join<T>(handle: std::thread::ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What the transactions of a bin did.
struct Applied {
    results: Vec<(TxOutcome, Bytes)>,
    to_fee_pool: u128,
    changes: Vec<StateChange>,
}

fn apply_in_order<'t, 'tx: 't, S: StateView, C: SignatureChecker>(
    environment: &Environment<'_, C>,
    txs: impl ExactSizeIterator<Item = &'t OrderedTransaction<'tx>>,
    state: &S,
) -> Applied {
    let mut overlay = Overlay::new(state);
    let mut results = Vec::with_capacity(txs.len());
    let mut to_fee_pool = 0;
    for ordered in txs {
        let applied = apply_transaction(environment, &overlay, ordered);
        overlay.absorb(applied.writes);
        to_fee_pool = sum(to_fee_pool, applied.to_fee_pool);
        results.push((outcome(ordered, applied.status), body_bytes(ordered)));
    }
    Applied { results, to_fee_pool, changes: overlay.into_changes() }
}

/// One bin of transactions per thread, each in order.
fn apply_bins<'a, S: StateView + Sync, C: SignatureChecker + Sync>(
    environment: &Environment<'_, C>,
    txs: &[OrderedTransaction<'_>],
    bins: &[Vec<usize>],
    state: &'a S,
) -> Done<'a, S> {
    let apply_bin = |bin: &Vec<usize>| apply_in_order(environment, bin.iter().map(|index| &txs[*index]), state);
    let applied: Vec<Applied> = std::thread::scope(|scope| {
        let apply_bin = &apply_bin;
        let spawned: Vec<_> = bins[1..].iter().map(|bin| scope.spawn(move || apply_bin(bin))).collect();
        let own = apply_bin(&bins[0]);
        std::iter::once(own).chain(spawned.into_iter().map(join)).collect()
    });
    let mut to_fee_pool = 0;
    let mut changes = Vec::with_capacity(bins.len());
    let mut results: Vec<Option<(TxOutcome, Bytes)>> = std::iter::repeat_with(|| None).take(txs.len()).collect();
    for (bin, applied) in bins.iter().zip(applied) {
        to_fee_pool = sum(to_fee_pool, applied.to_fee_pool);
        changes.push(applied.changes);
        for (index, result) in bin.iter().zip(applied.results) {
            results[*index] = Some(result);
        }
    }
    let results = results.into_iter().map(|result| result.expect("each transaction is in exactly one bin")).collect();
    Done { after: After { state, changes }, to_fee_pool, results }
}

fn sum(one: u128, other: u128) -> u128 {
    one.checked_add(other).expect("fees come out of balances, whose sum is the supply, which fits 128 bits")
}

fn outcome(ordered: &OrderedTransaction<'_>, status: OutcomeStatus) -> TxOutcome {
    let body = ordered.tx.body();
    TxOutcome {
        id: ordered.tx.id(),
        block: ordered.block,
        position: ordered.position,
        sender: body.sender,
        lane: body.lane,
        sequence: body.sequence,
        status,
    }
}

/// The BCS body without the signatures. BCS writes fields one after the other, so the body is a prefix of the signed bytes;
/// and since only canonical bytes decode, its length is that of encoding it again.
fn body_bytes(ordered: &OrderedTransaction<'_>) -> Bytes {
    let length = serialized_size(ordered.tx.body()).expect("a decoded body encodes again");
    ordered.tx.bytes().slice(..length)
}

fn work(ordered: &OrderedTransaction<'_>) -> usize {
    ordered.tx.body().operations.len()
}

/// The connected components of the conflict graph (union-find, Tarjan 1975): positions in ascending order, components by their first.
///
/// Keys are told apart by a random 64-bit hash of theirs: where two should share one, two groups become one, which changes no result.
fn groups(txs: &[OrderedTransaction<'_>], epoch: &EpochRecord) -> Vec<Vec<usize>> {
    let hasher = RandomState::new();
    let mut parents: Vec<usize> = (0..txs.len()).collect();
    let mut holders: HashMap<u64, usize> = HashMap::with_capacity(txs.len() * 4);
    for (index, ordered) in txs.iter().enumerate() {
        visit_keys(ordered.tx, epoch, &mut |key| match holders.entry(hasher.hash_one(key)) {
            Entry::Vacant(vacant) => {
                vacant.insert(index);
            }
            Entry::Occupied(occupied) => {
                let (one, other) = (root(&mut parents, index), root(&mut parents, *occupied.get()));
                parents[one.max(other)] = one.min(other);
            }
        });
    }
    // A root is its component's first position, so its group exists when a later member comes.
    let mut group_of = vec![0; txs.len()];
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for index in 0..txs.len() {
        let first = root(&mut parents, index);
        if first == index {
            group_of[index] = groups.len();
            groups.push(Vec::new());
        }
        groups[group_of[first]].push(index);
    }
    groups
}

fn root(parents: &mut [usize], mut index: usize) -> usize {
    while parents[index] != index {
        parents[index] = parents[parents[index]];
        index = parents[index];
    }
    index
}

/// Spreads groups over at most `threads` bins, the largest first, each to the emptiest bin (Graham 1969); empty bins are left out.
fn bins(mut groups: Vec<Vec<usize>>, txs: &[OrderedTransaction<'_>], threads: usize) -> Vec<Vec<usize>> {
    groups.sort_by_cached_key(|group| Reverse(group.iter().map(|index| work(&txs[*index])).sum::<usize>()));
    let mut bins: Vec<(usize, Vec<usize>)> = vec![(0, Vec::new()); threads.min(groups.len())];
    for group in groups {
        let emptiest = bins.iter_mut().min_by_key(|(load, _)| *load).expect("as many bins as groups or threads, and there is a group");
        emptiest.0 += group.iter().map(|index| work(&txs[*index])).sum::<usize>();
        emptiest.1.extend(group);
    }
    // In the commit's order again, which keeps the order within each group and walks memory forwards.
    let sorted = |(_, mut bin): (usize, Vec<usize>)| {
        bin.sort_unstable();
        bin
    };
    bins.into_iter().map(sorted).filter(|bin| !bin.is_empty()).collect()
}
