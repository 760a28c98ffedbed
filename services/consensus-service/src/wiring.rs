//! Constructs everything and starts it; no I/O loops in here.

use crate::core::Chain;
use crate::error::ConsensusError;
use crate::grpc::ConsensusGrpc;
use crate::metrics::Metrics;
use kaldrix_consensus::CoreConfig;
use kaldrix_proto::consensus::consensus_service_server::ConsensusServiceServer;
use kaldrix_service_kit::identity::Service;
use kaldrix_service_kit::server::MESSAGE_BYTES_MAX;
use kaldrix_service_kit::{Config, GrpcServer, Owner, Supervisor, TlsMaterial, metrics as kit_metrics};
use kaldrix_types::Genesis;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use tonic::service::Routes;

/// A running service.
pub struct Running {
    /// Where its gRPC port is.
    pub grpc: SocketAddr,
}

/// The whole life of the process.
#[must_use]
pub fn run(config: &Path) -> ExitCode {
    kaldrix_service_kit::service_main(config, Service::ConsensusService, |config, supervisor| async move {
        start(&config, &supervisor).await.map(|_| ())
    })
}

/// Starts the service's tasks under `supervisor`.
///
/// # Errors
/// A configuration or socket that cannot be used, with what to do about it.
pub async fn start(config: &Config, supervisor: &Supervisor) -> anyhow::Result<Running> {
    let chain = chain(config)?;
    let owner = Owner::Validator(config.dag.validator.clone());
    let tls = TlsMaterial::load(&config.tls)?;
    let server = GrpcServer::builder(&tls, config.consensus.listen).bind().await?;
    let mut registry = kit_metrics::registry("consensus");
    let metrics = Arc::new(Metrics::new(&mut registry));
    let token = supervisor.token();
    let name = |task: &str| format!("{}/consensus-service/{task}", config.dag.validator);
    if let Some(listen) = config.telemetry.metrics_listen {
        let metrics_server = kit_metrics::MetricsServer::bind(listen, Arc::new(registry), kit_metrics::Readiness::default()).await?;
        supervisor.spawn(name("metrics"), metrics_server.serve(token.clone()));
    }
    let service = ConsensusServiceServer::new(ConsensusGrpc::new(chain, owner, metrics, token.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let grpc = server.local_addr();
    supervisor.spawn(name("grpc"), server.serve(Routes::new(service), token));
    Ok(Running { grpc })
}

fn chain(config: &Config) -> Result<Chain, ConsensusError> {
    let path = &config.dag.genesis;
    let text = std::fs::read_to_string(path)
        .map_err(|e| ConsensusError::Config(format!("the genesis file {} cannot be read: {e}", path.display())))?;
    let genesis = Genesis::from_json(&text).map_err(|e| ConsensusError::Config(format!("the genesis file {}: {e}", path.display())))?;
    let committee = genesis.committee().map_err(|e| ConsensusError::Config(e.to_string()))?;
    let expected = config.consensus.num_validators as usize;
    if expected != 0 && expected != committee.size() {
        let found = committee.size();
        return Err(ConsensusError::Config(format!("consensus.num_validators is {expected}, but the genesis has {found} validators")));
    }
    let least = config.consensus.min_validators as usize;
    if committee.size() < least {
        let found = committee.size();
        return Err(ConsensusError::Config(format!("consensus.min_validators is {least}, but the genesis has {found} validators")));
    }
    let reward = genesis.parameters.block_reward.to_string();
    if config.consensus.block_reward != reward {
        let found = &config.consensus.block_reward;
        return Err(ConsensusError::Config(format!(
            "consensus.block_reward is {found}, but this chain's is {reward}: it is the chain's to say"
        )));
    }
    let validator = config.dag.validator.clone();
    let core = CoreConfig {
        min_round_delay_ms: config.consensus.block_time_target_ms,
        idle_round_delay_ms: config.consensus.idle_block_time_ms,
        leader_timeout_ms: config.consensus.leader_timeout_ms,
        gc_depth: genesis.parameters.gc_depth,
        leaders_per_round: genesis.parameters.leaders_per_round,
        schedule_commits: genesis.parameters.schedule_commits,
        ..CoreConfig::default()
    };
    Ok(Chain { id: committee.chain(), validator, config: core })
}
