//! Hands submissions to a validator in batches.
//!
//! ```text
//!   submit ─▶ shard by sender ─▶ bounded queue ─▶ one batch at a time ─▶ validator
//! ```
//!
//! One sender's transactions always pass through one shard, and a shard has one batch on its way at a time: their order is kept, while
//! several shards keep several calls in flight. What arrives during a call makes the next batch larger, so load makes calls cheaper.

use crate::grpc::Validators;
use crate::metrics::Metrics;
use bytes::Bytes;
use kaldrix_api::{ApiError, ErrorCode};
use kaldrix_types::Address;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

/// Batches on their way at once.
const SHARDS: usize = 2;
/// How long the first transaction of a batch waits for others.
const LINGER: Duration = Duration::from_millis(4);
/// Transactions of one batch.
const BATCH_TRANSACTIONS_MAX: usize = 256;
/// Bytes of one batch.
const BATCH_BYTES_MAX: usize = 2 << 20;
/// What to tell clients when the queue is full.
const RETRY_MS: u32 = 100;
/// Permits of the byte budget stand for this many bytes.
const PERMIT_BYTES: usize = 1024;

/// One transaction on its way to a validator.
#[derive(Debug)]
pub struct Submission {
    /// The signed bytes.
    bytes: Bytes,
    /// W3C traceparent of the request, or empty.
    traceparent: String,
    /// The request's span: a batch runs under its first one.
    span: tracing::Span,
    /// Which validator took it, or why none did.
    reply: oneshot::Sender<Result<usize, ApiError>>,
    _budget: OwnedSemaphorePermit,
}

/// The way into the queues.
#[derive(Debug)]
pub struct Submitter {
    shards: Vec<mpsc::Sender<Submission>>,
    budget: Arc<Semaphore>,
    metrics: Metrics,
}

/// The other end: one queue per shard, each to be run by [`run`].
pub type Queues = Vec<mpsc::Receiver<Submission>>;

impl Submitter {
    /// Queues for `transactions` submissions and `bytes` bytes in total.
    #[must_use]
    pub fn new(transactions: usize, bytes: usize, metrics: Metrics) -> (Self, Queues) {
        let (shards, queues) = (0..SHARDS).map(|_| mpsc::channel((transactions / SHARDS).max(1))).unzip();
        let budget = Arc::new(Semaphore::new((bytes / PERMIT_BYTES).max(1)));
        (Self { shards, budget, metrics }, queues)
    }

    /// Queues a transaction and waits for a validator's answer: the number of the validator that has it.
    ///
    /// # Errors
    /// OVERLOADED when the queue is full, NO_VALIDATOR when none answers, else the validator's own code.
    pub async fn submit(&self, sender: Address, bytes: Bytes, traceparent: String) -> Result<usize, ApiError> {
        let full = || ApiError::new(ErrorCode::Overloaded, "the queue to the validators is full").retry_after(RETRY_MS);
        let size = bytes.len();
        let permits = u32::try_from(size / PERMIT_BYTES + 1).map_err(|_| full())?;
        let budget = Arc::clone(&self.budget).try_acquire_many_owned(permits).map_err(|_| full())?;
        let (reply, answer) = oneshot::channel();
        let submission = Submission { bytes, traceparent, span: tracing::Span::current(), reply, _budget: budget };
        let shard = usize::from(sender.as_bytes()[31]) % self.shards.len();
        self.shards[shard].try_send(submission).map_err(|_| full())?;
        self.metrics.queue_transactions.inc();
        self.metrics.queue_bytes.inc_by(i64::try_from(size).unwrap_or(0));
        answer.await.unwrap_or_else(|_| Err(ApiError::from(ErrorCode::NoValidator).retry_after(RETRY_MS)))
    }
}

/// Runs one shard until `cancel`.
pub async fn run(mut queue: mpsc::Receiver<Submission>, validators: Arc<Validators>, metrics: Metrics, cancel: CancellationToken) {
    let mut held: Option<Submission> = None;
    loop {
        let first = match held.take() {
            Some(submission) => submission,
            None => tokio::select! {
                () = cancel.cancelled() => return,
                received = queue.recv() => match received {
                    Some(submission) => submission,
                    None => return,
                },
            },
        };
        let batch;
        (batch, held) = collect(first, &mut queue).await;
        metrics.queue_transactions.dec_by(i64::try_from(batch.len()).unwrap_or(0));
        metrics.queue_bytes.dec_by(batch.iter().map(|s| i64::try_from(s.bytes.len()).unwrap_or(0)).sum());
        metrics.batch_transactions.observe(f64::from(u32::try_from(batch.len()).unwrap_or(u32::MAX)));
        hand_over(batch, &validators).await;
    }
}

/// Collects until the batch is full, [`LINGER`] has passed, or the next one does not fit; that one is handed back.
async fn collect(first: Submission, queue: &mut mpsc::Receiver<Submission>) -> (Vec<Submission>, Option<Submission>) {
    let mut bytes = first.bytes.len();
    let mut batch = vec![first];
    let deadline = tokio::time::Instant::now() + LINGER;
    while batch.len() < BATCH_TRANSACTIONS_MAX {
        let Ok(Some(next)) = tokio::time::timeout_at(deadline, queue.recv()).await else { break };
        if bytes + next.bytes.len() > BATCH_BYTES_MAX {
            return (batch, Some(next));
        }
        bytes += next.bytes.len();
        batch.push(next);
    }
    (batch, None)
}

async fn hand_over(batch: Vec<Submission>, validators: &Validators) {
    let span = batch[0].span.clone();
    let (mut transactions, mut traceparents, mut replies) =
        (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
    for submission in batch {
        transactions.push(submission.bytes);
        traceparents.push(submission.traceparent);
        replies.push(submission.reply);
    }
    if traceparents.iter().all(String::is_empty) {
        traceparents = Vec::new();
    }
    match validators.submit(transactions, traceparents).instrument(span).await {
        Ok((endpoint, results)) => {
            for (reply, result) in replies.into_iter().zip(results) {
                // A caller that has gone away needs no answer.
                let _ = reply.send(result.map(|()| endpoint));
            }
        }
        Err(error) => {
            for reply in replies {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }
}
