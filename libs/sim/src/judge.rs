//! The invariants: what must hold whatever goes wrong.
//!
//! The first correct validator to execute a commit writes it into the judge's log, where its own rules are checked; every other correct
//! validator, and every repetition after a restart, must bring exactly the same.

use crate::state::State;
use kaldrix_checkpoint::Installed;
use kaldrix_types::{
    Address, BlockRef, CertifiedCheckpoint, Checkpoint, CommitIndex, Digest, ExecutedCommit, Lane, OutcomeStatus, Sequence, TxId,
    merkle_root,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Commits between two comparisons of whole states.
const DIGEST_PERIOD: CommitIndex = 64;

/// See the module's text. Hash maps are looked up only.
#[derive(Default)]
pub(crate) struct Judge {
    log: Vec<Arc<ExecutedCommit>>,
    outcomes: HashMap<TxId, (CommitIndex, OutcomeStatus)>,
    lanes: HashMap<(Address, Lane), Sequence>,
    blocks: HashSet<BlockRef>,
    states: BTreeMap<CommitIndex, Digest>,
    /// As the first correct validator closed them.
    checkpoints: Vec<Checkpoint>,
    certified: HashSet<u64>,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) discarded: u64,
}

impl Judge {
    pub(crate) fn commits(&self) -> CommitIndex {
        self.log.len() as CommitIndex
    }

    /// What became of a transaction that was executed.
    pub(crate) fn outcome(&self, id: &TxId) -> Option<OutcomeStatus> {
        self.outcomes.get(id).map(|(_, status)| *status)
    }

    /// A correct validator executed a commit. Returns the log's copy, and whether it was the first to do so.
    pub(crate) fn executed(&mut self, executed: ExecutedCommit) -> Result<(Arc<ExecutedCommit>, bool), String> {
        let index = executed.commit.index;
        let position = usize::try_from(index).unwrap_or(usize::MAX).wrapping_sub(1);
        if let Some(known) = self.log.get(position) {
            return if **known == executed { Ok((Arc::clone(known), false)) } else { Err(difference(known, &executed)) };
        }
        if position != self.log.len() {
            return Err(format!("commit {index} was executed before commit {}: a validator left some out", self.log.len() + 1));
        }
        self.check_first(&executed)?;
        let executed = Arc::new(executed);
        self.log.push(Arc::clone(&executed));
        Ok((executed, true))
    }

    fn check_first(&mut self, executed: &ExecutedCommit) -> Result<(), String> {
        let commit = &executed.commit;
        let last = self.log.last().map(|e| &e.commit);
        if commit.previous != last.map_or(Digest::ZERO, kaldrix_types::Commit::digest) {
            return Err(format!("commit {} does not follow the one before it", commit.index));
        }
        if last.is_some_and(|last| commit.timestamp_ms < last.timestamp_ms || commit.epoch < last.epoch) {
            return Err(format!("commit {}: consensus time or epoch went back", commit.index));
        }
        if let Some(twice) = commit.blocks.iter().find(|b| !self.blocks.insert(**b)) {
            return Err(format!("block {twice} is in two commits, the second is {}", commit.index));
        }
        for outcome in &executed.outcomes {
            match outcome.status {
                OutcomeStatus::Discarded(_) => {
                    self.discarded += 1;
                    continue;
                }
                OutcomeStatus::Success => self.succeeded += 1,
                OutcomeStatus::Failed(_) => self.failed += 1,
            }
            if let Some((before, _)) = self.outcomes.insert(outcome.id, (commit.index, outcome.status)) {
                return Err(format!("transaction {} was executed in commit {before} and in commit {}", outcome.id, commit.index));
            }
            let next = self.lanes.entry((outcome.sender, outcome.lane)).or_default();
            if outcome.sequence != *next {
                return Err(format!("transaction {}: sequence {} was executed where {next} was due", outcome.id, outcome.sequence));
            }
            *next += 1;
        }
        Ok(())
    }

    /// A correct validator's whole state after a commit; compared now and then.
    pub(crate) fn state(&mut self, index: CommitIndex, state: &State) -> Result<(), String> {
        if index.is_multiple_of(DIGEST_PERIOD) { self.compare_state(index, state) } else { Ok(()) }
    }

    /// As [`Self::state`], at any index.
    pub(crate) fn compare_state(&mut self, index: CommitIndex, state: &State) -> Result<(), String> {
        let digest = state.digest();
        let known = *self.states.entry(index).or_insert(digest);
        if known == digest { Ok(()) } else { Err(format!("the states after commit {index} differ: {known} and {digest}")) }
    }

    fn known_checkpoint(&self, index: u64) -> Option<&Checkpoint> {
        self.checkpoints.get(usize::try_from(index.checked_sub(1)?).ok()?)
    }

    /// Checkpoints that are closed.
    pub(crate) fn closed_checkpoints(&self) -> u64 {
        self.checkpoints.len() as u64
    }

    /// A correct validator closes a checkpoint.
    pub(crate) fn closed(&mut self, checkpoint: &Checkpoint) -> Result<(), String> {
        let index = checkpoint.index;
        match self.known_checkpoint(index) {
            Some(known) if known == checkpoint => Ok(()),
            Some(known) => Err(format!("checkpoint {index} is {known:?} for one validator and {checkpoint:?} for another")),
            None if index == self.closed_checkpoints() + 1 => self.check_first_closed(checkpoint),
            None => Err(format!("checkpoint {index} was closed before checkpoint {}", self.closed_checkpoints() + 1)),
        }
    }

    /// Against what was executed, counted anew.
    fn check_first_closed(&mut self, checkpoint: &Checkpoint) -> Result<(), String> {
        let Checkpoint { index, first_commit, last_commit, .. } = *checkpoint;
        let before = self.checkpoints.last();
        let follows = (before.map_or(Digest::ZERO, Checkpoint::digest), before.map_or(1, |b| b.last_commit + 1));
        if (checkpoint.previous, first_commit) != follows {
            return Err(format!("checkpoint {index} does not follow the one before it"));
        }
        let position = |commit: CommitIndex| usize::try_from(commit).unwrap_or(usize::MAX);
        let range = self.log.get(position(first_commit) - 1..position(last_commit)).unwrap_or_default();
        let outcomes: Vec<Digest> = range.iter().flat_map(|e| &e.outcomes).map(kaldrix_types::TxOutcome::leaf).collect();
        let last = range.last().map_or(Digest::ZERO, |e| e.commit.digest());
        if (checkpoint.last_commit_digest, checkpoint.outcomes_root) != (last, merkle_root(&outcomes)) {
            return Err(format!("checkpoint {index} is not what was executed"));
        }
        self.checkpoints.push(checkpoint.clone());
        Ok(())
    }

    /// A correct validator believes a certificate; returns whether it is the first for this checkpoint.
    pub(crate) fn certified(&mut self, certified: &CertifiedCheckpoint) -> Result<bool, String> {
        let checkpoint = &certified.checkpoint;
        if self.known_checkpoint(checkpoint.index) != Some(checkpoint) {
            return Err(format!("checkpoint {} is certified and not what correct validators executed", checkpoint.index));
        }
        Ok(self.certified.insert(checkpoint.index))
    }

    /// A correct validator takes over a snapshot.
    pub(crate) fn installed(&mut self, installed: &Installed) -> Result<(), String> {
        let checkpoint = &installed.checkpoint.checkpoint;
        if self.known_checkpoint(checkpoint.index) != Some(checkpoint) {
            return Err(format!("a snapshot of checkpoint {} is not what correct validators executed", checkpoint.index));
        }
        self.compare_state(checkpoint.last_commit, &State::of_records(installed.records.clone()))
    }

    /// One digest over the ledger.
    pub(crate) fn digest(&self) -> Digest {
        let last = self.log.last().map_or(Digest::ZERO, |e| e.commit.digest());
        let mut hasher = blake3::Hasher::new_derive_key("kaldrix simulation run");
        hasher.update(last.as_bytes());
        for (index, digest) in &self.states {
            hasher.update(&index.to_le_bytes()).update(digest.as_bytes());
        }
        for number in [self.succeeded, self.failed, self.discarded] {
            hasher.update(&number.to_le_bytes());
        }
        Digest(*hasher.finalize().as_bytes())
    }
}

fn difference(known: &ExecutedCommit, other: &ExecutedCommit) -> String {
    let index = known.commit.index;
    if known.commit != other.commit {
        let (a, b) = (&known.commit, &other.commit);
        return format!(
            "two validators have different commits {index}: leader {} with {} blocks, and leader {} with {} blocks",
            a.leader,
            a.blocks.len(),
            b.leader,
            b.blocks.len()
        );
    }
    if let Some((a, b)) = known.outcomes.iter().zip(&other.outcomes).find(|(a, b)| a != b) {
        return format!("commit {index}: transaction {} is {:?} for one validator and {:?} for another", a.id, a.status, b.status);
    }
    if let Some((a, b)) = known.changes.iter().zip(&other.changes).find(|(a, b)| a != b) {
        return format!(
            "commit {index} leaves different states: {:?} is {:?} for one and {:?} is {:?} for another",
            a.key, a.value, b.key, b.value
        );
    }
    format!("commit {index} has different effects on two validators")
}
