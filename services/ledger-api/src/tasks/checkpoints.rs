//! Follows the certified checkpoints: each second, and more often while somebody waits for one.

use crate::core::Ledger;
use kaldrix_api::ApiError;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often to look whether somebody waits.
const TICK: Duration = Duration::from_millis(100);
/// How often a validator is asked when nobody does.
const PERIOD: Duration = Duration::from_secs(1);
/// Checkpoints that are read behind the newest: after a pause the older ones' ranges stay unknown, which costs nobody anything.
const BACK_MAX: u64 = 16;

/// Runs until `cancel`.
pub async fn run(ledger: Arc<Ledger>, cancel: CancellationToken) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut due = Instant::now();
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = tick.tick() => {}
        }
        if Instant::now() < due && !ledger.checkpoints().is_waited_for() {
            continue;
        }
        due = Instant::now() + PERIOD;
        if let Err(error) = follow(&ledger).await {
            tracing::debug!(%error, "the newest checkpoints cannot be read");
        }
    }
}

async fn follow(ledger: &Ledger) -> Result<(), ApiError> {
    let certified = ledger.validators().status().await?.certified_index;
    let known = ledger.checkpoints().newest().index;
    for index in (known + 1).max(certified.saturating_sub(BACK_MAX))..=certified {
        match ledger.validators().checkpoint(index).await {
            Ok(found) => ledger.checkpoints().note(&found.checkpoint),
            // A validator that came back by a snapshot lacks the older ones.
            Err(_) if index < certified => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
