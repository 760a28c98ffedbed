//! Checkpoints and proofs: asked of one validator after the other, because one may lack what another still has or already has.

use super::{LOOKUP_TIMEOUT, Link, RETRY_MS, Validators, bounded};
use bytes::Bytes;
use kaldrix_api::clients::DagServiceClient;
use kaldrix_api::{ApiError, ErrorCode};
use kaldrix_proto::{dag as pb, decode_bcs};
use kaldrix_types::{CertifiedCheckpoint, CommitIndex, StateKey, TxId};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tonic::{Code, Response, Status};

/// How long one validator may take to put a proof together: it may read a checkpoint's outcomes from its disk.
const PROOF_TIMEOUT: Duration = Duration::from_secs(5);
/// A proof holds one certificate per epoch since genesis, each with a quorum's headers and signatures.
const PROOF_BYTES_MAX: usize = 64 << 20;
/// When a checkpoint can be expected to cover what is final now.
const NEXT_CHECKPOINT_MS: u32 = 1_000;

/// Why no validator gave it. Ascending: of several answers the greatest is the most useful to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lack {
    /// None answered.
    Unreachable,
    /// Those that answered do not hold history this old.
    Pruned,
    /// It does not exist, as far as they know.
    NotFound,
    /// No certified checkpoint covers it yet.
    NotYet,
}

impl Lack {
    fn of(status: &Status) -> Self {
        match status.code() {
            Code::FailedPrecondition => Self::NotYet,
            Code::NotFound => Self::NotFound,
            Code::OutOfRange => Self::Pruned,
            _ => Self::Unreachable,
        }
    }

    /// As clients see it; `not_found` is the code of what was asked for.
    fn error(self, not_found: ErrorCode) -> ApiError {
        match self {
            Self::Unreachable => ApiError::from(ErrorCode::NoValidator).retry_after(RETRY_MS),
            Self::Pruned => ErrorCode::HistoryPruned.into(),
            Self::NotFound => not_found.into(),
            Self::NotYet => ApiError::from(ErrorCode::NotCheckpointed).retry_after(NEXT_CHECKPOINT_MS),
        }
    }
}

/// A proof as a validator made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofText {
    /// JSON text of the proof.
    pub json: String,
    /// The checkpoint that it ends in.
    pub checkpoint_index: u64,
}

impl Validators {
    /// A certified checkpoint; index 0 means the newest one.
    ///
    /// # Errors
    /// CHECKPOINT_NOT_FOUND, HISTORY_PRUNED, NO_VALIDATOR.
    pub async fn checkpoint(&self, index: u64) -> Result<CertifiedCheckpoint, ApiError> {
        let ask = |mut client: DagServiceClient<Link>| async move { client.get_checkpoint(pb::GetCheckpointRequest { index }).await };
        let answer = self.ask_each(LOOKUP_TIMEOUT, ask).await.map_err(|lack| lack.error(ErrorCode::CheckpointNotFound))?;
        decode_bcs("certified", &answer.certified, PROOF_BYTES_MAX).map_err(|error| {
            tracing::error!(%error, index, "a validator sent a checkpoint that is none");
            ErrorCode::Internal.into()
        })
    }

    /// The proof of what became of a transaction that commit `commit_index` ordered.
    ///
    /// # Errors
    /// NOT_CHECKPOINTED, TRANSACTION_NOT_FOUND, HISTORY_PRUNED, NO_VALIDATOR.
    pub async fn transaction_proof(&self, id: TxId, commit_index: CommitIndex) -> Result<ProofText, ApiError> {
        let message = &pb::GetTransactionProofRequest { id: Bytes::copy_from_slice(id.as_bytes()), commit_index };
        let ask = |mut client: DagServiceClient<Link>| async move { client.get_transaction_proof(message.clone()).await };
        let answer = self.ask_each(PROOF_TIMEOUT, ask).await.map_err(|lack| lack.error(ErrorCode::TransactionNotFound))?;
        Ok(ProofText { json: answer.proof, checkpoint_index: answer.checkpoint_index })
    }

    /// The proof of a state record, or that there is none, as of the newest certified checkpoint.
    ///
    /// # Errors
    /// NOT_CHECKPOINTED, NO_VALIDATOR.
    pub async fn state_proof(&self, key: &StateKey) -> Result<ProofText, ApiError> {
        let message = &pb::GetStateProofRequest { key: key.to_bytes().into() };
        let ask = |mut client: DagServiceClient<Link>| async move { client.get_state_proof(message.clone()).await };
        let answer = self.ask_each(PROOF_TIMEOUT, ask).await.map_err(|lack| lack.error(ErrorCode::NotCheckpointed))?;
        Ok(ProofText { json: answer.proof, checkpoint_index: answer.checkpoint_index })
    }

    /// Asks the preferred validator, then the others, until one gives it.
    async fn ask_each<T, F>(&self, limit: Duration, ask: impl Fn(DagServiceClient<Link>) -> F) -> Result<T, Lack>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let start = self.preferred.load(Ordering::Relaxed);
        let mut lack = Lack::Unreachable;
        for attempt in 0..self.clients.len() {
            let endpoint = (start + attempt) % self.clients.len();
            let client = self.clients[endpoint].clone().max_decoding_message_size(PROOF_BYTES_MAX);
            match bounded(limit, ask(client)).await {
                Ok(answer) => return Ok(answer),
                Err(status) => {
                    tracing::debug!(endpoint, %status, "a validator does not have what was asked for");
                    lack = lack.max(Lack::of(&status));
                }
            }
        }
        Err(lack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_useful_of_several_refusals_is_the_one_that_clients_get() {
        let all = [Status::unavailable(""), Status::out_of_range(""), Status::not_found(""), Status::failed_precondition("")];
        let codes: Vec<ErrorCode> = all.iter().map(|s| Lack::of(s).error(ErrorCode::TransactionNotFound).code).collect();
        assert_eq!(codes, [ErrorCode::NoValidator, ErrorCode::HistoryPruned, ErrorCode::TransactionNotFound, ErrorCode::NotCheckpointed]);
        assert!(all.windows(2).all(|pair| Lack::of(&pair[0]) < Lack::of(&pair[1])));
        assert_eq!(Lack::NotYet.error(ErrorCode::Internal).retry_after_ms, Some(1_000));
    }
}
