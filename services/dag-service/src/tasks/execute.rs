//! Executes commits in their order: waits for signature checks, loads the declared records, applies, hands the effects on.

use crate::core::{CoreHandle, ExecutedNotice, HotState, SignatureChecks};
use crate::error::DagError;
use crate::metrics::Metrics;
use crate::tasks::persist;
use kaldrix_crypto::Verifier;
use kaldrix_execution::{OrderedTransaction, SignatureChecker, declared_keys, execute};
use kaldrix_types::{
    Commit, DecodedTransaction, ExecutedCommit, OutcomeStatus, Parameters, PublicKey, RejectCode, StateKey, StateValue, VerifiedBlock,
};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// A commit with its blocks, in the commit's order.
pub(crate) struct Decided {
    pub(crate) commit: Commit,
    pub(crate) blocks: Vec<Arc<VerifiedBlock>>,
}

/// What this task needs.
pub(crate) struct Execute {
    pub(crate) parameters: Parameters,
    pub(crate) hot: Arc<HotState>,
    pub(crate) checks: Arc<SignatureChecks>,
    pub(crate) verifier: Verifier,
    pub(crate) core: CoreHandle,
    pub(crate) persist: mpsc::Sender<persist::Item>,
    pub(crate) metrics: Arc<Metrics>,
}

struct View(HashMap<StateKey, Option<StateValue>>);

impl kaldrix_execution::StateView for View {
    fn get(&self, key: &StateKey) -> Option<StateValue> {
        self.0.get(key).cloned().flatten()
    }
}

struct Checker<'a>(&'a Verifier);

impl SignatureChecker for Checker<'_> {
    fn check(&self, tx: &DecodedTransaction, key: &PublicKey) -> Result<(), RejectCode> {
        self.0.verify_transaction(tx, key)
    }

    fn check_key(&self, key: &PublicKey) -> Result<(), RejectCode> {
        self.0.check_key(key)
    }
}

impl Execute {
    /// Runs until cancelled or the decisions end.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub(crate) async fn run(self, mut decided: mpsc::Receiver<Decided>, cancel: CancellationToken) -> Result<(), DagError> {
        loop {
            let next = tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                next = decided.recv() => next,
            };
            let Some(next) = next else { return Ok(()) };
            let started = Instant::now();
            let gc_round = next.commit.gc_round;
            let traces = self.core.take_traces(transaction_ids(&next)).await?;
            let span = crate::tasks::span("execute", traces.first().map(|(_, t)| t.as_str()));
            let executed = Arc::new(self.execute(next).instrument(span).await?);
            self.checks.collect(gc_round);
            self.metrics.executed(&executed, started.elapsed());
            self.core.executed(notice(&executed)).await?;
            if self.persist.send(persist::Item::Executed(executed, traces.into())).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn execute(&self, decided: Decided) -> Result<ExecutedCommit, DagError> {
        let mut transactions = Vec::new();
        for (index, block) in decided.blocks.iter().enumerate() {
            let checked = self.checks.take(&block.reference()).await;
            for (position, tx) in block.transactions().iter().enumerate() {
                let known = checked.as_ref().and_then(|c| c.get(position).copied().flatten());
                transactions.push(OrderedTransaction {
                    block: u32::try_from(index).unwrap_or(u32::MAX),
                    position: u32::try_from(position).unwrap_or(u32::MAX),
                    tx,
                    verified_with: known.or_else(|| self.checks.recall(&tx.leaf())),
                });
            }
        }
        let keys: BTreeSet<StateKey> = transactions.iter().flat_map(|t| declared_keys(t.tx)).collect();
        let mut keys: Vec<StateKey> = keys.into_iter().collect();
        let fee_pool = StateKey::Balance(kaldrix_types::Address::FEE_POOL, kaldrix_types::AssetId::NATIVE);
        if !transactions.is_empty() && !keys.contains(&fee_pool) {
            keys.push(fee_pool);
        }
        let view = View(self.load(&keys).await?);
        let headers = decided.blocks.iter().map(|b| b.header().clone()).collect();
        let executed = execute(&decided.commit, headers, &transactions, &self.parameters, &view, &Checker(&self.verifier));
        self.hot.apply(&executed);
        Ok(executed)
    }

    async fn load(&self, keys: &[StateKey]) -> Result<HashMap<StateKey, Option<StateValue>>, DagError> {
        let mut pause_ms = 50;
        loop {
            match self.hot.load(keys).await {
                Ok(found) => return Ok(found),
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, "the store does not answer; execution waits for it");
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                    pause_ms = (pause_ms * 2).min(2_000);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn transaction_ids(decided: &Decided) -> Vec<kaldrix_types::TxId> {
    decided.blocks.iter().flat_map(|b| b.transactions()).map(DecodedTransaction::id).collect()
}

/// What the mempool must know of a commit.
fn notice(executed: &ExecutedCommit) -> ExecutedNotice {
    let mut lanes = HashMap::new();
    let mut discarded = Vec::new();
    for outcome in &executed.outcomes {
        match outcome.status {
            OutcomeStatus::Discarded(code) => discarded.push((outcome.id, code)),
            OutcomeStatus::Success | OutcomeStatus::Failed(_) => {
                lanes.insert((outcome.sender, outcome.lane), outcome.sequence + 1);
            }
        }
    }
    ExecutedNotice {
        index: executed.commit.index,
        digest: executed.commit.digest(),
        timestamp_ms: executed.commit.timestamp_ms,
        transactions: executed.outcomes.len() as u64,
        lanes: lanes.into_iter().map(|((sender, lane), next)| (sender, lane, next)).collect(),
        discarded,
    }
}
