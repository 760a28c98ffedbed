//! The arithmetic of waves, in one place.
//!
//! ```text
//!   round      r          r+1         r+2          r+3 …
//!           propose ──▶ support ──▶ certify      anchor
//! ```
//! Waves overlap: every round begins one, for each of its leader slots.

use kaldrix_types::Round;
use std::fmt;

/// One leader slot. Order: round, then offset: the order in which slots are decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// Round whose leader is meant, above the epoch's start round: nobody leads that one.
    pub round: Round,
    /// Which of the round's leaders, from 0.
    pub offset: u32,
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.round, self.offset)
    }
}

/// Which rounds make up a slot's wave, and which slots there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wave {
    leaders_per_round: u32,
}

impl Wave {
    /// Waves with this many leader slots in each round; 0 is taken as 1, more than `validators` as `validators`.
    #[must_use]
    pub fn new(leaders_per_round: u32, validators: usize) -> Self {
        let most = u32::try_from(validators).unwrap_or(u32::MAX).max(1);
        Self { leaders_per_round: leaders_per_round.clamp(1, most) }
    }

    /// Leader slots of each round.
    #[must_use]
    pub const fn leaders_per_round(self) -> u32 {
        self.leaders_per_round
    }

    /// Offsets of the slots of one round.
    pub fn offsets(self) -> impl DoubleEndedIterator<Item = u32> {
        0..self.leaders_per_round
    }

    /// Where blocks that link the leader's block support it.
    #[must_use]
    pub const fn support_round(leader: Round) -> Round {
        leader + 1
    }

    /// Where a block whose parents hold a quorum of supports is a certificate.
    #[must_use]
    pub const fn certify_round(leader: Round) -> Round {
        leader + 2
    }

    /// First round whose leader can be the anchor of the slot: the one after the certificates.
    #[must_use]
    pub const fn anchor_round(leader: Round) -> Round {
        leader + 3
    }

    /// The newest leader round about which blocks of round `highest` say anything: they are its supports.
    #[must_use]
    pub const fn newest_leader_round(highest: Round) -> Round {
        highest.saturating_sub(1)
    }

    /// The last slot of a round. That of an epoch's start round, which nobody leads, is the cursor to begin the epoch with.
    #[must_use]
    pub const fn last_slot(self, round: Round) -> Slot {
        Slot { round, offset: self.leaders_per_round - 1 }
    }

    /// The slot that is decided after `last`.
    #[must_use]
    pub const fn next(self, last: Slot) -> Slot {
        if last.offset + 1 < self.leaders_per_round {
            Slot { round: last.round, offset: last.offset + 1 }
        } else {
            Slot { round: last.round + 1, offset: 0 }
        }
    }

    /// Slots from `first` up to and including the last one of `newest_round`, oldest first.
    pub fn slots(self, first: Slot, newest_round: Round) -> impl Iterator<Item = Slot> {
        std::iter::successors(Some(first), move |slot| Some(self.next(*slot))).take_while(move |slot| slot.round <= newest_round)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_run_through_the_offsets_of_a_round_before_the_next_round() {
        let wave = Wave::new(2, 4);
        let slots: Vec<String> = wave.slots(wave.next(Slot { round: 3, offset: 0 }), 5).map(|s| s.to_string()).collect();
        assert_eq!(slots, ["3/1", "4/0", "4/1", "5/0", "5/1"]);
        assert_eq!(wave.next(wave.last_slot(0)), Slot { round: 1, offset: 0 });
    }

    #[test]
    fn there_are_never_more_leaders_than_validators_and_never_none() {
        assert_eq!(Wave::new(9, 4).leaders_per_round(), 4);
        assert_eq!(Wave::new(0, 4).leaders_per_round(), 1);
    }
}
