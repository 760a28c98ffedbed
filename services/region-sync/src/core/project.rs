//! From executed commits to the rows of the read model: pure, so that projecting again always gives the same tables.
//!
//! ```text
//!   ExecutedCommit ─push─▶ ┌────────────┐            ┌▶ RegionBatch  one atomic write
//!   ExecutedCommit ─push─▶ │ Projection │ ─finish()──┤
//!   ExecutedCommit ─push─▶ └────────────┘            └▶ Notices      to publish once that write is there
//! ```

use super::{Notice, NoticeTransaction};
use bytes::Bytes;
use kaldrix_storage::{AccountRole, AccountTransactionRow, BlockRow, CommitRow, RegionBatch, TransactionRow};
use kaldrix_types::hash::Context;
use kaldrix_types::{
    Address, CodecError, Commit, CommitIndex, Digest, ExecutedCommit, Header, OutcomeStatus, StateChange, StateKey, StateValue,
    TimestampMs, TxBody, TxId, TxOutcome, decode, encode, limits,
};
use std::collections::{BTreeMap, HashMap};

/// Where in the order of commits somebody is; the default is "before the first".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The last commit; 0 for none.
    pub index: CommitIndex,
    /// Its digest; zero for none.
    pub digest: Digest,
    /// Its consensus time; 0 for none.
    pub timestamp_ms: TimestampMs,
}

/// Why a commit cannot become part of the read model. None of these heals by itself: the region stops and says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProjectError {
    /// A commit is missing, or comes twice.
    #[error("commit {expected} should come next, the validator sent {found}: compare its store with other validators'")]
    OutOfOrder {
        /// The index that follows.
        expected: CommitIndex,
        /// The index that came.
        found: CommitIndex,
    },
    /// The validator's history is not the one this region has.
    #[error(
        "DIVERGENCE at commit {index}: it builds on {found}, this region has {expected} before it; \
         stop, and compare this region and its validator with others before anything else"
    )]
    Diverged {
        /// The commit that does not fit.
        index: CommitIndex,
        /// Digest of the commit before it in this region.
        expected: Digest,
        /// Digest that the commit names.
        found: Digest,
    },
    /// The commit's parts do not fit together.
    #[error("commit {index} contradicts itself ({reason}): the validator that sent it is damaged or of another version")]
    Contradiction {
        /// Which commit.
        index: CommitIndex,
        /// What does not fit.
        reason: &'static str,
    },
    /// A transaction's body that is none.
    #[error("commit {index}, transaction {position}: the body cannot be read: {source}")]
    Body {
        /// Which commit.
        index: CommitIndex,
        /// Which of its transactions.
        position: u32,
        /// What is wrong.
        source: CodecError,
    },
}

/// A transaction's row with what depends on it.
struct Entry {
    row: TransactionRow,
    accounts: Vec<Address>,
    traceparent: String,
}

/// One or more consecutive commits on their way into one atomic write.
pub struct Projection {
    head: Head,
    commits: Vec<CommitRow>,
    leader_rounds: Vec<u64>,
    blocks: Vec<BlockRow>,
    /// In order; `None` where a later outcome of the same transaction took the place of a discarded one.
    entries: Vec<Option<Entry>>,
    /// Position in `entries` by transaction.
    by_id: HashMap<TxId, usize>,
    records: BTreeMap<StateKey, Option<StateValue>>,
    ordered: usize,
}

/// What a [`Projection`] amounts to.
pub struct Projected {
    /// The rows, to be written at once.
    pub batch: RegionBatch,
    /// One per commit, ascending; to be published after the write.
    pub notices: Vec<Notice>,
    /// Where the region is after the write.
    pub head: Head,
    /// Transactions that were ordered, repeated and discarded ones included.
    pub transaction_count: usize,
}

impl Projection {
    /// An empty projection that goes on behind `head`.
    #[must_use]
    pub fn after(head: Head) -> Self {
        Self {
            head,
            commits: Vec::new(),
            leader_rounds: Vec::new(),
            blocks: Vec::new(),
            entries: Vec::new(),
            by_id: HashMap::new(),
            records: BTreeMap::new(),
            ordered: 0,
        }
    }

    /// How many commits it holds.
    #[must_use]
    pub fn commit_count(&self) -> usize {
        self.commits.len()
    }

    /// How many transactions these ordered.
    #[must_use]
    pub const fn transaction_count(&self) -> usize {
        self.ordered
    }

    /// Adds the next commit. `traces` holds W3C `traceparent` texts by the transaction's position in the commit; they go into the notices.
    ///
    /// # Errors
    /// [`ProjectError`] when the commit does not follow or does not hold together; the projection is as it was before.
    pub fn push(&mut self, executed: ExecutedCommit, traces: &BTreeMap<u32, String>) -> Result<(), ProjectError> {
        self.check_follows(&executed.commit)?;
        check_shape(&executed)?;
        let accounts = check_bodies(&executed)?;
        let ExecutedCommit { commit, headers, outcomes, bodies, changes } = executed;
        let digest = commit.digest();
        self.ordered += outcomes.len();
        self.leader_rounds.push(commit.leader.round);
        self.commits.push(commit_row(&commit, digest, outcomes.len()));
        self.blocks.extend(commit.blocks.iter().zip(&headers).map(|(block, header)| BlockRow {
            digest: block.digest,
            round: block.round,
            author: block.author,
            commit: commit.index,
            timestamp_ms: header.timestamp_ms,
            header: encode(header).into(),
            transaction_count: header.transaction_count,
        }));
        for (position, ((outcome, body), accounts)) in (0u32..).zip(outcomes.iter().zip(bodies).zip(accounts)) {
            let traceparent = traces.get(&position).cloned().unwrap_or_default();
            self.add(Entry { row: transaction_row(&commit, position, outcome, body), accounts, traceparent });
        }
        self.records.extend(changes.into_iter().map(|change| (change.key, change.value)));
        self.head = Head { index: commit.index, digest, timestamp_ms: commit.timestamp_ms };
        Ok(())
    }

    fn check_follows(&self, commit: &Commit) -> Result<(), ProjectError> {
        let expected = self.head.index + 1;
        if commit.index != expected {
            return Err(ProjectError::OutOfOrder { expected, found: commit.index });
        }
        if commit.previous != self.head.digest {
            return Err(ProjectError::Diverged { index: commit.index, expected: self.head.digest, found: commit.previous });
        }
        Ok(())
    }

    /// The first success or failure of a transaction stands; a discarded one gives way to whatever comes later.
    fn add(&mut self, entry: Entry) {
        if let Some(&earlier) = self.by_id.get(&entry.row.id) {
            match &self.entries[earlier] {
                Some(earlier) if !is_discarded(earlier.row.status) => return,
                _ => self.entries[earlier] = None,
            }
        }
        self.by_id.insert(entry.row.id, self.entries.len());
        self.entries.push(Some(entry));
    }

    /// The rows and the notices.
    #[must_use]
    pub fn finish(self) -> Projected {
        let mut notices: Vec<Notice> = self
            .commits
            .iter()
            .zip(self.leader_rounds)
            .map(|(commit, leader_round)| Notice {
                index: commit.index,
                timestamp_ms: commit.timestamp_ms,
                digest: commit.digest,
                leader_round,
                transactions: Vec::new(),
            })
            .collect();
        let first = self.commits.first().map_or(0, |c| c.index);
        let mut batch = RegionBatch {
            commits: self.commits,
            blocks: self.blocks,
            records: self.records.into_iter().map(|(key, value)| StateChange { key, value }).collect(),
            cursor: self.head.index,
            ..RegionBatch::default()
        };
        for Entry { row, accounts, traceparent } in self.entries.into_iter().flatten() {
            batch.account_transactions.extend(accounts.iter().map(|&account| AccountTransactionRow {
                account,
                commit: row.commit,
                position: row.position,
                id: row.id,
                role: if account == row.sender { AccountRole::Sender } else { AccountRole::Recipient },
            }));
            let notice = usize::try_from(row.commit - first).ok().and_then(|i| notices.get_mut(i));
            let notice = notice.expect("every row is of one of the consecutive commits above");
            notice.transactions.push(NoticeTransaction { id: row.id, status: row.status, accounts, traceparent });
            batch.transactions.push(row);
        }
        Projected { batch, notices, head: self.head, transaction_count: self.ordered }
    }
}

pub(super) const fn is_discarded(status: OutcomeStatus) -> bool {
    matches!(status, OutcomeStatus::Discarded(_))
}

/// In whose history a transaction is: everybody it touched when it succeeded, its sender when it failed (it cost a fee), nobody when it was
/// discarded (anybody can have a transaction discarded in somebody else's name). Sender first.
///
/// # Errors
/// [`CodecError`] when the body cannot be read.
pub(super) fn history_accounts(status: OutcomeStatus, sender: Address, body: &[u8]) -> Result<Vec<Address>, CodecError> {
    match status {
        OutcomeStatus::Success => Ok(decode::<TxBody>(body, limits::TRANSACTION_BYTES_MAX)?.accounts()),
        OutcomeStatus::Failed(_) => Ok(vec![sender]),
        OutcomeStatus::Discarded(_) => Ok(Vec::new()),
    }
}

fn commit_row(commit: &Commit, digest: Digest, transactions: usize) -> CommitRow {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    CommitRow {
        index: commit.index,
        digest,
        epoch: commit.epoch,
        leader: commit.leader,
        previous: commit.previous,
        timestamp_ms: commit.timestamp_ms,
        block_count: count(commit.blocks.len()),
        transaction_count: count(transactions),
        bytes: encode(commit).into(),
    }
}

fn transaction_row(commit: &Commit, position: u32, outcome: &TxOutcome, body: Bytes) -> TransactionRow {
    TransactionRow {
        id: outcome.id,
        commit: commit.index,
        position,
        block: commit.blocks[outcome.block as usize].digest,
        sender: outcome.sender,
        lane: outcome.lane,
        sequence: outcome.sequence,
        status: outcome.status,
        timestamp_ms: commit.timestamp_ms,
        body,
    }
}

fn check_shape(executed: &ExecutedCommit) -> Result<(), ProjectError> {
    let commit = &executed.commit;
    let contradiction = |reason| Err(ProjectError::Contradiction { index: commit.index, reason });
    if executed.headers.len() != commit.blocks.len() {
        return contradiction("as many headers as blocks");
    }
    if !executed.headers.iter().map(Header::reference).eq(commit.blocks.iter().copied()) {
        return contradiction("headers are those of the commit's blocks");
    }
    if !commit.blocks.contains(&commit.leader) {
        return contradiction("the leader is one of the blocks");
    }
    let held: u64 = executed.headers.iter().map(|h| u64::from(h.transaction_count)).sum();
    if executed.outcomes.len() as u64 != held || executed.bodies.len() as u64 != held {
        return contradiction("one outcome and one body for each transaction of its blocks");
    }
    if executed.outcomes.iter().any(|o| o.block as usize >= commit.blocks.len()) {
        return contradiction("outcomes name blocks of the commit");
    }
    Ok(())
}

/// Bodies are the ones that the outcomes name; gives, per transaction, in whose history it is.
fn check_bodies(executed: &ExecutedCommit) -> Result<Vec<Vec<Address>>, ProjectError> {
    let index = executed.commit.index;
    let pairs = (0u32..).zip(executed.outcomes.iter().zip(&executed.bodies));
    pairs
        .map(|(position, (outcome, body))| {
            if Context::TransactionId.hash(&[body]) != outcome.id.0 {
                return Err(ProjectError::Contradiction { index, reason: "a body hashes to its transaction's id" });
            }
            history_accounts(outcome.status, outcome.sender, body).map_err(|source| ProjectError::Body { index, position, source })
        })
        .collect()
}
