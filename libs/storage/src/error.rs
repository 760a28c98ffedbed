//! What can go wrong in a store, and whether trying again can help.

use kaldrix_types::{ChainId, CodecError, CommitIndex, Digest, GenesisError, StateValueError};
use std::fmt;
use std::path::PathBuf;

/// What is numbered and follows one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbered {
    /// A commit, with its effects.
    Commit,
    /// A checkpoint.
    Checkpoint,
}

impl fmt::Display for Numbered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Commit => "commit",
            Self::Checkpoint => "checkpoint",
        })
    }
}

/// A store's failure. [`StoreError::is_retryable`] tells "wait and try again" from "stop".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another connection holds the lock, or all reading connections are taken.
    #[error("the store is busy: try again")]
    Busy,
    /// No space on the device.
    #[error("the disk is full: free some space; nothing of this write was kept")]
    Full,
    /// Reading a store that its writer has not created or migrated yet.
    #[error("the store at {path} does not exist yet: start the service that writes it, or wait for it")]
    NotReady {
        /// Where it should be.
        path: PathBuf,
    },
    /// The folder or file cannot be written.
    #[error("cannot write to {path}: {reason}")]
    Unwritable {
        /// What cannot be written.
        path: PathBuf,
        /// What the operating system says.
        reason: String,
    },
    /// Another process writes this store.
    #[error("the store at {path} is in use by another process: stop that one first")]
    InUse {
        /// Which store.
        path: PathBuf,
    },
    /// The store was created for another genesis.
    #[error("the store belongs to chain {found}, not to {expected}: choose another data directory")]
    OtherChain {
        /// The chain of the store.
        found: ChainId,
        /// The chain of the genesis it was opened with.
        expected: ChainId,
    },
    /// The store was written by a newer version of this program.
    #[error("the store has format {found}, this program knows formats up to {known}: use a newer version")]
    TooNew {
        /// Format of the store.
        found: u32,
        /// Newest format this program knows.
        known: u32,
    },
    /// The store was written by a version whose records cannot be read any more.
    #[error("the store has format {found}, this program reads formats from {oldest} on: delete it and catch up from other validators")]
    TooOld {
        /// Format of the store.
        found: u32,
        /// Oldest format this program reads.
        oldest: u32,
    },
    /// The genesis defines no state.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// A commit or checkpoint that does not follow the last one.
    #[error("{what} {found} does not follow: the next one must be {expected}")]
    OutOfOrder {
        /// What does not follow.
        what: Numbered,
        /// The index that would follow.
        expected: u64,
        /// The index that was offered.
        found: u64,
    },
    /// A commit or checkpoint that contradicts a stored one: one of the two is wrong, and going on would hide it.
    #[error("{what} {index} is stored as {stored} but now claimed to be {offered}: stop, and compare this store with other validators'")]
    Diverged {
        /// What there are two of.
        what: Numbered,
        /// Its index.
        index: u64,
        /// Digest in the store.
        stored: Digest,
        /// Digest of what was offered, or named as predecessor by what was offered.
        offered: Digest,
    },
    /// A batch or snapshot whose parts do not fit together: a bug of the caller's.
    #[error("the batch contradicts itself: {0}")]
    BadBatch(&'static str),
    /// Reading commits from before the snapshot that this store began with.
    #[error("this store's history begins with commit {first}: ask for commits from there on, or ask a validator with a longer history")]
    Pruned {
        /// The oldest commit that is here.
        first: CommitIndex,
    },
    /// Content that this program cannot have written.
    #[error("the store is damaged ({0}): restore it, or delete it and catch up from other validators")]
    Damaged(String),
    /// The device failed.
    #[error("reading or writing the store failed: {0}")]
    Io(String),
    /// Writing through a store that was opened for reading.
    #[error("this store was opened for reading only")]
    ReadOnly,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// Anything else the database says.
    #[error("the database refused a statement: {0}")]
    Database(String),
}

impl StoreError {
    /// Whether the same call can succeed later without anybody changing the program or the data. A write that failed so kept nothing.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy | Self::Full | Self::NotReady { .. })
    }
}

impl From<CodecError> for StoreError {
    fn from(error: CodecError) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl From<StateValueError> for StoreError {
    fn from(error: StateValueError) -> Self {
        Self::Damaged(error.to_string())
    }
}
