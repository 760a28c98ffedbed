//! Constructs everything and starts it; no I/O loops in here.

use crate::core::{CoreHandle, Feed, HotState, Outputs, SignatureChecks, Validator, ValidatorConfig};
use crate::error::DagError;
use crate::grpc::DagGrpc;
use crate::metrics::Metrics;
use crate::tasks::boot;
use crate::tasks::consensus_link::ConsensusLink;
use crate::tasks::execute::Execute;
use crate::tasks::fetch::Fetch;
use crate::tasks::network::{Handler, Intake};
use crate::tasks::persist::Persist;
use crate::tasks::propose::{LastOwn, Propose, rebroadcast};
use kaldrix_api::clients::{ConsensusServiceClient, CryptoServiceClient};
use kaldrix_crypto::Verifier;
use kaldrix_dag::{BlockManager, Limits, Mempool, MempoolConfig, SyncConfig, Synchronizer};
use kaldrix_p2p::{BlockNetwork, P2pConfig, PeerBinding};
use kaldrix_proto::crypto::SignPeerBindingRequest;
use kaldrix_proto::dag::dag_service_server::DagServiceServer;
use kaldrix_service_kit::identity::Service;
use kaldrix_service_kit::server::MESSAGE_BYTES_MAX;
use kaldrix_service_kit::tls::Expected;
use kaldrix_service_kit::{Config, GrpcServer, Owner, Supervisor, TlsMaterial, metrics as kit_metrics};
use kaldrix_storage::{BlockCursor, SqliteValidatorStore, StoredBlock, ValidatorStore};
use kaldrix_types::{Block, BlockRef, BlockVerifier, Commit, Committee, Genesis, PublicKey, ValidatorIndex, VerifiedBlock};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tonic::service::Routes;

const COMMANDS_MAX: usize = 4_096;
const PERSIST_MAX: usize = 4_096;
const DECIDED_MAX: usize = 64;
const VERIFIED_TRANSACTIONS_MAX: u64 = 400_000;
const KEYS_MAX: u64 = 50_000;
const RECOVERY_PAGE_BYTES: usize = 16 << 20;

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

/// What the store held when the service started.
struct Recovered {
    last_commit: Option<Commit>,
    committed: Vec<BlockRef>,
    last_own: Option<StoredBlock>,
}

/// Starts the service's tasks under `supervisor`.
///
/// # Errors
/// A configuration, store or socket that cannot be used, with what to do about it.
pub async fn start(config: &Config, supervisor: &Supervisor) -> anyhow::Result<Running> {
    let genesis = crate::wiring::genesis(&config.dag.genesis)?;
    let committee = Arc::new(genesis.committee().map_err(|e| DagError::Config(e.to_string()))?);
    let own = own_index(&committee, &config.dag.validator)?;
    let owner = Owner::Validator(config.dag.validator.clone());
    let tls = TlsMaterial::load(&config.tls)?;
    let server = GrpcServer::builder(&tls, config.dag.listen).bind().await?;
    let mut registry = kit_metrics::registry("dag");
    let metrics = Arc::new(Metrics::new(&mut registry));
    let readiness = kit_metrics::Readiness::default();
    if let Some(listen) = config.telemetry.metrics_listen {
        let metrics_server = kit_metrics::MetricsServer::bind(listen, Arc::new(registry), readiness.clone()).await?;
        let token = supervisor.token();
        supervisor.spawn(format!("{}/dag-service/metrics", config.dag.validator), metrics_server.serve(token));
    }
    let ready = readiness.gate("network");

    let store: Arc<dyn ValidatorStore> =
        Arc::new(SqliteValidatorStore::open(&config.storage.path.join("validator.sqlite"), &genesis).await?);
    let verifier = Verifier::new(KEYS_MAX);
    let mut manager = BlockManager::new(Arc::clone(&committee), Limits::default());
    let recovered = recover(&store, &committee, &genesis, &mut manager).await?;
    let last_index = recovered.last_commit.as_ref().map_or(0, |c| c.index);
    let hot = Arc::new(HotState::new(Arc::clone(&store), recovered.last_commit.as_ref()));
    let checks = Arc::new(SignatureChecks::new(VERIFIED_TRANSACTIONS_MAX));
    let feed = Arc::new(Feed::new(Arc::clone(&store), last_index));

    let (commands_in, commands) = mpsc::channel(COMMANDS_MAX);
    let (persist_in, persist_queue) = mpsc::channel(PERSIST_MAX);
    let (proposals_in, proposals) = mpsc::channel(1);
    let (decided_in, decided) = mpsc::channel(DECIDED_MAX);
    let core = CoreHandle::new(commands_in);
    let wake = Arc::new(Notify::new());
    let outputs = Outputs { persist: persist_in.clone(), proposals: proposals_in.clone(), fetch: Arc::clone(&wake) };
    let sync = Synchronizer::new(&committee, own, SyncConfig::default());
    let mut validator =
        Validator::new(validator_config(config, &genesis, own), manager, Mempool::new(mempool_config(config)), sync, outputs);
    let last_own_ref = recovered.last_own.as_ref().map(|b| b.reference);
    validator.recover(recovered.last_commit.as_ref(), recovered.committed, last_own_ref);
    std::thread::Builder::new().name(format!("core-{}", config.dag.validator)).spawn(move || validator.run(commands))?;

    let name = |task: &str| format!("{}/dag-service/{task}", config.dag.validator);
    let token = supervisor.token();
    let persist_task = Persist { store: Arc::clone(&store), hot: Arc::clone(&hot), feed: Arc::clone(&feed), metrics: Arc::clone(&metrics) };
    supervisor.spawn(name("persist"), persist_task.run(persist_queue, token.clone()));

    let crypto_channel =
        kaldrix_service_kit::client::connect(&config.dag.crypto_endpoint, &tls, Expected::of(owner.clone(), Service::CryptoService))?;
    let crypto = CryptoServiceClient::new(crypto_channel);
    let consensus_channel =
        kaldrix_service_kit::client::connect(&config.dag.consensus_endpoint, &tls, Expected::of(owner.clone(), Service::ConsensusService))?;
    let consensus = ConsensusServiceClient::new(consensus_channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);

    let intake = Intake {
        committee: Arc::clone(&committee),
        verifier: verifier.clone(),
        core: core.clone(),
        hot: Arc::clone(&hot),
        checks: Arc::clone(&checks),
        metrics: Arc::clone(&metrics),
    };
    let handler = Arc::new(Handler { intake: intake.clone(), store: Arc::clone(&store) });
    let p2p = p2p_config(config, &committee, own, &verifier, crypto.clone(), &token).await?;
    let (network, _, network_task) = kaldrix_p2p::start(p2p, handler, token.clone()).await.map_err(|e| DagError::Network(e.to_string()))?;
    supervisor.spawn(name("network"), network_task);

    let last_own: LastOwn = Arc::new(Mutex::new(None));
    let unsigned = match &recovered.last_own {
        Some(stored) => unsigned_proposal(stored, &committee, &last_own)?,
        None => None,
    };
    let propose = Propose {
        committee: Arc::clone(&committee),
        crypto,
        verifier: verifier.clone(),
        core: core.clone(),
        persist: persist_in.clone(),
        network: Arc::clone(&network),
        last_own: Arc::clone(&last_own),
        metrics: Arc::clone(&metrics),
    };
    supervisor.spawn(name("propose"), propose.run(proposals, token.clone()));
    supervisor.spawn(name("rebroadcast"), rebroadcast(last_own, Arc::clone(&network), token.clone()));
    let execute = Execute {
        parameters: genesis.parameters.clone(),
        hot: Arc::clone(&hot),
        checks: Arc::clone(&checks),
        verifier: verifier.clone(),
        core: core.clone(),
        persist: persist_in,
        metrics: Arc::clone(&metrics),
    };
    supervisor.spawn(name("execute"), execute.run(decided, token.clone()));
    let fetch = Fetch { core: core.clone(), network: Arc::clone(&network), intake: intake.clone(), wake };
    supervisor.spawn(name("fetch"), fetch.run(token.clone()));

    let link = ConsensusLink {
        committee: Arc::clone(&committee),
        own,
        client: consensus,
        core: core.clone(),
        execute: decided_in,
        last_commit: recovered.last_commit,
        metrics: Arc::clone(&metrics),
    };
    let boot = Boot {
        committee: Arc::clone(&committee),
        own,
        network: Arc::clone(&network),
        intake,
        core: core.clone(),
        first: recovered.last_own.is_none(),
    };
    let link_token = token.clone();
    supervisor.spawn(name("consensus-link"), async move {
        if let Some(unsigned) = unsigned {
            proposals_in.send(unsigned).await.map_err(|_| DagError::Stopped)?;
        }
        tokio::select! {
            () = link_token.cancelled() => return Ok(()),
            booted = boot.run() => booted?,
        }
        ready.open();
        link.run(link_token).await
    });

    let grpc =
        DagGrpc { committee, own, parameters: genesis.parameters.clone(), core, hot, checks, verifier, feed, store, network, metrics };
    let service = DagServiceServer::new(grpc).max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX);
    let grpc = server.local_addr();
    supervisor.spawn(name("grpc"), server.serve(Routes::new(service), token));
    Ok(Running { grpc })
}

struct Boot {
    committee: Arc<Committee>,
    own: ValidatorIndex,
    network: Arc<dyn BlockNetwork>,
    intake: Intake,
    core: CoreHandle,
    first: bool,
}

impl Boot {
    async fn run(self) -> Result<(), DagError> {
        if self.first {
            boot::ask_for_own_last_block(&self.committee, self.own, &self.network, &self.intake, &self.core).await?;
        }
        Ok(())
    }
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

fn own_index(committee: &Committee, name: &str) -> Result<ValidatorIndex, DagError> {
    committee.index_of(name).ok_or_else(|| {
        let known: Vec<&str> = committee.validators().iter().map(|v| v.name.as_str()).collect();
        DagError::Config(format!("dag.validator is {name:?}, but the genesis knows {}", known.join(", ")))
    })
}

fn validator_config(config: &Config, genesis: &Genesis, own: ValidatorIndex) -> ValidatorConfig {
    ValidatorConfig {
        own,
        gc_depth: gc_depth(genesis),
        transactions_per_block: (config.dag.max_transactions_per_block as usize).min(kaldrix_types::limits::BLOCK_TRANSACTIONS_MAX),
        body_bytes_per_block: (config.dag.max_block_bytes as usize).min(kaldrix_types::limits::BLOCK_BODY_BYTES_MAX),
    }
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

/// Own store contents were verified before they were written.
struct Trusting;

impl BlockVerifier for Trusting {
    fn verify(&self, _: &PublicKey, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

fn stored_block(stored: &StoredBlock, committee: &Committee) -> Result<VerifiedBlock, DagError> {
    let bad = |e: &dyn std::fmt::Display| DagError::StoredBlock(format!("{}: {e}", stored.reference));
    Block::decode(&stored.bytes).map_err(|e| bad(&e))?.verify(committee, &Trusting, u64::MAX).map_err(|e| bad(&e))
}

async fn recover(
    store: &Arc<dyn ValidatorStore>,
    committee: &Arc<Committee>,
    genesis: &Genesis,
    manager: &mut BlockManager,
) -> anyhow::Result<Recovered> {
    let last_commit = store.last_commit().await?;
    let gc_round = last_commit.as_ref().map_or(0, |c| c.gc_round.max(c.leader.round.saturating_sub(gc_depth(genesis))));
    manager.collect(gc_round);
    let last_own = store.own_last_block().await?;
    let mut cursor = BlockCursor::after_round(gc_round);
    let mut blocks = 0;
    loop {
        let page = store.blocks_after(cursor, RECOVERY_PAGE_BYTES).await?;
        let Some(last) = page.last() else { break };
        cursor = BlockCursor::after_block(&last.reference);
        for stored in &page {
            // An unsigned own proposal joins the DAG when it has been signed.
            let block = stored_block(stored, committee)?;
            if !block.block().signature.is_empty() {
                manager.recover(Arc::new(block));
                blocks += 1;
            }
        }
    }
    let committed = store.committed_refs_after(gc_round).await?;
    tracing::info!(commit = last_commit.as_ref().map_or(0, |c| c.index), blocks, gc_round, "recovered from the store");
    Ok(Recovered { last_commit, committed, last_own })
}

/// The last own block: sent again as it is, or signed again first when the crash came between.
fn unsigned_proposal(stored: &StoredBlock, committee: &Committee, last_own: &LastOwn) -> Result<Option<crate::core::Proposal>, DagError> {
    let verified = stored_block(stored, committee)?;
    let (block, transactions) = (verified.block(), verified.transactions().to_vec());
    if block.signature.is_empty() {
        let (header, body) = (block.header.clone(), block.body.clone());
        return Ok(Some(crate::core::Proposal { header, body, transactions, traceparents: Vec::new(), is_durable: true }));
    }
    *last_own.lock() = Some((stored.reference, stored.bytes.clone()));
    Ok(None)
}

async fn p2p_config(
    config: &Config,
    committee: &Arc<Committee>,
    own: ValidatorIndex,
    verifier: &Verifier,
    crypto: CryptoServiceClient<tonic::transport::Channel>,
    token: &tokio_util::sync::CancellationToken,
) -> anyhow::Result<P2pConfig> {
    let identity = libp2p::identity::Keypair::generate_ed25519();
    let peer_id = identity.public().to_peer_id();
    let digest = kaldrix_p2p::binding_digest(&peer_id, own);
    let signature = sign_binding(committee, digest, crypto, token).await?;
    let listen = config.dag.p2p_listen.parse().map_err(|e| DagError::Config(format!("dag.p2p_listen {:?}: {e}", config.dag.p2p_listen)))?;
    let mut peers = Vec::with_capacity(config.dag.peers.len());
    for peer in &config.dag.peers {
        let index = own_index(committee, &peer.name)?;
        let address = peer.address.parse().map_err(|e| DagError::Config(format!("dag.peers {}: {e}", peer.name)))?;
        if index != own {
            peers.push((index, address));
        }
    }
    let binding = PeerBinding::new(own, &peer_id, signature);
    Ok(P2pConfig { listen, own, committee: Arc::clone(committee), peers, identity, binding, verifier: Arc::new(verifier.clone()) })
}

/// The statement "this peer id is mine", signed by the validator's key. Asks until crypto-service is there.
async fn sign_binding(
    committee: &Committee,
    digest: kaldrix_types::Digest,
    mut crypto: CryptoServiceClient<tonic::transport::Channel>,
    token: &tokio_util::sync::CancellationToken,
) -> anyhow::Result<bytes::Bytes> {
    let request = SignPeerBindingRequest {
        chain_id: bytes::Bytes::copy_from_slice(committee.chain().as_bytes()),
        digest: bytes::Bytes::copy_from_slice(digest.as_bytes()),
    };
    let mut pause = Duration::from_millis(50);
    loop {
        match crypto.sign_peer_binding(kaldrix_service_kit::telemetry::request(request.clone())).await {
            Ok(signature) => return Ok(signature.into_inner().signature),
            Err(status) => tracing::info!(code = ?status.code(), reason = status.message(), "waiting for crypto-service"),
        }
        tokio::select! {
            () = token.cancelled() => return Err(DagError::Stopped.into()),
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(1)),
        }
    }
}
