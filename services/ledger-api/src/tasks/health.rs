//! Looks every second whether the read model and a validator answer, for `/readyz` and `grpc.health.v1`.

use crate::core::Ledger;
use kaldrix_service_kit::metrics::Readiness;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

const PERIOD: Duration = Duration::from_secs(1);
const REPORT_PERIOD: Duration = Duration::from_millis(250);

/// Runs until `cancel`.
pub async fn run(ledger: Arc<Ledger>, cancel: CancellationToken) {
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = tick.tick() => {}
        }
        match ledger.store().cursor().await {
            Ok(_) => ledger.gates().store.open(),
            Err(error) => ledger.gates().store.close(error.to_string()),
        }
        match ledger.validators().status().await {
            Ok(_) => ledger.gates().validators.open(),
            Err(_) => ledger.gates().validators.close("no dag-service answers"),
        }
    }
}

/// Mirrors readiness in `grpc.health.v1`, for the server as a whole and for the public service, until `cancel`.
///
/// # Errors
/// Never; the signature is that of a supervised task.
pub async fn report(reporter: HealthReporter, readiness: Readiness, cancel: CancellationToken) -> Result<(), Infallible> {
    let mut tick = tokio::time::interval(REPORT_PERIOD);
    loop {
        tokio::select! {
            () = cancel.cancelled() => break,
            _ = tick.tick() => {}
        }
        let status = if readiness.is_ready() { ServingStatus::Serving } else { ServingStatus::NotServing };
        set_all(&reporter, status).await;
    }
    set_all(&reporter, ServingStatus::NotServing).await;
    Ok(())
}

async fn set_all(reporter: &HealthReporter, status: ServingStatus) {
    for service in ["", "kaldrix.ledger.v1.LedgerService"] {
        reporter.set_service_status(service, status).await;
    }
}
