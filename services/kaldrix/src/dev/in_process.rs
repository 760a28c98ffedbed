//! All services in this process, through the same `wiring::start` as their own binaries.
//!
//! Each validator and each region has a supervisor of its own, so that a validator can come and go; one that fails ends the network.

use super::plan::{Plan, Unit};
use super::status::Reporter;
use super::watch::{Target, Watch};
use anyhow::Context;
use kaldrix_service_kit::{Config, DRAIN_MAX, Service, Supervisor, supervise};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Runs until Ctrl-C or until a service fails.
///
/// # Errors
/// What stopped the network, by the name of the task.
pub(crate) async fn live(plan: &Plan, reporter: &Reporter) -> anyhow::Result<()> {
    let mut groups = Groups::default();
    let result = tokio::select! {
        result = run(plan, reporter, &mut groups) => result,
        signal = supervise::signal() => {
            reporter.note(&format!("{signal}: stopping"));
            Ok(())
        }
    };
    let stopped = tokio::select! {
        stopped = groups.stop_all() => stopped,
        _ = supervise::signal() => Ok(()),
    };
    // The task that failed knows best why.
    stopped.and(result)
}

/// Never returns `Ok`: the network runs until it is stopped.
async fn run(plan: &Plan, reporter: &Reporter, groups: &mut Groups) -> anyhow::Result<()> {
    groups.start(&plan.units).await?;
    tokio::select! {
        ready = reporter.wait_until_ready(plan, &[]) => ready?,
        failed = groups.failure() => return Err(failed),
    }
    let status = reporter.clone().watch(plan.apis.clone(), CancellationToken::new());
    tokio::pin!(status);
    let mut watch = Watch::new(plan);
    loop {
        tokio::select! {
            () = &mut status => return Ok(()),
            failed = groups.failure() => return Err(failed),
            targets = watch.changed() => for target in targets {
                follow(&target, groups, reporter).await;
            },
        }
    }
}

/// Starts or stops a validator's services, if they are not as they are to be.
async fn follow(target: &Target, groups: &mut Groups, reporter: &Reporter) {
    let Some(home) = target.units.first().map(|u| u.home.clone()) else { return };
    match (target.active, groups.is_running(&home)) {
        (true, false) => match groups.start(&target.units).await {
            Ok(()) => reporter.validator_added(&target.name, &target.units, &[]),
            Err(error) => {
                groups.stop(&home);
                reporter.note(&format!("{} could not be started: {error:#}; run `kaldrix validator add` again", target.name));
            }
        },
        (false, true) => {
            groups.stop(&home);
            reporter.validator_removed(&target.name);
        }
        _ => {}
    }
}

/// The supervisors, by the folder of the validator or region.
#[derive(Default)]
struct Groups {
    running: BTreeMap<PathBuf, Supervisor>,
    /// Each ends when its supervisor's tasks have ended.
    ends: JoinSet<(PathBuf, anyhow::Result<()>)>,
}

impl Groups {
    fn is_running(&self, home: &Path) -> bool {
        self.running.contains_key(home)
    }

    /// Starts all units: a kind of service at a time, in the order of their dependencies.
    async fn start(&mut self, units: &[Unit]) -> anyhow::Result<()> {
        for unit in units {
            if !self.is_running(&unit.home) {
                let supervisor = Supervisor::new(CancellationToken::new());
                let (home, running) = (unit.home.clone(), supervisor.clone());
                self.ends.spawn(async move { (home, running.run(DRAIN_MAX).await.map_err(Into::into)) });
                self.running.insert(unit.home.clone(), supervisor);
            }
        }
        for service in [Service::CryptoService, Service::ConsensusService, Service::DagService, Service::RegionSync, Service::LedgerApi] {
            let units = units.iter().filter(|u| u.service == service);
            let starting = futures::future::try_join_all(units.map(|unit| start(unit, &self.running[&unit.home])));
            starting.await?;
        }
        Ok(())
    }

    /// Asks one group to stop; it drains in the background.
    fn stop(&mut self, home: &Path) {
        if let Some(supervisor) = self.running.remove(home) {
            supervisor.token().cancel();
        }
    }

    /// The end of a group that was not asked to stop.
    async fn failure(&mut self) -> anyhow::Error {
        while let Some(ended) = self.ends.join_next().await {
            match ended {
                Ok((home, result)) if self.is_running(&home) => {
                    let early = || anyhow::anyhow!("the services in {} ended although nobody had asked them to", home.display());
                    return result.err().unwrap_or_else(early);
                }
                Ok((_, Ok(()))) => {}
                Ok((home, Err(error))) => tracing::warn!("{} did not stop in order: {error:#}", home.display()),
                Err(error) => return error.into(),
            }
        }
        std::future::pending().await
    }

    /// Stops all and waits for them.
    ///
    /// # Errors
    /// The first failure.
    async fn stop_all(&mut self) -> anyhow::Result<()> {
        // In the order of the folders' names: regions come before the validators that they read from.
        for supervisor in std::mem::take(&mut self.running).into_values() {
            supervisor.token().cancel();
        }
        let mut first = Ok(());
        while let Some(ended) = self.ends.join_next().await {
            let ended = ended.map_err(Into::into).and_then(|(_, result)| result);
            first = first.and(ended);
        }
        first
    }
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
