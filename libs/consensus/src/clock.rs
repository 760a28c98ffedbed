//! The threshold clock: a quorum at my round moves me to the next, and so does one at any higher round.

use kaldrix_types::Round;

/// Which round this validator is in, and since when.
///
/// A block of a higher round moves the clock as well: its parents, which come first, are a quorum of the round before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThresholdClock {
    quorum_round: Round,
    since_ms: u64,
}

impl ThresholdClock {
    /// A clock that has seen a quorum at `quorum_round` (the start round for a new epoch: the blocks there exist by definition).
    #[must_use]
    pub const fn new(quorum_round: Round, now_ms: u64) -> Self {
        Self { quorum_round, since_ms: now_ms }
    }

    /// Takes note that `stake` is present at `round`; returns whether that moved the clock.
    pub const fn observe(&mut self, round: Round, stake: u64, quorum: u64, now_ms: u64) -> bool {
        if stake < quorum || round <= self.quorum_round {
            return false;
        }
        self.quorum_round = round;
        self.since_ms = now_ms;
        true
    }

    /// Highest round of which a quorum is present.
    #[must_use]
    pub const fn quorum_round(&self) -> Round {
        self.quorum_round
    }

    /// The round this validator is in: the one to propose for.
    #[must_use]
    pub const fn round(&self) -> Round {
        self.quorum_round + 1
    }

    /// When the quorum was complete, in the caller's monotonic milliseconds.
    #[must_use]
    pub const fn since_ms(&self) -> u64 {
        self.since_ms
    }

    /// Counts waiting from now on (after a restart, old waiting says nothing).
    pub const fn restart_timer(&mut self, now_ms: u64) {
        self.since_ms = now_ms;
    }
}
