//! From committed leaders to commits: the total order.
//!
//! ```text
//!   commit i:  gc_round(i) = max(gc_round(i−1), leader_round(i−1) − gc_depth)      fixed by commit i−1
//!              blocks(i)   = ancestors of the leader, itself included, over strong and weak links,
//!                            not in a commit yet, above gc_round(i), sorted by (round, author, digest)
//! ```
//! Commit i is cut at a round that commit i−1 fixed, so all validators cut alike, whatever else they have seen. The blocks that an epoch
//! begins with are never part of a commit: no cut of the epoch is below its start round.
//!
//! A commit also carries what the leader schedule goes by, and whether it is the epoch's last one. In a new epoch index, digests and time go
//! on, reputation begins anew.

use crate::dag::HeaderDag;
use crate::reputation;
use kaldrix_types::{BlockRef, Commit, Committee, Digest, Reputation, Round, TimestampMs};

/// The least depth of garbage collection. Deciding a slot needs the rounds after it, and a commit's time the one before it: a shallower cut
/// could take them away between two leaders of one round.
pub const GC_DEPTH_MIN: u64 = 4;

/// What commits are made by: rules of the chain, and of the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitRules {
    /// How many rounds below a committed leader its successors may still reach, at least [`GC_DEPTH_MIN`] (less is taken as that).
    pub gc_depth: u64,
    /// Commits of a period of reputation; 0: none is kept.
    pub schedule_commits: u32,
    /// The first commit with this time or a later one is the epoch's last.
    pub epoch_ends_at_ms: Option<TimestampMs>,
}

/// Makes commits out of leaders, one after the other.
#[derive(Clone, Debug)]
pub struct Linearizer {
    rules: CommitRules,
    index: u64,
    previous: Digest,
    timestamp_ms: TimestampMs,
    next_gc_round: Round,
    leader_round: Round,
    reputation: Reputation,
    is_epoch_over: bool,
}

impl Linearizer {
    /// Goes on after `last`, or begins. After the last commit of another epoch, `committee`'s begins.
    #[must_use]
    pub fn new(committee: &Committee, rules: CommitRules, last: Option<&Commit>) -> Self {
        let start_round = committee.start_round();
        let mut linearizer = Self {
            rules: CommitRules { gc_depth: rules.gc_depth.max(GC_DEPTH_MIN), ..rules },
            index: 0,
            previous: Digest::ZERO,
            timestamp_ms: 0,
            next_gc_round: start_round,
            leader_round: start_round,
            reputation: Reputation::default(),
            is_epoch_over: false,
        };
        if let Some(last) = last {
            linearizer.go_on(last);
            if last.epoch == committee.epoch() {
                linearizer.go_on_in_epoch(last);
                linearizer.reputation = last.reputation.clone();
            }
        }
        linearizer
    }

    fn go_on(&mut self, commit: &Commit) {
        self.index = commit.index;
        self.previous = commit.digest();
        self.timestamp_ms = commit.timestamp_ms;
    }

    fn go_on_in_epoch(&mut self, commit: &Commit) {
        // In an epoch's first rounds the leader is less than the depth above the start round.
        let cut = commit.gc_round.max(commit.leader.round.saturating_sub(self.rules.gc_depth));
        self.next_gc_round = self.next_gc_round.max(cut);
        self.leader_round = commit.leader.round;
        self.is_epoch_over = commit.ends_epoch;
    }

    /// Index of the last commit; 0 for none.
    #[must_use]
    pub const fn last_index(&self) -> u64 {
        self.index
    }

    /// Round of the last commit's leader; the epoch's start round before its first commit.
    #[must_use]
    pub const fn leader_round(&self) -> Round {
        self.leader_round
    }

    /// The cut of the next commit: blocks at or below this round will never be in a commit again.
    #[must_use]
    pub const fn next_gc_round(&self) -> Round {
        self.next_gc_round
    }

    /// What the leader schedule goes by after the last commit.
    #[must_use]
    pub const fn reputation(&self) -> &Reputation {
        &self.reputation
    }

    /// Whether the epoch's last commit is made: there must not be another one.
    #[must_use]
    pub const fn is_epoch_over(&self) -> bool {
        self.is_epoch_over
    }

    /// The commit of `leader`, which must be in the DAG and in no commit yet. Marks its blocks as committed.
    pub fn commit(&mut self, dag: &mut HeaderDag, leader: BlockRef) -> Commit {
        let timestamp_ms = leader_time(dag, &leader).max(self.timestamp_ms);
        let blocks = self.take_ancestors(dag, leader);
        reputation::count_commit(&mut self.reputation, self.rules.schedule_commits, dag, leader, &blocks);
        let commit = Commit {
            index: self.index + 1,
            epoch: dag.committee().epoch(),
            leader,
            previous: self.previous,
            timestamp_ms,
            gc_round: self.next_gc_round,
            blocks,
            reputation: self.reputation.clone(),
            ends_epoch: self.rules.epoch_ends_at_ms.is_some_and(|end_ms| timestamp_ms >= end_ms),
        };
        self.go_on(&commit);
        self.go_on_in_epoch(&commit);
        commit
    }

    fn take_ancestors(&self, dag: &mut HeaderDag, leader: BlockRef) -> Vec<BlockRef> {
        let mut blocks = Vec::new();
        let mut open = vec![leader];
        while let Some(block) = open.pop() {
            // A committed block's ancestors are committed or were cut, and cuts only rise: no need to look behind it.
            if block.round <= self.next_gc_round || !dag.mark_committed(&block) {
                continue;
            }
            blocks.push(block);
            if let Some(header) = dag.get(&block) {
                open.extend(header.parents.iter().copied());
            }
        }
        blocks.sort_unstable();
        blocks
    }
}

/// Stake-weighted median of the timestamps of the leader's strong parents; weak links only serve to include blocks. These hold a quorum, so
/// that the median lies between two correct validators' clocks. The blocks that an epoch begins with have no time: above them the leader's own
/// counts.
fn leader_time(dag: &HeaderDag, leader: &BlockRef) -> TimestampMs {
    let Some(header) = dag.get(leader) else { return 0 };
    let mut times: Vec<(TimestampMs, u64)> =
        header.strong_parents().filter_map(|parent| Some((dag.get(parent)?.timestamp_ms, dag.committee().stake(parent.author)))).collect();
    times.sort_unstable();
    let total: u64 = times.iter().map(|(_, stake)| stake).sum();
    let mut below = 0;
    for (time, stake) in times {
        below += stake;
        if below * 2 > total {
            return time;
        }
    }
    header.timestamp_ms
}
