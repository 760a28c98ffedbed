//! Submission, and waiting for what becomes of it.
//!
//! ```text
//!   bytes ─decode, static rules─▶ inline signature ─▶ register ─▶ queue ─▶ validator ─▶ wait for the level or the time-out
//!                                                                             │refused
//!                                                          first outcome in the store? ─▶ that one, else the refusal
//! ```

use super::view::{stored_transaction, tracked_transaction};
use super::{Ledger, damaged};
use crate::core::tracker::{Known, Progress};
use crate::error::invalid;
use bytes::Bytes;
use kaldrix_api::{ApiError, ErrorCode};
use kaldrix_proto::ledger as pb;
use kaldrix_types::{DecodedTransaction, KeyRef, OutcomeStatus, RejectCode, TxBody, TxId};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// Wait when the client names none.
const WAIT_DEFAULT: Duration = Duration::from_secs(5);
/// How long the hand-over itself may take, whatever the client's wait.
const HAND_OVER_MAX: Duration = Duration::from_secs(12);
/// How long a validator's "already used" may outrun this region's read model.
const CATCH_UP_MAX: Duration = Duration::from_secs(2);
/// Commits after which a refusal is asked for again, and how long to wait for them.
const SECOND_LOOK_COMMITS: u64 = 2;
const SECOND_LOOK_MAX: Duration = Duration::from_millis(500);
/// How long one WatchTransaction may last.
const WATCH_MAX: Duration = Duration::from_secs(600);

const LEVELS: &str = "use ACCEPTED, INCLUDED, FINAL or CHECKPOINTED";

/// How far a submission waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Until a validator has it.
    #[default]
    Accepted,
    /// Until it is in a block.
    Included,
    /// Until its outcome can be read.
    Final,
    /// Until its outcome can be proven.
    Checkpointed,
}

impl Level {
    /// From the message's field; unspecified means ACCEPTED.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a status nobody can wait for.
    pub fn from_proto(value: i32) -> Result<Self, ApiError> {
        match pb::TransactionStatus::try_from(value) {
            Ok(pb::TransactionStatus::Unspecified | pb::TransactionStatus::Accepted) => Ok(Self::Accepted),
            Ok(pb::TransactionStatus::Included) => Ok(Self::Included),
            Ok(pb::TransactionStatus::Final) => Ok(Self::Final),
            Ok(pb::TransactionStatus::Checkpointed) => Ok(Self::Checkpointed),
            _ => Err(invalid("wait_for", LEVELS)),
        }
    }

    /// From JSON.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for anything but the four levels.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        match text {
            "ACCEPTED" => Ok(Self::Accepted),
            "INCLUDED" => Ok(Self::Included),
            "FINAL" => Ok(Self::Final),
            "CHECKPOINTED" => Ok(Self::Checkpointed),
            _ => Err(invalid("wait_for", LEVELS)),
        }
    }

    const fn is_reached_by(self, progress: Progress) -> bool {
        match progress {
            Progress::Handed => false,
            Progress::Accepted => matches!(self, Self::Accepted),
            Progress::Included => matches!(self, Self::Accepted | Self::Included),
            // For CHECKPOINTED too: what is left to wait for then is no longer the transaction's own progress.
            Progress::Executed(_) | Progress::Dropped(_) | Progress::Expired => true,
        }
    }
}

/// A submission.
#[derive(Clone, Debug)]
pub struct Submit {
    /// BCS of the signed transaction.
    pub transaction: Bytes,
    /// How far to wait.
    pub level: Level,
    /// How long; 0 means 5,000.
    pub timeout_ms: u32,
}

impl Ledger {
    /// Hands a transaction over and waits. A wait that runs out is not an error: the answer says how far it has come.
    ///
    /// # Errors
    /// The code of the rule it breaks (also when the validator only finds out while the caller waits), OVERLOADED, NO_VALIDATOR.
    pub async fn submit(&self, submit: Submit) -> Result<pb::Transaction, ApiError> {
        let wait = if submit.timeout_ms == 0 { WAIT_DEFAULT } else { Duration::from_millis(submit.timeout_ms.into()) };
        let deadline = Instant::now() + wait.min(self.settings().wait_max);
        let tx = DecodedTransaction::decode(submit.transaction, self.chain)?;
        if let KeyRef::Inline(key) = &tx.signature().key {
            self.parts.verifier.verify_transaction(&tx, key)?;
        }
        let id = tx.id();
        // Registered before the hand-over, so that no commit can fall between the two.
        let mut progress = self.tracker().register(id, tx.body(), tx.bytes().len());
        // Whether it landed before is the validator's to notice: its refusal is the rare case that costs a look into the store.
        if let Err(error) = self.hand_over_twice(&tx).await {
            let first = self.refused(id, error).await?;
            return Ok(self.finish(first, submit.level, deadline).await);
        }
        if submit.level == Level::Included {
            self.tracker().hurry(id);
        }
        let reached = wait_for(&mut progress, submit.level, deadline).await;
        let reached = if reached == Progress::Handed { Progress::Accepted } else { reached };
        // Everything but the block's name is known here without a look into the store.
        let known = Known { progress: reached, body: Some(Arc::new(tx.body().clone())) };
        let transaction = rejection_as_error(tracked_transaction(id, &known))?;
        Ok(self.finish(transaction, submit.level, deadline).await)
    }

    /// Waits for the checkpoint, if the submitter asked for it. Whoever asked for less is told what he asked for: the answer to the same
    /// bytes stays the same.
    async fn finish(&self, mut transaction: pb::Transaction, level: Level, deadline: Instant) -> pb::Transaction {
        if level == Level::Checkpointed {
            self.wait_checkpointed(&mut transaction, deadline).await;
        }
        transaction
    }

    /// The validator may be a few commits behind the region where the client saw its money or key arrive: a refusal that newer state could
    /// turn around is asked for a second time, after the next commits.
    async fn hand_over_twice(&self, tx: &DecodedTransaction) -> Result<(), ApiError> {
        use RejectCode::{BadSignature, InsufficientBalance, UnknownAccount, WrongKey};
        match self.hand_over(tx).await {
            Err(ApiError { code: ErrorCode::Reject(UnknownAccount | InsufficientBalance | WrongKey | BadSignature), .. }) => {
                self.feed().wait_for(self.feed().newest() + SECOND_LOOK_COMMITS, SECOND_LOOK_MAX).await;
                self.hand_over(tx).await
            }
            result => result,
        }
    }

    async fn hand_over(&self, tx: &DecodedTransaction) -> Result<(), ApiError> {
        let traceparent = kaldrix_service_kit::telemetry::traceparent().unwrap_or_default();
        let handing = self.parts.submitter.submit(tx.body().sender, tx.bytes().clone(), traceparent);
        let endpoint = tokio::time::timeout(HAND_OVER_MAX, handing)
            .await
            .unwrap_or_else(|_| Err(ApiError::from(ErrorCode::NoValidator).retry_after(500)))?;
        self.tracker().accepted(tx.id(), endpoint);
        Ok(())
    }

    /// A validator's refusal may only mean that the transaction landed before: then its first outcome is the answer.
    async fn refused(&self, id: TxId, error: ApiError) -> Result<pb::Transaction, ApiError> {
        if error.code == ErrorCode::Reject(RejectCode::SequenceReplayed)
            && let Ok(status) = self.validators().status().await
        {
            self.feed().wait_for(status.commit_index, CATCH_UP_MAX).await;
        }
        let first = self.first_outcome(id).await;
        self.tracker().refused(id);
        first.ok_or(error)
    }

    /// The outcome the store has, unless that was a discard (which a later one replaces). A store that cannot be read must not stop a submission.
    async fn first_outcome(&self, id: TxId) -> Option<pb::Transaction> {
        let row = self.stored(id).await.ok().flatten()?;
        if matches!(row.status, OutcomeStatus::Discarded(_)) {
            return None;
        }
        stored_transaction(&row).inspect_err(|error| tracing::error!(%error, %id, "a stored transaction cannot be decoded")).ok()
    }

    /// The transaction as far as it has come, with everything the store adds once it is there.
    async fn describe(&self, id: TxId, known: Known) -> Result<pb::Transaction, ApiError> {
        if known.progress.is_definite()
            && let Some(first) = self.first_outcome(id).await
        {
            return Ok(first);
        }
        Ok(tracked_transaction(id, &known))
    }

    /// A transaction, wherever it is.
    ///
    /// # Errors
    /// TRANSACTION_NOT_FOUND, READ_MODEL_UNAVAILABLE.
    pub async fn transaction(&self, id: TxId) -> Result<pb::Transaction, ApiError> {
        let row = self.stored(id).await?;
        if let Some(row) = &row
            && !matches!(row.status, OutcomeStatus::Discarded(_))
        {
            let mut transaction = damaged(stored_transaction(row))?;
            self.note_checkpoint(&mut transaction);
            return Ok(transaction);
        }
        if let Some(known) = self.tracker().get(id).filter(|k| k.progress != Progress::Handed) {
            return Ok(tracked_transaction(id, &known));
        }
        if let Some(row) = row {
            return damaged(stored_transaction(&row));
        }
        let body: Option<Arc<TxBody>> = self.tracker().get(id).and_then(|k| k.body);
        let progress = match self.validators().pending_anywhere(id).await {
            super::tracker::Pending::Queued => Progress::Accepted,
            super::tracker::Pending::Included => Progress::Included,
            super::tracker::Pending::Dropped(code) => Progress::Dropped(code),
            super::tracker::Pending::Unknown => {
                // It may have become final between the two questions.
                return self.first_outcome(id).await.ok_or_else(|| ErrorCode::TransactionNotFound.into());
            }
        };
        self.describe(id, Known { progress, body }).await
    }

    /// The transaction now, and again at each change until it is definite. Ends after ten minutes at the latest.
    ///
    /// # Errors
    /// As [`Self::transaction`], at once.
    pub async fn watch_transaction(
        self: Arc<Self>,
        id: TxId,
    ) -> Result<impl futures::Stream<Item = Result<pb::Transaction, ApiError>> + Send + 'static, ApiError> {
        let mut progress = self.tracker().watch(id);
        let first = match self.transaction(id).await {
            Ok(first) => first,
            Err(error) => {
                self.tracker().release(id);
                return Err(error);
            }
        };
        progress.mark_unchanged();
        let deadline = Instant::now() + WATCH_MAX;
        let state = (self, progress, Some(first), false);
        Ok(futures::stream::unfold(state, move |(ledger, mut progress, next, done)| async move {
            if done {
                return None;
            }
            if let Some(first) = next {
                let done = is_definite(&first);
                return Some((Ok(first), (ledger, progress, None, done)));
            }
            let changed = tokio::select! {
                () = ledger.closing().cancelled() => false,
                changed = timeout_at(deadline, progress.changed()) => matches!(changed, Ok(Ok(()))),
            };
            let now = *progress.borrow_and_update();
            if !changed {
                return None;
            }
            let body = ledger.tracker().get(id).and_then(|k| k.body);
            let item = ledger.describe(id, Known { progress: now, body }).await;
            Some((item, (ledger, progress, None, now.is_definite())))
        }))
    }
}

async fn wait_for(progress: &mut watch::Receiver<Progress>, level: Level, deadline: Instant) -> Progress {
    loop {
        let now = *progress.borrow_and_update();
        if level.is_reached_by(now) {
            return now;
        }
        // The wait ran out, or a full tracker let this one go.
        if !matches!(timeout_at(deadline, progress.changed()).await, Ok(Ok(()))) {
            return *progress.borrow();
        }
    }
}

fn is_definite(transaction: &pb::Transaction) -> bool {
    !matches!(transaction.status(), pb::TransactionStatus::Unspecified | pb::TransactionStatus::Accepted | pb::TransactionStatus::Included)
}

/// To a submitter a refusal is an error with its code, whether it comes at once or while waiting.
fn rejection_as_error(transaction: pb::Transaction) -> Result<pb::Transaction, ApiError> {
    match transaction.status() {
        pb::TransactionStatus::Rejected | pb::TransactionStatus::Expired => {
            let code = ErrorCode::parse(&transaction.code).unwrap_or(ErrorCode::Internal);
            Err(ApiError::new(code, transaction.detail))
        }
        _ => Ok(transaction),
    }
}
