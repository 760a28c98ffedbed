//! `kaldrix_dag_<noun>_<unit>`.

use kaldrix_types::{Commit, ExecutedCommit, OutcomeStatus};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::time::Duration;

/// Every metric of this service.
pub(crate) struct Metrics {
    pub(crate) consensus_connected: Gauge,
    pub(crate) persist_queue: Gauge,
    pub(crate) blocks_received: Counter,
    pub(crate) blocks_refused: Counter,
    pub(crate) transactions_admitted: Counter,
    pub(crate) transactions_refused: Counter,
    commits_direct: Counter,
    commits_indirect: Counter,
    leaders_skipped: Counter,
    commit_index: Gauge,
    round: Gauge,
    transactions_succeeded: Counter,
    transactions_failed: Counter,
    transactions_discarded: Counter,
    execute_seconds: Histogram,
    proposal_transactions: Histogram,
    proposal_bytes: Counter,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            consensus_connected: Gauge::default(),
            persist_queue: Gauge::default(),
            blocks_received: Counter::default(),
            blocks_refused: Counter::default(),
            transactions_admitted: Counter::default(),
            transactions_refused: Counter::default(),
            commits_direct: Counter::default(),
            commits_indirect: Counter::default(),
            leaders_skipped: Counter::default(),
            commit_index: Gauge::default(),
            round: Gauge::default(),
            transactions_succeeded: Counter::default(),
            transactions_failed: Counter::default(),
            transactions_discarded: Counter::default(),
            execute_seconds: Histogram::new(exponential_buckets(0.0002, 2.0, 14)),
            proposal_transactions: Histogram::new(exponential_buckets(1.0, 2.0, 14)),
            proposal_bytes: Counter::default(),
        };
        registry.register("consensus_connected", "1 while consensus-service holds a session", metrics.consensus_connected.clone());
        registry.register("persist_queue_items", "Items waiting for the store", metrics.persist_queue.clone());
        registry.register("blocks_received", "Blocks received from other validators", metrics.blocks_received.clone());
        registry.register("blocks_refused", "Blocks refused", metrics.blocks_refused.clone());
        registry.register("transactions_admitted", "Transactions taken into the mempool", metrics.transactions_admitted.clone());
        registry.register("transactions_refused", "Transactions refused at submission", metrics.transactions_refused.clone());
        registry.register("commits_direct", "Commits decided directly", metrics.commits_direct.clone());
        registry.register("commits_indirect", "Commits decided through an anchor", metrics.commits_indirect.clone());
        registry.register("leaders_skipped", "Leader slots skipped", metrics.leaders_skipped.clone());
        registry.register("commit_index", "Newest executed commit", metrics.commit_index.clone());
        registry.register("round", "Round of the newest committed leader", metrics.round.clone());
        registry.register("transactions_succeeded", "Transactions executed with success", metrics.transactions_succeeded.clone());
        registry.register("transactions_failed", "Transactions executed without success", metrics.transactions_failed.clone());
        registry.register("transactions_discarded", "Transactions ordered without effect", metrics.transactions_discarded.clone());
        registry.register("execute_seconds", "Time to execute one commit", metrics.execute_seconds.clone());
        registry.register("proposal_transactions", "Transactions per own block", metrics.proposal_transactions.clone());
        registry.register("proposal_bytes", "Bytes of own blocks", metrics.proposal_bytes.clone());
        metrics
    }

    pub(crate) fn decided(&self, commit: &Commit, direct: bool, skipped: u32) {
        if direct {
            self.commits_direct.inc()
        } else {
            self.commits_indirect.inc()
        };
        self.leaders_skipped.inc_by(u64::from(skipped));
        self.round.set(i64::try_from(commit.leader.round).unwrap_or(i64::MAX));
    }

    pub(crate) fn executed(&self, executed: &ExecutedCommit, elapsed: Duration) {
        self.commit_index.set(i64::try_from(executed.commit.index).unwrap_or(i64::MAX));
        self.execute_seconds.observe(elapsed.as_secs_f64());
        for outcome in &executed.outcomes {
            match outcome.status {
                OutcomeStatus::Success => self.transactions_succeeded.inc(),
                OutcomeStatus::Failed(_) => self.transactions_failed.inc(),
                OutcomeStatus::Discarded(_) => self.transactions_discarded.inc(),
            };
        }
    }

    pub(crate) fn proposed(&self, transactions: usize, bytes: usize) {
        self.proposal_transactions.observe(u32::try_from(transactions).unwrap_or(u32::MAX).into());
        self.proposal_bytes.inc_by(bytes as u64);
    }
}
