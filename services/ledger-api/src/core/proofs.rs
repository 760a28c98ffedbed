//! Checkpoints and proofs: what a client can verify without trusting this server.

use super::Ledger;
use super::tracker::{Pending, Progress};
use super::view::checkpoint_message;
use kaldrix_api::{ApiError, ErrorCode};
use kaldrix_proto::ledger as pb;
use kaldrix_types::{Address, AssetId, StateKey, TxId};
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;

/// What to tell clients while as many proofs are being made as may be.
const BUSY_MS: u32 = 250;
/// When a checkpoint can be expected to cover what is on its way now.
const NEXT_CHECKPOINT_MS: u32 = 1_000;

impl Ledger {
    /// A certified checkpoint; index 0 means the newest one.
    ///
    /// # Errors
    /// CHECKPOINT_NOT_FOUND, HISTORY_PRUNED, NO_VALIDATOR, OVERLOADED.
    pub async fn checkpoint(&self, index: u64) -> Result<pb::Checkpoint, ApiError> {
        let _permit = self.proof_permit()?;
        let certified = self.validators().checkpoint(index).await?;
        self.checkpoints().note(&certified.checkpoint);
        Ok(checkpoint_message(&certified))
    }

    /// The proof of a transaction's outcome.
    ///
    /// # Errors
    /// TRANSACTION_NOT_FOUND, NOT_CHECKPOINTED, HISTORY_PRUNED, NO_VALIDATOR, READ_MODEL_UNAVAILABLE, OVERLOADED.
    pub async fn transaction_proof(&self, id: TxId) -> Result<pb::TransactionProof, ApiError> {
        let Some(row) = self.stored(id).await? else { return Err(self.not_ordered(id).await) };
        let _permit = self.proof_permit()?;
        let proof = self.validators().transaction_proof(id, row.commit).await?;
        Ok(pb::TransactionProof { proof_json: proof.json, checkpoint_index: proof.checkpoint_index })
    }

    /// Why there is no proof of a transaction that no commit has.
    async fn not_ordered(&self, id: TxId) -> ApiError {
        let tracked = self.tracker().get(id).is_some_and(|known| matches!(known.progress, Progress::Accepted | Progress::Included));
        let pending = tracked || matches!(self.validators().pending_anywhere(id).await, Pending::Queued | Pending::Included);
        if pending {
            return ApiError::new(ErrorCode::NotCheckpointed, "the transaction is not final yet").retry_after(NEXT_CHECKPOINT_MS);
        }
        ErrorCode::TransactionNotFound.into()
    }

    /// The proof of what an account holds of `asset`, or of its keys and sequence number; or that there is nothing.
    ///
    /// # Errors
    /// NOT_CHECKPOINTED, NO_VALIDATOR, OVERLOADED.
    pub async fn account_proof(&self, address: Address, asset: Option<AssetId>) -> Result<pb::AccountProof, ApiError> {
        let _permit = self.proof_permit()?;
        let key = asset.map_or(StateKey::Account(address), |asset| StateKey::Balance(address, asset));
        let proof = self.validators().state_proof(&key).await?;
        Ok(pb::AccountProof { proof_json: proof.json, checkpoint_index: proof.checkpoint_index })
    }

    /// Proofs are large: only so many are under way at once.
    fn proof_permit(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        let busy = |_| ApiError::new(ErrorCode::Overloaded, "too many proofs are being made").retry_after(BUSY_MS);
        self.proofs.try_acquire().map_err(busy)
    }

    /// Turns FINAL into CHECKPOINTED where a certified checkpoint covers the commit.
    pub(super) fn note_checkpoint(&self, transaction: &mut pb::Transaction) {
        if transaction.status() == pb::TransactionStatus::Final
            && let Some(index) = self.checkpoints().covering(transaction.commit_index)
        {
            transaction.set_status(pb::TransactionStatus::Checkpointed);
            transaction.checkpoint_index = index;
        }
    }

    /// Waits until a certified checkpoint covers a final transaction, at most until `deadline`.
    pub(super) async fn wait_checkpointed(&self, transaction: &mut pb::Transaction, deadline: Instant) {
        if transaction.status() == pb::TransactionStatus::Final {
            self.checkpoints().wait_for(transaction.commit_index, deadline).await;
            self.note_checkpoint(transaction);
        }
    }
}
