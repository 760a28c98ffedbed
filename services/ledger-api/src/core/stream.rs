//! Streams of events: commits, and one account's transactions; from any cursor, without gaps or repeats.
//!
//! ```text
//!   cursor ──▶ ring of recent commits, else the store ──▶ 16 events ──▶ reader
//!                        ▲ woken by the feed                 └─ a reader that takes none for too long is cut: STREAM_BEHIND
//! ```

use super::cursor::Cursor;
use super::feed::Published;
use super::view::{stored_commit, stored_transaction};
use super::{Ledger, damaged};
use crate::metrics::Counted;
use kaldrix_api::{ApiError, ErrorCode};
use kaldrix_proto::ledger as pb;
use kaldrix_types::{Address, CommitIndex, OutcomeStatus};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

/// Events between the producer and the reader.
const BUFFER: usize = 16;
/// Commits read at once while catching up.
const CATCH_UP_COMMITS: usize = 100;
/// Transactions of an account that one step of catching up may hold; a longer history is for the list endpoint.
const CATCH_UP_TRANSACTIONS_MAX: usize = 10_000;
/// Rows of one page of a history.
const HISTORY_PAGE: usize = 200;

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// What the reader has seen.
    pub after: Cursor,
    /// Whether it wants commits.
    pub commits: bool,
    /// Whose transactions it wants.
    pub account: Option<Address>,
}

/// One event; its cursor resumes the stream behind it.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A commit.
    Commit(Arc<Published>),
    /// A transaction of the account.
    Transaction(Box<pb::Transaction>),
}

impl Event {
    /// Resuming here goes on with the next event.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        match self {
            Self::Commit(published) => Cursor::behind(published.commit.index),
            Self::Transaction(transaction) => Cursor { commit: transaction.commit_index, position: Some(transaction.position) },
        }
    }
}

impl Ledger {
    /// Opens a stream.
    ///
    /// # Errors
    /// OVERLOADED when as many streams are open as may be.
    pub fn subscribe(
        self: Arc<Self>,
        subscription: Subscription,
    ) -> Result<impl futures::Stream<Item = Result<Event, ApiError>> + Send + 'static, ApiError> {
        let too_many = |_| ApiError::new(ErrorCode::Overloaded, "too many streams are open").retry_after(1_000);
        let permit = Arc::clone(&self.streams).try_acquire_owned().map_err(too_many)?;
        let (events, receiver) = mpsc::channel(BUFFER);
        let last_word = Arc::new(Mutex::new(None));
        let (word, counted) = (Arc::clone(&last_word), Counted::new(&self.metrics().streams));
        tokio::spawn(async move {
            let (_permit, _counted) = (permit, counted);
            let producer = Producer { events, after: subscription.after, subscription, ledger: self };
            if let Err(Stop::Error(error)) = producer.run().await {
                *word.lock() = Some(error);
            }
        });
        // What ended the stream is said after all that was buffered.
        let ending = futures::stream::once(async move { last_word.lock().take() }).filter_map(|word| word.map(Err));
        Ok(ReceiverStream::new(receiver).map(Ok).chain(ending))
    }
}

enum Stop {
    /// The reader has gone.
    Gone,
    /// The reader is told why.
    Error(ApiError),
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

struct Producer {
    ledger: Arc<Ledger>,
    events: mpsc::Sender<Event>,
    subscription: Subscription,
    after: Cursor,
}

impl Producer {
    async fn run(mut self) -> Result<(), Stop> {
        let mut newest = self.ledger.feed().subscribe();
        loop {
            let until = *newest.borrow_and_update();
            while self.after.next_commit() <= until {
                self.step(until).await?;
            }
            tokio::select! {
                () = self.events.closed() => return Err(Stop::Gone),
                () = self.ledger.closing().cancelled() => return Ok(()),
                changed = newest.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }

    /// Sends a bounded part of what lies between the cursor and `until`, and moves the cursor behind it.
    async fn step(&mut self, until: CommitIndex) -> Result<(), Stop> {
        let from = self.after.next_commit();
        if let Some(recent) = self.ledger.feed().recent_from(from, CATCH_UP_COMMITS)
            && !recent.is_empty()
        {
            for published in recent {
                if self.subscription.account.is_some_and(|a| published.transactions.iter().any(|t| t.accounts.contains(&a))) {
                    self.account_commit(&published).await?;
                }
                self.finish_commit(published).await?;
            }
            return Ok(());
        }
        let rows = self.ledger.read(self.ledger.store().commits_from(from, CATCH_UP_COMMITS)).await?;
        let Some(last) = rows.last().map(|row| row.index.min(until)) else {
            // The store was rebuilt and is behind what was announced before: wait for it.
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            return Ok(());
        };
        let mut history = match self.subscription.account {
            Some(account) => self.history(account, last).await?.into_iter().peekable(),
            None => Vec::new().into_iter().peekable(),
        };
        for row in rows.into_iter().take_while(|row| row.index <= last) {
            while let Some(transaction) = history.next_if(|t| t.commit_index <= row.index) {
                self.send(Event::Transaction(Box::new(transaction))).await?;
            }
            let commit = damaged(stored_commit(&row))?;
            self.finish_commit(Arc::new(Published { commit, transactions: Vec::new() })).await?;
        }
        Ok(())
    }

    /// The account's transactions behind the cursor up to commit `last`, oldest first.
    async fn history(&self, account: Address, last: CommitIndex) -> Result<Vec<pb::Transaction>, Stop> {
        let mut found = Vec::new();
        // Pages run backwards from behind commit `last`.
        let mut before = Some((last.saturating_add(1), 0));
        loop {
            let page = self.ledger.read(self.ledger.store().account_transactions(account, before, HISTORY_PAGE)).await?;
            let full = page.len() == HISTORY_PAGE;
            let mut reached = false;
            for (entry, row) in page {
                before = Some((entry.commit, entry.position));
                if !self.after.is_before(entry.commit, entry.position) {
                    reached = true;
                    break;
                }
                found.push(damaged(stored_transaction(&row))?);
            }
            if found.len() > CATCH_UP_TRANSACTIONS_MAX {
                let detail = "this account has too many transactions since the cursor: list them page by page, then stream";
                return Err(ApiError::new(ErrorCode::StreamBehind, detail).into());
            }
            if reached || !full {
                break;
            }
        }
        found.reverse();
        Ok(found)
    }

    async fn account_commit(&mut self, published: &Published) -> Result<(), Stop> {
        let Some(account) = self.subscription.account else { return Ok(()) };
        for (transaction, position) in published.transactions.iter().zip(0u32..) {
            let wanted = transaction.accounts.contains(&account) && !matches!(transaction.status, OutcomeStatus::Discarded(_));
            if !wanted || !self.after.is_before(published.commit.index, position) {
                continue;
            }
            if let Some(row) = self.ledger.stored(transaction.id).await?.filter(|r| r.commit == published.commit.index) {
                self.send(Event::Transaction(Box::new(damaged(stored_transaction(&row))?))).await?;
            }
        }
        Ok(())
    }

    async fn finish_commit(&mut self, published: Arc<Published>) -> Result<(), Stop> {
        let done = Cursor::behind(published.commit.index);
        if self.subscription.commits {
            self.send(Event::Commit(published)).await?;
        }
        self.after = done;
        Ok(())
    }

    async fn send(&mut self, event: Event) -> Result<(), Stop> {
        let cursor = event.cursor();
        match self.events.send_timeout(event, self.ledger.settings().stream_stall).await {
            Ok(()) => {
                self.after = cursor;
                Ok(())
            }
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(Stop::Gone),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                self.ledger.metrics().streams_cut.inc();
                Err(ApiError::from(ErrorCode::StreamBehind).into())
            }
        }
    }
}
