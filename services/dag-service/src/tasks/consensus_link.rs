//! The session with consensus-service: headers up, decisions down.
//!
//! consensus-service keeps nothing, so a session begins with everything it needs to know, and either side may be restarted at any
//! time: decisions that were already taken in are counted off by their index. Sending and receiving are separate tasks, so that
//! neither direction can hold the other up.

use crate::core::{CoreHandle, Upward};
use crate::error::DagError;
use crate::metrics::Metrics;
use crate::tasks::execute::Decided;
use bytes::Bytes;
use kaldrix_api::clients::ConsensusServiceClient;
use kaldrix_proto::consensus::{
    DriveRequest, DriveResponse, HeaderEntry, Headers, Hello, Pending, ReplayDone, drive_request, drive_response,
};
use kaldrix_proto::decode_bcs;
use kaldrix_types::{Commit, Digest, encode};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

const HEADERS_PER_MESSAGE: usize = 256;
const COMMIT_BYTES_MAX: usize = 16 << 20;

/// What this task needs.
pub(crate) struct ConsensusLink {
    pub(crate) client: ConsensusServiceClient<Channel>,
    pub(crate) core: CoreHandle,
    pub(crate) execute: mpsc::Sender<Decided>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum SessionEnd {
    #[error("{0}")]
    Status(#[from] tonic::Status),
    #[error("consensus-service closed the session")]
    Closed,
    #[error("consensus-service sent {0}")]
    Nonsense(&'static str),
    #[error(transparent)]
    Stopped(#[from] DagError),
}

impl ConsensusLink {
    /// Holds a session, and a new one after each that ends, until cancelled.
    ///
    /// # Errors
    /// When the core has stopped, or consensus-service contradicts what was committed before.
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<(), DagError> {
        let mut pause_ms = 20;
        loop {
            let mut taken = 0;
            let end = tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                end = self.session(&mut taken) => end,
            };
            self.metrics.consensus_connected.set(0);
            match end {
                SessionEnd::Stopped(error) => return Err(error),
                end => tracing::info!(reason = %end, "the session with consensus-service ended; beginning a new one"),
            }
            pause_ms = if taken > 0 { 20 } else { (pause_ms * 2).min(1_000) };
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = tokio::time::sleep(Duration::from_millis(pause_ms)) => {}
            }
        }
    }

    async fn session(&self, taken: &mut u64) -> SessionEnd {
        match self.hold_session(taken).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    /// `taken` counts the commits that this session brought.
    async fn hold_session(&self, taken: &mut u64) -> Result<std::convert::Infallible, SessionEnd> {
        let (out, requests) = mpsc::channel::<DriveRequest>(256);
        let mut client = self.client.clone();
        let (sink, upward) = mpsc::channel(16_384);
        let replay = self.core.replay(sink).await?;
        let committee = &replay.epoch.committee;
        let hello = Hello {
            chain_id: Bytes::copy_from_slice(committee.chain().as_bytes()),
            epoch: committee.epoch(),
            validator: u32::from(replay.epoch.own.0),
            last_commit: replay.last_commit.as_ref().map(|c| encode(c).into()).unwrap_or_default(),
            own_last_round: replay.own_last_round,
            committee: encode(&committee.parts()).into(),
            epoch_ends_at_ms: replay.epoch.ends_at_ms,
        };
        let mut last_commit = replay.last_commit;
        let sender = tokio::spawn(send_all(out, hello, replay.headers, upward));
        let _abort = AbortOnDrop(sender);
        let mut inbound = client.drive(ReceiverStream::new(requests)).await?.into_inner();
        self.metrics.consensus_connected.set(1);
        while let Some(DriveResponse { message }) = inbound.message().await? {
            match message {
                Some(drive_response::Message::Propose(propose)) => self.core.propose(propose.round).await?,
                Some(drive_response::Message::Commit(decision)) => {
                    let commit: Commit = decode_bcs("commit", &decision.commit, COMMIT_BYTES_MAX)
                        .map_err(|_| SessionEnd::Nonsense("a commit that does not decode"))?;
                    self.metrics.decided(&commit, decision.direct, decision.skipped);
                    self.take_in(commit, &mut last_commit).await?;
                    *taken += 1;
                }
                None => return Err(SessionEnd::Nonsense("an empty message")),
            }
        }
        Err(SessionEnd::Closed)
    }

    async fn take_in(&self, commit: Commit, last_commit: &mut Option<Commit>) -> Result<(), SessionEnd> {
        let (index, previous) = last_commit.as_ref().map_or((0, Digest::ZERO), |c| (c.index, c.digest()));
        if commit.index != index + 1 || commit.previous != previous {
            return Err(SessionEnd::Nonsense("a commit that does not follow the last one"));
        }
        let blocks =
            self.core.committed(commit.clone()).await?.ok_or(SessionEnd::Nonsense("a commit with a block this validator does not have"))?;
        *last_commit = Some(commit.clone());
        self.execute.send(Decided { commit, blocks }).await.map_err(|_| DagError::Stopped)?;
        Ok(())
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Everything that goes up in one session. Ends when the session or the core does; the core closes `upward` when it would overflow,
/// which ends the session and begins another with a fresh replay.
async fn send_all(out: mpsc::Sender<DriveRequest>, hello: Hello, replay: Vec<HeaderEntry>, mut upward: mpsc::Receiver<Upward>) {
    let wrap = |message| DriveRequest { message: Some(message) };
    if out.send(wrap(drive_request::Message::Hello(hello))).await.is_err() {
        return;
    }
    let mut replay = replay.into_iter();
    loop {
        let headers: Vec<HeaderEntry> = replay.by_ref().take(HEADERS_PER_MESSAGE).collect();
        if headers.is_empty() {
            break;
        }
        if out.send(wrap(drive_request::Message::Headers(Headers { headers }))).await.is_err() {
            return;
        }
    }
    if out.send(wrap(drive_request::Message::ReplayDone(ReplayDone {}))).await.is_err() {
        return;
    }
    let mut items = Vec::with_capacity(HEADERS_PER_MESSAGE);
    while upward.recv_many(&mut items, HEADERS_PER_MESSAGE).await > 0 {
        let mut headers = Vec::new();
        for item in items.drain(..) {
            match item {
                Upward::Header(entry) => headers.push(entry),
                Upward::Pending(transactions) => {
                    if out.send(wrap(drive_request::Message::Pending(Pending { transactions }))).await.is_err() {
                        return;
                    }
                }
            }
        }
        if !headers.is_empty() && out.send(wrap(drive_request::Message::Headers(Headers { headers }))).await.is_err() {
            return;
        }
    }
}
