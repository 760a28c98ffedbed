//! Follows region-sync: each notice says that a commit can be read now. It wakes waiters, then readers of streams.

use crate::core::Ledger;
use crate::core::feed::{Published, PublishedTransaction};
use crate::core::tracker::CommitNotice;
use crate::core::view;
use crate::grpc::Link;
use kaldrix_api::clients::RegionServiceClient;
use kaldrix_proto::{DecodeError, decode_bcs, region as pb, transaction_id};
use kaldrix_service_kit::telemetry::span_in_trace;
use kaldrix_types::{Address, CommitIndex, OutcomeStatus, TxId};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(3);
const MESSAGE_BYTES_MAX: usize = 32 << 20;
const STATUS_BYTES_MAX: usize = 16;
/// Reading a commit that was announced: a busy database gets this many tries.
const READ_TRIES: u32 = 20;

/// Why the stream has to be opened again.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("region-sync does not answer: {0}")]
    Status(#[from] tonic::Status),
    #[error("region-sync sent a notice that is none: {0}")]
    Notice(#[from] DecodeError),
    #[error("commit {found} was announced where {expected} was due")]
    Gap { expected: CommitIndex, found: CommitIndex },
    #[error("commit {0} was announced but cannot be read")]
    Unreadable(CommitIndex),
    #[error("region-sync ended the stream")]
    Ended,
}

/// Runs until `cancel`, opening the stream again whenever it breaks.
pub async fn run(ledger: Arc<Ledger>, channel: Link, cancel: CancellationToken) {
    let mut backoff = BACKOFF_FIRST;
    loop {
        let before = ledger.feed().newest();
        let error = tokio::select! {
            () = cancel.cancelled() => return,
            error = follow(&ledger, channel.clone()) => error,
        };
        ledger.gates().region.close("the stream of commits is not connected");
        if ledger.feed().newest() > before {
            backoff = BACKOFF_FIRST;
        }
        tracing::warn!(%error, retry_ms = backoff.as_millis(), "the stream of commits broke");
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(backoff) => {}
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

async fn follow(ledger: &Ledger, channel: Link) -> Broken {
    match try_follow(ledger, channel).await {
        Ok(()) => Broken::Ended,
        Err(error) => error,
    }
}

async fn try_follow(ledger: &Ledger, channel: Link) -> Result<(), Broken> {
    let mut client = RegionServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let from_index = ledger.feed().newest() + 1;
    let mut stream = client.subscribe_projected(pb::SubscribeProjectedRequest { from_index }).await?.into_inner();
    ledger.gates().region.open();
    while let Some(notice) = stream.message().await? {
        let expected = ledger.feed().newest() + 1;
        if notice.index < expected {
            continue;
        }
        if notice.index > expected {
            return Err(Broken::Gap { expected, found: notice.index });
        }
        apply(ledger, notice).await?;
    }
    Ok(())
}

async fn apply(ledger: &Ledger, notice: pb::ProjectedCommit) -> Result<(), Broken> {
    let mut transactions = Vec::with_capacity(notice.transactions.len());
    for transaction in &notice.transactions {
        let id = transaction_id("transactions.id", &transaction.id)?;
        let status: OutcomeStatus = decode_bcs("transactions.status", &transaction.status, STATUS_BYTES_MAX)?;
        let accounts = transaction.accounts.iter().filter_map(|a| Address::try_from(a.as_ref()).ok()).collect();
        transactions.push(PublishedTransaction { id, status, accounts });
        note_final(&transaction.traceparent, id, notice.index);
    }
    let woken = CommitNotice {
        index: notice.index,
        timestamp_ms: notice.timestamp_ms,
        transactions: transactions.iter().map(|t| (t.id, t.status)).collect(),
    };
    // Waiters first: they need nothing of the commit itself.
    let took = ledger.tracker().on_commit(&woken);
    ledger.metrics().finality(&took);
    let commit = read_commit(ledger, notice.index).await?;
    ledger.metrics().commit_index.set(i64::try_from(notice.index).unwrap_or(i64::MAX));
    ledger.feed().publish(Published { commit, transactions });
    Ok(())
}

/// Closes the trace of a payment where it began: the span "final" stands at the moment its outcome can be read here.
fn note_final(traceparent: &str, id: TxId, commit: CommitIndex) {
    if !traceparent.is_empty() {
        let span = span_in_trace("final", "ledger-api", Some(traceparent));
        span.in_scope(|| tracing::debug!(%id, commit, "final"));
    }
}

async fn read_commit(ledger: &Ledger, index: CommitIndex) -> Result<kaldrix_proto::ledger::Commit, Broken> {
    for attempt in 0..READ_TRIES {
        match ledger.store().commit(index).await {
            Ok(Some(row)) => return view::stored_commit(&row).map_err(|_| Broken::Unreadable(index)),
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, index, "an announced commit cannot be read yet"),
        }
        tokio::time::sleep(Duration::from_millis(u64::from(attempt) + 1)).await;
    }
    Err(Broken::Unreadable(index))
}
