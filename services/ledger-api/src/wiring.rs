//! Constructs everything and starts it; no I/O loops in here.

use crate::config::Settings;
use crate::core::faucet::{FaucetHandle, Payment, lane_of_region};
use crate::core::feed::Feed;
use crate::core::tracker::Tracker;
use crate::core::{self, Gates, Ledger, Parts};
use crate::gateway::{Gateway, Limits};
use crate::grpc::{LedgerRpc, Link, Validators};
use crate::metrics::Metrics;
use crate::rest::{self, BodyLimit, Operations};
use crate::server::PublicServer;
use crate::tasks::batcher::{self, Submitter};
use crate::tasks::faucet::Faucet;
use crate::tasks::{checkpoints, faucet, health, pending, projection};
use anyhow::{Context as _, bail};
use axum::Router;
use kaldrix_crypto::{KeyFile, SecretKey, Verifier};
use kaldrix_proto::DESCRIPTORS;
use kaldrix_proto::ledger::ledger_service_server::LedgerServiceServer;
use kaldrix_service_kit::metrics::{Readiness, registry};
use kaldrix_service_kit::telemetry::{TraceLayer, traced};
use kaldrix_service_kit::tls::Expected;
use kaldrix_service_kit::{Config, Service, Supervisor, TlsMaterial, client, server};
use kaldrix_storage::{RegionStore, SqliteRegionStore, StoreError};
use kaldrix_types::{CommitIndex, Genesis};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

/// How long region-sync may take to create the read model.
const STORE_WAIT: Duration = Duration::from_secs(60);
/// Commits whose authors' rounds are read at the start.
const RECENT_COMMITS: usize = 100;

/// A running API.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    /// Where it listens.
    pub local_addr: SocketAddr,
}

/// What the service talks to. [`start`] makes it from the configuration; tests put their own in.
pub struct Upstream {
    /// Channels to dag-services, in order of preference.
    pub validators: Vec<Link>,
    /// Channel to region-sync.
    pub region: Link,
    /// The region's read model.
    pub store: Arc<dyn RegionStore>,
}

/// The whole life of the process.
#[must_use]
pub fn run(config: &Path) -> ExitCode {
    kaldrix_service_kit::service_main(config, Service::LedgerApi, |config, supervisor| async move {
        start(&config, &supervisor).await.map(|_| ())
    })
}

/// Starts the API under `supervisor`; a process may hold several.
///
/// # Errors
/// A configuration, store or socket that cannot be used, with what to do about it.
pub async fn start(config: &Config, supervisor: &Supervisor) -> anyhow::Result<Running> {
    let settings = Settings::from_config(config)?;
    let genesis = read_genesis(&config.api.genesis)?;
    let tls = TlsMaterial::load(&config.tls)?;
    // The port first: a second instance fails here, before it touches anything.
    let listener = server::bind(config.api.listen).await?;
    let acceptor = acceptor(config, &tls)?;
    let link = |endpoint: &str, expected: Service| -> anyhow::Result<Link> {
        Ok(traced(client::connect(endpoint, &tls, Expected::any(expected))?))
    };
    let validators = config.api.dag_endpoints.iter().map(|e| link(e, Service::DagService)).collect::<Result<Vec<_>, _>>()?;
    let region = link(&config.api.region_endpoint, Service::RegionSync)?;
    let store = open_store(&config.storage.path, &genesis, &supervisor.token()).await?;
    start_with(settings, genesis, Upstream { validators, region, store }, Port { listener, acceptor }, supervisor).await
}

/// The public port, bound.
pub struct Port {
    /// Where connections come in.
    pub listener: tokio::net::TcpListener,
    /// TLS, or none.
    pub acceptor: Option<TlsAcceptor>,
}

/// As [`start`], with everything outside given.
///
/// # Errors
/// A read model that cannot be read, a faucet key that cannot be opened.
pub async fn start_with(
    settings: Settings,
    genesis: Genesis,
    upstream: Upstream,
    port: Port,
    supervisor: &Supervisor,
) -> anyhow::Result<Running> {
    let local_addr = port.listener.local_addr()?;
    let mut registry = registry(Service::LedgerApi.as_str());
    let metrics = Metrics::default();
    metrics.register(&mut registry);
    let readiness = Readiness::default();
    let cursor = upstream.store.cursor().await.context("the read model")?;
    let feed = Feed::new(cursor);
    note_recent_rounds(&feed, &*upstream.store, cursor).await?;
    let (submitter, queues) = Submitter::new(settings.queue_transactions, settings.queue_bytes, metrics.clone());
    let faucet = settings.faucet_key_file.as_deref().map(|path| open_faucet(path, &settings.core.region)).transpose()?;
    let (handle, faucet) = faucet.map_or((None, None), |(handle, faucet, payments)| (Some(handle), Some((faucet, payments))));
    let ledger = Arc::new(Ledger::new(Parts {
        settings: core::Settings { ..settings.core.clone() },
        genesis,
        store: upstream.store,
        validators: Arc::new(Validators::new(upstream.validators, metrics.clone())),
        submitter,
        feed,
        tracker: Tracker::new(settings.tracked_transactions),
        verifier: Verifier::new(settings.verifier_keys),
        faucet: handle,
        gates: Gates::new(&readiness),
        metrics: metrics.clone(),
        closing: supervisor.token(),
    }));
    spawn_tasks(&ledger, queues, faucet, upstream.region, supervisor);
    let operations = Operations { registry: Arc::new(registry), readiness: readiness.clone() };
    let rest = rest::router(Arc::clone(&ledger), operations, BodyLimit(settings.body_bytes_max), settings.cors);
    let grpc = grpc_router(&ledger, readiness, settings.body_bytes_max, supervisor).await?;
    let limits = Limits {
        concurrent: settings.concurrent_requests_max,
        per_second: settings.requests_per_second,
        request_max: settings.core.wait_max + settings.request_slack,
    };
    let server = PublicServer { listener: port.listener, tls: port.acceptor, gateway: Gateway::new(grpc, rest, limits), metrics };
    supervisor.spawn(task_name(&ledger, "server"), server.serve(supervisor.token()));
    tracing::info!(region = ledger.settings().region, address = %local_addr, commit = cursor, "the API is open");
    Ok(Running { local_addr })
}

fn task_name(ledger: &Ledger, task: &str) -> String {
    format!("{}/ledger-api/{task}", ledger.settings().region)
}

fn spawn_tasks(
    ledger: &Arc<Ledger>,
    queues: batcher::Queues,
    faucet: Option<(Faucet, mpsc::Receiver<Payment>)>,
    region: Link,
    supervisor: &Supervisor,
) {
    let spawn = |name: &str, task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        supervisor.spawn(task_name(ledger, name), async move {
            task.await;
            Ok::<(), Infallible>(())
        });
    };
    let token = || supervisor.token();
    for (shard, queue) in queues.into_iter().enumerate() {
        let (validators, metrics) = (ledger.validators_handle(), ledger.metrics().clone());
        spawn(&format!("batcher-{shard}"), Box::pin(batcher::run(queue, validators, metrics, token())));
    }
    spawn("projection", Box::pin(projection::run(Arc::clone(ledger), region, token())));
    spawn("pending", Box::pin(pending::run(Arc::clone(ledger), token())));
    spawn("checkpoints", Box::pin(checkpoints::run(Arc::clone(ledger), token())));
    spawn("health", Box::pin(health::run(Arc::clone(ledger), token())));
    if let Some((faucet, payments)) = faucet {
        spawn("faucet", Box::pin(faucet::run(faucet, payments, Arc::clone(ledger), token())));
    }
}

async fn grpc_router(ledger: &Arc<Ledger>, readiness: Readiness, message_max: usize, supervisor: &Supervisor) -> anyhow::Result<Router> {
    let service = LedgerServiceServer::new(LedgerRpc::new(Arc::clone(ledger))).max_decoding_message_size(message_max);
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name("kaldrix.ledger.v1.LedgerService")
        .with_service_name("grpc.health.v1.Health");
    let reflection_v1alpha = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .with_service_name("kaldrix.ledger.v1.LedgerService");
    let routes = Routes::new(service)
        .add_service(health_service)
        .add_service(reflection.build_v1().context("reflection")?)
        .add_service(reflection_v1alpha.build_v1alpha().context("reflection")?);
    supervisor.spawn(task_name(ledger, "grpc-health"), crate::tasks::health::report(reporter, readiness, supervisor.token()));
    Ok(routes.into_axum_router().layer(TraceLayer::new(Service::LedgerApi.as_str())))
}

fn acceptor(config: &Config, tls: &TlsMaterial) -> anyhow::Result<Option<TlsAcceptor>> {
    if !config.api.tls {
        return Ok(None);
    }
    let client_ca = config
        .api
        .client_ca
        .as_ref()
        .map(|path| std::fs::read(path).with_context(|| format!("api.client_ca: {} cannot be read", path.display())));
    let server_config = tls.public_server_config(client_ca.transpose()?.as_deref())?;
    Ok(Some(TlsAcceptor::from(server_config)))
}

fn read_genesis(path: &Path) -> anyhow::Result<Genesis> {
    let text = std::fs::read_to_string(path).with_context(|| format!("the genesis file {} cannot be read", path.display()))?;
    Genesis::from_json(&text).with_context(|| format!("the genesis file {}", path.display()))
}

/// region-sync creates the read model; at a first start it may be a little later than this service.
async fn open_store(folder: &Path, genesis: &Genesis, cancel: &CancellationToken) -> anyhow::Result<Arc<dyn RegionStore>> {
    let path = folder.join("region.sqlite");
    let deadline = tokio::time::Instant::now() + STORE_WAIT;
    loop {
        match SqliteRegionStore::open_read_only(&path, genesis.chain_id()).await {
            Ok(store) => return Ok(Arc::new(store)),
            Err(error @ (StoreError::NotReady { .. } | StoreError::Busy)) if tokio::time::Instant::now() < deadline => {
                tracing::debug!(%error, "waiting for region-sync to create the read model");
            }
            Err(error) => return Err(error).context("the read model"),
        }
        tokio::select! {
            () = cancel.cancelled() => bail!("stopped while waiting for the read model"),
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
    }
}

async fn note_recent_rounds(feed: &Feed, store: &dyn RegionStore, cursor: CommitIndex) -> anyhow::Result<()> {
    for row in store.commits(Some(cursor.saturating_add(1)), RECENT_COMMITS).await.context("the read model")? {
        feed.note_rounds(&core::view::stored_commit(&row).context("the read model")?);
    }
    Ok(())
}

fn open_faucet(path: &Path, region: &str) -> anyhow::Result<(FaucetHandle, Faucet, mpsc::Receiver<Payment>)> {
    let open = || -> anyhow::Result<SecretKey> { Ok(KeyFile::open(path)?.unlock(None)?) };
    let key = open().with_context(|| format!("api.faucet_key_file {}", path.display()))?;
    let (handle, payments) = FaucetHandle::new();
    Ok((handle, Faucet::new(key, lane_of_region(region)), payments))
}
