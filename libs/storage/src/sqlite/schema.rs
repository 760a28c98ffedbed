//! Table definitions as ordered steps: append only, never edited once released. `PRAGMA user_version` is the format of a file: the first
//! step makes [`OLDEST`], each further one the next. Files of older formats hold records that nothing reads any more.
//!
//! Digests, addresses and encoded values are BLOBs, numbers INTEGERs (u64 by its bits). Tables with large rows have a numeric row id and
//! separate indexes, so that looking for a row does not wade through the others' content.

use crate::StoreError;
use kaldrix_types::StateChange;
use sqlx::SqliteConnection;
use std::pin::Pin;

/// Writes the genesis state into a new file.
type WriteGenesis =
    for<'a> fn(&'a mut SqliteConnection, &'a [StateChange]) -> Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'a>>;

/// The format that the first step makes. Format 1 was before epochs: its commits and records cannot be decoded.
pub(super) const OLDEST: u32 = 2;

/// The steps of one kind of file.
pub(super) struct Schema {
    pub(super) steps: &'static [&'static str],
    pub(super) genesis: WriteGenesis,
}

impl Schema {
    pub(super) fn version(&self) -> u32 {
        OLDEST - 1 + u32::try_from(self.steps.len()).expect("a handful of steps")
    }

    /// What a file of format `found` still lacks; `None` when it is too old.
    pub(super) fn missing(&self, found: u32) -> Option<&'static [&'static str]> {
        match found {
            0 => Some(self.steps),
            _ => self.steps.get(found.checked_sub(OLDEST - 1).filter(|done| *done > 0)? as usize..),
        }
    }
}

pub(super) static VALIDATOR: Schema =
    Schema { steps: &[VALIDATOR_2], genesis: |connection, state| Box::pin(super::state::write(connection, state.iter())) };

pub(super) static REGION: Schema =
    Schema { steps: &[REGION_2], genesis: |connection, state| Box::pin(super::region_write::write_genesis(connection, state)) };

const VALIDATOR_2: &str = "
CREATE TABLE chain (id BLOB NOT NULL PRIMARY KEY);

CREATE TABLE blocks (
    id INTEGER PRIMARY KEY,
    round INTEGER NOT NULL,
    author INTEGER NOT NULL,
    digest BLOB NOT NULL,
    own INTEGER NOT NULL,
    size INTEGER NOT NULL,
    bytes BLOB NOT NULL
);
CREATE UNIQUE INDEX blocks_by_round ON blocks (round, author, digest);
CREATE INDEX blocks_by_author ON blocks (author, round, digest);
CREATE INDEX blocks_own ON blocks (round) WHERE own = 1;

CREATE TABLE committed (
    round INTEGER NOT NULL,
    author INTEGER NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (round, author, digest)
) WITHOUT ROWID;

CREATE TABLE commits (
    idx INTEGER PRIMARY KEY,
    digest BLOB NOT NULL,
    commit_bytes BLOB NOT NULL,
    size INTEGER NOT NULL,
    bytes BLOB NOT NULL
);

CREATE TABLE checkpoints (
    idx INTEGER PRIMARY KEY,
    digest BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    ends_epoch INTEGER NOT NULL,
    first_commit INTEGER NOT NULL,
    last_commit INTEGER NOT NULL,
    certified INTEGER NOT NULL,
    size INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    votes BLOB
);
CREATE INDEX checkpoints_by_commit ON checkpoints (last_commit, first_commit);
CREATE INDEX checkpoints_certified ON checkpoints (idx) WHERE certified = 1;
CREATE INDEX checkpoints_ending_epochs ON checkpoints (epoch, idx) WHERE certified = 1 AND ends_epoch = 1;

CREATE TABLE state (key BLOB NOT NULL PRIMARY KEY, value BLOB NOT NULL);
";

const REGION_2: &str = "
CREATE TABLE chain (id BLOB NOT NULL PRIMARY KEY);

CREATE TABLE progress (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    last_commit INTEGER NOT NULL,
    transactions INTEGER NOT NULL,
    commits INTEGER NOT NULL,
    blocks INTEGER NOT NULL,
    accounts INTEGER NOT NULL
);
INSERT INTO progress VALUES (1, 0, 0, 0, 0, 0);

CREATE TABLE commits (
    idx INTEGER PRIMARY KEY,
    digest BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    leader_round INTEGER NOT NULL,
    leader_author INTEGER NOT NULL,
    leader_digest BLOB NOT NULL,
    previous BLOB NOT NULL,
    timestamp_ms INTEGER NOT NULL,
    block_count INTEGER NOT NULL,
    transaction_count INTEGER NOT NULL,
    bytes BLOB NOT NULL
);

CREATE TABLE blocks (
    digest BLOB NOT NULL PRIMARY KEY,
    round INTEGER NOT NULL,
    author INTEGER NOT NULL,
    commit_idx INTEGER NOT NULL,
    timestamp_ms INTEGER NOT NULL,
    header BLOB NOT NULL,
    transaction_count INTEGER NOT NULL,
    first_position INTEGER NOT NULL
);

CREATE TABLE transactions (
    id BLOB NOT NULL PRIMARY KEY,
    commit_idx INTEGER NOT NULL,
    position INTEGER NOT NULL,
    block BLOB NOT NULL,
    sender BLOB NOT NULL,
    lane INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    status INTEGER NOT NULL,
    code INTEGER NOT NULL,
    timestamp_ms INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE UNIQUE INDEX transactions_in_order ON transactions (commit_idx, position);

CREATE TABLE account_transactions (
    account BLOB NOT NULL,
    commit_idx INTEGER NOT NULL,
    position INTEGER NOT NULL,
    role INTEGER NOT NULL,
    PRIMARY KEY (account, commit_idx, position)
) WITHOUT ROWID;

CREATE TABLE accounts (address BLOB NOT NULL PRIMARY KEY) WITHOUT ROWID;

CREATE TABLE state (key BLOB NOT NULL PRIMARY KEY, value BLOB NOT NULL);
";
