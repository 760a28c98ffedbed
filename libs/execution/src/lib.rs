//! Executes committed transactions: a pure function from a commit and the records it touches to outcomes and changed records.
//!
//! ```text
//!   commit's transactions ──declared_keys──▶ prefetch (the caller's I/O) ──▶ StateView
//!                                                                              │
//!   for each transaction, in order:      admit ──────────▶ charge ──────────▶ operations
//!                                          │ refused          │ sequence, key,    │ all or nothing,
//!                                          ▼                  ▼ fee stay          ▼ on an overlay
//!                                      Discarded           (Failed)            Success
//!                                                                              │
//!   ExecutedCommit { outcomes, bodies, changes sorted by key } ◀───────────────┘
//! ```
//!
//! Equal inputs give equal bytes on every validator. To keep that true this crate never does I/O, never reads a clock (consensus time
//! is an argument), never iterates over a hash map whose order could reach the result, and never uses floating point.
//! It does not check block or commit validity, and it does not store anything: the caller writes [`ExecutedCommit`] atomically.
//!
//! Each transaction is applied to its own overlay and reads and writes nothing outside [`declared_keys`]. That is the seam for
//! applying transactions without common keys in parallel; this version applies them serially.

mod apply;
mod audit;
mod declared;
mod operations;
mod overlay;

pub use audit::{StateDigester, SupplyAudit, SupplyError, check_supply, state_digest};
pub use declared::{FEE_POOL_KEY, declared_keys};

use apply::{Environment, apply_transaction};
use bcs::serialized_size;
use kaldrix_types::{
    Commit, DecodedTransaction, ExecutedCommit, Header, KeyId, Parameters, PublicKey, RejectCode, StateChange, StateKey, StateValue,
    TxOutcome,
};
use overlay::Overlay;

/// The records that execution may read, in memory: everything in [`declared_keys`] of the commit's transactions, and [`FEE_POOL_KEY`].
///
/// A record that exists but is missing from the view counts as not there, so an incomplete prefetch is a divergence: fetch all of it.
pub trait StateView {
    /// The record's value before the commit, or `None` when there is no such record.
    fn get(&self, key: &StateKey) -> Option<StateValue>;
}

/// Checks signatures and keys. The verdicts must be the same on every validator, whatever its processor.
pub trait SignatureChecker {
    /// Whether the transaction's signature holds under `key`.
    ///
    /// # Errors
    /// A [`RejectCode`] when it does not hold. The outcome says [`RejectCode::BadSignature`] whichever code this is.
    fn check(&self, tx: &DecodedTransaction, key: &PublicKey) -> Result<(), RejectCode>;

    /// Whether `key` is acceptable for its scheme: a point, not of small order, canonically encoded.
    ///
    /// # Errors
    /// A [`RejectCode`] when it is not. The outcome says [`RejectCode::WeakKey`] whichever code this is.
    fn check_key(&self, key: &PublicKey) -> Result<(), RejectCode>;
}

/// A transaction at its place in the commit.
#[derive(Clone, Copy, Debug)]
pub struct OrderedTransaction<'a> {
    /// Which of the commit's blocks holds it.
    pub block: u32,
    /// Where in that block.
    pub position: u32,
    /// The transaction.
    pub tx: &'a DecodedTransaction,
    /// The key under which the signature was already found to hold, outside of execution. When another key turns out to apply
    /// (rotated in the meantime), the signature is checked again.
    pub verified_with: Option<KeyId>,
}

/// Executes one commit: `txs` are all transactions of all its blocks, in the commit's order of blocks; `headers` are those blocks' headers.
///
/// The result's bodies are slices of the transactions' bytes: they keep the blocks they came from in memory until they are dropped.
///
/// # Panics
/// When `state` returns a value that is not of its key's kind, or two balances whose sum with the fees passes 128 bits: the store is damaged
/// then, and to stop is better than to diverge. Stores check kinds when they read.
#[must_use]
pub fn execute(
    commit: &Commit,
    headers: Vec<Header>,
    txs: &[OrderedTransaction<'_>],
    parameters: &Parameters,
    state: &impl StateView,
    checker: &impl SignatureChecker,
) -> ExecutedCommit {
    let environment = Environment { index: commit.index, now_ms: commit.timestamp_ms, parameters, checker };
    let mut overlay = Overlay::new(state);
    let mut outcomes = Vec::with_capacity(txs.len());
    let mut bodies = Vec::with_capacity(txs.len());
    let mut fees = 0u128;
    for ordered in txs {
        let applied = apply_transaction(&environment, &overlay, ordered);
        overlay.absorb(applied.writes);
        fees = fees.checked_add(applied.fee).expect("fees come out of balances, whose sum is the supply, which fits 128 bits");
        let body = ordered.tx.body();
        outcomes.push(TxOutcome {
            id: ordered.tx.id(),
            block: ordered.block,
            position: ordered.position,
            sender: body.sender,
            lane: body.lane,
            sequence: body.sequence,
            status: applied.status,
        });
        bodies.push(body_bytes(ordered.tx));
    }
    // Once per commit rather than once per transaction: otherwise every transaction would write this record and none could run in parallel.
    if fees > 0 {
        let pool = overlay.balance(&FEE_POOL_KEY).checked_add(fees);
        overlay.set_balance(FEE_POOL_KEY, pool.expect("the fee pool holds part of the supply, which fits 128 bits"));
    }
    ExecutedCommit { commit: commit.clone(), headers, outcomes, bodies, changes: changes(overlay, state) }
}

/// The records whose value after the commit differs from the one before, sorted by key.
fn changes<S: StateView>(overlay: Overlay<'_, S>, state: &S) -> Vec<StateChange> {
    let mut changes: Vec<_> = overlay
        .into_writes()
        .into_iter()
        .filter(|(key, value)| state.get(key) != *value)
        .map(|(key, value)| StateChange { key, value })
        .collect();
    changes.sort_unstable_by_key(|change| change.key);
    changes
}

/// The BCS body without the signatures. BCS writes fields one after the other, so the body is a prefix of the signed bytes;
/// and since only canonical bytes decode, its length is that of encoding it again.
fn body_bytes(tx: &DecodedTransaction) -> bytes::Bytes {
    let length = serialized_size(tx.body()).expect("a decoded body encodes again");
    tx.bytes().slice(..length)
}
