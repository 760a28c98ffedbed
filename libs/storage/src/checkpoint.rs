//! Checkpoints as they are kept, and what a validator begins anew with.

use kaldrix_types::{CertifiedCheckpoint, Checkpoint, ExecutedCommit, SignedHeader, StateKey, StateValue};
use std::fmt;
use std::sync::Arc;

/// A checkpoint of this validator's, and its certificate once a quorum has voted for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCheckpoint {
    /// What this validator computed.
    pub checkpoint: Checkpoint,
    /// The headers in which a quorum voted for it; `None` until then.
    pub votes: Option<Vec<SignedHeader>>,
}

impl StoredCheckpoint {
    /// One that was computed here and has no certificate yet.
    #[must_use]
    pub const fn own(checkpoint: Checkpoint) -> Self {
        Self { checkpoint, votes: None }
    }

    /// With its certificate; `None` while it has none.
    #[must_use]
    pub fn certified(self) -> Option<CertifiedCheckpoint> {
        let Self { checkpoint, votes } = self;
        votes.map(|votes| CertifiedCheckpoint { checkpoint, votes })
    }
}

impl From<CertifiedCheckpoint> for StoredCheckpoint {
    fn from(certified: CertifiedCheckpoint) -> Self {
        Self { checkpoint: certified.checkpoint, votes: Some(certified.votes) }
    }
}

/// What a validator that lost its disk, or was away for too long, begins anew with. Whoever makes it has verified all of it: the
/// records' root and the commits' hash chain against the last checkpoint, the checkpoints' certificates from genesis on.
pub struct Snapshot {
    /// The state after the last of `executed`, in strictly ascending order of keys, taken bit by bit.
    pub records: Box<dyn Iterator<Item = (StateKey, StateValue)> + Send>,
    /// The last commits, consecutive, at least one. Their changes are part of `records` already and are not applied. The last
    /// checkpoint's last commit is among them, and so are all those whose blocks a later commit must not bring again.
    pub executed: Vec<Arc<ExecutedCommit>>,
    /// Ascending, at least one; not all of a chain's: the last one of each epoch and the newest are enough.
    pub checkpoints: Vec<CertifiedCheckpoint>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let commits = self.executed.first().zip(self.executed.last()).map(|(first, last)| first.commit.index..=last.commit.index);
        let checkpoint = self.checkpoints.last().map(|last| last.checkpoint.index);
        f.debug_struct("Snapshot").field("commits", &commits).field("last_checkpoint", &checkpoint).finish_non_exhaustive()
    }
}
