//! What a validator must not forget.

use crate::{Snapshot, StatePage, StoreError, StoredCheckpoint};
use async_trait::async_trait;
use bytes::Bytes;
use kaldrix_types::{
    BlockRef, CertifiedCheckpoint, ChainId, Commit, CommitIndex, Digest, Epoch, ExecutedCommit, Round, StateKey, StateValue, ValidatorIndex,
};
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
    /// Checkpoints in order: each one with the commit that closes it, or later with its certificate. A certificate that is stored stays.
    pub checkpoints: Vec<StoredCheckpoint>,
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

/// The store of one validator: blocks, executed commits, checkpoints, the state after the last commit.
///
/// Rounds go on through epochs, and the first blocks of an epoch are of rounds in which the epoch before still had blocks: what is found
/// by round and author may be of two epochs. Only a [`BlockRef`] names one block.
///
/// Reads see every write that has returned, and each is of one moment. Limits in bytes count encoded bytes; a first item that alone passes the limit is still
/// returned, so that a reader always gets on.
#[async_trait]
pub trait ValidatorStore: Send + Sync {
    /// The chain this store belongs to.
    fn chain_id(&self) -> ChainId;

    /// Writes a batch atomically; it is durable (survives power loss) when this returns. Batches of several callers may share one
    /// disk flush. Waits while the queue of batches is full. When the caller stops waiting, the batch may still be written.
    ///
    /// # Errors
    /// [`StoreError::OutOfOrder`] unless each new executed commit, and each new checkpoint, follows the last one (one that is stored
    /// already is harmless); [`StoreError::Diverged`] when one contradicts what is stored; [`StoreError::BadBatch`] for a checkpoint
    /// over commits that are neither stored nor in the batch. Nothing of a failed batch is kept.
    async fn write(&self, batch: ValidatorBatch) -> Result<(), StoreError>;

    /// Replaces everything in the store by a snapshot, atomically and durably: a crash leaves either what was or the snapshot. All
    /// blocks are deleted, own ones too: what keeps a validator from contradicting itself is its signer's guard, and asking the others
    /// for its last block. Batches that were queued before are written before.
    ///
    /// # Errors
    /// [`StoreError::BadBatch`] for parts that do not fit together or a last commit below the stored one;
    /// [`StoreError::Diverged`] when a commit or checkpoint contradicts a stored one. The store is then as it was, and the snapshot is
    /// spent: make it again to try again.
    async fn install(&self, snapshot: Snapshot) -> Result<(), StoreError>;

    /// Deletes at most `limit` blocks of rounds below `below_round`, lowest rounds first, and forgets of the rounds that it has emptied
    /// which blocks were committed. Gives the number of blocks: fewer than `limit` means that all are gone. Commits keep their headers and
    /// transactions, so no history is lost; the last own block stays whatever its round is. `below_round` must not be above the round
    /// up to which blocks are collected as garbage: consensus is recovered from those above.
    async fn prune_blocks(&self, below_round: Round, limit: usize) -> Result<usize, StoreError>;

    /// The oldest executed commit that is here: 1, or the first of the snapshot this store began with. `None` while there is no commit.
    async fn first_commit(&self) -> Result<Option<CommitIndex>, StoreError>;

    /// The last executed commit.
    async fn last_commit(&self) -> Result<Option<Commit>, StoreError>;

    /// This validator's own block of the highest round; of two in one round (of two epochs) the later epoch's, which was written later.
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
    ///
    /// # Errors
    /// [`StoreError::Pruned`] when `from` is below [`Self::first_commit`].
    async fn executed(&self, from: CommitIndex, limit: usize, limit_bytes: usize) -> Result<Vec<ExecutedCommit>, StoreError>;

    /// The checkpoint at this index, from 1.
    async fn checkpoint(&self, index: u64) -> Result<Option<StoredCheckpoint>, StoreError>;

    /// The checkpoint whose range holds this commit.
    async fn checkpoint_of_commit(&self, commit: CommitIndex) -> Result<Option<StoredCheckpoint>, StoreError>;

    /// Checkpoints from `index` on, ascending, at most `limit` and up to `limit_bytes`. After a snapshot there are holes.
    async fn checkpoints_from(&self, index: u64, limit: usize, limit_bytes: usize) -> Result<Vec<StoredCheckpoint>, StoreError>;

    /// The newest checkpoint, certified or not.
    async fn last_checkpoint(&self) -> Result<Option<StoredCheckpoint>, StoreError>;

    /// The newest checkpoint that has a certificate.
    async fn last_certified(&self) -> Result<Option<CertifiedCheckpoint>, StoreError>;

    /// The certified last checkpoints of the epochs from `from_epoch` on, ascending, at most `limit` and up to `limit_bytes`: who
    /// follows these from genesis on knows every committee.
    async fn epoch_ends(&self, from_epoch: Epoch, limit: usize, limit_bytes: usize) -> Result<Vec<CertifiedCheckpoint>, StoreError>;

    /// The records of these keys after the last executed commit, in the order asked for.
    async fn state(&self, keys: &[StateKey]) -> Result<Vec<Option<StateValue>>, StoreError>;

    /// Records behind `after` in ascending key order, at most `limit`: for audits and digests.
    async fn state_page(&self, after: Option<StateKey>, limit: usize) -> Result<StatePage, StoreError>;

    /// Writes what is queued, then releases the files. Later calls fail with [`StoreError::Closed`].
    async fn close(&self) -> Result<(), StoreError>;
}
