//! When to propose.
//!
//! Round r+1 is due when a quorum of round r is there AND (the leaders' blocks of round r are too, or the time to wait for them has passed
//! since the quorum was complete) AND the round delay since the own last proposal has passed. With nothing to order the round delay is
//! longer.
//!
//! Rounds that bring no commit fill the memory of everybody. Up to [`STALLED_ROUNDS`] above the last commit nothing changes; above, the
//! delay is a second and doubles every few rounds, up to ten minutes. It never ends, because a slot may only be decided by the rounds
//! after it, and nobody could ever make them if all had stopped; and slow rounds are what a network too slow for the waits needs to decide
//! again. Commits bring the usual pace back at once.

use crate::clock::ThresholdClock;
use kaldrix_types::Round;

/// Rounds without a commit after which validators all but stop proposing.
pub const STALLED_ROUNDS: Round = 500;
const STALLED_DELAY_MS: u64 = 1_000;
const STALLED_DELAY_MS_MAX: u64 = 600_000;
/// Rounds after which the delay of a stalled network doubles.
const STALLED_DOUBLING_ROUNDS: Round = 8;

/// The round delays, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Least time between two own proposals.
    pub min_round_delay_ms: u64,
    /// The same while there is nothing to order. Less than `min_round_delay_ms` is taken as that.
    pub idle_round_delay_ms: u64,
}

/// What the pace depends on besides the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    /// How long to wait for the leaders' blocks once a quorum of their round is there; 0 when they are there.
    pub leader_wait_ms: u64,
    /// Whether there is anything to order.
    pub busy: bool,
    /// Round of the last committed leader.
    pub commit_round: Round,
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
    pub fn due_at_ms(&self, clock: &ThresholdClock, situation: Situation) -> Option<u64> {
        if clock.round() <= self.asked_round {
            return None;
        }
        let min_delay_ms = self.pace.min_round_delay_ms;
        let delay_ms = if situation.busy { min_delay_ms } else { self.pace.idle_round_delay_ms.max(min_delay_ms) };
        let delay_ms = delay_ms.max(stalled_delay_ms(clock.round().saturating_sub(situation.commit_round)));
        let paced_ms = self.asked_at_ms.map_or(0, |asked| asked.saturating_add(delay_ms));
        let led_ms = if situation.leader_wait_ms == 0 { 0 } else { clock.since_ms().saturating_add(situation.leader_wait_ms) };
        Some(paced_ms.max(led_ms))
    }

    /// The round to propose now, if one is due; it is then taken as asked for.
    pub fn try_propose(&mut self, clock: &ThresholdClock, situation: Situation, now_ms: u64) -> Option<Round> {
        if self.due_at_ms(clock, situation)? > now_ms {
            return None;
        }
        self.asked_round = clock.round();
        self.asked_at_ms = Some(now_ms);
        Some(self.asked_round)
    }
}

/// The least delay this many rounds above the last commit.
fn stalled_delay_ms(rounds: Round) -> u64 {
    let Some(beyond) = rounds.checked_sub(STALLED_ROUNDS + 1) else { return 0 };
    let doublings = (beyond / STALLED_DOUBLING_ROUNDS).min(16);
    (STALLED_DELAY_MS << doublings).min(STALLED_DELAY_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stalled_network_slows_down_but_never_stops() {
        assert_eq!(stalled_delay_ms(STALLED_ROUNDS), 0);
        assert_eq!(stalled_delay_ms(STALLED_ROUNDS + 1), 1_000);
        assert_eq!(stalled_delay_ms(STALLED_ROUNDS + 9), 2_000);
        assert_eq!(stalled_delay_ms(u64::MAX), 600_000);
        let first_day: u64 =
            (1..).take_while(|extra| (1..=*extra).map(|e| stalled_delay_ms(STALLED_ROUNDS + e)).sum::<u64>() < 86_400_000).count() as u64;
        assert!(first_day < 250, "{first_day} rounds in a day");
    }
}
