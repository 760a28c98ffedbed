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
const SILENCE_MAX: Duration = Duration::from_secs(3);
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

/// Which dag-services have answered that their history begins later than what is asked for: new validators, and such as have lost their
/// disk, begin with a snapshot. They stay in the round, since what they lack now they may follow later, when the region has it from
/// another one.
struct Latecomers(Vec<bool>);

/// What another such answer means.
#[derive(Debug, PartialEq, Eq)]
struct Late {
    /// It is this one's first since it last gave commits.
    is_news: bool,
    /// Nobody is left who may have the commits: it is no use to hurry.
    is_everyone: bool,
}

impl Latecomers {
    fn answered_late(&mut self, client: usize) -> Late {
        let is_news = !std::mem::replace(&mut self.0[client], true);
        Late { is_news, is_everyone: self.0.iter().all(|late| *late) }
    }

    fn gave_commits(&mut self, client: usize) {
        self.0[client] = false;
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
        let mut latecomers = Latecomers(vec![false; self.clients.len()]);
        for turn in 0usize.. {
            let turn = turn % self.clients.len();
            let client = self.clients[turn].clone();
            let before = self.next;
            let Some(error) = self.follow(&client).await else { return };
            if self.next > before {
                backoff.reset();
                latecomers.gave_commits(turn);
            }
            self.metrics.source_failures.inc();
            self.set_connected(Some(&error));
            if matches!(error, SourceError::Later(_)) {
                let late = latecomers.answered_late(turn);
                self.tell_late(&client, &late, &error);
                if late.is_everyone {
                    tokio::time::sleep(backoff.wait()).await;
                }
                continue;
            }
            let wait = backoff.wait();
            tracing::warn!(endpoint = client.endpoint(), next = self.next, wait_ms = wait.as_millis(), %error, "no commits from the dag-service; trying again");
            tokio::time::sleep(wait).await;
        }
    }

    /// Says once what will not change by trying.
    fn tell_late(&self, client: &DagClient, late: &Late, error: &SourceError) {
        if late.is_news {
            tracing::warn!(endpoint = client.endpoint(), next = self.next, %error, "this dag-service lacks commits that the region needs; asking the others");
        }
        if late.is_news && late.is_everyone {
            tracing::error!(
                next = self.next,
                "no dag-service has the commits that the region needs; still trying: add one with the whole history to region.dag_endpoints"
            );
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_lacks_history_is_named_once_and_nobody_waits_while_another_may_have_it() {
        let mut latecomers = Latecomers(vec![false; 2]);
        assert_eq!(latecomers.answered_late(0), Late { is_news: true, is_everyone: false });
        assert_eq!(latecomers.answered_late(0), Late { is_news: false, is_everyone: false });
        assert_eq!(latecomers.answered_late(1), Late { is_news: true, is_everyone: true });
        assert_eq!(latecomers.answered_late(0), Late { is_news: false, is_everyone: true });
        latecomers.gave_commits(1);
        assert_eq!(latecomers.answered_late(0), Late { is_news: false, is_everyone: false });
        assert_eq!(latecomers.answered_late(1), Late { is_news: true, is_everyone: true });
    }
}
