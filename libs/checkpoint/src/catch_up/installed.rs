//! What a catch-up comes to.

use super::download::{Downloaded, gc_round_after};
use crate::{EpochChain, StateTree};
use kaldrix_types::{BlockRef, CertifiedCheckpoint, Commit, Committee, ExecutedCommit, StateKey, StateValue};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything to begin anew with, verified: write it in one piece in place of what there was, then go on as after a restart.
#[derive(Debug)]
pub struct Installed {
    /// The state at `checkpoint`.
    pub records: BTreeMap<StateKey, StateValue>,
    /// Its tree, for [`crate::CheckpointBuilder::new`] with that checkpoint and no open commits.
    pub tree: StateTree,
    /// The newest certified checkpoint.
    pub checkpoint: CertifiedCheckpoint,
    /// Last checkpoints of the epochs since what was known before, ascending; the last one may be `checkpoint`.
    pub epoch_ends: Vec<CertifiedCheckpoint>,
    /// The last commits, consecutive: those whose blocks a later commit must not bring again, at least one. Their commits, headers,
    /// outcomes and bodies are verified; of their changes only what they come to.
    pub executed: Vec<Arc<ExecutedCommit>>,
    /// The epoch that goes on: the checkpoint's, or the one it begins.
    pub chain: EpochChain,
    gc_depth: u64,
}

impl Installed {
    pub(super) fn new(downloaded: Downloaded, start: &EpochChain, epoch_ends: &[CertifiedCheckpoint], gc_depth: u64) -> Self {
        let Downloaded { records, tree, executed, target } = downloaded;
        // More epochs may have ended while the last commits were read: they are to be lived through.
        let is_before = |end: &&CertifiedCheckpoint| end.checkpoint.index <= target.checkpoint.index;
        let epoch_ends: Vec<CertifiedCheckpoint> = epoch_ends.iter().filter(is_before).cloned().collect();
        let chain = epoch_ends.last().and_then(|end| EpochChain::after(end.checkpoint.clone()).ok()).unwrap_or_else(|| start.clone());
        Self { records, tree, checkpoint: target, epoch_ends, executed, chain, gc_depth }
    }

    /// The checkpoint's last commit: consensus goes on behind it.
    ///
    /// # Panics
    /// Never: there is always one.
    #[must_use]
    pub fn last_commit(&self) -> &Commit {
        &self.executed.last().expect("a checkpoint has at least one commit").commit
    }

    /// The validators of the epoch that goes on.
    #[must_use]
    pub const fn committee(&self) -> &Committee {
        self.chain.committee()
    }

    /// Blocks of that epoch above the garbage-collection round that are committed already, ascending.
    #[must_use]
    pub fn committed(&self) -> Vec<BlockRef> {
        let floor = gc_round_after(self.last_commit(), self.gc_depth).max(self.committee().start_round());
        let blocks = self.executed.iter().filter(|e| e.commit.epoch == self.committee().epoch()).flat_map(|e| &e.commit.blocks);
        let mut blocks: Vec<BlockRef> = blocks.filter(|block| block.round > floor).copied().collect();
        blocks.sort_unstable();
        blocks
    }

    /// All checkpoints to be stored, ascending: the ends of epochs and the newest.
    pub fn checkpoints(&self) -> impl Iterator<Item = &CertifiedCheckpoint> {
        let newest = Some(&self.checkpoint).filter(|newest| self.epoch_ends.last().is_none_or(|end| end.checkpoint != newest.checkpoint));
        self.epoch_ends.iter().chain(newest)
    }
}
