//! The life of a service's process, the same for all five: read the configuration (a wrong one exits before any port is bound), set up
//! TLS and telemetry, start, wait for a signal or a failure, drain.

use crate::identity::Service;
use crate::supervise::Supervisor;
use crate::{Config, telemetry, tls};
use std::future::Future;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long requests and queues may take to finish after a stop was asked for.
pub const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Runs `service` with the configuration at `path` until a signal or a failure. Exit codes: 0 stopped in order, 1 failed, 2 wrong configuration.
pub fn service_main<F, Fut>(path: &Path, service: Service, start: F) -> ExitCode
where
    F: FnOnce(Config, Supervisor) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let config = match Config::load_checked(path, &[service]) {
        Ok(config) => config,
        Err(error) => {
            say(&error.to_string());
            return ExitCode::from(2);
        }
    };
    tls::install_crypto_provider();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("the runtime cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        match life(config, service, start).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                say(&format!("{service} stopped: {error:#}"));
                ExitCode::FAILURE
            }
        }
    });
    // What still hangs (hyper#4170) does not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

async fn life<F, Fut>(config: Config, service: Service, start: F) -> anyhow::Result<()>
where
    F: FnOnce(Config, Supervisor) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let guard = telemetry::init(&config.telemetry, service.as_str())?;
    let supervisor = Supervisor::new(CancellationToken::new());
    let token = supervisor.token();
    let started = tokio::select! {
        started = start(config, supervisor.clone()) => Some(started),
        signal = crate::supervise::signal() => {
            tracing::info!(signal, "stopped while starting");
            None
        }
    };
    let result = match started {
        Some(Ok(())) => {
            tracing::info!(service = service.as_str(), "started");
            supervisor.run_until_signal(DRAIN_MAX).await.map_err(Into::into)
        }
        Some(Err(error)) => {
            token.cancel();
            Err(error)
        }
        None => {
            token.cancel();
            Ok(())
        }
    };
    guard.shutdown().await;
    result
}

/// Errors before and after logging exists go to stderr as they are.
#[allow(clippy::print_stderr)]
fn say(text: &str) {
    eprintln!("error: {text}");
}
