//! What a validator must not forget.

use crate::{StatePage, StoreError};
use async_trait::async_trait;
use bytes::Bytes;
use kaldrix_types::{BlockRef, ChainId, Commit, CommitIndex, Digest, ExecutedCommit, Round, StateKey, StateValue, ValidatorIndex};
use std::sync::Arc;

/// A block as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBlock {
    /// Its name.
    pub reference: BlockRef,
    /// BCS of the [`kaldrix_types::Block`].
    pub bytes: Bytes,
    /// Whether this validator made it.
    pub own: bool,
}

/// What is written together: all of it or nothing.
#[derive(Clone, Debug, Default)]
pub struct ValidatorBatch {
    /// New blocks. One that is stored already changes nothing, except that an own proposal stored before it was signed gets its signature.
    pub blocks: Vec<StoredBlock>,
    /// Executed commits in order. Their state changes are applied with them.
    pub executed: Vec<Arc<ExecutedCommit>>,
}

/// A place in the order of blocks (round, author, digest), to go on reading from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockCursor {
    pub(crate) round: Round,
    pub(crate) author: u32,
    pub(crate) digest: Digest,
}

impl BlockCursor {
    /// Behind every block of `round`.
    #[must_use]
    pub const fn after_round(round: Round) -> Self {
        // No author has this index: it sorts behind all of them.
        Self { round, author: u32::MAX, digest: Digest::ZERO }
    }

    /// Behind this block.
    #[must_use]
    pub const fn after_block(block: &BlockRef) -> Self {
        let ValidatorIndex(author) = block.author;
        Self { round: block.round, author: author as u32, digest: block.digest }
    }
}

/// The store of one validator: blocks, executed commits, the state after the last of them.
///
/// Reads see every write that has returned. Limits in bytes count encoded bytes; a first item that alone passes the limit is still
/// returned, so that a reader always gets on.
#[async_trait]
pub trait ValidatorStore: Send + Sync {
    /// The chain this store belongs to.
    fn chain_id(&self) -> ChainId;

    /// Writes a batch atomically; it is durable (survives power loss) when this returns. Batches of several callers may share one
    /// disk flush. Waits while the queue of batches is full. When the caller stops waiting, the batch may still be written.
    ///
    /// # Errors
    /// [`StoreError::OutOfOrder`] unless each new executed commit follows the last one (the one last written again is harmless);
    /// [`StoreError::Diverged`] when one contradicts what is stored. Nothing of a failed batch is kept.
    async fn write(&self, batch: ValidatorBatch) -> Result<(), StoreError>;

    /// The last executed commit.
    async fn last_commit(&self) -> Result<Option<Commit>, StoreError>;

    /// This validator's own block of the highest round.
    async fn own_last_block(&self) -> Result<Option<StoredBlock>, StoreError>;

    /// Blocks behind `after`, ascending by (round, author, digest), up to `limit_bytes` of them: for recovery.
    /// Go on from [`BlockCursor::after_block`] of the last one until nothing comes.
    async fn blocks_after(&self, after: BlockCursor, limit_bytes: usize) -> Result<Vec<StoredBlock>, StoreError>;

    /// Blocks of each author above that author's floor (`floors[author]`), ascending by (round, author, digest), up to `limit_bytes`:
    /// for a peer that says how far it is. The work is bounded whatever the floors are.
    async fn blocks_above(&self, floors: &[Round], limit_bytes: usize) -> Result<Vec<StoredBlock>, StoreError>;

    /// The blocks of these names, in the order asked for.
    async fn blocks(&self, references: &[BlockRef]) -> Result<Vec<Option<StoredBlock>>, StoreError>;

    /// Blocks above `round` that are part of an executed commit, ascending.
    async fn committed_refs_after(&self, round: Round) -> Result<Vec<BlockRef>, StoreError>;

    /// Executed commits from index `from` on, ascending, at most `limit` and up to `limit_bytes`.
    async fn executed(&self, from: CommitIndex, limit: usize, limit_bytes: usize) -> Result<Vec<ExecutedCommit>, StoreError>;

    /// The records of these keys after the last executed commit, in the order asked for.
    async fn state(&self, keys: &[StateKey]) -> Result<Vec<Option<StateValue>>, StoreError>;

    /// Records behind `after` in ascending key order, at most `limit`: for audits and digests.
    async fn state_page(&self, after: Option<StateKey>, limit: usize) -> Result<StatePage, StoreError>;

    /// Writes what is queued, then releases the files. Later calls fail with [`StoreError::Closed`].
    async fn close(&self) -> Result<(), StoreError>;
}
