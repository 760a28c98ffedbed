//! All services in this process, through the same `wiring::start` as their own binaries.

use super::plan::{Plan, Unit};
use super::status::Reporter;
use anyhow::Context;
use kaldrix_service_kit::{Config, DRAIN_MAX, Service, Supervisor};
use tokio_util::sync::CancellationToken;

/// Runs until Ctrl-C or until a service fails.
///
/// # Errors
/// What stopped the network, by the name of the task.
pub(crate) async fn live(plan: &Plan, reporter: &Reporter) -> anyhow::Result<()> {
    let supervisor = Supervisor::new(CancellationToken::new());
    let token = supervisor.token();
    let up = async {
        start_all(plan, &supervisor).await?;
        reporter.wait_until_ready(plan, &[]).await
    };
    tokio::select! {
        result = up => if let Err(error) = result {
            token.cancel();
            // The task that failed knows best why.
            return supervisor.run(DRAIN_MAX).await.map_err(Into::into).and(Err(error));
        },
        () = token.cancelled() => return supervisor.run(DRAIN_MAX).await.map_err(Into::into),
        signal = kaldrix_service_kit::supervise::signal() => {
            reporter.note(&format!("{signal}: stopping"));
            token.cancel();
            return supervisor.run(DRAIN_MAX).await.map_err(Into::into);
        }
    }
    let watching = tokio::spawn(reporter.clone().watch(plan.apis.clone(), token.clone()));
    let result = supervisor.run_until_signal(DRAIN_MAX).await;
    watching.abort();
    result.map_err(Into::into)
}

async fn start_all(plan: &Plan, supervisor: &Supervisor) -> anyhow::Result<()> {
    for service in [Service::CryptoService, Service::ConsensusService, Service::DagService, Service::RegionSync, Service::LedgerApi] {
        let units = plan.units.iter().filter(|u| u.service == service);
        futures::future::try_join_all(units.map(|unit| start(unit, supervisor))).await?;
    }
    Ok(())
}

async fn start(unit: &Unit, supervisor: &Supervisor) -> anyhow::Result<()> {
    let config = Config::load_checked(&unit.config, &[unit.service])?;
    let started = match unit.service {
        Service::CryptoService => kaldrix_crypto_service::wiring::start(&config, supervisor).await.map(drop),
        Service::ConsensusService => kaldrix_consensus_service::wiring::start(&config, supervisor).await.map(drop),
        Service::DagService => Box::pin(kaldrix_dag_service::wiring::start(&config, supervisor)).await.map(drop),
        Service::RegionSync => Box::pin(kaldrix_region_sync::wiring::start(&config, supervisor)).await.map(drop),
        Service::LedgerApi => Box::pin(kaldrix_ledger_api::wiring::start(&config, supervisor)).await.map(drop),
        Service::Operator => Ok(()),
    };
    started.with_context(|| unit.name.clone())
}
