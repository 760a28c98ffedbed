//! Executed commits from a dag-service, decoded within limits.

use futures::{Stream, StreamExt};
use kaldrix_api::clients::DagServiceClient;
use kaldrix_proto::dag::{self, SubscribeExecutedRequest};
use kaldrix_proto::{DecodeError, decode_bcs};
use kaldrix_service_kit::client::{ClientError, connect};
use kaldrix_service_kit::server::MESSAGE_BYTES_MAX;
use kaldrix_service_kit::tls::{Expected, TlsMaterial};
use kaldrix_service_kit::{Service, telemetry};
use kaldrix_types::{CommitIndex, ExecutedCommit};
use std::collections::BTreeMap;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// A W3C `traceparent` of version 00 has exactly this many characters.
const TRACEPARENT_CHARS: usize = 55;

/// Why a stream of commits ended. Another try, or another dag-service, may do better.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The dag-service answered with an error, or cannot be reached.
    #[error("{}: {}", .0.code(), .0.message())]
    Status(Box<Status>),
    /// It began with a snapshot and lacks the commits asked for; another one may have them.
    #[error("its history begins later: {0}")]
    Later(String),
    /// A message that cannot be read.
    #[error("it sent a commit that cannot be read ({0}); is it of another version?")]
    Decode(#[from] DecodeError),
    /// It ended the stream in order.
    #[error("it ended the stream")]
    Ended,
    /// Nothing came for long, and there are others to ask.
    #[error("it has sent nothing for {0} ms")]
    Silent(u128),
}

impl From<Status> for SourceError {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::OutOfRange => Self::Later(status.message().to_owned()),
            _ => Self::Status(Box::new(status)),
        }
    }
}

/// A commit as it came in.
#[derive(Clone, Debug)]
pub struct Received {
    /// The commit with its effects; nothing about it has been checked but its form.
    pub executed: ExecutedCommit,
    /// W3C `traceparent` by the transaction's position in the commit.
    pub traces: BTreeMap<u32, String>,
    /// Size of the encoded commit.
    pub bytes: usize,
}

/// One dag-service to take commits from.
#[derive(Clone)]
pub struct DagClient {
    endpoint: String,
    client: DagServiceClient<Channel>,
}

impl DagClient {
    /// A client of the dag-service at `endpoint`; it connects when it is first used.
    ///
    /// # Errors
    /// [`ClientError`] for an endpoint or certificate that cannot be used.
    pub fn new(endpoint: &str, tls: &TlsMaterial) -> Result<Self, ClientError> {
        let channel = connect(endpoint, tls, Expected::any(Service::DagService))?;
        let client = DagServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self { endpoint: endpoint.to_owned(), client })
    }

    /// Where it is.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Commits from `from_index` on, then live.
    ///
    /// # Errors
    /// [`SourceError`] when the stream cannot be opened; each item may be one too, and is the last then.
    pub async fn subscribe(
        &self,
        from_index: CommitIndex,
    ) -> Result<impl Stream<Item = Result<Received, SourceError>> + Send + Unpin + use<>, SourceError> {
        let request = telemetry::request(SubscribeExecutedRequest { from_index });
        let stream = self.client.clone().subscribe_executed(request).await?.into_inner();
        Ok(stream.map(|message| receive(message?)))
    }
}

fn receive(message: dag::ExecutedCommit) -> Result<Received, SourceError> {
    let executed: ExecutedCommit = decode_bcs("executed", &message.executed, MESSAGE_BYTES_MAX)?;
    if executed.commit.index != message.index {
        return Err(DecodeError { field: "index", reason: "it is not the index of the commit".to_owned() }.into());
    }
    // A trace is a convenience: a wrong one is left out, not an error.
    let known = |trace: &dag::Trace| (trace.position as usize) < executed.outcomes.len() && trace.traceparent.len() == TRACEPARENT_CHARS;
    let traces = message.traces.into_iter().filter(known).map(|trace| (trace.position, trace.traceparent)).collect();
    Ok(Received { bytes: message.executed.len(), executed, traces })
}
