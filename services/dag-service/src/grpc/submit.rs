//! Admission of a batch: decode, look at the state, verify signatures in parallel, hand over to the mempool.

use super::dag::DagGrpc;
use crate::core::{Clocks, Entry, Refusal, admission_keys, admit, check_signature, next_sequence, wall_clock_ms};
use bytes::Bytes;
use kaldrix_api::{ApiError, ErrorCode};
use kaldrix_dag::AddError;
use kaldrix_proto::dag::SubmitResult;
use kaldrix_types::{DecodedTransaction, RejectCode, Sequence, StateKey, TxId};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How long newer state is waited for before a soft refusal becomes a refusal.
const SOFT_WAIT: Duration = Duration::from_millis(800);
/// Commits after which a soft refusal is looked at again.
const SOFT_COMMITS: u64 = 3;
/// Transactions per verification job.
const PER_JOB: usize = 32;

/// One transaction of a batch on its way.
struct Candidate {
    position: usize,
    tx: Arc<DecodedTransaction>,
}

/// Where the batch stands: results fill up by position.
struct Batch {
    results: Vec<SubmitResult>,
    traceparents: Vec<String>,
}

impl DagGrpc {
    /// Results are parallel to `transactions`.
    pub(super) async fn submit(&self, transactions: Vec<Bytes>, traceparents: Vec<String>) -> Result<Vec<SubmitResult>, ApiError> {
        let mut batch = Batch { results: vec![SubmitResult::default(); transactions.len()], traceparents };
        let mut candidates = self.decode(transactions, &mut batch).await;
        let soft = self.admit_all(&mut candidates, &mut batch, false).await?;
        if !soft.is_empty() {
            self.wait_for_commits().await;
            let mut again = soft;
            self.admit_all(&mut again, &mut batch, true).await?;
        }
        let refused = batch.results.iter().filter(|r| !r.code.is_empty()).count() as u64;
        self.metrics.transactions_refused.inc_by(refused);
        self.metrics.transactions_admitted.inc_by(batch.results.len() as u64 - refused);
        Ok(batch.results)
    }

    async fn decode(&self, transactions: Vec<Bytes>, batch: &mut Batch) -> Vec<Candidate> {
        let chain = self.committee.chain();
        let decoded = tokio::task::spawn_blocking(move || {
            transactions.into_iter().map(|bytes| DecodedTransaction::decode(bytes, chain)).collect::<Vec<_>>()
        })
        .await
        .unwrap_or_default();
        let mut candidates = Vec::with_capacity(decoded.len());
        for (position, decoded) in decoded.into_iter().enumerate() {
            match decoded {
                Ok(tx) => candidates.push(Candidate { position, tx: Arc::new(tx) }),
                Err(code) => batch.results[position] = reject(None, code),
            }
        }
        candidates
    }

    /// Takes in what can be; returns the softly refused when `last` is false.
    async fn admit_all(&self, candidates: &mut Vec<Candidate>, batch: &mut Batch, last: bool) -> Result<Vec<Candidate>, ApiError> {
        let keys: BTreeSet<StateKey> = candidates.iter().flat_map(|c| admission_keys(&c.tx)).collect();
        let keys: Vec<StateKey> = keys.into_iter().collect();
        let state = self.hot.peek(&keys).await.map_err(|error| {
            tracing::warn!(%error, "admission cannot read the state");
            ApiError::new(ErrorCode::NoValidator, "this validator's store does not answer").retry_after(500)
        })?;
        let state = Arc::new(state);
        let clocks =
            Clocks { consensus_ms: self.core.status().await.map_err(|_| stopping())?.commit_timestamp_ms, local_ms: wall_clock_ms() };
        let mut jobs = Vec::new();
        let mut rest = std::mem::take(candidates);
        while !rest.is_empty() {
            let chunk: Vec<Candidate> = rest.drain(..rest.len().min(PER_JOB)).collect();
            let (state, parameters, verifier, checks) =
                (Arc::clone(&state), self.parameters.clone(), self.verifier.clone(), Arc::clone(&self.checks));
            jobs.push(tokio::task::spawn_blocking(move || {
                let verdict = |tx: &DecodedTransaction| -> Result<Sequence, Refusal> {
                    let key = admit(tx, &state, &parameters, clocks)?;
                    let id = key.id();
                    if checks.recall(&tx.leaf()) != Some(id) {
                        check_signature(tx, key, &verifier)?;
                        checks.remember(tx.leaf(), id);
                    }
                    Ok(next_sequence(&state, tx))
                };
                chunk.into_iter().map(|c| (verdict(&c.tx), c)).collect::<Vec<_>>()
            }));
        }
        let mut soft = Vec::new();
        let mut entries = Vec::new();
        let mut positions = Vec::new();
        for job in jobs {
            for (verdict, candidate) in job.await.map_err(|_| stopping())? {
                match verdict {
                    Ok(next_sequence) => {
                        let traceparent = batch.traceparents.get(candidate.position).cloned().unwrap_or_default();
                        positions.push((candidate.position, candidate.tx.id()));
                        entries.push(Entry { tx: candidate.tx, next_sequence, traceparent });
                    }
                    Err(refusal) if refusal.soft && !last => soft.push(candidate),
                    Err(refusal) => batch.results[candidate.position] = reject(Some(candidate.tx.id()), refusal.code),
                }
            }
        }
        let added = self.core.add_transactions(entries).await.map_err(|_| stopping())?;
        for ((position, id), result) in positions.into_iter().zip(added) {
            batch.results[position] = match result {
                Ok(()) => SubmitResult { id: id_bytes(id), ..SubmitResult::default() },
                Err(error) => add_error(id, &error),
            };
        }
        Ok(soft)
    }

    async fn wait_for_commits(&self) {
        let mut newest = self.feed.newest();
        let target = *newest.borrow() + SOFT_COMMITS;
        // Running out of time is fine: the second look decides.
        let _ = tokio::time::timeout(SOFT_WAIT, newest.wait_for(|index| *index >= target)).await;
    }
}

fn stopping() -> ApiError {
    ApiError::new(ErrorCode::NoValidator, "this validator is stopping").retry_after(1_000)
}

fn id_bytes(id: TxId) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

fn reject(id: Option<TxId>, code: RejectCode) -> SubmitResult {
    SubmitResult {
        id: id.map(id_bytes).unwrap_or_default(),
        code: code.as_str().to_owned(),
        detail: code.help().to_owned(),
        retry_after_ms: 0,
    }
}

fn add_error(id: TxId, error: &AddError) -> SubmitResult {
    let (code, retry_after_ms): (ErrorCode, u64) = match error {
        AddError::Full { retry_after_ms } => (ErrorCode::MempoolFull, *retry_after_ms),
        AddError::SenderFull { retry_after_ms } => (ErrorCode::SenderQueueFull, *retry_after_ms),
        AddError::Reject(code) => (ErrorCode::Reject(*code), 0),
    };
    SubmitResult {
        id: id_bytes(id),
        code: code.as_str().to_owned(),
        detail: code.help().to_owned(),
        retry_after_ms: u32::try_from(retry_after_ms).unwrap_or(u32::MAX),
    }
}
