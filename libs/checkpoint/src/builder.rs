//! From executed commits to checkpoints.
//!
//! ```text
//!   ExecutedCommit ──on_executed──▶ open range: outcomes' leaves, commits, tree ──rule──▶ Checkpoint (vote for it)
//!                                                                                            │
//!   certified(index) ──▶ the version of that checkpoint is the newest certified one ◀─────────┘ version: tree + old values
//!   prove(key) ──▶ (checkpoint, value, proof) of that version
//! ```

use crate::{StateTree, StateTreeProof};
use kaldrix_types::{
    ChainId, Checkpoint, Commit, CommitIndex, Digest, ExecutedCommit, NextEpoch, Parameters, StateKey, StateValue, TimestampMs, merkle_root,
};
use std::borrow::Borrow;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

/// Checkpoints whose state is kept while they wait for their quorum. When there are more, the newest certified one is given up first, then
/// the oldest: proofs of state wait then until one that is kept is certified.
pub const VERSIONS_MAX: usize = 32;

/// Closes checkpoints as all validators do, and keeps what proofs of state need.
///
/// A checkpoint is written to the store together with the commit that closes it: after a restart, what comes behind the last stored
/// checkpoint is an open range.
#[derive(Clone, Debug)]
pub struct CheckpointBuilder {
    chain: ChainId,
    checkpoint_commits: u64,
    checkpoint_ms: u64,
    tree: StateTree,
    last: Option<Last>,
    next_commit: CommitIndex,
    /// Leaves of the open range's outcomes.
    outcomes: Vec<Digest>,
    /// Old values of what the open range changed.
    undo: Undo,
    /// Closed checkpoints from the newest certified one on, ascending.
    versions: VecDeque<Version>,
    /// The newest one that is certified, and the newest of those whose version was there.
    certified: u64,
    proven: u64,
}

/// Values as they were when a range began, of records that it changed. Only of those that somebody told.
type Undo = BTreeMap<StateKey, Option<StateValue>>;

/// What the next checkpoint follows from.
#[derive(Clone, Copy, Debug)]
struct Last {
    index: u64,
    digest: Digest,
    last_commit: CommitIndex,
    timestamp_ms: TimestampMs,
}

impl Last {
    fn of(checkpoint: &Checkpoint) -> Self {
        Self {
            index: checkpoint.index,
            digest: checkpoint.digest(),
            last_commit: checkpoint.last_commit,
            timestamp_ms: checkpoint.timestamp_ms,
        }
    }
}

/// The state at a checkpoint.
#[derive(Clone, Debug)]
struct Version {
    checkpoint: Checkpoint,
    tree: StateTree,
    /// What the range that followed changed; empty while that range is open.
    undo: Undo,
}

/// What a record was at a certified checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenRecord {
    /// Index of that checkpoint.
    pub checkpoint: u64,
    /// The value; `None`: there was no such record.
    pub value: Option<StateValue>,
    /// Holds against that checkpoint's state root.
    pub proof: StateTreeProof,
}

impl CheckpointBuilder {
    /// Goes on behind `last`, the newest checkpoint that was closed, certified or not. `open` are the commits executed since, in order;
    /// `tree` is the state after the last of them. For a new chain: `None`, the tree of [`kaldrix_types::Genesis::state`], none.
    ///
    /// # Panics
    /// When `open` does not follow `last` without gaps, or the rule closes a range within it: the store is damaged then.
    #[must_use]
    pub fn new(
        chain: ChainId,
        parameters: &Parameters,
        last: Option<&Checkpoint>,
        tree: StateTree,
        open: impl IntoIterator<Item = impl Borrow<ExecutedCommit>>,
    ) -> Self {
        let mut builder = Self {
            chain,
            checkpoint_commits: parameters.checkpoint_commits,
            checkpoint_ms: parameters.checkpoint_ms,
            tree,
            last: last.map(Last::of),
            next_commit: last.map_or(1, |c| c.last_commit + 1),
            outcomes: Vec::new(),
            undo: Undo::new(),
            versions: VecDeque::new(),
            certified: 0,
            proven: 0,
        };
        for executed in open {
            let executed = executed.borrow();
            builder.take(executed);
            assert!(!builder.closes(&executed.commit), "commit {} closes a checkpoint that is not stored", executed.commit.index);
        }
        // Without a commit since, this tree is that checkpoint's; otherwise that version is gone with the process.
        if let Some(last) = last.filter(|c| c.last_commit + 1 == builder.next_commit && c.state_root == builder.tree.root()) {
            builder.versions.push_back(Version { checkpoint: last.clone(), tree: builder.tree.clone(), undo: Undo::new() });
        }
        builder
    }

    /// Remembers, before [`Self::on_executed`], what the records were that `executed` changes, so that proofs can give the values of the
    /// newest certified checkpoint. `old` is asked for each changed key. Leave it out where nobody asks for proofs.
    pub fn remember(&mut self, executed: &ExecutedCommit, old: impl Fn(&StateKey) -> Option<StateValue>) {
        for change in &executed.changes {
            // What the first change of a range meets is what the range began with.
            self.undo.entry(change.key).or_insert_with(|| old(&change.key));
        }
    }

    /// Takes in the next commit. The checkpoint that it closes, if it closes one. `next_epoch` is the committee that follows, when
    /// `executed` ends its epoch, and nothing otherwise.
    ///
    /// # Panics
    /// When `executed` is not the commit that follows the last one, or when it ends its epoch without `next_epoch`, or the reverse: to
    /// stop is better than to vote for nonsense.
    pub fn on_executed(&mut self, executed: &ExecutedCommit, next_epoch: Option<NextEpoch>) -> Option<Checkpoint> {
        let commit = &executed.commit;
        assert_eq!(commit.ends_epoch, next_epoch.is_some(), "commit {}: an epoch's end and the next committee come together", commit.index);
        self.take(executed);
        self.tree.update(&executed.changes);
        self.closes(commit).then(|| self.close(commit, next_epoch))
    }

    fn take(&mut self, executed: &ExecutedCommit) {
        assert_eq!(executed.commit.index, self.next_commit, "commits are taken in order and each once");
        self.next_commit += 1;
        self.outcomes.extend(executed.outcomes.iter().map(kaldrix_types::TxOutcome::leaf));
    }

    /// The rule, equal on all validators: an epoch's end, enough commits, or outcomes and enough time.
    fn closes(&self, commit: &Commit) -> bool {
        let (commits, since_ms) = self.last.map_or((0, 0), |last| (last.last_commit, last.timestamp_ms));
        commit.ends_epoch
            || commit.index - commits >= self.checkpoint_commits
            || (!self.outcomes.is_empty() && commit.timestamp_ms.saturating_sub(since_ms) >= self.checkpoint_ms)
    }

    fn close(&mut self, commit: &Commit, next_epoch: Option<NextEpoch>) -> Checkpoint {
        let checkpoint = Checkpoint {
            version: Checkpoint::VERSION,
            chain_id: self.chain,
            epoch: commit.epoch,
            index: self.last.map_or(1, |last| last.index + 1),
            previous: self.last.map_or(Digest::ZERO, |last| last.digest),
            first_commit: self.last.map_or(1, |last| last.last_commit + 1),
            last_commit: commit.index,
            last_commit_digest: commit.digest(),
            outcomes_root: merkle_root(&self.outcomes),
            outcome_count: self.outcomes.len() as u64,
            state_root: self.tree.root(),
            timestamp_ms: commit.timestamp_ms,
            next_epoch,
        };
        self.last = Some(Last::of(&checkpoint));
        self.outcomes.clear();
        let undo = std::mem::take(&mut self.undo);
        if let Some(version) = self.versions.back_mut() {
            version.undo = undo;
        }
        self.versions.push_back(Version { checkpoint: checkpoint.clone(), tree: self.tree.clone(), undo: Undo::new() });
        if self.versions.len() > VERSIONS_MAX {
            self.versions.pop_front();
        }
        self.settle();
        checkpoint
    }

    /// Checkpoint `index` is certified: proofs are of it from now on, and older versions go. When it is not closed here yet, that follows
    /// as soon as it is.
    pub fn certified(&mut self, index: u64) {
        self.certified = self.certified.max(index);
        self.settle();
    }

    fn settle(&mut self) {
        if self.versions.iter().any(|version| version.checkpoint.index == self.certified) {
            self.proven = self.certified;
            self.versions.retain(|version| version.checkpoint.index >= self.proven);
        }
    }

    /// The newest certified checkpoint and its state, if this builder has seen it close (or began with it).
    #[must_use]
    pub fn newest_certified(&self) -> Option<(&Checkpoint, &StateTree)> {
        self.certified_version().map(|version| (&version.checkpoint, &version.tree))
    }

    fn certified_version(&self) -> Option<&Version> {
        self.versions.front().filter(|version| version.checkpoint.index == self.proven)
    }

    /// What the record of `key` was at the newest certified checkpoint, with proof. `current` is its value now, or of any time since then.
    /// `None`: that cannot be said yet (no certified checkpoint since the start, or nobody remembered the old value): ask again after the
    /// next checkpoint.
    #[must_use]
    pub fn prove(&self, key: &StateKey, current: Option<StateValue>) -> Option<ProvenRecord> {
        let version = self.certified_version()?;
        // The first range since in which the record changed knows its value of then.
        let ranges = self.versions.iter().map(|version| &version.undo);
        let old = ranges.chain([&self.undo]).find_map(|undo| undo.get(key)).cloned();
        let value = old.unwrap_or(current);
        // Whatever was remembered or given, only the value of that state is right.
        version.tree.holds(key, value.as_ref()).then(|| ProvenRecord {
            checkpoint: version.checkpoint.index,
            value,
            proof: version.tree.prove(key),
        })
    }

    /// A page of the state as it was at the newest certified checkpoint, and that checkpoint's last commit. `records` are the records now
    /// (or of any time since then) behind `after`, up to the last of them, or to the end if `is_last`. `None`: the old values are not known
    /// here; the page as it is now has to do.
    ///
    /// Whoever catches up gets a certified state at once with this, even while the validators that have moved on wait for its own vote.
    #[must_use]
    pub fn page_at_certified(
        &self,
        after: Option<&StateKey>,
        is_last: bool,
        records: &[(StateKey, StateValue)],
    ) -> Option<(CommitIndex, Vec<(StateKey, StateValue)>)> {
        let version = self.certified_version()?;
        let end = if is_last { Bound::Unbounded } else { Bound::Included(records.last()?.0) };
        let range = (after.map_or(Bound::Unbounded, |key| Bound::Excluded(*key)), end);
        let mut page: BTreeMap<StateKey, StateValue> = records.iter().cloned().collect();
        // Backwards in time: the first range since knows the value of then.
        let ranges = self.versions.iter().map(|version| &version.undo).chain([&self.undo]);
        for (key, old) in ranges.rev().flat_map(|undo| undo.range(range)) {
            match old {
                Some(value) => page.insert(*key, value.clone()),
                None => page.remove(key),
            };
        }
        Some((version.checkpoint.last_commit, page.into_iter().collect()))
    }

    /// The state after the last commit.
    #[must_use]
    pub const fn tree(&self) -> &StateTree {
        &self.tree
    }

    /// Index of the newest closed checkpoint; 0 for none.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.last.map_or(0, |last| last.index)
    }

    /// Digest of checkpoint `index` as computed here, while it is kept: from the newest certified one on.
    #[must_use]
    pub fn own_digest(&self, index: u64) -> Option<Digest> {
        self.versions.iter().find(|version| version.checkpoint.index == index).map(|version| version.checkpoint.digest())
    }
}
