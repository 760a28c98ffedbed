//! Metrics, liveness and readiness, and the small HTTP server that shows them for services without a public API.

use crate::server::{ServerError, bind};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A registry whose metrics all begin with `kaldrix_<service>_` (a dash in the service's name becomes an underscore).
#[must_use]
pub fn registry(service: &str) -> Registry {
    Registry::with_prefix(format!("kaldrix_{}", service.replace('-', "_")))
}

/// Whether a service can do its work: every gate must be open. No gates: ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    gates: Arc<Mutex<BTreeMap<String, Option<String>>>>,
}

impl Readiness {
    fn gates(&self) -> MutexGuard<'_, BTreeMap<String, Option<String>>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a gate, closed at first because "not started".
    #[must_use]
    pub fn gate(&self, name: impl Into<String>) -> Gate {
        let name = name.into();
        self.gates().insert(name.clone(), Some("not started".to_owned()));
        Gate { readiness: self.clone(), name }
    }

    /// What stands in the way, as `gate: reason`; empty when ready.
    #[must_use]
    pub fn obstacles(&self) -> Vec<String> {
        self.gates().iter().filter_map(|(name, reason)| reason.as_ref().map(|reason| format!("{name}: {reason}"))).collect()
    }

    /// Whether all gates are open.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.gates().values().all(Option::is_none)
    }
}

/// One condition of readiness.
#[derive(Clone, Debug)]
pub struct Gate {
    readiness: Readiness,
    name: String,
}

impl Gate {
    /// The condition holds.
    pub fn open(&self) {
        self.readiness.gates().insert(self.name.clone(), None);
    }

    /// The condition does not hold, for this reason.
    pub fn close(&self, reason: impl Into<String>) {
        self.readiness.gates().insert(self.name.clone(), Some(reason.into()));
    }
}

/// `/metrics` (OpenMetrics text), `/livez` (200 while the process answers), `/readyz` (200, or 503 with the obstacles, one a line).
pub fn routes(registry: Arc<Registry>, readiness: Readiness) -> Router {
    let ready = get(|State(readiness): State<Readiness>| async move {
        let obstacles = readiness.obstacles();
        if obstacles.is_empty() {
            (StatusCode::OK, "ready\n".to_owned())
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, obstacles.join("\n") + "\n")
        }
    });
    Router::new()
        .route("/metrics", get(metrics).with_state(registry))
        .route("/livez", get(|| async { "live\n" }))
        .route("/readyz", ready.with_state(readiness))
}

async fn metrics(State(registry): State<Arc<Registry>>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => (StatusCode::OK, [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], String::new())
        }
    }
}

/// A bound metrics server.
#[derive(Debug)]
pub struct MetricsServer {
    listener: tokio::net::TcpListener,
    routes: Router,
}

impl MetricsServer {
    /// Binds `listen` for [`routes`].
    ///
    /// # Errors
    /// [`ServerError`] when the address cannot be used.
    pub async fn bind(listen: SocketAddr, registry: Arc<Registry>, readiness: Readiness) -> Result<Self, ServerError> {
        Ok(Self { listener: bind(listen).await?, routes: routes(registry, readiness) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The operating system's.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `cancel`, and a second longer at most.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn serve(self, cancel: CancellationToken) -> std::io::Result<()> {
        let serving = axum::serve(self.listener, self.routes).with_graceful_shutdown(cancel.clone().cancelled_owned());
        tokio::select! {
            result = serving.into_future() => result,
            () = async { cancel.cancelled().await; tokio::time::sleep(Duration::from_secs(1)).await } => Ok(()),
        }
    }
}
