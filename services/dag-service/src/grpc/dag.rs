//! `kaldrix.dag.v1.DagService`.

use crate::core::{CoreHandle, Feed, FeedItem, HotState, PendingState, SignatureChecks};
use crate::metrics::Metrics;
use bytes::Bytes;
use kaldrix_api::{ApiError, ErrorCode};
use kaldrix_crypto::Verifier;
use kaldrix_execution::{StateDigester, SupplyAudit};
use kaldrix_p2p::BlockNetwork;
use kaldrix_proto::dag::dag_service_server::DagService;
use kaldrix_proto::dag::{
    AuditRequest, AuditResponse, ExecutedCommit, GetPendingRequest, GetPendingResponse, GetStatusRequest, Status as DagStatus,
    SubmitTransactionsRequest, SubmitTransactionsResponse, SubscribeExecutedRequest, Trace, get_pending_response,
};
use kaldrix_proto::transaction_id;
use kaldrix_service_kit::authz::allow;
use kaldrix_service_kit::identity::Service;
use kaldrix_storage::ValidatorStore;
use kaldrix_types::{AssetId, Committee, Parameters, StateKey, StateValue, ValidatorIndex};
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

const SUBMIT_TRANSACTIONS_MAX: usize = 1_000;
const PENDING_IDS_MAX: usize = 1_000;
const AUDIT_PAGE: usize = 2_000;
const AUDIT_TRIES: usize = 5;

/// The service's handlers.
pub(crate) struct DagGrpc {
    pub(crate) committee: Arc<Committee>,
    pub(crate) own: ValidatorIndex,
    pub(crate) parameters: Parameters,
    pub(crate) core: CoreHandle,
    pub(crate) hot: Arc<HotState>,
    pub(crate) checks: Arc<SignatureChecks>,
    pub(crate) verifier: Verifier,
    pub(crate) feed: Arc<Feed>,
    pub(crate) store: Arc<dyn ValidatorStore>,
    pub(crate) network: Arc<dyn BlockNetwork>,
    pub(crate) metrics: Arc<Metrics>,
}

type ExecutedStream = Pin<Box<dyn futures::Stream<Item = Result<ExecutedCommit, Status>> + Send>>;

#[tonic::async_trait]
impl DagService for DagGrpc {
    type SubscribeExecutedStream = ExecutedStream;

    async fn submit_transactions(
        &self,
        request: Request<SubmitTransactionsRequest>,
    ) -> Result<Response<SubmitTransactionsResponse>, Status> {
        allow(&request, &[Service::LedgerApi])?;
        let SubmitTransactionsRequest { transactions, traceparents } = request.into_inner();
        if transactions.len() > SUBMIT_TRANSACTIONS_MAX {
            return Err(ApiError::new(ErrorCode::InvalidArgument, format!("at most {SUBMIT_TRANSACTIONS_MAX} transactions a call")).into());
        }
        Ok(Response::new(SubmitTransactionsResponse { results: self.submit(transactions, traceparents).await? }))
    }

    async fn subscribe_executed(&self, request: Request<SubscribeExecutedRequest>) -> Result<Response<ExecutedStream>, Status> {
        allow(&request, &[Service::RegionSync])?;
        let from = request.into_inner().from_index.max(1);
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(feed_out(Arc::clone(&self.feed), from, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn get_pending(&self, request: Request<GetPendingRequest>) -> Result<Response<GetPendingResponse>, Status> {
        allow(&request, &[Service::LedgerApi])?;
        let ids = request.into_inner().ids;
        if ids.len() > PENDING_IDS_MAX {
            return Err(ApiError::new(ErrorCode::InvalidArgument, format!("at most {PENDING_IDS_MAX} ids a call")).into());
        }
        let ids = ids.iter().map(|id| transaction_id("ids", id)).collect::<Result<Vec<_>, _>>()?;
        let states = self.core.pending(ids).await.map_err(|_| ApiError::from(ErrorCode::NoValidator))?;
        use get_pending_response::State;
        let mut response = GetPendingResponse::default();
        for state in states {
            let (state, code) = match state {
                PendingState::Unknown => (State::Unknown, ""),
                PendingState::Queued => (State::Queued, ""),
                PendingState::Included => (State::Included, ""),
                PendingState::Dropped(code) => (State::Dropped, code.as_str()),
            };
            response.states.push(state.into());
            response.codes.push(code.to_owned());
        }
        Ok(Response::new(response))
    }

    async fn get_status(&self, request: Request<GetStatusRequest>) -> Result<Response<DagStatus>, Status> {
        allow(&request, &Service::ALL)?;
        let core = self.core.status().await.map_err(|_| ApiError::from(ErrorCode::NoValidator))?;
        let name = |index: ValidatorIndex| self.committee.get(index).map(|v| v.name.clone()).unwrap_or_default();
        Ok(Response::new(DagStatus {
            validator: name(self.own),
            round: core.round,
            commit_index: core.commit_index,
            commit_digest: Bytes::copy_from_slice(core.commit_digest.as_bytes()),
            commit_timestamp_ms: core.commit_timestamp_ms,
            mempool_transactions: core.mempool_transactions as u64,
            mempool_bytes: core.mempool_bytes as u64,
            connected_peers: self.network.connected().into_iter().map(name).collect(),
            executed_transactions: core.executed_transactions,
            consensus_connected: self.metrics.consensus_connected.get() == 1,
            suspended_blocks: core.suspended as u64,
        }))
    }

    async fn audit(&self, request: Request<AuditRequest>) -> Result<Response<AuditResponse>, Status> {
        allow(&request, &[Service::Operator])?;
        for _ in 0..AUDIT_TRIES {
            if let Some(answer) = self.audit_once().await? {
                return Ok(Response::new(answer));
            }
        }
        Err(ApiError::new(ErrorCode::Overloaded, "the state changes too fast to be read as a whole; try again when it is quieter").into())
    }
}

impl DagGrpc {
    /// Reads the whole state; `None` when a commit was executed meanwhile.
    async fn audit_once(&self) -> Result<Option<AuditResponse>, Status> {
        let failed = |error: kaldrix_storage::StoreError| {
            tracing::warn!(%error, "the audit cannot read the store");
            Status::from(ApiError::from(ErrorCode::Internal))
        };
        let (mut digester, mut audit) = (StateDigester::default(), SupplyAudit::default());
        let (mut after, mut native_supply, mut supply_error) = (None, 0, String::new());
        let mut at = None;
        loop {
            let page = self.store.state_page(after, AUDIT_PAGE).await.map_err(failed)?;
            if *at.get_or_insert(page.at) != page.at {
                return Ok(None);
            }
            let Some((last, _)) = page.records.last() else { break };
            after = Some(*last);
            for (key, value) in &page.records {
                digester.push(key, value);
                if let Err(error) = audit.push(key, value) {
                    supply_error = error.to_string();
                }
                if let (StateKey::Supply(AssetId::NATIVE), StateValue::Supply(supply)) = (key, value) {
                    native_supply = supply.amount;
                }
            }
        }
        if let Err(error) = audit.finish() {
            supply_error = error.to_string();
        }
        let commit_index = at.unwrap_or(0);
        let commit = self.store.executed(commit_index, 1, usize::MAX).await.map_err(failed)?.pop();
        Ok(Some(AuditResponse {
            commit_index,
            commit_digest: commit.map(|e| Bytes::copy_from_slice(e.commit.digest().as_bytes())).unwrap_or_default(),
            state_digest: Bytes::copy_from_slice(digester.finish().as_bytes()),
            supply_error,
            native_supply: native_supply.to_string(),
        }))
    }
}

/// Sends every commit from `next` on, as fast as the reader takes them; ends when it goes away or the store fails.
async fn feed_out(feed: Arc<Feed>, mut next: u64, out: mpsc::Sender<Result<ExecutedCommit, Status>>) {
    let mut newest = feed.newest();
    loop {
        let page = match feed.page(next).await {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(%error, "executed commits cannot be read; the reader comes again");
                // The reader may be gone already.
                let _ = out.send(Err(ApiError::from(ErrorCode::NoValidator).into())).await;
                return;
            }
        };
        for FeedItem { index, bytes, traces } in page {
            let traces = traces.iter().map(|(position, t)| Trace { position: *position, traceparent: t.clone() }).collect();
            if out.send(Ok(ExecutedCommit { index, executed: bytes, traces })).await.is_err() {
                return;
            }
            next = index + 1;
        }
        tokio::select! {
            () = out.closed() => return,
            changed = newest.wait_for(|index| *index >= next) => if changed.is_err() { return },
        }
    }
}
