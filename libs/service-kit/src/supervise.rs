//! Named tasks with one fate: the first that fails or panics stops all, and its name is what the operator reads.

use futures::FutureExt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Why a service stopped, or did not stop in order.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SuperviseError {
    /// A task returned an error.
    #[error("task {task} failed: {reason}")]
    Failed {
        /// Which.
        task: String,
        /// The error with its causes.
        reason: String,
    },
    /// A task panicked.
    #[error("task {task} panicked: {reason}")]
    Panicked {
        /// Which.
        task: String,
        /// The panic's message.
        reason: String,
    },
    /// A task that should run until the stop returned before it.
    #[error("task {task} ended although nobody had asked it to")]
    EndedEarly {
        /// Which.
        task: String,
    },
    /// Tasks did not end in time after the stop.
    #[error("tasks did not end within {limit_ms} ms after the stop: {tasks}")]
    DrainTimedOut {
        /// The limit.
        limit_ms: u128,
        /// Their names.
        tasks: String,
    },
}

/// Spawns tasks and waits for the end. Cloning gives another handle to the same tasks.
#[derive(Clone, Debug)]
pub struct Supervisor {
    tracker: TaskTracker,
    cancel: CancellationToken,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    first: OnceLock<SuperviseError>,
    running: std::sync::Mutex<Vec<String>>,
}

impl Shared {
    fn running(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new(CancellationToken::new())
    }
}

impl Supervisor {
    /// A supervisor that stops when `cancel` is cancelled, and cancels it when a task fails.
    #[must_use]
    pub fn new(cancel: CancellationToken) -> Self {
        Self { tracker: TaskTracker::new(), cancel, shared: Arc::default() }
    }

    /// The stop signal, for tasks.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Runs a task that lives until the stop. An error, a panic, or an end before the stop stops all.
    pub fn spawn<F, E>(&self, name: impl Into<String>, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<anyhow::Error> + Send + 'static,
    {
        self.start(name.into(), task, true);
    }

    /// Runs a task that may end in order at any time. An error or a panic stops all.
    pub fn spawn_finite<F, E>(&self, name: impl Into<String>, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<anyhow::Error> + Send + 'static,
    {
        self.start(name.into(), task, false);
    }

    fn start<F, E>(&self, name: String, task: F, until_stop: bool)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<anyhow::Error> + Send + 'static,
    {
        self.shared.running().push(name.clone());
        let (shared, cancel) = (Arc::clone(&self.shared), self.cancel.clone());
        self.tracker.spawn(async move {
            let failure = match AssertUnwindSafe(task).catch_unwind().await {
                Ok(Ok(())) if !until_stop || cancel.is_cancelled() => None,
                Ok(Ok(())) => {
                    // Often the end of another task closed this one's channel: let the cause be reported, not the consequence.
                    let _ = tokio::time::timeout(Duration::from_millis(100), cancel.cancelled()).await;
                    (!cancel.is_cancelled()).then(|| SuperviseError::EndedEarly { task: name.clone() })
                }
                Ok(Err(error)) => Some(SuperviseError::Failed { task: name.clone(), reason: format!("{:#}", error.into()) }),
                Err(panic) => Some(SuperviseError::Panicked { task: name.clone(), reason: panic_text(panic.as_ref()) }),
            };
            if let Some(failure) = failure {
                if cancel.is_cancelled() {
                    tracing::warn!(%failure, "while stopping");
                } else {
                    tracing::error!(%failure, "stopping");
                }
                let _ = shared.first.set(failure);
                cancel.cancel();
            }
            let mut running = shared.running();
            if let Some(at) = running.iter().position(|n| *n == name) {
                running.swap_remove(at);
            }
        });
    }

    /// Waits for the stop (token or failure), then for the tasks, at most `drain_max`.
    ///
    /// # Errors
    /// The first failure; [`SuperviseError::DrainTimedOut`] with the names of the tasks that hang.
    pub async fn run(self, drain_max: Duration) -> Result<(), SuperviseError> {
        self.cancel.cancelled().await;
        self.tracker.close();
        if tokio::time::timeout(drain_max, self.tracker.wait()).await.is_err() {
            let failure = SuperviseError::DrainTimedOut { limit_ms: drain_max.as_millis(), tasks: self.shared.running().join(", ") };
            let _ = self.shared.first.set(failure);
        }
        self.shared.first.get().cloned().map_or(Ok(()), Err)
    }

    /// As [`Supervisor::run`], and SIGINT or SIGTERM is a stop too. A second signal does not wait for the drain.
    ///
    /// # Errors
    /// As [`Supervisor::run`].
    pub async fn run_until_signal(self, drain_max: Duration) -> Result<(), SuperviseError> {
        let cancel = self.cancel.clone();
        let running = self.run(drain_max);
        tokio::pin!(running);
        tokio::select! {
            result = &mut running => return result,
            signal = signal() => tracing::info!(signal, "stopping"),
        }
        cancel.cancel();
        tokio::select! {
            result = running => result,
            signal = signal() => {
                tracing::warn!(signal, "second signal: not waiting any longer");
                Ok(())
            }
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// Waits for SIGINT or SIGTERM and names it.
pub async fn signal() -> &'static str {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
            (Ok(mut interrupt), Ok(mut terminate)) => tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            },
            _ => {
                tracing::error!("cannot listen for signals; stop this process by killing it");
                std::future::pending().await
            }
        }
    }
    #[cfg(not(unix))]
    {
        let _ = tokio::signal::ctrl_c().await;
        "Ctrl-C"
    }
}
