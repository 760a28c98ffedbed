//! The validators this API hands transactions to. The first that answers is used until it fails; then the next.

mod proofs;

pub use proofs::ProofText;

use crate::core::tracker::Pending;
use crate::metrics::Metrics;
use bytes::Bytes;
use futures::future::join_all;
use kaldrix_api::clients::DagServiceClient;
use kaldrix_api::{ApiError, ErrorCode};
use kaldrix_proto::dag as pb;
use kaldrix_service_kit::telemetry::ClientTrace;
use kaldrix_types::{CommitIndex, TxId};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// A channel whose calls carry the trace.
pub type Link = ClientTrace<Channel>;

/// How long one validator may take for a batch.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one validator may take for a look-up.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);
/// What to tell clients when no validator answers.
const RETRY_MS: u32 = 500;

/// What a validator says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatorStatus {
    /// Last commit it executed.
    pub commit_index: CommitIndex,
    /// Newest checkpoint of which it holds a quorum's votes; 0 for none.
    pub certified_index: u64,
}

/// Clients of the configured dag-services, in order of preference.
#[derive(Debug)]
pub struct Validators {
    clients: Vec<DagServiceClient<Link>>,
    preferred: AtomicUsize,
    metrics: Metrics,
}

impl Validators {
    /// Wraps (lazily connecting) channels.
    #[must_use]
    pub fn new(channels: Vec<Link>, metrics: Metrics) -> Self {
        let client = |channel| DagServiceClient::new(channel).max_encoding_message_size(8 << 20).max_decoding_message_size(8 << 20);
        Self { clients: channels.into_iter().map(client).collect(), preferred: AtomicUsize::new(0), metrics }
    }

    /// Hands a batch over, in order. Answers which validator took it, with one result per transaction.
    ///
    /// # Errors
    /// NO_VALIDATOR when none answers; what the validator says when it refuses the batch as a whole.
    pub async fn submit(
        &self,
        transactions: Vec<Bytes>,
        traceparents: Vec<String>,
    ) -> Result<(usize, Vec<Result<(), ApiError>>), ApiError> {
        let count = transactions.len();
        let message = pb::SubmitTransactionsRequest { transactions, traceparents };
        let start = self.preferred.load(Ordering::Relaxed);
        for attempt in 0..self.clients.len() {
            let endpoint = (start + attempt) % self.clients.len();
            let mut client = self.clients[endpoint].clone();
            match bounded(SUBMIT_TIMEOUT, client.submit_transactions(Request::new(message.clone()))).await {
                Ok(response) if response.results.len() == count => {
                    self.preferred.store(endpoint, Ordering::Relaxed);
                    return Ok((endpoint, response.results.into_iter().map(result).collect()));
                }
                Ok(response) => {
                    tracing::error!(
                        endpoint,
                        expected = count,
                        found = response.results.len(),
                        "a validator answered another number of results"
                    );
                    self.metrics.failovers.inc();
                }
                Err(status) if is_the_batch_at_fault(&status) => return Err(ApiError::from_status(&status)),
                Err(status) => {
                    tracing::warn!(endpoint, %status, "a validator did not take a batch; trying the next");
                    self.metrics.failovers.inc();
                }
            }
        }
        Err(ApiError::from(ErrorCode::NoValidator).retry_after(RETRY_MS))
    }

    /// Asks validator `endpoint` (or the preferred one) where transactions are; parallel to `ids`.
    ///
    /// # Errors
    /// What the call says; callers treat it as "unknown".
    pub async fn pending(&self, endpoint: Option<usize>, ids: &[TxId]) -> Result<Vec<Pending>, ApiError> {
        let endpoint = endpoint.unwrap_or_else(|| self.preferred.load(Ordering::Relaxed));
        let mut client = self.clients.get(endpoint).cloned().ok_or(ErrorCode::NoValidator)?;
        let message = pb::GetPendingRequest { ids: ids.iter().map(|id| Bytes::copy_from_slice(id.as_bytes())).collect() };
        let response = bounded(LOOKUP_TIMEOUT, client.get_pending(message)).await.map_err(|s| ApiError::from_status(&s))?;
        let states = response.states.iter().enumerate().map(|(i, state)| {
            let code = response.codes.get(i).map_or("", String::as_str);
            pending_of(*state, code)
        });
        Ok(states.chain(std::iter::repeat(Pending::Unknown)).take(ids.len()).collect())
    }

    /// Asks all validators about one transaction and takes the most telling answer.
    pub async fn pending_anywhere(&self, id: TxId) -> Pending {
        let asked = (0..self.clients.len()).map(|endpoint| async move { self.pending(Some(endpoint), &[id]).await });
        let answers = join_all(asked).await;
        let telling = |p: &Pending| match p {
            Pending::Included => 3,
            Pending::Queued => 2,
            Pending::Dropped(_) => 1,
            Pending::Unknown => 0,
        };
        answers.into_iter().flatten().flatten().max_by_key(telling).unwrap_or(Pending::Unknown)
    }

    /// The status of the preferred validator, or of the first that answers.
    ///
    /// # Errors
    /// NO_VALIDATOR when none answers.
    pub async fn status(&self) -> Result<ValidatorStatus, ApiError> {
        let start = self.preferred.load(Ordering::Relaxed);
        for attempt in 0..self.clients.len() {
            let mut client = self.clients[(start + attempt) % self.clients.len()].clone();
            if let Ok(status) = bounded(LOOKUP_TIMEOUT, client.get_status(pb::GetStatusRequest {})).await {
                return Ok(ValidatorStatus { commit_index: status.commit_index, certified_index: status.certified_index });
            }
        }
        Err(ApiError::from(ErrorCode::NoValidator).retry_after(RETRY_MS))
    }
}

async fn bounded<T>(limit: Duration, call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("no answer in time")),
    }
}

/// Whether another validator would say the same. Submitting twice is harmless, so anything else goes on to the next.
fn is_the_batch_at_fault(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument | Code::ResourceExhausted | Code::OutOfRange | Code::FailedPrecondition | Code::Unimplemented
    )
}

fn result(result: pb::SubmitResult) -> Result<(), ApiError> {
    if result.code.is_empty() {
        return Ok(());
    }
    let code = parse_code(&result.code);
    let detail = if result.detail.is_empty() { code.help().to_owned() } else { result.detail };
    let error = ApiError::new(code, detail);
    Err(if result.retry_after_ms > 0 { error.retry_after(result.retry_after_ms) } else { error })
}

fn parse_code(text: &str) -> ErrorCode {
    ErrorCode::parse(text).unwrap_or_else(|| {
        tracing::error!(code = text, "a validator used a code this API does not know");
        ErrorCode::Internal
    })
}

fn pending_of(state: i32, code: &str) -> Pending {
    use pb::get_pending_response::State;
    match State::try_from(state) {
        Ok(State::Queued) => Pending::Queued,
        Ok(State::Included) => Pending::Included,
        Ok(State::Dropped) => Pending::Dropped(parse_code(code)),
        _ => Pending::Unknown,
    }
}
