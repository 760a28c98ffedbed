//! Executes committed transactions: a pure function from a commit and the records it touches to outcomes and changed records.
//!
//! ```text
//!   Epoch record ──▶ prefetch_keys ──▶ prefetch (the caller's I/O) ──▶ StateView
//!                                                                              │
//!   for each transaction, in order:      admit ──────────▶ charge ──────────▶ operations
//!   (groups without common keys            │ refused          │ sequence, key,    │ all or nothing,
//!    beside one another)                   ▼                  ▼ fee stay          ▼ on an overlay
//!                                      Discarded           (Failed)            Success
//!                                                                              │
//!   then, once:                          fees ──▶ pool, authors ──▶ Participation, at an epoch's end ──▶ next committee
//!                                                                              │
//!   ExecutedCommit { outcomes, bodies, changes sorted by key } ◀───────────────┘ ──next_epoch──▶ NextEpoch for the checkpoint
//! ```
//!
//! Equal inputs give equal bytes on every validator. To keep that true this crate never does I/O, never reads a clock (consensus time
//! is an argument), never iterates over a hash map whose order could reach the result, and never uses floating point.
//! It does not check block or commit validity, and it does not store anything: the caller writes [`ExecutedCommit`] atomically.
//!
//! Each transaction is applied to its own overlay and reads and writes nothing outside [`declared_keys`]. So transactions without common
//! keys may be applied in any order, or at once: [`Execution`] says how, and the result is the same, byte for byte.

mod amount;
mod apply;
mod audit;
mod committee;
mod declared;
mod epoch;
mod evidence;
mod operations;
mod overlay;
mod schedule;
mod validators;

pub use audit::{StakeAudit, StakeError, StateDigester, SupplyAudit, SupplyError, check_stake, check_supply, state_digest};
pub use committee::{SeatError, committee_keys, committee_of, next_epoch};
pub use declared::{FEE_POOL_KEY, STAKE_POOL_KEY, commit_keys, declared_keys, prefetch_keys};
pub use schedule::Execution;

use apply::Environment;
use kaldrix_types::{
    BlockVerifier, Commit, DecodedTransaction, ExecutedCommit, Header, KeyId, Parameters, PublicKey, RejectCode, StateKey, StateValue,
};
use overlay::Overlay;
use schedule::Done;

/// The records that execution may read, in memory: everything in [`prefetch_keys`] of the commit.
///
/// A record that exists but is missing from the view counts as not there, so an incomplete prefetch is a divergence: fetch all of it.
pub trait StateView {
    /// The record's value before the commit, or `None` when there is no such record.
    fn get(&self, key: &StateKey) -> Option<StateValue>;
}

/// Checks signatures and keys; as a [`BlockVerifier`] also those of validators (evidence, session keys). The verdicts must be the same on
/// every validator, whatever its processor.
pub trait SignatureChecker: BlockVerifier {
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

/// Executes one commit as [`Execution::default`] says: `txs` are all transactions of all its blocks, in the commit's order of blocks;
/// `headers` are those blocks' headers.
///
/// The result's bodies are slices of the transactions' bytes: they keep the blocks they came from in memory until they are dropped.
///
/// # Panics
/// As [`execute_as`].
#[must_use]
pub fn execute(
    commit: &Commit,
    headers: Vec<Header>,
    txs: &[OrderedTransaction<'_>],
    parameters: &Parameters,
    state: &(impl StateView + Sync),
    checker: &(impl SignatureChecker + Sync),
) -> ExecutedCommit {
    execute_as(Execution::default(), commit, headers, txs, parameters, state, checker)
}

/// As [`execute`], on one thread or on several. The result does not depend on `execution`.
///
/// # Panics
/// When `state` returns a value that is not of its key's kind, when records that genesis writes are not in it, when the commit is of
/// another epoch than the state, or when balances sum to more than 128 bits: the store is damaged then or the prefetch incomplete, and to
/// stop is better than to diverge. Stores check kinds when they read.
#[must_use]
pub fn execute_as(
    execution: Execution,
    commit: &Commit,
    headers: Vec<Header>,
    txs: &[OrderedTransaction<'_>],
    parameters: &Parameters,
    state: &(impl StateView + Sync),
    checker: &(impl SignatureChecker + Sync),
) -> ExecutedCommit {
    let environment = Environment { index: commit.index, now_ms: commit.timestamp_ms, parameters, checker };
    let epoch = Overlay::new(state).epoch();
    assert_eq!(commit.epoch, epoch.epoch, "commit {} is of another epoch than the state: commits are executed in order", commit.index);
    let Done { after, to_fee_pool, results } = schedule::apply_all(execution, &environment, txs, &epoch, state);
    let mut overlay = Overlay::new(&after);
    // Once per commit rather than once per transaction: otherwise every transaction would write this record and none could run in parallel.
    if to_fee_pool > 0 {
        let pool = overlay.balance(&FEE_POOL_KEY).checked_add(to_fee_pool);
        overlay.set_balance(FEE_POOL_KEY, pool.expect("the fee pool holds part of the supply, which fits 128 bits"));
    }
    epoch::count_participation(&mut overlay, commit);
    if commit.ends_epoch {
        epoch::end(&mut overlay, commit, parameters);
    }
    let closing = overlay.into_changes();
    let (outcomes, bodies) = results.into_iter().unzip();
    ExecutedCommit { commit: commit.clone(), headers, outcomes, bodies, changes: after.with_later(closing) }
}
