//! `kaldrix.dag.v1.DagService`.

use crate::core::{Checkpoints, CoreHandle, EpochCell, Feed, FeedItem, HotState, PendingState, SignatureChecks};
use crate::metrics::Metrics;
use bytes::Bytes;
use kaldrix_api::{ApiError, ErrorCode};
use kaldrix_crypto::Verifier;
use kaldrix_execution::{StateDigester, SupplyAudit};
use kaldrix_p2p::BlockNetwork;
use kaldrix_proto::dag::dag_service_server::DagService;
use kaldrix_proto::dag::{
    AuditRequest, AuditResponse, ExecutedCommit, GetCheckpointRequest, GetCheckpointResponse, GetPendingRequest, GetPendingResponse,
    GetStateProofRequest, GetStateProofResponse, GetStatusRequest, GetTransactionProofRequest, GetTransactionProofResponse,
    Status as DagStatus, SubmitTransactionsRequest, SubmitTransactionsResponse, SubscribeExecutedRequest, Trace, get_pending_response,
};
use kaldrix_proto::{decode_bcs, transaction_id};
use kaldrix_service_kit::authz::allow;
use kaldrix_service_kit::identity::Service;
use kaldrix_storage::{StoreError, ValidatorStore};
use kaldrix_types::{AssetId, Parameters, StateKey, StateValue, ValidatorIndex, encode};
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

const SUBMIT_TRANSACTIONS_MAX: usize = 1_000;
const PENDING_IDS_MAX: usize = 1_000;
const AUDIT_PAGE: usize = 2_000;
const AUDIT_TRIES: usize = 5;
/// Longest encoded key of a state record.
const STATE_KEY_BYTES_MAX: usize = 65;

/// The service's handlers.
pub(crate) struct DagGrpc {
    pub(crate) name: String,
    pub(crate) epoch: Arc<EpochCell>,
    pub(crate) parameters: Parameters,
    pub(crate) checkpoints: Arc<Checkpoints>,
    pub(crate) core: CoreHandle,
    pub(crate) hot: Arc<HotState>,
    pub(crate) checks: Arc<SignatureChecks>,
    pub(crate) verifier: Verifier,
    pub(crate) feed: Arc<Feed>,
    pub(crate) store: Arc<dyn ValidatorStore>,
    pub(crate) network: Arc<dyn BlockNetwork>,
    pub(crate) metrics: Arc<Metrics>,
    /// The service is draining: endless answers end, so that their readers turn to another validator at once.
    pub(crate) closing: CancellationToken,
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
        if let Err(StoreError::Pruned { first, .. }) = self.feed.page(from).await {
            return Err(Status::out_of_range(format!(
                "this validator's history begins with commit {first}: ask another validator for the commits before"
            )));
        }
        let (sender, receiver) = mpsc::channel(64);
        let (feed, closing) = (Arc::clone(&self.feed), self.closing.clone());
        tokio::spawn(async move { closing.run_until_cancelled(feed_out(feed, from, sender)).await });
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
        let committee = self.epoch.get().committee;
        let name = |index: ValidatorIndex| committee.get(index).map(|v| v.name.clone()).unwrap_or_default();
        let (commit_index, commit_digest, commit_timestamp_ms) = core.last_commit;
        Ok(Response::new(DagStatus {
            validator: self.name.clone(),
            round: core.node.round,
            commit_index,
            commit_digest: Bytes::copy_from_slice(commit_digest.as_bytes()),
            commit_timestamp_ms,
            mempool_transactions: core.node.mempool_transactions as u64,
            mempool_bytes: core.node.mempool_bytes as u64,
            connected_peers: self.network.connected().into_iter().map(name).collect(),
            executed_transactions: core.executed_transactions,
            consensus_connected: self.metrics.consensus_connected.get() == 1,
            suspended_blocks: core.node.suspended as u64,
            epoch: core.epoch,
            own_seat: core.has_seat,
            checkpoint_index: self.checkpoints.closed_index(),
            certified_index: self.checkpoints.certified_index(),
            catching_up: self.checkpoints.is_catching_up(),
        }))
    }

    async fn get_checkpoint(&self, request: Request<GetCheckpointRequest>) -> Result<Response<GetCheckpointResponse>, Status> {
        allow(&request, &[Service::LedgerApi])?;
        let certified = self.certified(request.into_inner().index).await?;
        Ok(Response::new(GetCheckpointResponse { certified: encode(&certified).into() }))
    }

    async fn get_transaction_proof(
        &self,
        request: Request<GetTransactionProofRequest>,
    ) -> Result<Response<GetTransactionProofResponse>, Status> {
        allow(&request, &[Service::LedgerApi])?;
        let GetTransactionProofRequest { id, commit_index } = request.into_inner();
        let (proof, checkpoint_index) = self.transaction_proof(transaction_id("id", &id)?, commit_index).await?;
        Ok(Response::new(GetTransactionProofResponse { proof, checkpoint_index }))
    }

    async fn get_state_proof(&self, request: Request<GetStateProofRequest>) -> Result<Response<GetStateProofResponse>, Status> {
        allow(&request, &[Service::LedgerApi])?;
        let key: StateKey = decode_bcs("key", &request.into_inner().key, STATE_KEY_BYTES_MAX)?;
        Ok(Response::new(self.state_proof(key).await?))
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
