//! When to propose.
//!
//! Round r+1 is due when a quorum of round r is there AND (the leaders' blocks of round r are too, or the leader timeout has passed since
//! the quorum was complete) AND the round delay since the own last proposal has passed. With nothing to order the round delay is longer.

use crate::clock::ThresholdClock;
use kaldrix_types::Round;

/// The three delays, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Least time between two own proposals.
    pub min_round_delay_ms: u64,
    /// The same while there is nothing to order. Less than `min_round_delay_ms` is taken as that.
    pub idle_round_delay_ms: u64,
    /// How long to wait for the leaders' blocks once a quorum of their round is there.
    pub leader_timeout_ms: u64,
}

/// Says when, and remembers what it said: each round is proposed at most once, and never one at or below the own last block's.
#[derive(Clone, Debug)]
pub struct Pacemaker {
    pace: Pace,
    /// Highest round of an own block.
    own_round: Round,
    /// Highest round that was asked for, at least `own_round`.
    asked_round: Round,
    asked_at_ms: Option<u64>,
}

impl Pacemaker {
    /// A pacemaker of a validator whose last own block is of `own_round` (0 for none).
    #[must_use]
    pub const fn new(pace: Pace, own_round: Round) -> Self {
        Self { pace, own_round, asked_round: own_round, asked_at_ms: None }
    }

    /// Takes note of an own block, so that nothing at or below it is ever proposed again.
    pub const fn note_own_round(&mut self, round: Round) {
        if round > self.own_round {
            self.own_round = round;
        }
        if self.own_round > self.asked_round {
            self.asked_round = self.own_round;
        }
    }

    /// Forgets a proposal that was asked for but never came: whoever was asked may be gone.
    pub const fn forget_unanswered(&mut self) {
        self.asked_round = self.own_round;
    }

    /// Highest round of an own block.
    #[must_use]
    pub const fn own_round(&self) -> Round {
        self.own_round
    }

    /// When the clock's round becomes due if nothing else happens; `None` if it was asked for or proposed already. May lie in the past.
    #[must_use]
    pub fn due_at_ms(&self, clock: &ThresholdClock, leaders_present: bool, busy: bool) -> Option<u64> {
        if clock.round() <= self.asked_round {
            return None;
        }
        let min_delay_ms = self.pace.min_round_delay_ms;
        let delay_ms = if busy { min_delay_ms } else { self.pace.idle_round_delay_ms.max(min_delay_ms) };
        let paced_ms = self.asked_at_ms.map_or(0, |asked| asked.saturating_add(delay_ms));
        let led_ms = if leaders_present { 0 } else { clock.since_ms().saturating_add(self.pace.leader_timeout_ms) };
        Some(paced_ms.max(led_ms))
    }

    /// The round to propose now, if one is due; it is then taken as asked for.
    pub fn try_propose(&mut self, clock: &ThresholdClock, leaders_present: bool, busy: bool, now_ms: u64) -> Option<Round> {
        if self.due_at_ms(clock, leaders_present, busy)? > now_ms {
            return None;
        }
        self.asked_round = clock.round();
        self.asked_at_ms = Some(now_ms);
        Some(self.asked_round)
    }
}
