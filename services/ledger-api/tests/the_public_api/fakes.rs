//! dag-service and region-sync, as far as ledger-api can see them.

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use kaldrix_proto::dag::dag_service_server::{DagService, DagServiceServer};
use kaldrix_proto::dag::get_pending_response::State;
use kaldrix_proto::region::region_service_server::{RegionService, RegionServiceServer};
use kaldrix_proto::{dag, region};
use kaldrix_service_kit::telemetry::traced;
use kaldrix_types::{CertifiedCheckpoint, ChainId, DecodedTransaction, TxId, encode};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};

/// A lazily connecting channel, as wiring makes them, without TLS.
pub(crate) fn link(address: SocketAddr) -> kaldrix_ledger_api::grpc::Link {
    traced(Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy())
}

/// Plays a validator: takes what it is given and does as it is told.
#[derive(Default)]
pub(crate) struct FakeDag {
    chain: ChainId,
    /// Every transaction in the order of arrival.
    pub(crate) taken: Mutex<Vec<DecodedTransaction>>,
    /// Sizes of the batches.
    pub(crate) batches: Mutex<Vec<usize>>,
    /// What to refuse everything with: code and retry delay.
    pub(crate) refusal: Mutex<Option<(&'static str, u32)>>,
    /// What to say about pending transactions.
    pub(crate) pending: Mutex<HashMap<TxId, (State, &'static str)>>,
    /// Answers UNAVAILABLE while set.
    pub(crate) down: AtomicBool,
    pub(crate) commit_index: AtomicU64,
    /// Certified checkpoints, ascending.
    pub(crate) checkpoints: Mutex<Vec<CertifiedCheckpoint>>,
    /// Says that it does not hold history.
    pub(crate) pruned: AtomicBool,
}

impl FakeDag {
    pub(crate) fn new(chain: ChainId) -> Arc<Self> {
        Arc::new(Self { chain, ..Default::default() })
    }

    pub(crate) async fn serve(self: &Arc<Self>, cancel: &CancellationToken) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let server = Server::builder().add_service(DagServiceServer::new(Rpc(Arc::clone(self))).max_decoding_message_size(8 << 20));
        tokio::spawn(server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), cancel.clone().cancelled_owned()));
        address
    }

    /// As a service to put behind TLS.
    pub(crate) fn routes(self: &Arc<Self>) -> Routes {
        Routes::new(DagServiceServer::new(Rpc(Arc::clone(self))))
    }

    pub(crate) fn set_pending(&self, id: TxId, state: State, code: &'static str) {
        self.pending.lock().insert(id, (state, code));
    }

    pub(crate) fn refuse(&self, code: &'static str, retry_after_ms: u32) {
        *self.refusal.lock() = Some((code, retry_after_ms));
    }

    fn check_history(&self) -> Result<(), Status> {
        self.check_up()?;
        if self.pruned.load(Ordering::SeqCst) { Err(Status::out_of_range("before this validator's history")) } else { Ok(()) }
    }

    /// Index of the checkpoint that covers a commit.
    fn covering(&self, commit: u64) -> Result<u64, Status> {
        let checkpoints = self.checkpoints.lock();
        let covers = checkpoints.iter().find(|c| c.checkpoint.last_commit >= commit);
        covers.map(|c| c.checkpoint.index).ok_or_else(|| Status::failed_precondition("not checkpointed yet"))
    }

    fn check_up(&self) -> Result<(), Status> {
        if self.down.load(Ordering::SeqCst) { Err(Status::unavailable("down")) } else { Ok(()) }
    }

    fn take(&self, bytes: &Bytes) -> dag::SubmitResult {
        let tx = match DecodedTransaction::decode(bytes.clone(), self.chain) {
            Ok(tx) => tx,
            Err(code) => return dag::SubmitResult { code: code.as_str().into(), ..Default::default() },
        };
        let id = Bytes::copy_from_slice(tx.id().as_bytes());
        if let Some((code, retry_after_ms)) = *self.refusal.lock() {
            return dag::SubmitResult { id, code: code.into(), detail: String::new(), retry_after_ms };
        }
        self.pending.lock().entry(tx.id()).or_insert((State::Queued, ""));
        self.taken.lock().push(tx);
        dag::SubmitResult { id, ..Default::default() }
    }
}

struct Rpc(Arc<FakeDag>);

#[tonic::async_trait]
impl DagService for Rpc {
    type SubscribeExecutedStream = BoxStream<'static, Result<dag::ExecutedCommit, Status>>;

    async fn submit_transactions(
        &self,
        request: Request<dag::SubmitTransactionsRequest>,
    ) -> Result<Response<dag::SubmitTransactionsResponse>, Status> {
        self.0.check_up()?;
        let transactions = request.into_inner().transactions;
        self.0.batches.lock().push(transactions.len());
        let results = transactions.iter().map(|bytes| self.0.take(bytes)).collect();
        // Long enough for other submissions to gather behind this batch.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        Ok(Response::new(dag::SubmitTransactionsResponse { results }))
    }

    async fn subscribe_executed(
        &self,
        _: Request<dag::SubscribeExecutedRequest>,
    ) -> Result<Response<Self::SubscribeExecutedStream>, Status> {
        Err(Status::unimplemented("not ledger-api's to call"))
    }

    async fn get_pending(&self, request: Request<dag::GetPendingRequest>) -> Result<Response<dag::GetPendingResponse>, Status> {
        self.0.check_up()?;
        let pending = self.0.pending.lock();
        let mut response = dag::GetPendingResponse::default();
        for id in &request.get_ref().ids {
            let id = TxId::try_from(id.as_ref()).map_err(|e| Status::invalid_argument(e.to_string()))?;
            let (state, code) = pending.get(&id).copied().unwrap_or((State::Unknown, ""));
            response.states.push(state.into());
            response.codes.push(code.to_owned());
        }
        Ok(Response::new(response))
    }

    async fn get_status(&self, _: Request<dag::GetStatusRequest>) -> Result<Response<dag::Status>, Status> {
        self.0.check_up()?;
        let certified_index = self.0.checkpoints.lock().last().map_or(0, |c| c.checkpoint.index);
        let commit_index = self.0.commit_index.load(Ordering::SeqCst);
        Ok(Response::new(dag::Status { commit_index, certified_index, ..Default::default() }))
    }

    async fn get_checkpoint(&self, request: Request<dag::GetCheckpointRequest>) -> Result<Response<dag::GetCheckpointResponse>, Status> {
        self.0.check_history()?;
        let index = request.get_ref().index;
        let checkpoints = self.0.checkpoints.lock();
        let found = if index == 0 { checkpoints.last() } else { checkpoints.iter().find(|c| c.checkpoint.index == index) };
        let certified = found.ok_or_else(|| Status::not_found("no such checkpoint"))?;
        Ok(Response::new(dag::GetCheckpointResponse { certified: encode(certified).into() }))
    }

    async fn get_transaction_proof(
        &self,
        request: Request<dag::GetTransactionProofRequest>,
    ) -> Result<Response<dag::GetTransactionProofResponse>, Status> {
        self.0.check_history()?;
        let message = request.get_ref();
        let checkpoint_index = self.0.covering(message.commit_index)?;
        let proof = format!("{{\"transaction\":\"{}\",\"commit\":{}}}", hex::encode(&message.id), message.commit_index);
        Ok(Response::new(dag::GetTransactionProofResponse { proof, checkpoint_index }))
    }

    async fn get_state_proof(&self, request: Request<dag::GetStateProofRequest>) -> Result<Response<dag::GetStateProofResponse>, Status> {
        self.0.check_up()?;
        let checkpoint_index = self.0.covering(0)?;
        let proof = format!("{{\"key\":\"{}\"}}", hex::encode(&request.get_ref().key));
        Ok(Response::new(dag::GetStateProofResponse { proof, value: Bytes::new(), checkpoint_index }))
    }

    async fn audit(&self, _: Request<dag::AuditRequest>) -> Result<Response<dag::AuditResponse>, Status> {
        Err(Status::unimplemented("not ledger-api's to call"))
    }
}

/// Plays region-sync: announces what it is given, from any index, any number of times.
pub(crate) struct FakeRegion {
    notices: Mutex<Vec<region::ProjectedCommit>>,
    count: watch::Sender<usize>,
    /// Ends every open stream when it changes.
    cut: watch::Sender<u64>,
}

impl FakeRegion {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { notices: Mutex::default(), count: watch::channel(0).0, cut: watch::channel(0).0 })
    }

    pub(crate) async fn serve(self: &Arc<Self>, cancel: &CancellationToken) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let server = Server::builder().add_service(RegionServiceServer::new(RegionRpc(Arc::clone(self))));
        tokio::spawn(server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), cancel.clone().cancelled_owned()));
        address
    }

    /// As a service to put behind TLS.
    pub(crate) fn routes(self: &Arc<Self>) -> Routes {
        Routes::new(RegionServiceServer::new(RegionRpc(Arc::clone(self))))
    }

    pub(crate) fn announce(&self, notice: region::ProjectedCommit) {
        self.notices.lock().push(notice);
        self.count.send_modify(|count| *count += 1);
    }

    pub(crate) fn cut_streams(&self) {
        self.cut.send_modify(|cut| *cut += 1);
    }
}

struct RegionRpc(Arc<FakeRegion>);

#[tonic::async_trait]
impl RegionService for RegionRpc {
    type SubscribeProjectedStream = BoxStream<'static, Result<region::ProjectedCommit, Status>>;

    async fn subscribe_projected(
        &self,
        request: Request<region::SubscribeProjectedRequest>,
    ) -> Result<Response<Self::SubscribeProjectedStream>, Status> {
        let from = request.get_ref().from_index;
        let fake = Arc::clone(&self.0);
        let (mut count, mut cut) = (fake.count.subscribe(), fake.cut.subscribe());
        cut.mark_unchanged();
        let stream = async_stream(move |sender| async move {
            let mut sent = 0;
            loop {
                let upto = *count.borrow_and_update();
                while sent < upto {
                    let notice = fake.notices.lock()[sent].clone();
                    sent += 1;
                    if notice.index >= from && sender.send(Ok(notice)).await.is_err() {
                        return;
                    }
                }
                tokio::select! {
                    _ = cut.changed() => return,
                    changed = count.changed() => if changed.is_err() { return },
                }
            }
        });
        Ok(Response::new(stream))
    }

    async fn get_status(&self, _: Request<region::GetStatusRequest>) -> Result<Response<region::Status>, Status> {
        Ok(Response::new(region::Status::default()))
    }
}

fn async_stream<T, F, Fut>(produce: F) -> BoxStream<'static, T>
where
    T: Send + 'static,
    F: FnOnce(tokio::sync::mpsc::Sender<T>) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    tokio::spawn(produce(sender));
    tokio_stream::wrappers::ReceiverStream::new(receiver).boxed()
}
