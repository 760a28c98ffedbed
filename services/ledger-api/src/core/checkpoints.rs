//! Which commits the certified checkpoints cover, as far as this process has been told: what makes a FINAL transaction CHECKPOINTED.
//!
//! ```text
//!   validators ──task, each second, or at once while somebody waits──▶ note ──▶ newest ──▶ wait_for
//!                                                                        └────▶ recent ranges ──▶ covering
//! ```

use kaldrix_types::{Checkpoint, CommitIndex};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// Checkpoints whose range of commits is remembered: more than an hour of them.
const RANGES_MAX: usize = 4_096;

/// The newest certified checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Newest {
    /// Its index; 0 for none.
    pub index: u64,
    /// The last commit it covers.
    pub last_commit: CommitIndex,
}

/// See the module's text.
#[derive(Debug)]
pub struct Checkpoints {
    newest: watch::Sender<Newest>,
    /// By last commit: first commit and index.
    ranges: RwLock<BTreeMap<CommitIndex, (CommitIndex, u64)>>,
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self { newest: watch::channel(Newest::default()).0, ranges: RwLock::default() }
    }
}

impl Checkpoints {
    /// The newest one known.
    #[must_use]
    pub fn newest(&self) -> Newest {
        *self.newest.borrow()
    }

    /// Adds a certified checkpoint.
    pub fn note(&self, checkpoint: &Checkpoint) {
        let mut ranges = self.ranges.write();
        ranges.insert(checkpoint.last_commit, (checkpoint.first_commit, checkpoint.index));
        if ranges.len() > RANGES_MAX {
            ranges.pop_first();
        }
        drop(ranges);
        let found = Newest { index: checkpoint.index, last_commit: checkpoint.last_commit };
        self.newest.send_if_modified(|newest| {
            let forward = found.index > newest.index;
            if forward {
                *newest = found;
            }
            forward
        });
    }

    /// The checkpoint that covers a commit: `None` while there is none, `Some(0)` when it is too old to know which.
    #[must_use]
    pub fn covering(&self, commit: CommitIndex) -> Option<u64> {
        if commit == 0 || commit > self.newest().last_commit {
            return None;
        }
        let ranges = self.ranges.read();
        let (_, (first, index)) = ranges.range(commit..).next()?;
        Some(if *first <= commit { *index } else { 0 })
    }

    /// Waits until a checkpoint covers `commit`, at most until `deadline`.
    pub async fn wait_for(&self, commit: CommitIndex, deadline: Instant) {
        let mut newest = self.newest.subscribe();
        // Whether it was covered or the time is over: the caller looks.
        let _ = timeout_at(deadline, newest.wait_for(|n| n.last_commit >= commit)).await;
    }

    /// Whether somebody waits for a checkpoint.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        self.newest.receiver_count() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kaldrix_types::{ChainId, Digest};

    fn checkpoint(index: u64, first_commit: u64, last_commit: u64) -> Checkpoint {
        Checkpoint {
            version: Checkpoint::VERSION,
            chain_id: ChainId::default(),
            epoch: 0,
            index,
            previous: Digest::ZERO,
            first_commit,
            last_commit,
            last_commit_digest: Digest::ZERO,
            outcomes_root: Digest::ZERO,
            outcome_count: 0,
            state_root: Digest::ZERO,
            timestamp_ms: 0,
            next_epoch: None,
        }
    }

    #[test]
    fn a_commit_is_covered_by_the_checkpoint_whose_range_it_is_in() {
        let known = Checkpoints::default();
        assert_eq!(known.covering(1), None);
        known.note(&checkpoint(3, 21, 30));
        known.note(&checkpoint(4, 31, 40));
        known.note(&checkpoint(3, 21, 30));
        assert_eq!(known.newest(), Newest { index: 4, last_commit: 40 });
        assert_eq!(
            [0, 1, 20, 21, 30, 31, 40, 41].map(|c| known.covering(c)),
            [None, Some(0), Some(0), Some(3), Some(3), Some(4), Some(4), None]
        );
    }

    #[test]
    fn the_oldest_ranges_give_way() {
        let known = Checkpoints::default();
        for index in 1..=RANGES_MAX as u64 + 10 {
            known.note(&checkpoint(index, index, index));
        }
        assert_eq!(known.ranges.read().len(), RANGES_MAX);
        assert_eq!((known.covering(10), known.covering(11)), (Some(0), Some(11)));
    }

    #[tokio::test]
    async fn who_waits_goes_on_when_the_commit_is_covered_or_the_time_is_over() {
        let known = Checkpoints::default();
        let soon = || Instant::now() + std::time::Duration::from_millis(20);
        known.wait_for(5, soon()).await;
        assert!(!known.is_waited_for());
        let far = Instant::now() + std::time::Duration::from_secs(60);
        tokio::join!(known.wait_for(5, far), async {
            tokio::task::yield_now().await;
            assert!(known.is_waited_for());
            known.note(&checkpoint(1, 1, 5));
        });
    }
}
