//! Constructs everything and starts it; no I/O loops in here.

use crate::core::{Hub, head_of};
use crate::error::SyncError;
use crate::grpc::{DagClient, RegionGrpc};
use crate::metrics::Metrics;
use crate::tasks::{BatchLimits, Projector, Source, buffer};
use kaldrix_service_kit::{Config, GrpcServer, Owner, Service, Supervisor, TlsMaterial, metrics as kit_metrics};
use kaldrix_storage::{RegionStore, SqliteRegionStore};
use kaldrix_types::Genesis;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tonic::service::Routes;

/// Notices that a subscriber may be behind before it is cut.
const NOTICES_MAX: usize = 1_024;

/// A running service.
pub struct Running {
    /// Where its gRPC port is.
    pub grpc: SocketAddr,
    /// The read model; closing it is its writer's, after the tasks have ended.
    pub store: Arc<dyn RegionStore>,
}

/// Where the read model lies in the storage folder; ledger-api reads the same file.
#[must_use]
pub fn store_path(folder: &Path) -> PathBuf {
    folder.join("region.sqlite")
}

/// The whole life of the process.
#[must_use]
pub fn run(config: &Path) -> ExitCode {
    kaldrix_service_kit::service_main(config, Service::RegionSync, |config, supervisor| async move {
        start(&config, &supervisor).await.map(|_| ())
    })
}

/// Starts the service's tasks under `supervisor`; a process may hold several regions.
///
/// # Errors
/// A configuration, store or socket that cannot be used, with what to do about it.
pub async fn start(config: &Config, supervisor: &Supervisor) -> anyhow::Result<Running> {
    let region = &config.region;
    let genesis = genesis(&region.genesis)?;
    let tls = TlsMaterial::load(&config.tls)?;
    check_identity(&tls, &region.name)?;
    // The port first: a second instance fails here, before it touches anything.
    let server = GrpcServer::builder(&tls, region.listen).bind().await?;
    let mut registry = kit_metrics::registry(Service::RegionSync.as_str());
    let metrics = Metrics::register(&mut registry);
    let readiness = kit_metrics::Readiness::default();
    let name = |task: &str| format!("{}/region-sync/{task}", region.name);
    let token = supervisor.token();
    if let Some(listen) = config.telemetry.metrics_listen {
        let metrics_server = kit_metrics::MetricsServer::bind(listen, Arc::new(registry), readiness.clone()).await?;
        supervisor.spawn(name("metrics"), metrics_server.serve(token.clone()));
    }

    let path = store_path(&config.storage.path);
    let store: Arc<dyn RegionStore> = Arc::new(SqliteRegionStore::open(&path, &genesis).await.map_err(SyncError::Store)?);
    let head = head_of(store.as_ref()).await.map_err(SyncError::Store)?;
    tracing::info!(region = region.name, commit = head.index, "the read model is open");
    metrics.commit_index.set(i64::try_from(head.index).unwrap_or(i64::MAX));
    let hub = Arc::new(Hub::new(head, NOTICES_MAX));

    let clients = region.dag_endpoints.iter().map(|endpoint| DagClient::new(endpoint, &tls)).collect::<Result<Vec<_>, _>>()?;
    if clients.is_empty() {
        return Err(SyncError::Config("region.dag_endpoints is empty; name at least one dag-service as host:port".into()).into());
    }
    let (inlet, inbox) = buffer();
    let source = Source::new(clients, inlet, Arc::clone(&hub), metrics.clone(), readiness.gate("source"));
    supervisor.spawn(name("source"), source.run(token.clone()));
    let projector = Projector::new(Arc::clone(&store), Arc::clone(&hub), metrics.clone(), BatchLimits::default(), inbox);
    supervisor.spawn(name("project"), projector.run(token.clone()));

    let service = RegionGrpc::new(region.name.clone(), Arc::clone(&store), hub, metrics, token.clone()).into_server();
    let grpc = server.local_addr();
    supervisor.spawn(name("grpc"), server.serve(Routes::new(service), token));
    Ok(Running { grpc, store })
}

fn genesis(path: &Path) -> Result<Genesis, SyncError> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| SyncError::Genesis(format!("the genesis file {} cannot be read: {e}", path.display())))?;
    Genesis::from_json(&text).map_err(|e| SyncError::Genesis(format!("the genesis file {}: {e}", path.display())))
}

/// A certificate of another region would let nobody in, and say so only then.
fn check_identity(tls: &TlsMaterial, region: &str) -> Result<(), SyncError> {
    let identity = tls.identity();
    if identity.service == Service::RegionSync && identity.owner == Owner::Region(region.to_owned()) {
        return Ok(());
    }
    Err(SyncError::Config(format!(
        "region.name is {region:?} but the certificate of [tls] is for {identity}; use one of region/{region}/region-sync"
    )))
}
