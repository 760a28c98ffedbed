//! From the store to where this validator goes on: at start, at the beginning of an epoch, and after a snapshot was taken over.

use crate::core::{EpochView, NewEpoch, gc_round_after};
use crate::error::DagError;
use kaldrix_checkpoint::{CheckpointBuilder, StateTree};
use kaldrix_storage::{BlockCursor, StoredBlock, ValidatorStore};
use kaldrix_types::{
    Block, BlockVerifier, CertifiedCheckpoint, Checkpoint, CommitIndex, Genesis, PublicKey, StateChange, ValidatorIndex, VerifiedBlock,
};
use std::sync::Arc;

const PAGE_BYTES: usize = 16 << 20;
const STATE_PAGE: usize = 10_000;
const COMMITS_PAGE: usize = 256;

/// The chain's definition and which validator this is.
pub(crate) struct Identity {
    pub(crate) genesis: Genesis,
    /// The validator's name.
    pub(crate) name: String,
    pub(crate) gc_depth: u64,
}

impl Identity {
    /// The epoch that follows a certified checkpoint at an epoch's end.
    pub(crate) fn epoch_after(&self, end: &Checkpoint) -> Result<Option<EpochView>, DagError> {
        let Some(committee) = end.next_committee() else { return Ok(None) };
        let committee = committee.map_err(|e| DagError::Store(kaldrix_storage::StoreError::Damaged(e.to_string())))?;
        Ok(Some(EpochView::new(committee, &self.name, end.timestamp_ms, &self.genesis.parameters)))
    }

    fn first_epoch(&self) -> Result<EpochView, DagError> {
        let committee = self.genesis.committee().map_err(|e| DagError::Config(e.to_string()))?;
        Ok(EpochView::new(committee, &self.name, self.genesis.timestamp_ms, &self.genesis.parameters))
    }

    /// The running epoch as the store knows it: an epoch begins with the certificate of the checkpoint that ends the one before.
    pub(crate) async fn epoch(&self, store: &Arc<dyn ValidatorStore>) -> Result<EpochView, DagError> {
        let Some(CertifiedCheckpoint { checkpoint: newest, .. }) = store.last_certified().await? else { return self.first_epoch() };
        if let Some(next) = self.epoch_after(&newest)? {
            return Ok(next);
        }
        let Some(before) = newest.epoch.checked_sub(1) else { return self.first_epoch() };
        let end = store.epoch_ends(before, 1, usize::MAX).await?.pop().filter(|end| end.checkpoint.epoch == before);
        let missing = || kaldrix_storage::StoreError::Damaged(format!("the checkpoint that ends epoch {before} is missing"));
        let end = end.ok_or_else(missing)?;
        self.epoch_after(&end.checkpoint)?.ok_or_else(|| missing().into())
    }

    /// What the core goes on from in `epoch`, and the own block that was stored but not signed when the process ended.
    pub(crate) async fn begin(
        &self,
        store: &Arc<dyn ValidatorStore>,
        epoch: EpochView,
    ) -> Result<(NewEpoch, Option<VerifiedBlock>), DagError> {
        let last_commit = store.last_commit().await?;
        let gc_round = last_commit.as_ref().map_or(0, |c| gc_round_after(c, self.gc_depth)).max(epoch.committee.start_round());
        let (mut blocks, mut unsigned, mut last_own) = (Vec::new(), None, None);
        let mut cursor = BlockCursor::after_round(gc_round);
        loop {
            let page = store.blocks_after(cursor, PAGE_BYTES).await?;
            let Some(last) = page.last() else { break };
            cursor = BlockCursor::after_block(&last.reference);
            for stored in &page {
                let Some(block) = stored_block(stored, &epoch)? else { continue };
                if stored.own {
                    last_own = Some(stored.reference);
                }
                if block.block().signature.is_empty() {
                    // It joins the DAG when it is signed; an older one was left out.
                    unsigned = Some(block);
                } else {
                    blocks.push(Arc::new(block));
                }
            }
        }
        if last_own.is_none()
            && let Some(stored) = store.own_last_block().await?
            && stored_block(&stored, &epoch)?.is_some()
        {
            last_own = Some(stored.reference);
        }
        let committed = store.committed_refs_after(gc_round).await?;
        let unsigned = unsigned.filter(|block| last_own == Some(block.reference()));
        tracing::info!(
            epoch = epoch.committee.epoch(),
            commit = last_commit.as_ref().map_or(0, |c| c.index),
            blocks = blocks.len(),
            gc_round,
            "going on from the store"
        );
        Ok((NewEpoch { epoch, last_commit, blocks, committed, last_own }, unsigned))
    }

    /// The state tree of the stored state, and the checkpoint that is open. Reads the whole state.
    pub(crate) async fn checkpoints(&self, store: &Arc<dyn ValidatorStore>) -> Result<CheckpointBuilder, DagError> {
        let mut tree = StateTree::default();
        let mut after = None;
        loop {
            let page = store.state_page(after, STATE_PAGE).await?;
            let Some((last, _)) = page.records.last() else { break };
            after = Some(*last);
            let records: Vec<StateChange> = page.records.into_iter().map(|(key, value)| StateChange { key, value: Some(value) }).collect();
            tree.update(&records);
        }
        let last = store.last_checkpoint().await?.map(|stored| stored.checkpoint);
        let mut open = Vec::new();
        let mut next: CommitIndex = last.as_ref().map_or(1, |c| c.last_commit + 1);
        loop {
            let page = store.executed(next, COMMITS_PAGE, PAGE_BYTES).await?;
            let Some(newest) = page.last() else { break };
            next = newest.commit.index + 1;
            open.extend(page);
        }
        Ok(CheckpointBuilder::new(self.genesis.chain_id(), &self.genesis.parameters, last.as_ref(), tree, open))
    }

    /// Checkpoints of the running epoch that were computed here and lack their certificate: voted for again.
    pub(crate) async fn uncertified(&self, store: &Arc<dyn ValidatorStore>) -> Result<Vec<Checkpoint>, DagError> {
        let from = store.last_certified().await?.map_or(1, |c| c.checkpoint.index + 1);
        let stored = store.checkpoints_from(from, usize::MAX, PAGE_BYTES).await?;
        Ok(stored.into_iter().filter(|c| c.votes.is_none()).map(|c| c.checkpoint).collect())
    }
}

/// Own store contents were verified before they were written.
struct Trusting;

impl BlockVerifier for Trusting {
    fn verify(&self, _: &PublicKey, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

/// `None` for a block of another epoch.
fn stored_block(stored: &StoredBlock, epoch: &EpochView) -> Result<Option<VerifiedBlock>, DagError> {
    let bad = |e: &dyn std::fmt::Display| DagError::StoredBlock(format!("{}: {e}", stored.reference));
    let block = Block::decode(&stored.bytes).map_err(|e| bad(&e))?;
    if block.header.epoch != epoch.committee.epoch() {
        return Ok(None);
    }
    Ok(Some(block.verify(&epoch.committee, &Trusting, u64::MAX).map_err(|e| bad(&e))?))
}

/// The own block as it was last sent.
pub(crate) fn last_own_block(next: &NewEpoch, own: ValidatorIndex) -> Option<&Arc<VerifiedBlock>> {
    next.blocks.iter().rev().find(|b| b.reference().author == own)
}
