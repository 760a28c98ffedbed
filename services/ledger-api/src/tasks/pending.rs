//! Asks validators about transactions that somebody has been waiting for: included yet, or given up?

use crate::core::Ledger;
use crate::core::tracker::Executed;
use kaldrix_types::{OutcomeStatus, TxId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often to look which ones are due; the tracker spaces the questions about each.
const TICK: Duration = Duration::from_millis(25);
/// Questions per tick.
const IDS_MAX: usize = 1_000;

/// Runs until `cancel`.
pub async fn run(ledger: Arc<Ledger>, cancel: CancellationToken) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = tick.tick() => {}
        }
        ledger.metrics().tracked_transactions.set(i64::try_from(ledger.tracker().len()).unwrap_or(i64::MAX));
        let due = ledger.tracker().due(IDS_MAX);
        if due.is_empty() {
            continue;
        }
        let mut by_endpoint: BTreeMap<Option<usize>, Vec<TxId>> = BTreeMap::new();
        for (id, endpoint) in due {
            by_endpoint.entry(endpoint).or_default().push(id);
        }
        for (endpoint, ids) in by_endpoint {
            ask(&ledger, endpoint, &ids).await;
        }
    }
}

async fn ask(ledger: &Ledger, endpoint: Option<usize>, ids: &[TxId]) {
    let states = match ledger.validators().pending(endpoint, ids).await {
        Ok(states) => states,
        Err(error) => {
            tracing::debug!(%error, "asking for pending transactions failed");
            return;
        }
    };
    for (id, pending) in ids.iter().zip(states) {
        // A validator forgets what it executed, and gives up what another block already brought: the store knows better.
        let may_be_done = matches!(pending, crate::core::tracker::Pending::Unknown | crate::core::tracker::Pending::Dropped(_));
        if may_be_done
            && let Ok(Some(row)) = ledger.stored(*id).await
            && !matches!(row.status, OutcomeStatus::Discarded(_))
        {
            let executed =
                Executed { commit_index: row.commit, position: row.position, timestamp_ms: row.timestamp_ms, status: row.status };
            ledger.tracker().executed(*id, executed);
            continue;
        }
        ledger.tracker().report(*id, pending);
    }
}
