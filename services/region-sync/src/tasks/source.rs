//! Takes commits in from one of several dag-services, for as long as the region lives.

use super::Backoff;
use crate::core::Hub;
use crate::grpc::{DagClient, Received, SourceError};
use crate::metrics::Metrics;
use futures::StreamExt;
use kaldrix_service_kit::metrics::Gate;
use kaldrix_types::CommitIndex;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// Commits received and not yet written.
const BUFFER_COMMITS: usize = 256;
/// Their encoded size in KiB: 64 MiB.
const BUFFER_KIB: u32 = 64 * 1024;
/// With more than one dag-service: how long one may be silent before another is asked. Even an idle network commits more often.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const WAIT_FIRST: Duration = Duration::from_millis(100);
const WAIT_MOST: Duration = Duration::from_secs(5);

/// A commit in the buffer, with its share of the buffer's bytes.
pub struct Buffered {
    /// The commit.
    pub received: Received,
    share: OwnedSemaphorePermit,
}

impl Buffered {
    /// The commit, and its share, which is given back when dropped.
    pub fn into_parts(self) -> (Received, OwnedSemaphorePermit) {
        (self.received, self.share)
    }
}

/// The sending end of the buffer.
pub struct Inlet {
    queue: mpsc::Sender<Buffered>,
    kib: Arc<Semaphore>,
}

/// A buffer between [`Source`] and [`super::Projector`], bounded by commits and by bytes.
#[must_use]
pub fn buffer() -> (Inlet, mpsc::Receiver<Buffered>) {
    let (queue, outlet) = mpsc::channel(BUFFER_COMMITS);
    (Inlet { queue, kib: Arc::new(Semaphore::new(BUFFER_KIB as usize)) }, outlet)
}

impl Inlet {
    /// Waits for room. `None` when nobody takes commits out any more.
    async fn put(&self, received: Received) -> Option<()> {
        // A commit above the whole budget takes all of it: it passes alone.
        let kib = u32::try_from(received.bytes / 1024 + 1).unwrap_or(BUFFER_KIB).min(BUFFER_KIB);
        let share = Arc::clone(&self.kib).acquire_many_owned(kib).await.ok()?;
        self.queue.send(Buffered { received, share }).await.ok()
    }
}

/// The task.
pub struct Source {
    clients: Vec<DagClient>,
    next: CommitIndex,
    inlet: Inlet,
    hub: Arc<Hub>,
    metrics: Metrics,
    gate: Gate,
}

impl Source {
    /// Takes commits from the hub's head on from the first of `clients` that answers; `gate` is open while one does.
    #[must_use]
    pub fn new(clients: Vec<DagClient>, inlet: Inlet, hub: Arc<Hub>, metrics: Metrics, gate: Gate) -> Self {
        let next = hub.head().index + 1;
        Self { clients, next, inlet, hub, metrics, gate }
    }

    /// Runs until `stop`, or until nobody takes commits out any more.
    ///
    /// # Errors
    /// None: a dag-service that fails is tried again, in turn with the others.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        let _ = stop.run_until_cancelled(self.go_round()).await;
        self.set_connected(None);
        Ok(())
    }

    async fn go_round(&mut self) {
        let mut backoff = Backoff::new(WAIT_FIRST, WAIT_MOST);
        for turn in 0usize.. {
            let client = self.clients[turn % self.clients.len()].clone();
            let before = self.next;
            let Some(error) = self.follow(&client).await else { return };
            if self.next > before {
                backoff.reset();
            }
            self.metrics.source_failures.inc();
            self.set_connected(Some(&error));
            let wait = backoff.wait();
            tracing::warn!(endpoint = client.endpoint(), next = self.next, wait_ms = wait.as_millis(), %error, "no commits from the dag-service; trying again");
            tokio::time::sleep(wait).await;
        }
    }

    fn set_connected(&self, error: Option<&SourceError>) {
        self.hub.set_source_connected(false);
        self.metrics.source_connected.set(0);
        self.gate.close(error.map_or_else(|| "stopping".to_owned(), |e| format!("no commits from the dag-service: {e}")));
    }

    /// Takes commits until something is wrong; `None` when the buffer is closed.
    async fn follow(&mut self, client: &DagClient) -> Option<SourceError> {
        let mut stream = match client.subscribe(self.next).await {
            Ok(stream) => stream,
            Err(error) => return Some(error),
        };
        tracing::info!(endpoint = client.endpoint(), from = self.next, "taking commits");
        self.hub.set_source_connected(true);
        self.metrics.source_connected.set(1);
        self.gate.open();
        loop {
            let next = if self.clients.len() > 1 {
                match tokio::time::timeout(SILENCE_MAX, stream.next()).await {
                    Ok(next) => next,
                    Err(_) => return Some(SourceError::Silent(SILENCE_MAX.as_millis())),
                }
            } else {
                stream.next().await
            };
            let received = match next {
                None => return Some(SourceError::Ended),
                Some(Err(error)) => return Some(error),
                Some(Ok(received)) => received,
            };
            // Whether it follows is the projection's to judge: a gap is no reason to ask again but to stop.
            self.next = received.executed.commit.index.saturating_add(1);
            self.inlet.put(received).await?;
            self.metrics.buffered_commits.inc();
        }
    }
}
