//! Streams that come back after a disconnect, from where they were.

use crate::client::{Failure, backoff, classify};
use crate::model::{CommitInfo, TransactionInfo, TransactionStatus};
use crate::{Client, ClientError, convert};
use futures::stream::{BoxStream, StreamExt};
use kaldrix_api::ErrorCode;
use kaldrix_proto::ledger as pb;
use kaldrix_types::{CommitIndex, TxId};
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Status, Streaming};

/// Between two questions about a transaction that a region does not know yet.
const UNKNOWN_PAUSE: Duration = Duration::from_millis(200);

/// What reconnecting needs to know: when the trouble began, and how often it was tried.
struct Recovery {
    client: Client,
    position: usize,
    broken_since: Option<Instant>,
    attempts: u32,
}

impl Recovery {
    const fn new(client: Client) -> Self {
        Self { client, position: 0, broken_since: None, attempts: 0 }
    }

    fn healthy(&mut self) {
        self.broken_since = None;
        self.attempts = 0;
    }

    /// Pauses before the next attempt.
    ///
    /// # Errors
    /// The failure itself when patience is at its end or trying again cannot help.
    async fn pause(&mut self, failure: Failure) -> Result<(), ClientError> {
        let (error, pause) = match failure {
            // The server cut us off for being slow: the cursor is still good.
            Failure::Api(error) if error.code == ErrorCode::StreamBehind => (error.into(), backoff(self.attempts)),
            failure => self.client.judge(self.position, self.attempts, failure)?,
        };
        let since = *self.broken_since.get_or_insert_with(Instant::now);
        if since.elapsed() + pause > self.client.options().stream_patience {
            return Err(error);
        }
        self.attempts += 1;
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// A message, the end, or what the stream broke with.
async fn next_message<T>(stream: &mut Streaming<T>) -> Result<T, Failure> {
    match stream.message().await {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(Failure::Transport("the server ended the stream".into())),
        Err(status) => Err(classify(&status)),
    }
}

struct Commits {
    recovery: Recovery,
    /// The next index expected; 0 until the first commit of a live-only subscription.
    cursor: CommitIndex,
    stream: Option<Streaming<pb::Commit>>,
}

impl Commits {
    async fn open(&mut self) -> Result<Streaming<pb::Commit>, Status> {
        let (position, mut rpc) = self.recovery.client.rpc();
        self.recovery.position = position;
        Ok(rpc.subscribe_commits(pb::SubscribeCommitsRequest { from_index: self.cursor }).await?.into_inner())
    }

    async fn next(&mut self) -> Result<CommitInfo, ClientError> {
        loop {
            let failure = match self.stream.as_mut() {
                None => match self.open().await {
                    Ok(stream) => {
                        self.stream = Some(stream);
                        continue;
                    }
                    Err(status) => classify(&status),
                },
                Some(stream) => match next_message(stream).await {
                    Ok(message) => {
                        let commit = convert::commit(message)?;
                        if self.cursor == 0 || commit.index == self.cursor {
                            self.cursor = commit.index + 1;
                            self.recovery.healthy();
                            return Ok(commit);
                        }
                        if commit.index < self.cursor {
                            continue;
                        }
                        Failure::Transport(format!("commit {} came where {} was due", commit.index, self.cursor))
                    }
                    Err(failure) => failure,
                },
            };
            self.stream = None;
            self.recovery.pause(failure).await?;
        }
    }
}

struct Watch {
    recovery: Recovery,
    id: TxId,
    last: Option<TransactionStatus>,
    stream: Option<Streaming<pb::Transaction>>,
}

impl Watch {
    async fn open(&mut self) -> Result<Streaming<pb::Transaction>, Status> {
        let (position, mut rpc) = self.recovery.client.rpc();
        self.recovery.position = position;
        Ok(rpc.watch_transaction(pb::GetTransactionRequest { id: self.id.to_string() }).await?.into_inner())
    }

    async fn next(&mut self) -> Result<TransactionInfo, ClientError> {
        loop {
            let failure = match self.stream.as_mut() {
                None => match self.open().await {
                    Ok(stream) => {
                        self.stream = Some(stream);
                        continue;
                    }
                    Err(status) => classify(&status),
                },
                Some(stream) => match next_message(stream).await {
                    Ok(message) => {
                        let info = convert::transaction(message)?;
                        if self.last == Some(info.status) {
                            continue;
                        }
                        self.last = Some(info.status);
                        self.recovery.healthy();
                        return Ok(info);
                    }
                    Err(failure) => failure,
                },
            };
            self.stream = None;
            self.recovery.pause(failure).await?;
        }
    }
}

impl Client {
    /// Every commit from `from` on, without gaps or repeats, then live ones as they happen; 0 means only new ones.
    ///
    /// After a disconnect it goes on from its cursor, at the next endpoint if need be. It ends with an error after
    /// [`stream_patience`](crate::ClientOptions::stream_patience) without a ledger, or at an error that waiting does not help.
    #[must_use]
    pub fn subscribe_commits(&self, from: CommitIndex) -> BoxStream<'static, Result<CommitInfo, ClientError>> {
        let state = Commits { recovery: Recovery::new(self.clone()), cursor: from, stream: None };
        futures::stream::unfold(Some(state), |state| async {
            let mut state = state?;
            Some(match state.next().await {
                Ok(commit) => (Ok(commit), Some(state)),
                Err(error) => (Err(error), None),
            })
        })
        .boxed()
    }

    /// The transaction each time its status changes; ends after a definite status.
    #[must_use]
    pub fn watch(&self, id: TxId) -> BoxStream<'static, Result<TransactionInfo, ClientError>> {
        let state = Watch { recovery: Recovery::new(self.clone()), id, last: None, stream: None };
        futures::stream::unfold(Some(state), |state| async {
            let mut state = state?;
            Some(match state.next().await {
                Ok(info) if info.status.is_definite() => (Ok(info), None),
                Ok(info) => (Ok(info), Some(state)),
                Err(error) => (Err(error), None),
            })
        })
        .boxed()
    }

    /// Waits until the transaction has a definite status, also while the region asked does not know it yet.
    ///
    /// # Errors
    /// [`ClientError::Timeout`] when `timeout` passes first; otherwise see [`ClientError`].
    pub async fn wait_definite(&self, id: TxId, timeout: Duration) -> Result<TransactionInfo, ClientError> {
        let wait = async {
            loop {
                let mut updates = self.watch(id);
                while let Some(update) = updates.next().await {
                    match update {
                        Ok(info) if info.status.is_definite() => return Ok(info),
                        Ok(_) => {}
                        // A region may be behind the one that took the transaction.
                        Err(error) if error.api_code() == Some(ErrorCode::TransactionNotFound) => break,
                        Err(error) => return Err(error),
                    }
                }
                tokio::time::sleep(UNKNOWN_PAUSE).await;
            }
        };
        tokio::time::timeout(timeout, wait).await.unwrap_or(Err(ClientError::Timeout { waited_ms: crate::submit::ms(timeout) }))
    }
}
