//! What one peer gives: pages of its state while that moves on, then the commits that make them the state of one checkpoint.
//!
//! ```text
//!   pages ──▶ records, each as of some commit in at_min..=at_max
//!   target: a certified checkpoint with last_commit >= at_max
//!   checkpoints before it, back to where the commits have to begin: each is the `previous` of the next, so no signature is needed
//!   commits first_commit..=last_commit, each the `previous` of the next; absolute values over the records ──▶ root == target.state_root
//! ```
//!
//! Every record that changed after its page was read is in one of those commits, and what they change that was not changed later has that
//! value in the pages already. So the result is exactly the state at the target, or else the peer lied.

use super::message::{CatchUpAnswer, CatchUpConfig, CatchUpRequest, PeerFault};
use crate::StateTree;
use kaldrix_types::hash::Context;
use kaldrix_types::{
    CertifiedCheckpoint, Checkpoint, Commit, CommitIndex, Digest, ExecutedCommit, Round, StateChange, StateKey, StateValue, decode,
    merkle_root,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Checkpoints to ask for at a time on the way back.
const LINKS_PER_REQUEST: u64 = 16;

/// What a peer has given so far.
#[derive(Debug)]
pub(super) struct Download {
    records: BTreeMap<StateKey, StateValue>,
    tree: StateTree,
    state_bytes: u64,
    /// The commits that the pages are of: least and greatest.
    at: Option<(CommitIndex, CommitIndex)>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Pages,
    /// All pages are here.
    Aimless,
    Links(Box<Links>),
    Commits(Box<Commits>),
    Complete(Box<Commits>),
}

/// The way back from the target.
#[derive(Debug)]
struct Links {
    target: CertifiedCheckpoint,
    /// Ascending, the target last.
    ranges: VecDeque<Checkpoint>,
    /// The commit that has to be in the first one.
    from: CommitIndex,
    batch: u64,
}

/// The way forward.
#[derive(Debug)]
struct Commits {
    target: CertifiedCheckpoint,
    /// Those whose commits are not all here.
    ranges: VecDeque<Checkpoint>,
    next: CommitIndex,
    /// Digest of the commit before; `None`: not known, and not needed.
    previous: Option<Digest>,
    /// Leaves of the current range.
    outcomes: Vec<Digest>,
    /// The last ones: their blocks are not to be committed again.
    kept: VecDeque<Arc<ExecutedCommit>>,
    /// Beginning of the next commit's encoding, when that is too large for one answer.
    part: Vec<u8>,
    /// Of commits since the last one that a checkpoint confirmed.
    unverified_bytes: u64,
}

/// Blocks at or below this round are in no commit that follows `commit`.
pub(super) fn gc_round_after(commit: &Commit, gc_depth: u64) -> Round {
    commit.gc_round.max(commit.leader.round.saturating_sub(gc_depth))
}

/// What a complete download comes to.
#[derive(Debug)]
pub(super) struct Downloaded {
    pub(super) records: BTreeMap<StateKey, StateValue>,
    pub(super) tree: StateTree,
    pub(super) executed: Vec<Arc<ExecutedCommit>>,
    pub(super) target: CertifiedCheckpoint,
}

impl Download {
    pub(super) fn new() -> Self {
        Self { records: BTreeMap::new(), tree: StateTree::default(), state_bytes: 0, at: None, stage: Stage::Pages }
    }

    /// Records read.
    pub(super) fn records(&self) -> u64 {
        self.tree.records()
    }

    /// Next commit to be read.
    pub(super) fn next_commit(&self) -> Option<CommitIndex> {
        if let Stage::Commits(commits) = &self.stage { Some(commits.next) } else { None }
    }

    /// The next question; `None` while there is no target, and at the end.
    pub(super) fn request(&self, config: &CatchUpConfig) -> Option<CatchUpRequest> {
        let limit_bytes = u32::try_from(config.answer_bytes_max).unwrap_or(u32::MAX);
        match &self.stage {
            Stage::Pages => {
                let after = self.records.last_key_value().map(|(key, _)| *key);
                Some(CatchUpRequest::StatePage { after, limit: config.page_records })
            }
            Stage::Links(links) => Some(links.request()),
            Stage::Commits(commits) if commits.part.is_empty() => Some(CatchUpRequest::Executed { from: commits.next, limit_bytes }),
            Stage::Commits(commits) => Some(CatchUpRequest::ExecutedPart { index: commits.next, offset: commits.part.len() as u64 }),
            Stage::Aimless | Stage::Complete(_) => None,
        }
    }

    /// The least last commit of a target, once all pages are here and none is chosen.
    pub(super) fn needs_target(&self) -> Option<CommitIndex> {
        let (_, newest) = self.at.filter(|_| matches!(self.stage, Stage::Aimless))?;
        Some(newest)
    }

    /// Chooses the target: certified, and covering [`Self::needs_target`].
    pub(super) fn aim(&mut self, target: CertifiedCheckpoint, config: &CatchUpConfig) -> Result<(), PeerFault> {
        let (oldest, newest) = self.at.expect("a target is chosen when all pages are here");
        let last = target.checkpoint.last_commit;
        debug_assert!(last >= newest, "no checkpoint before the newest page will do");
        if last.saturating_sub(oldest) > config.commits_max {
            return Err(PeerFault::TooLarge("commits since its first page"));
        }
        // A round has at most so many leaders, so these are all commits above the garbage-collection round, and one more.
        let above_gc = config.gc_depth.saturating_mul(u64::from(config.leaders_per_round.max(1))).saturating_add(1);
        let from = (oldest + 1).min((last + 1).saturating_sub(above_gc)).max(1);
        let ranges = VecDeque::from([target.checkpoint.clone()]);
        self.stage = Box::new(Links { target, ranges, from, batch: LINKS_PER_REQUEST }).or_commits();
        Ok(())
    }

    /// Whether nothing is missing; then [`Self::finish`].
    pub(super) const fn is_complete(&self) -> bool {
        matches!(self.stage, Stage::Complete(_))
    }

    /// Takes an answer to [`Self::request`].
    pub(super) fn take(&mut self, answer: CatchUpAnswer, config: &CatchUpConfig) -> Result<(), PeerFault> {
        match (std::mem::replace(&mut self.stage, Stage::Aimless), answer) {
            (Stage::Pages, CatchUpAnswer::StatePage { at, records, is_last }) => {
                self.take_page(at, &records, is_last, config)?;
                self.stage = if is_last { Stage::Aimless } else { Stage::Pages };
            }
            (Stage::Links(links), CatchUpAnswer::Checkpoints(items)) => self.stage = links.take(&items)?,
            (Stage::Commits(mut commits), CatchUpAnswer::Executed(items)) => {
                if items.is_empty() {
                    return Err(PeerFault::Missing("commits that the checkpoint covers"));
                }
                for bytes in items {
                    // What is behind the target is not certified.
                    if !commits.ranges.is_empty() {
                        commits.count_bytes(bytes.len(), config)?;
                        let executed: ExecutedCommit =
                            decode(&bytes, bytes.len()).map_err(|_| PeerFault::Malformed("an executed commit"))?;
                        self.take_commit(&mut commits, executed, config)?;
                    }
                }
                self.stage = commits.or_complete();
            }
            (Stage::Commits(mut commits), CatchUpAnswer::Part { total_bytes, bytes }) => {
                if let Some(executed) = commits.take_part(total_bytes, &bytes, config)? {
                    self.take_commit(&mut commits, executed, config)?;
                }
                self.stage = commits.or_complete();
            }
            _ => return Err(PeerFault::Malformed("an answer to another question")),
        }
        Ok(())
    }

    fn take_page(&mut self, at: CommitIndex, bytes: &[u8], is_last: bool, config: &CatchUpConfig) -> Result<(), PeerFault> {
        let (oldest, newest) = self.at.unwrap_or((at, at));
        if at < newest {
            return Err(PeerFault::Malformed("a page of a state before the last page's"));
        }
        self.at = Some((oldest, at));
        let records: Vec<(StateKey, StateValue)> = decode(bytes, config.answer_bytes_max).map_err(|_| PeerFault::Malformed("a page"))?;
        if records.is_empty() && !is_last {
            return Err(PeerFault::Malformed("an empty page that is not the last"));
        }
        let mut last = self.records.last_key_value().map(|(key, _)| *key);
        for (key, _) in &records {
            if last.is_some_and(|last| *key <= last) {
                return Err(PeerFault::Malformed("a page whose keys do not ascend"));
            }
            last = Some(*key);
        }
        let changes: Vec<StateChange> = records.into_iter().map(|(key, value)| StateChange { key, value: Some(value) }).collect();
        self.apply(&changes, config)
    }

    fn apply(&mut self, changes: &[StateChange], config: &CatchUpConfig) -> Result<(), PeerFault> {
        for StateChange { key, value } in changes {
            let old = match value {
                Some(value) => {
                    self.state_bytes += record_bytes(value);
                    self.records.insert(*key, value.clone())
                }
                None => self.records.remove(key),
            };
            self.state_bytes -= old.as_ref().map_or(0, record_bytes);
        }
        if self.state_bytes > config.state_bytes_max {
            return Err(PeerFault::TooLarge("state"));
        }
        self.tree.update(changes);
        Ok(())
    }

    fn take_commit(&mut self, commits: &mut Commits, executed: ExecutedCommit, config: &CatchUpConfig) -> Result<(), PeerFault> {
        commits.check(&executed)?;
        self.apply(&executed.changes, config)?;
        commits.keep(executed, config);
        Ok(())
    }

    /// Compares the state with the target's root: what was read from this peer is right, or it lied.
    pub(super) fn finish(self) -> Result<Downloaded, PeerFault> {
        match self.stage {
            Stage::Complete(commits) if self.tree.root() == commits.target.checkpoint.state_root => {
                Ok(Downloaded { records: self.records, tree: self.tree, executed: commits.kept.into(), target: commits.target })
            }
            _ => Err(PeerFault::WrongState),
        }
    }
}

impl Links {
    fn first(&self) -> &Checkpoint {
        self.ranges.front().expect("the target is always there")
    }

    fn request(&self) -> CatchUpRequest {
        let before = self.first().index - 1;
        let limit = self.batch.min(before);
        CatchUpRequest::Checkpoints { from_index: before - limit + 1, epoch_ends_only: false, limit: u32::try_from(limit).unwrap_or(1) }
    }

    /// The commits, when the way back is far enough.
    fn or_commits(self: Box<Self>) -> Stage {
        let first = self.first();
        // The checks of what follows rely on it; a quorum vouches for the target, and with its digest for those before.
        if first.first_commit > self.from && first.index > 1 {
            return Stage::Links(self);
        }
        let previous = (first.first_commit <= 1).then_some(Digest::ZERO);
        let next = first.first_commit;
        let Self { target, ranges, .. } = *self;
        let (outcomes, kept, part) = (Vec::new(), VecDeque::new(), Vec::new());
        Stage::Commits(Box::new(Commits { target, ranges, next, previous, outcomes, kept, part, unverified_bytes: 0 }))
    }

    fn take(mut self: Box<Self>, items: &[bytes::Bytes]) -> Result<Stage, PeerFault> {
        let asked = self.batch.min(self.first().index - 1);
        if (items.len() as u64) < asked {
            // Fewer fit an answer; those that are missing are the ones that are needed first.
            self.batch = asked / 2;
            return if self.batch == 0 { Err(PeerFault::Missing("checkpoints before its newest")) } else { Ok(Stage::Links(self)) };
        }
        for bytes in items.iter().rev() {
            let certified: CertifiedCheckpoint = decode(bytes, bytes.len()).map_err(|_| PeerFault::Malformed("a checkpoint"))?;
            let (first, before) = (self.first(), certified.checkpoint);
            if before.digest() != first.previous || before.index + 1 != first.index || before.last_commit + 1 != first.first_commit {
                return Err(PeerFault::WrongCommits("a checkpoint is not the one that the next one follows"));
            }
            self.ranges.push_front(before);
        }
        Ok(self.or_commits())
    }
}

impl Commits {
    fn or_complete(self: Box<Self>) -> Stage {
        if self.ranges.is_empty() { Stage::Complete(self) } else { Stage::Commits(self) }
    }

    /// A commit's place in the chain, and all that its own digests cover.
    fn check(&mut self, executed: &ExecutedCommit) -> Result<(), PeerFault> {
        let ExecutedCommit { commit, headers, outcomes, bodies, .. } = executed;
        if commit.index != self.next || self.previous.is_some_and(|previous| previous != commit.previous) {
            return Err(PeerFault::WrongCommits("a commit does not follow the one before it"));
        }
        if !headers.iter().map(kaldrix_types::Header::reference).eq(commit.blocks.iter().copied()) {
            return Err(PeerFault::WrongCommits("headers that are not those of its blocks"));
        }
        let ids = bodies.iter().map(|body| Context::TransactionId.hash(&[body]));
        if !ids.eq(outcomes.iter().map(|outcome| outcome.id.0)) {
            return Err(PeerFault::WrongCommits("transactions that are not those of its outcomes"));
        }
        let digest = commit.digest();
        self.outcomes.extend(outcomes.iter().map(kaldrix_types::TxOutcome::leaf));
        if let Some(range) = self.ranges.pop_front_if(|range| range.last_commit == commit.index) {
            if range.last_commit_digest != digest {
                return Err(PeerFault::WrongCommits("the last commit of a checkpoint is another one"));
            }
            if range.outcome_count != self.outcomes.len() as u64 || range.outcomes_root != merkle_root(&self.outcomes) {
                return Err(PeerFault::WrongCommits("outcomes that are not the certified ones"));
            }
            self.outcomes.clear();
            self.unverified_bytes = 0;
        }
        self.previous = Some(digest);
        self.next += 1;
        Ok(())
    }

    /// Keeps what a later commit must not bring again: blocks above the garbage-collection round, and the last commit.
    fn keep(&mut self, executed: ExecutedCommit, config: &CatchUpConfig) {
        let gc_round = gc_round_after(&executed.commit, config.gc_depth);
        self.kept.push_back(Arc::new(executed));
        while self.kept.len() > 1 && self.kept.front().is_some_and(|oldest| oldest.commit.leader.round <= gc_round) {
            self.kept.pop_front();
        }
    }

    /// A liar's commits are found out at the end of a checkpoint's range, and until then they take memory.
    fn count_bytes(&mut self, bytes: usize, config: &CatchUpConfig) -> Result<(), PeerFault> {
        self.unverified_bytes = self.unverified_bytes.saturating_add(bytes as u64);
        if self.unverified_bytes > config.range_bytes_max { Err(PeerFault::TooLarge("commits of one checkpoint")) } else { Ok(()) }
    }

    fn take_part(&mut self, total_bytes: u64, bytes: &[u8], config: &CatchUpConfig) -> Result<Option<ExecutedCommit>, PeerFault> {
        self.count_bytes(bytes.len(), config)?;
        self.part.extend_from_slice(bytes);
        let have = self.part.len() as u64;
        if bytes.is_empty() || have > total_bytes {
            return Err(PeerFault::Malformed("a part of a commit"));
        }
        if have < total_bytes {
            return Ok(None);
        }
        let whole = std::mem::take(&mut self.part);
        decode(&whole, whole.len()).map(Some).map_err(|_| PeerFault::Malformed("an executed commit"))
    }
}

fn record_bytes(value: &StateValue) -> u64 {
    /// A key's encoding has 1 to 65 bytes.
    const KEY_BYTES: u64 = 65;
    KEY_BYTES + value.to_bytes().len() as u64
}
