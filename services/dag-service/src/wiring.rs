//! Constructs everything and starts it; no I/O loops in here.

use crate::core::{Checkpoints, CoreHandle, EpochCell, Feed, HotState, Outputs, Proposal, SignatureChecks, Validator};
use crate::error::DagError;
use crate::grpc::DagGrpc;
use crate::metrics::Metrics;
use crate::peers;
use crate::recovery::{Identity, last_own_block};
use crate::tasks::boot;
use crate::tasks::catch_up::CatchUpTask;
use crate::tasks::consensus_link::ConsensusLink;
use crate::tasks::evidence::Evidence;
use crate::tasks::execute::{Execute, Inputs};
use crate::tasks::fetch::Fetch;
use crate::tasks::follow::Follow;
use crate::tasks::members::Members;
use crate::tasks::network::{Early, Handler, Intake};
use crate::tasks::persist::Persist;
use crate::tasks::propose::{LastOwn, Propose, rebroadcast};
use kaldrix_api::clients::{ConsensusServiceClient, CryptoServiceClient};
use kaldrix_crypto::Verifier;
use kaldrix_dag::{BlockManager, Limits, Mempool, MempoolConfig, Node, NodeConfig, SyncConfig, Synchronizer};
use kaldrix_execution::Execution;
use kaldrix_proto::dag::dag_service_server::DagServiceServer;
use kaldrix_service_kit::identity::Service;
use kaldrix_service_kit::server::MESSAGE_BYTES_MAX;
use kaldrix_service_kit::tls::Expected;
use kaldrix_service_kit::{Config, GrpcServer, Owner, Supervisor, TlsMaterial, metrics as kit_metrics};
use kaldrix_storage::{SqliteValidatorStore, ValidatorStore};
use kaldrix_types::{Digest, Genesis, encode};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc};
use tonic::service::Routes;

const COMMANDS_MAX: usize = 4_096;
const PERSIST_MAX: usize = 4_096;
const DECIDED_MAX: usize = 64;
const CERTIFIED_MAX: usize = 64;
const EVIDENCE_MAX: usize = 64;
const FINDINGS_MAX: usize = 8;
const VERIFIED_TRANSACTIONS_MAX: u64 = 400_000;
const KEYS_MAX: u64 = 50_000;

/// A running service.
pub struct Running {
    /// Where its gRPC port is.
    pub grpc: SocketAddr,
}

/// The whole life of the process.
#[must_use]
pub fn run(config: &Path) -> ExitCode {
    kaldrix_service_kit::service_main(config, Service::DagService, |config, supervisor| async move {
        start(&config, &supervisor).await.map(|_| ())
    })
}

/// Starts the service's tasks under `supervisor`.
///
/// # Errors
/// A configuration, store or socket that cannot be used, with what to do about it.
pub async fn start(config: &Config, supervisor: &Supervisor) -> anyhow::Result<Running> {
    let genesis = genesis(&config.dag.genesis)?;
    let owner = Owner::Validator(config.dag.validator.clone());
    let tls = TlsMaterial::load(&config.tls)?;
    let server = GrpcServer::builder(&tls, config.dag.listen).bind().await?;
    let mut registry = kit_metrics::registry("dag");
    let metrics = Arc::new(Metrics::new(&mut registry));
    let readiness = kit_metrics::Readiness::default();
    let name = |task: &str| format!("{}/dag-service/{task}", config.dag.validator);
    let token = supervisor.token();
    if let Some(listen) = config.telemetry.metrics_listen {
        let metrics_server = kit_metrics::MetricsServer::bind(listen, Arc::new(registry), readiness.clone()).await?;
        supervisor.spawn(name("metrics"), metrics_server.serve(token.clone()));
    }
    let ready = readiness.gate("network");
    let crypto_channel =
        kaldrix_service_kit::client::connect(&config.dag.crypto_endpoint, &tls, Expected::of(owner.clone(), Service::CryptoService))?;
    let crypto = CryptoServiceClient::new(crypto_channel);
    let consensus_channel =
        kaldrix_service_kit::client::connect(&config.dag.consensus_endpoint, &tls, Expected::of(owner.clone(), Service::ConsensusService))?;
    let consensus = ConsensusServiceClient::new(consensus_channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);

    // What the store says, and where it says to go on.
    let store: Arc<dyn ValidatorStore> =
        Arc::new(SqliteValidatorStore::open(&config.storage.path.join("validator.sqlite"), &genesis).await?);
    let gc_depth = gc_depth(&genesis);
    let identity = Arc::new(Identity { genesis, name: config.dag.validator.clone(), gc_depth });
    let view = identity.epoch(&store).await?;
    let epoch = Arc::new(EpochCell::new(view.clone()));
    let (begin, unsigned) = identity.begin(&store, view.clone()).await?;
    let checkpoints = Arc::new(Checkpoints::new(identity.checkpoints(&store).await?, store.last_certified().await?.as_ref()));
    let last_commit = begin.last_commit.clone();
    let last = last_commit.as_ref().map_or((0, Digest::ZERO), |c| (c.index, c.digest()));
    let verifier = Verifier::new(KEYS_MAX);
    let hot = Arc::new(HotState::new(Arc::clone(&store), last_commit.as_ref()));
    let checks = Arc::new(SignatureChecks::new(VERIFIED_TRANSACTIONS_MAX));
    let feed = Arc::new(Feed::new(Arc::clone(&store), last.0));
    let last_own: LastOwn = Arc::new(Mutex::new(None));
    if let Some(block) = last_own_block(&begin, view.own) {
        *last_own.lock() = Some((block.reference(), encode(block.block()).into()));
    }
    let never_signed = begin.last_own.is_none();

    // Channels, in the order in which data passes.
    let (commands_in, commands) = mpsc::channel(COMMANDS_MAX);
    let (persist_in, persist_queue) = mpsc::channel(PERSIST_MAX);
    let (proposals_in, proposals) = mpsc::channel(1);
    let (decided_in, decided) = mpsc::channel(DECIDED_MAX);
    let (certified_in, certified) = mpsc::channel(CERTIFIED_MAX);
    let (evidence_in, evidence) = mpsc::channel(EVIDENCE_MAX);
    let (findings_in, findings) = mpsc::channel(FINDINGS_MAX);
    let core = CoreHandle::new(commands_in);
    let wake = Arc::new(Notify::new());

    let persist_task = Persist { store: Arc::clone(&store), hot: Arc::clone(&hot), feed: Arc::clone(&feed), metrics: Arc::clone(&metrics) };
    supervisor.spawn(name("persist"), persist_task.run(persist_queue, token.clone()));
    let outputs = Outputs {
        persist: persist_in.clone(),
        proposals: proposals_in.clone(),
        certified: certified_in,
        evidence: evidence_in,
        fetch: Arc::clone(&wake),
        epoch: Arc::clone(&epoch),
    };
    let node_config = NodeConfig {
        own: view.own,
        gc_depth,
        transactions_per_block: (config.dag.max_transactions_per_block as usize).min(kaldrix_types::limits::BLOCK_TRANSACTIONS_MAX),
        body_bytes_per_block: (config.dag.max_block_bytes as usize).min(kaldrix_types::limits::BLOCK_BODY_BYTES_MAX),
    };
    let manager = BlockManager::new(Arc::clone(&view.committee), Limits::default());
    let sync = Synchronizer::new(&view.committee, view.own, SyncConfig::default());
    let node = Node::new(node_config, manager, Mempool::new(mempool_config(config)), sync);
    let validator = Validator::new(node, node_config, view.clone(), last_commit, outputs);
    std::thread::Builder::new().name(format!("core-{}", config.dag.validator)).spawn(move || validator.run(commands))?;
    core.begin_epoch(begin).await?;
    for checkpoint in identity.uncertified(&store).await? {
        core.checkpoint(checkpoint).await?;
    }

    let intake = Intake {
        epoch: Arc::clone(&epoch),
        early: Arc::new(Early::default()),
        verifier: verifier.clone(),
        core: core.clone(),
        hot: Arc::clone(&hot),
        checks: Arc::clone(&checks),
        metrics: Arc::clone(&metrics),
    };
    let handler = Arc::new(Handler { intake: intake.clone(), store: Arc::clone(&store), checkpoints: Arc::clone(&checkpoints) });
    let (p2p, binder) = peers::configure(config, &view, &verifier, crypto.clone(), &token).await?;
    let own_key = binder.key().clone();
    let (network, _, network_task) = kaldrix_p2p::start(p2p, handler, token.clone()).await.map_err(|e| DagError::Network(e.to_string()))?;
    supervisor.spawn(name("network"), network_task);
    let members = Members {
        network: Arc::clone(&network),
        hot: Arc::clone(&hot),
        epoch: Arc::clone(&epoch),
        binder: Arc::new(tokio::sync::Mutex::new(binder)),
        own: (config.dag.validator.clone(), own_key),
    };
    members.refresh().await;

    let propose = Propose {
        epoch: Arc::clone(&epoch),
        crypto: crypto.clone(),
        verifier: verifier.clone(),
        core: core.clone(),
        persist: persist_in.clone(),
        network: Arc::clone(&network),
        last_own: Arc::clone(&last_own),
        metrics: Arc::clone(&metrics),
    };
    supervisor.spawn(name("propose"), propose.run(proposals, token.clone()));
    supervisor.spawn(name("rebroadcast"), rebroadcast(last_own, Arc::clone(&network), token.clone()));
    let reporter = Evidence {
        epoch: Arc::clone(&epoch),
        crypto: crypto.clone(),
        core: core.clone(),
        hot: Arc::clone(&hot),
        parameters: identity.genesis.parameters.clone(),
    };
    supervisor.spawn(name("evidence"), reporter.run(evidence, token.clone()));
    let execute = Execute {
        identity: Arc::clone(&identity),
        store: Arc::clone(&store),
        epoch: Arc::clone(&epoch),
        checkpoints: Arc::clone(&checkpoints),
        hot: Arc::clone(&hot),
        feed: Arc::clone(&feed),
        checks: Arc::clone(&checks),
        verifier: verifier.clone(),
        intake: intake.clone(),
        members,
        catch_up: CatchUpTask {
            identity: Arc::clone(&identity),
            store: Arc::clone(&store),
            network: Arc::clone(&network),
            verifier: verifier.clone(),
        },
        core: core.clone(),
        persist: persist_in,
        metrics: Arc::clone(&metrics),
        execution: if config.dag.enable_parallel_execution { Execution::default() } else { Execution::Serial },
        last,
        epoch_end: None,
    };
    supervisor.spawn(name("execute"), execute.run(Inputs { decided, certified, findings }, token.clone()));
    let fetch = Fetch { core: core.clone(), network: Arc::clone(&network), intake: intake.clone(), wake };
    supervisor.spawn(name("fetch"), fetch.run(token.clone()));
    let mut follow = Follow {
        identity: Arc::clone(&identity),
        epoch: Arc::clone(&epoch),
        store: Arc::clone(&store),
        network: Arc::clone(&network),
        verifier: verifier.clone(),
        core: core.clone(),
        early: Arc::clone(&intake.early),
        findings: findings_in,
        turn: 0,
    };

    let link = ConsensusLink { client: consensus, core: core.clone(), execute: decided_in, metrics: Arc::clone(&metrics) };
    let boot = boot::Boot { epoch: Arc::clone(&epoch), network: Arc::clone(&network), intake, core: core.clone(), crypto, never_signed };
    let (link_token, follow_token) = (token.clone(), token.clone());
    let (booted_in, booted) = tokio::sync::oneshot::channel();
    let is_empty = last.0 == 0;
    supervisor.spawn(name("follow"), async move {
        let before_start = async { if is_empty { follow.before_start().await } else { Ok(()) } };
        tokio::select! {
            () = follow_token.cancelled() => return Ok(()),
            result = before_start => result?,
        }
        // The link has stopped: the service is draining.
        let _ = booted_in.send(());
        follow.run(follow_token).await
    });
    supervisor.spawn(name("consensus-link"), async move {
        if let Some(block) = unsigned {
            let (header, body) = (block.header().clone(), block.block().body.clone());
            let proposal = kaldrix_dag::Proposal { header, body, transactions: block.transactions().to_vec() };
            let proposal = Proposal { proposal, traceparents: Vec::new(), is_durable: true };
            proposals_in.send(proposal).await.map_err(|_| DagError::Stopped)?;
        }
        tokio::select! {
            () = link_token.cancelled() => return Ok(()),
            result = async { booted.await.map_err(|_| DagError::Stopped)?; boot.run().await } => result?,
        }
        ready.open();
        link.run(link_token).await
    });

    let grpc = DagGrpc {
        name: config.dag.validator.clone(),
        epoch,
        parameters: identity.genesis.parameters.clone(),
        checkpoints,
        core,
        hot,
        checks,
        verifier,
        feed,
        store,
        network,
        metrics,
        closing: token.clone(),
    };
    let service = DagServiceServer::new(grpc).max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX);
    let grpc = server.local_addr();
    supervisor.spawn(name("grpc"), server.serve(Routes::new(service), token));
    Ok(Running { grpc })
}

/// Reads a genesis file.
///
/// # Errors
/// [`DagError::Config`] when it is not there or defines no chain.
pub fn genesis(path: &Path) -> Result<Genesis, DagError> {
    let text =
        std::fs::read_to_string(path).map_err(|e| DagError::Config(format!("the genesis file {} cannot be read: {e}", path.display())))?;
    kaldrix_types::Genesis::from_json(&text).map_err(|e| DagError::Config(format!("the genesis file {}: {e}", path.display())))
}

/// Consensus cuts no shallower, so neither do we.
fn gc_depth(genesis: &Genesis) -> u64 {
    genesis.parameters.gc_depth.max(kaldrix_consensus::GC_DEPTH_MIN)
}

fn mempool_config(config: &Config) -> MempoolConfig {
    MempoolConfig {
        capacity_transactions: config.dag.mempool_transactions as usize,
        capacity_bytes: config.dag.mempool_bytes as usize,
        gap_hold_ms: config.dag.sequence_gap_hold_ms,
        prioritization: config.dag.enable_prioritization,
        ..MempoolConfig::default()
    }
}
