//! Writes commits into the read model, as many at once as there are, and then tells of them.

use super::{Backoff, Buffered};
use crate::core::{Head, Hub, Projected, Projection, drop_decided_elsewhere};
use crate::error::SyncError;
use crate::grpc::Received;
use crate::metrics::Metrics;
use kaldrix_service_kit::{Service, telemetry};
use kaldrix_storage::{RegionBatch, RegionStore, StoreError};
use kaldrix_types::TimestampMs;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::Span;

/// What one write may hold. A single commit above the limit on transactions is written alone.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// Commits.
    pub commits_max: usize,
    /// Transactions.
    pub transactions_max: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { commits_max: 64, transactions_max: 5_000 }
    }
}

/// The task.
pub struct Projector {
    store: Arc<dyn RegionStore>,
    hub: Arc<Hub>,
    metrics: Metrics,
    limits: BatchLimits,
    inbox: mpsc::Receiver<Buffered>,
    /// Taken out of the inbox, but too much for the batch at hand.
    held_back: Option<Buffered>,
}

/// A batch that is to be written, with the spans of its traced transactions: they end when it can be read.
struct Gathered {
    projected: Projected,
    spans: Vec<Span>,
    /// Keep the buffer's bytes taken until the write is done.
    _shares: Vec<OwnedSemaphorePermit>,
}

impl Projector {
    /// Goes on behind the hub's head with what comes out of `inbox`.
    #[must_use]
    pub const fn new(
        store: Arc<dyn RegionStore>,
        hub: Arc<Hub>,
        metrics: Metrics,
        limits: BatchLimits,
        inbox: mpsc::Receiver<Buffered>,
    ) -> Self {
        Self { store, hub, metrics, limits, inbox, held_back: None }
    }

    /// Runs until `stop`, or until the inbox is closed and empty.
    ///
    /// # Errors
    /// [`SyncError::Project`] when a commit does not fit what the region has, [`SyncError::Store`] when the store fails for good. Both are meant to
    /// stop the service: going on would serve wrong answers.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), SyncError> {
        let mut head = self.hub.head();
        loop {
            let first = match self.held_back.take() {
                Some(held_back) => Some(held_back),
                None => stop.run_until_cancelled(self.inbox.recv()).await.flatten(),
            };
            let Some(first) = first else { return Ok(()) };
            let gathered = self.gather(head, first)?;
            head = gathered.projected.head;
            if !self.write(gathered, &stop).await? {
                return Ok(());
            }
        }
    }

    /// `first`, and what else is there already and fits.
    fn gather(&mut self, head: Head, first: Buffered) -> Result<Gathered, SyncError> {
        let mut projection = Projection::after(head);
        let (mut spans, mut shares) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some(buffered) = next.take() {
            self.metrics.buffered_commits.dec();
            let (received, share) = buffered.into_parts();
            shares.push(share);
            let traces = open_spans(&received, &mut spans);
            projection.push(received.executed, &traces)?;
            if projection.commit_count() >= self.limits.commits_max {
                break;
            }
            if let Ok(more) = self.inbox.try_recv() {
                if projection.transaction_count() + more.received.executed.outcomes.len() <= self.limits.transactions_max {
                    next = Some(more);
                } else {
                    self.held_back = Some(more);
                }
            }
        }
        Ok(Gathered { projected: projection.finish(), spans, _shares: shares })
    }

    /// Writes, then publishes. `false` when told to stop before the store took it.
    async fn write(&self, gathered: Gathered, stop: &CancellationToken) -> Result<bool, SyncError> {
        let Gathered { projected, spans, _shares } = gathered;
        let Projected { batch, mut notices, head, transaction_count } = projected;
        let begin = Instant::now();
        if !self.apply(batch, stop).await? {
            return Ok(false);
        }
        self.metrics.apply_ms.observe(begin.elapsed().as_secs_f64() * 1e3);
        drop_decided_elsewhere(self.store.as_ref(), &mut notices).await?;
        self.metrics.batch_commits.observe(notices.len() as f64);
        self.metrics.batch_transactions.observe(transaction_count as f64);
        self.metrics.transactions.inc_by(transaction_count as u64);
        self.metrics.commit_index.set(i64::try_from(head.index).unwrap_or(i64::MAX));
        self.metrics.lag_ms.set(i64::try_from(now_ms().saturating_sub(head.timestamp_ms)).unwrap_or(i64::MAX));
        drop(spans);
        self.hub.publish(head, notices);
        Ok(true)
    }

    /// Waits out what passes (another connection's lock, a full disk); `false` when told to stop meanwhile.
    async fn apply(&self, batch: RegionBatch, stop: &CancellationToken) -> Result<bool, StoreError> {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        loop {
            match self.store.apply(batch.clone()).await {
                Ok(()) => return Ok(true),
                Err(error) if error.is_retryable() => {
                    self.metrics.apply_retries.inc();
                    tracing::warn!(%error, cursor = batch.cursor, "the read model does not take a write; trying again");
                    if stop.run_until_cancelled(tokio::time::sleep(backoff.wait())).await.is_none() {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Opens a span for each traced transaction, in its trace; gives what its notice passes on.
fn open_spans(received: &Received, spans: &mut Vec<Span>) -> BTreeMap<u32, String> {
    let passed_on = received.traces.iter().map(|(position, incoming)| {
        let span = telemetry::span_in_trace("project", Service::RegionSync.as_str(), Some(incoming));
        let own = span.in_scope(telemetry::traceparent).unwrap_or_else(|| incoming.clone());
        spans.push(span);
        (*position, own)
    });
    passed_on.collect()
}

fn now_ms() -> TimestampMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TimestampMs::try_from(since.as_millis()).unwrap_or(TimestampMs::MAX)
}
