//! Submitting: the same bytes, again and again, until there is an answer.

use crate::client::{Failure, classify};
use crate::model::{Receipt, TransactionInfo, WaitFor};
use crate::{Client, ClientError, convert};
use bytes::Bytes;
use kaldrix_proto::ledger as pb;
use kaldrix_types::{SignedTransaction, TxId, encode};
use std::time::Duration;
use tokio::time::Instant;

/// On top of the wait asked for: what an answer may need to travel.
const ANSWER_GRACE: Duration = Duration::from_secs(2);

/// A signed transaction in its wire form: encoded once, sent as often as needed.
#[derive(Clone, Debug)]
pub struct PreparedTransaction {
    id: TxId,
    bytes: Bytes,
}

impl PreparedTransaction {
    /// The transaction's id.
    #[must_use]
    pub const fn id(&self) -> TxId {
        self.id
    }

    /// BCS of the signed transaction.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<&SignedTransaction> for PreparedTransaction {
    fn from(transaction: &SignedTransaction) -> Self {
        Self { id: transaction.body.id(), bytes: encode(transaction).into() }
    }
}

/// A submission's end, and whether an attempt before it may have arrived unseen.
pub(crate) struct Submission {
    pub(crate) outcome: Result<Receipt, ClientError>,
    pub(crate) ambiguous: bool,
}

pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn receipt(info: TransactionInfo, started: Instant) -> Receipt {
    Receipt {
        id: info.id,
        status: info.status,
        success: info.success,
        code: info.code,
        detail: info.detail,
        commit: info.commit,
        latency_ms: ms(started.elapsed()),
    }
}

impl Client {
    /// Hands a signed transaction in and waits until it reaches `level`, at most `timeout`.
    ///
    /// Broken connections, busy validators and unavailable regions are answered by sending the same bytes again, here or at the next
    /// endpoint, with growing pauses, until the timeout: a transaction cannot land twice. A wait that runs out is not an error: the
    /// receipt says how far the transaction has come.
    ///
    /// # Errors
    /// [`ClientError::Api`] with the code of the rule it breaks; [`ClientError::NoLedger`] or [`ClientError::Timeout`] when no answer came.
    pub async fn submit(&self, transaction: &SignedTransaction, level: WaitFor, timeout: Duration) -> Result<Receipt, ClientError> {
        self.submit_prepared(&transaction.into(), level, timeout).await
    }

    /// As [`Self::submit`], for bytes that were encoded before.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub async fn submit_prepared(
        &self,
        transaction: &PreparedTransaction,
        level: WaitFor,
        timeout: Duration,
    ) -> Result<Receipt, ClientError> {
        self.submit_tracked(transaction, level, timeout).await.outcome
    }

    pub(crate) async fn submit_tracked(&self, transaction: &PreparedTransaction, level: WaitFor, timeout: Duration) -> Submission {
        let started = Instant::now();
        let deadline = started + timeout;
        let mut ambiguous = false;
        // Progress that was seen: better to report than an error that comes after it.
        let mut seen: Option<TransactionInfo> = None;
        for attempt in 0u32.. {
            let (position, mut rpc) = self.rpc();
            let left = deadline.saturating_duration_since(Instant::now());
            let request = pb::SubmitTransactionRequest {
                transaction: transaction.bytes.clone(),
                wait_for: convert::wait_for(level),
                timeout_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1),
            };
            let answer = tokio::time::timeout(left + ANSWER_GRACE, rpc.submit_transaction(request)).await;
            let (error, pause) = match answer {
                Err(_) => {
                    ambiguous = true;
                    self.leave(position);
                    (ClientError::Timeout { waited_ms: ms(started.elapsed()) }, Duration::ZERO)
                }
                Ok(Ok(response)) => match convert::transaction(response.into_inner()) {
                    Err(error) => return Submission { outcome: Err(error), ambiguous: true },
                    Ok(info) if info.status.satisfies(level) || Instant::now() >= deadline => {
                        return Submission { outcome: Ok(receipt(info, started)), ambiguous };
                    }
                    // The server waits less than we do: ask again.
                    Ok(info) => {
                        seen = Some(info);
                        (ClientError::Timeout { waited_ms: ms(started.elapsed()) }, Duration::from_millis(10))
                    }
                },
                Ok(Err(status)) => {
                    let failure = classify(&status);
                    ambiguous |= matches!(failure, Failure::Transport(_));
                    match self.judge(position, attempt, failure) {
                        Ok(retry) => retry,
                        Err(error) => return Submission { outcome: Err(error), ambiguous: ambiguous || seen.is_some() },
                    }
                }
            };
            if Instant::now() + pause >= deadline {
                let ambiguous = ambiguous || seen.is_some();
                return Submission { outcome: seen.map(|info| receipt(info, started)).ok_or(error), ambiguous };
            }
            tokio::time::sleep(pause).await;
        }
        unreachable!("the loop above only ends by returning")
    }
}
