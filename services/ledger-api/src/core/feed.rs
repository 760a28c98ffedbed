//! The newest commits of the region, and how streams learn of them.
//!
//! The feed holds no queue per reader: a reader holds a cursor, waits for the newest index to pass it, and takes what it lacks from the
//! ring of recent commits or, when it is further behind, from the store. So a slow reader costs nothing here and nobody can miss a commit.

use crate::core::view::author_position;
use kaldrix_proto::ledger as pb;
use kaldrix_types::{Address, CommitIndex, Epoch, OutcomeStatus, Round, TimestampMs, TxId, limits};
use parking_lot::RwLock;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Commits the ring holds.
const RECENT_MAX: usize = 512;

/// One transaction of a published commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedTransaction {
    /// Its id.
    pub id: TxId,
    /// Its outcome.
    pub status: OutcomeStatus,
    /// Accounts whose history it is part of.
    pub accounts: Vec<Address>,
}

/// A commit with what streams need of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// As clients see it.
    pub commit: pb::Commit,
    /// Its transactions in order.
    pub transactions: Vec<PublishedTransaction>,
}

/// See the module's text.
pub struct Feed {
    newest: watch::Sender<CommitIndex>,
    recent: RwLock<VecDeque<Arc<Published>>>,
    /// Newest committed round by author, of the newest epoch: indices change their meaning with the epoch.
    rounds: RwLock<(Epoch, Vec<Round>)>,
}

impl Feed {
    /// A feed whose next commit is `cursor + 1`.
    #[must_use]
    pub fn new(cursor: CommitIndex) -> Self {
        Self { newest: watch::channel(cursor).0, recent: RwLock::default(), rounds: RwLock::default() }
    }

    /// Index of the newest commit.
    #[must_use]
    pub fn newest(&self) -> CommitIndex {
        *self.newest.borrow()
    }

    /// Consensus time of the newest commit that came by; 0 before the first.
    #[must_use]
    pub fn newest_timestamp_ms(&self) -> TimestampMs {
        self.recent.read().back().map_or(0, |p| p.commit.timestamp_ms)
    }

    /// A view of the newest index to wait on.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<CommitIndex> {
        self.newest.subscribe()
    }

    /// Adds the next commit and wakes everybody.
    pub fn publish(&self, published: Published) {
        let index = published.commit.index;
        self.note_rounds(&published.commit);
        let mut recent = self.recent.write();
        if recent.back().is_some_and(|last| last.commit.index + 1 != index) {
            // Never a hole in the ring: readers would take it for a gap in the ledger.
            recent.clear();
        }
        if recent.len() == RECENT_MAX {
            recent.pop_front();
        }
        recent.push_back(Arc::new(published));
        drop(recent);
        self.newest.send_replace(index);
    }

    /// Commits from `from` on while the ring holds them, at most `limit`; `None` when `from` is older than the ring.
    #[must_use]
    pub fn recent_from(&self, from: CommitIndex, limit: usize) -> Option<Vec<Arc<Published>>> {
        let recent = self.recent.read();
        let first = recent.front()?.commit.index;
        let skip = usize::try_from(from.checked_sub(first)?).ok()?;
        Some(recent.iter().skip(skip).take(limit).cloned().collect())
    }

    /// Waits until commit `index` is published, at most `limit`.
    pub async fn wait_for(&self, index: CommitIndex, limit: Duration) -> bool {
        let mut newest = self.newest.subscribe();
        matches!(tokio::time::timeout(limit, newest.wait_for(|n| *n >= index)).await, Ok(Ok(_)))
    }

    /// Remembers the newest committed round of each author.
    pub fn note_rounds(&self, commit: &pb::Commit) {
        let mut known = self.rounds.write();
        let (epoch, rounds) = &mut *known;
        if commit.epoch < *epoch {
            return;
        }
        if commit.epoch > *epoch {
            (*epoch, *rounds) = (commit.epoch, Vec::new());
        }
        for block in &commit.blocks {
            let position = author_position(block.author);
            if position >= rounds.len() && position < limits::VALIDATORS_MAX {
                rounds.resize(position + 1, 0);
            }
            if let Some(round) = rounds.get_mut(position) {
                *round = block.round.max(*round);
            }
        }
    }

    /// Newest committed round of each validator of `epoch`, by index; shorter than the committee while some have none.
    #[must_use]
    pub fn rounds(&self, epoch: Epoch) -> Vec<Round> {
        let known = self.rounds.read();
        if known.0 == epoch { known.1.clone() } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(index: u64) -> Published {
        let blocks = vec![pb::BlockRef { round: index, author: 1, digest: String::new() }];
        Published { commit: pb::Commit { index, blocks, ..Default::default() }, transactions: Vec::new() }
    }

    #[test]
    fn the_ring_serves_what_it_holds_and_says_when_it_does_not() {
        let feed = Feed::new(4);
        assert!(feed.recent_from(5, 10).is_none());
        for index in 5..5 + RECENT_MAX as u64 + 1 {
            feed.publish(published(index));
        }
        assert!(feed.recent_from(5, 10).is_none(), "the first one was pushed out");
        let indices: Vec<u64> = feed.recent_from(6, 2).expect("held").iter().map(|p| p.commit.index).collect();
        assert_eq!(indices, [6, 7]);
        assert!(feed.recent_from(feed.newest() + 1, 2).expect("nothing yet").is_empty());
        assert_eq!(feed.rounds(0), [0, feed.newest()]);
    }

    #[test]
    fn rounds_are_those_of_the_newest_epoch() {
        let feed = Feed::new(0);
        let of = |epoch, index| pb::Commit { epoch, ..published(index).commit };
        feed.note_rounds(&of(1, 50));
        feed.note_rounds(&of(0, 40));
        assert_eq!((feed.rounds(1), feed.rounds(0)), (vec![0, 50], vec![]));
        feed.note_rounds(&of(2, 60));
        assert_eq!((feed.rounds(2), feed.rounds(1)), (vec![0, 60], vec![]));
    }

    #[test]
    fn the_ring_never_holds_a_hole() {
        let feed = Feed::new(0);
        feed.publish(published(1));
        feed.publish(published(5));
        assert!(feed.recent_from(1, 10).is_none());
        assert_eq!(feed.recent_from(5, 10).expect("held").len(), 1);
    }
}
