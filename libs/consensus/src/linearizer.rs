//! From committed leaders to commits: the total order.
//!
//! ```text
//!   commit i:  gc_round(i) = max(gc_round(i−1), leader_round(i−1) − gc_depth)      fixed by commit i−1
//!              blocks(i)   = ancestors of the leader, itself included, over strong and weak links,
//!                            not in a commit yet, above gc_round(i), sorted by (round, author, digest)
//! ```
//! Commit i is cut at a round that commit i−1 fixed, so all validators cut alike, whatever else they have seen. Genesis blocks (round 0)
//! are never part of a commit: no cut is below 0.

use crate::dag::HeaderDag;
use kaldrix_types::{BlockRef, Commit, Digest, Round, TimestampMs};

/// The least depth of garbage collection. Deciding a slot needs the rounds after it, and a commit's time the one before it: a shallower cut
/// could take them away between two leaders of one round.
pub const GC_DEPTH_MIN: u64 = 4;

/// Makes commits out of leaders, one after the other.
#[derive(Clone, Debug)]
pub struct Linearizer {
    gc_depth: u64,
    index: u64,
    previous: Digest,
    timestamp_ms: TimestampMs,
    next_gc_round: Round,
}

impl Linearizer {
    /// Goes on after `last`, or begins. `gc_depth` is how many rounds below a committed leader its successors may still reach, at least
    /// [`GC_DEPTH_MIN`] (less is taken as that).
    #[must_use]
    pub fn new(gc_depth: u64, last: Option<&Commit>) -> Self {
        let mut linearizer =
            Self { gc_depth: gc_depth.max(GC_DEPTH_MIN), index: 0, previous: Digest::ZERO, timestamp_ms: 0, next_gc_round: 0 };
        if let Some(last) = last {
            linearizer.follow(last);
        }
        linearizer
    }

    fn follow(&mut self, commit: &Commit) {
        self.index = commit.index;
        self.previous = commit.digest();
        self.timestamp_ms = commit.timestamp_ms;
        self.next_gc_round = commit.gc_round.max(commit.leader.round.saturating_sub(self.gc_depth));
    }

    /// Index of the last commit; 0 for none.
    #[must_use]
    pub const fn last_index(&self) -> u64 {
        self.index
    }

    /// The cut of the next commit: blocks at or below this round will never be in a commit again.
    #[must_use]
    pub const fn next_gc_round(&self) -> Round {
        self.next_gc_round
    }

    /// The commit of `leader`, which must be in the DAG and in no commit yet. Marks its blocks as committed.
    pub fn commit(&mut self, dag: &mut HeaderDag, leader: BlockRef) -> Commit {
        let commit = Commit {
            index: self.index + 1,
            epoch: dag.committee().epoch(),
            leader,
            previous: self.previous,
            timestamp_ms: leader_time(dag, &leader).max(self.timestamp_ms),
            gc_round: self.next_gc_round,
            blocks: self.take_ancestors(dag, leader),
            scores: Vec::new(),
        };
        self.follow(&commit);
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
/// that the median lies between two correct validators' clocks. Round 1 has genesis parents, which have no time: the leader's own counts.
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
