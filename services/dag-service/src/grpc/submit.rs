//! Admission of a batch: decode, look at the state, verify signatures in parallel, hand over to the mempool.

use super::dag::DagGrpc;
use crate::core::{Clocks, Entry, EpochView, SignatureChecks, Snapshot, admission_keys, admit, next_sequence, wall_clock_ms};
use bytes::Bytes;
use kaldrix_api::{ApiError, ErrorCode};
use kaldrix_crypto::Verifier;
use kaldrix_dag::AddError;
use kaldrix_proto::dag::SubmitResult;
use kaldrix_types::{ChainId, DecodedTransaction, Operation, Parameters, RejectCode, Sequence, StateKey, StateValue, TxId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Transactions per verification job; a batch of no more than that is not worth another thread.
const PER_JOB: usize = 16;

/// What a verification job needs, shared by the jobs of a batch.
struct Examiner {
    state: Snapshot,
    epoch: EpochView,
    parameters: Parameters,
    clocks: Clocks,
    verifier: Verifier,
    checks: Arc<SignatureChecks>,
}

impl Examiner {
    /// The next sequence number of the transaction's lane when it may enter.
    fn examine(&self, tx: &DecodedTransaction) -> Result<Sequence, RejectCode> {
        let key = admit(tx, &self.state, &self.parameters, self.clocks)?;
        self.check_evidence(tx)?;
        let id = key.id();
        if self.checks.recall(&tx.leaf()) != Some(id) {
            self.verifier.verify_transaction(tx, key)?;
            self.checks.remember(tx.leaf(), id);
        }
        Ok(next_sequence(&self.state, tx))
    }

    /// Free transactions must be worth their place: the proof holds, is of the running epoch, and tells something new.
    fn check_evidence(&self, tx: &DecodedTransaction) -> Result<(), RejectCode> {
        let [Operation::ReportEquivocation { proof }] = &tx.body().operations[..] else { return Ok(()) };
        let committee = &self.epoch.committee;
        let accused = proof.culprit().and_then(|c| committee.get(c.author)).ok_or(RejectCode::BadEvidence)?;
        if !proof.first.is_signed(committee, &self.verifier) || !proof.second.is_signed(committee, &self.verifier) {
            return Err(RejectCode::BadEvidence);
        }
        match self.state.get(&StateKey::Validator(accused.operator)) {
            Some(Some(StateValue::Validator(record))) if record.slashed_epoch == Some(committee.epoch()) => {
                Err(RejectCode::AlreadyReported)
            }
            _ => Ok(()),
        }
    }
}

impl DagGrpc {
    /// Results are parallel to `transactions`.
    pub(super) async fn submit(&self, transactions: Vec<Bytes>, traceparents: Vec<String>) -> Result<Vec<SubmitResult>, ApiError> {
        let epoch = self.epoch.get();
        if !epoch.has_seat() {
            // It makes no blocks: what it took would wait for ever.
            return Err(ApiError::new(ErrorCode::NoValidator, "this validator has no seat in the running epoch").retry_after(500));
        }
        let decoded = decode(transactions, epoch.committee.chain()).await?;
        let keys: BTreeSet<StateKey> = decoded.iter().flatten().flat_map(|tx| admission_keys(tx, &epoch.committee)).collect();
        let keys: Vec<StateKey> = keys.into_iter().collect();
        let state = self.hot.peek(&keys).await.map_err(|error| {
            tracing::warn!(%error, "admission cannot read the state");
            ApiError::new(ErrorCode::NoValidator, "this validator's store does not answer").retry_after(500)
        })?;
        let clocks = Clocks { consensus_ms: self.hot.consensus_time_ms(), local_ms: wall_clock_ms() };
        let examiner = Arc::new(Examiner {
            state,
            epoch,
            parameters: self.parameters.clone(),
            clocks,
            verifier: self.verifier.clone(),
            checks: Arc::clone(&self.checks),
        });
        let verdicts = examine_all(examiner, &decoded).await?;
        self.admit_all(decoded, verdicts, traceparents).await
    }

    async fn admit_all(
        &self,
        decoded: Vec<Result<Arc<DecodedTransaction>, RejectCode>>,
        verdicts: Vec<Result<Sequence, RejectCode>>,
        traceparents: Vec<String>,
    ) -> Result<Vec<SubmitResult>, ApiError> {
        let mut results = Vec::with_capacity(decoded.len());
        let mut entries = Vec::with_capacity(decoded.len());
        let mut traceparents = traceparents.into_iter().chain(std::iter::repeat(String::new()));
        for (tx, verdict) in decoded.into_iter().zip(verdicts) {
            let traceparent = traceparents.next().unwrap_or_default();
            results.push(match (tx, verdict) {
                (Ok(tx), Ok(next_sequence)) => {
                    let id = tx.id();
                    entries.push(Entry { tx, next_sequence, traceparent });
                    SubmitResult { id: id_bytes(id), ..SubmitResult::default() }
                }
                (Ok(tx), Err(code)) => reject(Some(tx.id()), code),
                (Err(code), _) => reject(None, code),
            });
        }
        let mut added = self.core.add_transactions(entries).await.map_err(|_| stopping())?.into_iter();
        for result in results.iter_mut().filter(|r| r.code.is_empty()) {
            if let Some(Err(error)) = added.next() {
                refuse(result, &error);
            }
        }
        let refused = results.iter().filter(|r| !r.code.is_empty()).count() as u64;
        self.metrics.transactions_refused.inc_by(refused);
        self.metrics.transactions_admitted.inc_by(results.len() as u64 - refused);
        Ok(results)
    }
}

async fn decode(transactions: Vec<Bytes>, chain: ChainId) -> Result<Vec<Result<Arc<DecodedTransaction>, RejectCode>>, ApiError> {
    let few = transactions.len() <= PER_JOB;
    let decode_all =
        move || transactions.into_iter().map(|bytes| DecodedTransaction::decode(bytes, chain).map(Arc::new)).collect::<Vec<_>>();
    if few { Ok(decode_all()) } else { tokio::task::spawn_blocking(decode_all).await.map_err(|_| stopping()) }
}

/// Verdicts parallel to `decoded`; what did not decode has any.
async fn examine_all(
    examiner: Arc<Examiner>,
    decoded: &[Result<Arc<DecodedTransaction>, RejectCode>],
) -> Result<Vec<Result<Sequence, RejectCode>>, ApiError> {
    let work = |examiner: &Examiner, chunk: &[Result<Arc<DecodedTransaction>, RejectCode>]| -> Vec<Result<Sequence, RejectCode>> {
        chunk.iter().map(|tx| tx.as_ref().map_err(|code| *code).and_then(|tx| examiner.examine(tx))).collect()
    };
    if decoded.len() <= PER_JOB {
        return Ok(work(&examiner, decoded));
    }
    let jobs: Vec<_> = decoded
        .chunks(PER_JOB)
        .map(|chunk| {
            let (examiner, chunk) = (Arc::clone(&examiner), chunk.to_vec());
            tokio::task::spawn_blocking(move || work(&examiner, &chunk))
        })
        .collect();
    let mut verdicts = Vec::with_capacity(decoded.len());
    for job in jobs {
        verdicts.extend(job.await.map_err(|_| stopping())?);
    }
    Ok(verdicts)
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

fn refuse(result: &mut SubmitResult, error: &AddError) {
    let (code, retry_after_ms): (ErrorCode, u64) = match error {
        AddError::Full { retry_after_ms } => (ErrorCode::MempoolFull, *retry_after_ms),
        AddError::SenderFull { retry_after_ms } => (ErrorCode::SenderQueueFull, *retry_after_ms),
        AddError::Reject(code) => (ErrorCode::Reject(*code), 0),
    };
    code.as_str().clone_into(&mut result.code);
    code.help().clone_into(&mut result.detail);
    result.retry_after_ms = u32::try_from(retry_after_ms).unwrap_or(u32::MAX);
}
