//! `kaldrix.consensus.v1.ConsensusService`.

use crate::core::{Chain, Session, SessionError};
use crate::metrics::Metrics;
use kaldrix_consensus::CoreStatus;
use kaldrix_proto::consensus::consensus_service_server::ConsensusService;
use kaldrix_proto::consensus::{DriveRequest, DriveResponse, GetStatusRequest, Hello, Status as ConsensusStatus, drive_request};
use kaldrix_service_kit::authz::{allow, allow_from};
use kaldrix_service_kit::identity::{Owner, Service};
use kaldrix_types::Epoch;
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// Answers on their way out. A dag-service that does not take them is held up, not buffered for.
const ANSWERS_MAX: usize = 256;

/// The running session's own token, and its epoch and where it stands.
type Current = (CancellationToken, Option<(Epoch, CoreStatus)>);

/// The service's handlers.
pub(crate) struct ConsensusGrpc {
    chain: Chain,
    owner: Owner,
    metrics: Arc<Metrics>,
    cancel: CancellationToken,
    current: Arc<Mutex<Current>>,
}

impl ConsensusGrpc {
    pub(crate) fn new(chain: Chain, owner: Owner, metrics: Arc<Metrics>, cancel: CancellationToken) -> Self {
        let current = Arc::new(Mutex::new((cancel.child_token(), None)));
        Self { chain, owner, metrics, cancel, current }
    }
}

type DriveStream = Pin<Box<dyn futures::Stream<Item = Result<DriveResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ConsensusService for ConsensusGrpc {
    type DriveStream = DriveStream;

    async fn drive(&self, request: Request<Streaming<DriveRequest>>) -> Result<Response<DriveStream>, Status> {
        allow_from(&request, &self.owner, &[Service::DagService])?;
        let mut inbound = request.into_inner();
        let Some(DriveRequest { message: Some(drive_request::Message::Hello(hello)) }) = inbound.message().await? else {
            return Err(Status::invalid_argument("a session begins with hello"));
        };
        let session = Session::begin(&self.chain, &hello, Arc::clone(&self.metrics)).map_err(refused)?;
        let own_token = self.cancel.child_token();
        std::mem::replace(&mut *self.current.lock(), (own_token.clone(), None)).0.cancel();
        log_begin(&hello);
        let (out, answers) = mpsc::channel(ANSWERS_MAX);
        let running = Running { session, inbound, out, current: Arc::clone(&self.current), metrics: Arc::clone(&self.metrics) };
        tokio::spawn(running.run(own_token));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn get_status(&self, request: Request<GetStatusRequest>) -> Result<Response<ConsensusStatus>, Status> {
        allow(&request, &Service::ALL)?;
        let current = self.current.lock().1;
        let status = current.map(|(_, status)| status);
        Ok(Response::new(ConsensusStatus {
            round: status.map_or(0, |s| s.round),
            last_commit_index: status.map_or(0, |s| s.last_commit),
            last_decided_round: status.map_or(0, |s| s.last_decided),
            headers: status.map_or(0, |s| s.headers as u64),
            session: status.is_some(),
            direct_commits: self.metrics.direct.get(),
            indirect_commits: self.metrics.indirect.get(),
            skipped_leaders: self.metrics.skipped.get(),
            epoch: current.map_or(0, |(epoch, _)| epoch),
            leader_timeout_ms: status.map_or(0, |s| s.leader_wait_ms),
        }))
    }
}

fn log_begin(hello: &Hello) {
    tracing::info!(validator = hello.validator, own_last_round = hello.own_last_round, "a session begins");
}

fn refused(error: SessionError) -> Status {
    tracing::warn!(%error, "a session was refused");
    Status::failed_precondition(error.to_string())
}

/// A session with its streams.
struct Running {
    session: Session,
    inbound: Streaming<DriveRequest>,
    out: mpsc::Sender<Result<DriveResponse, Status>>,
    current: Arc<Mutex<Current>>,
    metrics: Arc<Metrics>,
}

impl Running {
    async fn run(mut self, token: CancellationToken) {
        self.metrics.session.set(1);
        tokio::select! {
            biased;
            () = token.cancelled() => {}
            end = self.drive(&token) => if let Err(status) = end {
                // The other side may be gone already.
                let _ = self.out.send(Err(status)).await;
            }
        }
        let mut current = self.current.lock();
        if !token.is_cancelled() {
            current.1 = None;
            self.metrics.session.set(0);
        }
    }

    async fn drive(&mut self, token: &CancellationToken) -> Result<(), Status> {
        loop {
            let deadline = self.session.next_deadline();
            let answers = tokio::select! {
                biased;
                message = self.inbound.message() => match message? {
                    None => return Ok(()),
                    Some(request) => self.take(request)?,
                },
                () = sleep_until(deadline) => self.session.tick().map_err(refused)?,
            };
            {
                let mut current = self.current.lock();
                if !token.is_cancelled() {
                    current.1 = Some((self.session.epoch(), self.session.status()));
                }
            }
            for answer in answers {
                if self.out.send(Ok(answer)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }

    fn take(&mut self, request: DriveRequest) -> Result<Vec<DriveResponse>, Status> {
        match request.message {
            Some(drive_request::Message::Headers(headers)) => self.session.headers(headers.headers),
            Some(drive_request::Message::Pending(pending)) => self.session.pending(pending.transactions),
            Some(drive_request::Message::ReplayDone(_)) => self.session.replay_done(),
            Some(drive_request::Message::Hello(_)) => return Err(Status::invalid_argument("hello comes once")),
            None => return Err(Status::invalid_argument("an empty message")),
        }
        .map_err(refused)
    }
}

async fn sleep_until(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
