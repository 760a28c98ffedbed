//! Constructs everything and starts it; no I/O loops in here.

use crate::config::{AUDIT_BYTES_MAX, BATCHES_WAITING_MAX, KEY_CACHE_CAPACITY, REQUEST_BYTES_MAX, SIGNING_WAITING_MAX, Settings};
use crate::core::audit::AuditLog;
use crate::core::desk::SigningDesk;
use crate::core::guard::{Guard, Origin};
use crate::core::policy::Policy;
use crate::core::session::SessionKeys;
use crate::error::CryptoServiceError;
use crate::grpc::{CryptoGrpc, NewKeys, Signing, Verification};
use crate::metrics::Metrics;
use kaldrix_crypto::Verifier;
use kaldrix_proto::crypto::crypto_service_server::CryptoServiceServer;
use kaldrix_service_kit::identity::Service;
use kaldrix_service_kit::{Config, GrpcServer, Supervisor, TlsMaterial, metrics as kit_metrics};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

/// A running service.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    /// Where its gRPC port is.
    pub grpc: SocketAddr,
}

/// The whole life of the process.
#[must_use]
pub fn run(config: &Path) -> ExitCode {
    kaldrix_service_kit::service_main(config, Service::CryptoService, |config, supervisor| async move {
        start(&config, &supervisor).await.map(|_| ())
    })
}

/// The whole life of a process that only creates the guard of a key that has never signed.
#[must_use]
pub fn run_new_guard(config: &Path) -> ExitCode {
    kaldrix_service_kit::service_main(config, Service::CryptoService, |config, supervisor| async move {
        let settings = Settings::from_config(&config)?;
        Guard::create(&settings.guard_file, settings.load_public_key()?.id(), settings.chain, Origin::ExistingKey)
            .map_err(CryptoServiceError::from)?;
        tracing::info!(path = %settings.guard_file.display(), "created the double-sign guard");
        supervisor.token().cancel();
        Ok(())
    })
}

/// Starts the service's tasks under `supervisor`.
///
/// # Errors
/// A configuration, key, guard or socket that cannot be used, with what to do about it.
pub async fn start(config: &Config, supervisor: &Supervisor) -> anyhow::Result<Running> {
    let settings = Settings::from_config(config)?;
    let tls = TlsMaterial::load(&config.tls)?;
    let server = GrpcServer::builder(&tls, settings.listen).bind().await?;
    let mut registry = kit_metrics::registry("crypto");
    let metrics = Arc::new(Metrics::new(&mut registry));
    // Unlocking takes a tenth of a second of one core, and the guard reads a disk.
    let opened = settings.clone();
    let desk = tokio::task::spawn_blocking(move || open_desk(&opened)).await.map_err(|e| CryptoServiceError::Worker(e.to_string()))??;
    let (epoch, round) = desk.last_signed();
    metrics.signed_up_to(round);
    let keys = desk.public_keys();
    tracing::info!(validator = %settings.validator, ?keys, epoch, round, "the keys are ready; signed up to this round");

    let token = supervisor.token();
    let name = |task: &str| format!("{}/crypto-service/{task}", settings.validator);
    if let Some(listen) = config.telemetry.metrics_listen {
        let metrics_server = kit_metrics::MetricsServer::bind(listen, Arc::new(registry), kit_metrics::Readiness::default()).await?;
        supervisor.spawn(name("metrics"), metrics_server.serve(token.clone()));
    }
    let (failures, failed) = mpsc::channel(1);
    supervisor.spawn(name("signing"), watch(failed, token.clone()));
    let signing = Signing::new(desk, SIGNING_WAITING_MAX, failures, Arc::clone(&metrics));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let verification = Verification::new(Verifier::new(KEY_CACHE_CAPACITY), threads, BATCHES_WAITING_MAX, metrics);
    let new_keys = NewKeys::new(settings.clone());
    let service = CryptoServiceServer::new(CryptoGrpc::new(settings.owner(), settings.chain, signing, new_keys, verification))
        .max_decoding_message_size(REQUEST_BYTES_MAX);
    let grpc = server.local_addr();
    supervisor.spawn(name("grpc"), server.serve(Routes::new(service), token));
    Ok(Running { grpc })
}

fn open_desk(settings: &Settings) -> Result<SigningDesk, CryptoServiceError> {
    let key = settings.load_key()?;
    let guard = Guard::open(&settings.guard_file, key.public_key().id(), settings.chain)?;
    if guard.was_recovered() {
        tracing::warn!(path = %settings.guard_file.display(), last = ?guard.last(), "one slot of the double-sign guard was unreadable: \
            expected after a crash while signing, otherwise look at the disk");
    }
    let audit = AuditLog::open(&settings.audit_log, AUDIT_BYTES_MAX)
        .map_err(|source| CryptoServiceError::Audit { path: settings.audit_log.clone(), source })?;
    let mut desk = SigningDesk::new(Arc::new(key), Policy::validator(settings.chain), guard, audit);
    for (key, guard) in SessionKeys::beside(&settings.key_file, settings.chain).load(settings.read_passphrase()?.as_ref())? {
        desk.add(Arc::new(key), guard);
    }
    Ok(desk)
}

/// Ends the service by name when signing is not safe any more.
async fn watch(mut failed: mpsc::Receiver<CryptoServiceError>, token: CancellationToken) -> Result<(), CryptoServiceError> {
    tokio::select! {
        () = token.cancelled() => Ok(()),
        failure = failed.recv() => failure.map_or(Ok(()), Err),
    }
}
