//! `kaldrix.region.v1.RegionService`: who is told of commits, and how the region is.

use crate::core::{Hub, Notice, NoticeTransaction, notices_from};
use crate::metrics::Metrics;
use kaldrix_api::{ApiError, ErrorCode};
use kaldrix_proto::region::region_service_server::{RegionService, RegionServiceServer};
use kaldrix_proto::region::{GetStatusRequest, ProjectedCommit, ProjectedTransaction, Status as RegionStatus, SubscribeProjectedRequest};
use kaldrix_service_kit::server::MESSAGE_BYTES_MAX;
use kaldrix_service_kit::{Caller, Owner, Service, allow_from};
use kaldrix_storage::{RegionStore, StoreError};
use kaldrix_types::{CommitIndex, encode};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// Streams at one time: a region has a handful of ledger-apis.
const SUBSCRIBERS_MAX: usize = 256;
/// Notices on their way to one subscriber, beside those of the hub.
const OUTBOX: usize = 16;
/// Commits read from the store at once for a subscriber that catches up.
const REPLAY_COMMITS: usize = 32;
/// How long a subscriber may take nothing at all.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// The service's handlers.
pub struct RegionGrpc {
    region: String,
    store: Arc<dyn RegionStore>,
    hub: Arc<Hub>,
    metrics: Metrics,
    slots: Arc<Semaphore>,
    stop: CancellationToken,
}

impl RegionGrpc {
    /// Handlers of `region`; `stop` ends its streams.
    #[must_use]
    pub fn new(region: String, store: Arc<dyn RegionStore>, hub: Arc<Hub>, metrics: Metrics, stop: CancellationToken) -> Self {
        Self { region, store, hub, metrics, slots: Arc::new(Semaphore::new(SUBSCRIBERS_MAX)), stop }
    }

    /// The tonic service.
    #[must_use]
    pub fn into_server(self) -> RegionServiceServer<Self> {
        RegionServiceServer::new(self).max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl RegionService for RegionGrpc {
    type SubscribeProjectedStream = ReceiverStream<Result<ProjectedCommit, Status>>;

    async fn subscribe_projected(
        &self,
        request: Request<SubscribeProjectedRequest>,
    ) -> Result<Response<Self::SubscribeProjectedStream>, Status> {
        allow_from(&request, &Owner::Region(self.region.clone()), &[Service::LedgerApi])?;
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| {
            ApiError::new(ErrorCode::Overloaded, format!("{SUBSCRIBERS_MAX} subscribers are all this region serves")).retry_after(1_000)
        })?;
        let from = match request.into_inner().from_index {
            0 => self.hub.head().index + 1,
            from => from,
        };
        let (outbox, stream) = mpsc::channel(OUTBOX);
        let subscriber = Subscriber {
            store: Arc::clone(&self.store),
            hub: Arc::clone(&self.hub),
            metrics: self.metrics.clone(),
            outbox,
            next: from,
            _slot: slot,
        };
        tokio::spawn(subscriber.run(self.stop.clone()));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn get_status(&self, request: Request<GetStatusRequest>) -> Result<Response<RegionStatus>, Status> {
        Caller::of(&request)?;
        let head = self.hub.head();
        let totals = self.store.totals().await.map_err(|e| unavailable(&e))?;
        Ok(Response::new(RegionStatus {
            region: self.region.clone(),
            commit_index: head.index,
            commit_timestamp_ms: head.timestamp_ms,
            commit_digest: head.digest.as_bytes().to_vec().into(),
            source_connected: self.hub.source_connected(),
            transaction_count: totals.transactions,
        }))
    }
}

/// The cause is logged here; the caller gets a code.
fn unavailable(error: &StoreError) -> Status {
    tracing::error!(%error, "the read model cannot be read");
    ApiError::from(ErrorCode::ReadModelUnavailable).retry_after(500).into()
}

/// One stream of notices: first from the store, then live.
struct Subscriber {
    store: Arc<dyn RegionStore>,
    hub: Arc<Hub>,
    metrics: Metrics,
    outbox: mpsc::Sender<Result<ProjectedCommit, Status>>,
    next: CommitIndex,
    _slot: OwnedSemaphorePermit,
}

/// Why a stream is over.
enum End {
    /// The subscriber left, or takes nothing.
    Gone,
    /// To be told.
    Told(Status),
}

impl Subscriber {
    async fn run(mut self, stop: CancellationToken) {
        self.metrics.subscribers.inc();
        let outbox = self.outbox.clone();
        let end = tokio::select! {
            end = self.follow() => end,
            () = outbox.closed() => End::Gone,
            () = stop.cancelled() => End::Told(Status::unavailable("this region-sync is stopping; resume from the last commit you have seen")),
        };
        if let End::Told(status) = end {
            // It may be slow, not gone: it reads what it has first.
            let _ = tokio::time::timeout(Duration::from_secs(1), outbox.send(Err(status))).await;
        }
        self.metrics.subscribers.dec();
    }

    async fn follow(&mut self) -> End {
        loop {
            // Subscribe first, read the head second: what is above the head will come through `live` (see `Hub`).
            let mut live = self.hub.subscribe();
            let head = self.hub.head().index;
            if self.next <= head {
                drop(live);
                if let Err(end) = self.replay(head).await {
                    return end;
                }
                continue;
            }
            loop {
                match live.recv().await {
                    Ok(notice) if notice.index < self.next => {}
                    Ok(notice) => {
                        if let Err(end) = self.send(&notice).await {
                            return end;
                        }
                    }
                    Err(RecvError::Lagged(missed)) => return self.cut(missed),
                    Err(RecvError::Closed) => return End::Told(Status::unavailable("this region-sync is stopping; resume later")),
                }
            }
        }
    }

    async fn replay(&mut self, head: CommitIndex) -> Result<(), End> {
        while self.next <= head {
            let limit = usize::try_from(head - self.next + 1).unwrap_or(REPLAY_COMMITS).min(REPLAY_COMMITS);
            let notices = notices_from(self.store.as_ref(), self.next, limit).await.map_err(|e| End::Told(unavailable(&e)))?;
            if notices.first().is_none_or(|first| first.index != self.next) {
                let gap = StoreError::Damaged(format!("commit {} is missing", self.next));
                return Err(End::Told(unavailable(&gap)));
            }
            for notice in &notices {
                self.send(notice).await?;
            }
        }
        Ok(())
    }

    async fn send(&mut self, notice: &Notice) -> Result<(), End> {
        match tokio::time::timeout(SEND_TIMEOUT, self.outbox.send(Ok(encode_notice(notice)))).await {
            Ok(Ok(())) => {
                self.next = notice.index + 1;
                Ok(())
            }
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(self.cut(0)),
        }
    }

    fn cut(&self, missed: u64) -> End {
        self.metrics.subscribers_cut.inc();
        tracing::warn!(next = self.next, missed, "a subscriber did not keep up and is cut");
        let detail = format!("this stream was cut because its reader was too slow; subscribe again with from_index = {}", self.next);
        End::Told(ApiError::new(ErrorCode::StreamBehind, detail).into())
    }
}

fn encode_notice(notice: &Notice) -> ProjectedCommit {
    ProjectedCommit {
        index: notice.index,
        timestamp_ms: notice.timestamp_ms,
        digest: notice.digest.as_bytes().to_vec().into(),
        leader_round: notice.leader_round,
        transactions: notice.transactions.iter().map(encode_transaction).collect(),
    }
}

fn encode_transaction(transaction: &NoticeTransaction) -> ProjectedTransaction {
    ProjectedTransaction {
        id: transaction.id.as_bytes().to_vec().into(),
        status: encode(&transaction.status).into(),
        accounts: transaction.accounts.iter().map(|a| a.as_bytes().to_vec().into()).collect(),
        traceparent: transaction.traceparent.clone(),
    }
}
