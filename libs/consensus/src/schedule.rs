//! Who leads which round.

use kaldrix_types::{Committee, Epoch, Round, ValidatorIndex};
use std::fmt;
use std::sync::Arc;

/// A leader schedule. It is a pure function: every validator of the epoch gets the same answer, always. Reputation (HammerHead, Tsimos et
/// al. 2023) is a wrapper, [`crate::SwappedLeaders`], that swaps some of another schedule's answers.
pub trait Leaders: Send + Sync + fmt::Debug {
    /// The leader of slot `offset` of `round`. Offsets below the committee's size give distinct leaders within one round.
    fn leader(&self, round: Round, offset: u32) -> ValidatorIndex;
}

impl<L: Leaders + ?Sized> Leaders for Arc<L> {
    fn leader(&self, round: Round, offset: u32) -> ValidatorIndex {
        (**self).leader(round, offset)
    }
}

/// Leader = (round + offset) mod n: for pictures and decision vectors.
#[derive(Clone, Copy, Debug)]
pub struct RoundRobin {
    validators: u64,
}

impl RoundRobin {
    /// A schedule over this many validators (at least one).
    #[must_use]
    pub fn new(validators: usize) -> Self {
        Self { validators: (validators as u64).max(1) }
    }
}

impl Leaders for RoundRobin {
    fn leader(&self, round: Round, offset: u32) -> ValidatorIndex {
        let index = (round % self.validators + u64::from(offset)) % self.validators;
        ValidatorIndex(u16::try_from(index).unwrap_or(u16::MAX))
    }
}

/// Stake-weighted leaders, seeded by epoch and round.
///
/// Equal stakes: rounds 1..=n, n+1..=2n, … are windows, and within one every validator leads exactly once (a seeded Fisher-Yates
/// shuffle; further offsets follow in the window's order). Waiting for one's turn is then bounded, which an independent draw does not give.
/// Unequal stakes: every round draws its leaders by stake, without replacement, independently of other rounds.
///
/// The random numbers are SplitMix64 (Steele, Lea, Flood 2014) over (epoch, window or round). The order is public anyway, so nothing
/// stronger is needed.
#[derive(Clone, Debug)]
pub struct StakeSchedule {
    epoch: Epoch,
    stakes: Vec<u64>,
    equal: bool,
}

impl StakeSchedule {
    /// The schedule of `committee`'s epoch.
    #[must_use]
    pub fn new(committee: &Committee) -> Self {
        let stakes: Vec<u64> = committee.validators().iter().map(|v| v.stake).collect();
        Self { epoch: committee.epoch(), equal: stakes.iter().all(|s| *s == stakes[0]), stakes }
    }

    fn shuffled(&self, round: Round, offset: u32) -> usize {
        let n = self.stakes.len() as u64;
        let turn = round.saturating_sub(1);
        let mut random = SplitMix64::seeded(self.epoch, turn / n);
        let mut order: Vec<usize> = (0..self.stakes.len()).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, random.below(last as u64 + 1) as usize);
        }
        order[((turn % n + u64::from(offset)) % n) as usize]
    }

    fn drawn(&self, round: Round, offset: u32) -> usize {
        let mut random = SplitMix64::seeded(self.epoch, round);
        let mut left = self.stakes.clone();
        let mut total: u64 = left.iter().sum();
        let mut chosen = 0;
        // Offsets beyond the committee wrap round, as they do in the other schedules.
        for _ in 0..=u64::from(offset) % left.len() as u64 {
            let mut ticket = random.below(total);
            chosen = left.iter().position(|stake| take(&mut ticket, *stake)).unwrap_or(0);
            total -= std::mem::take(&mut left[chosen]);
        }
        chosen
    }
}

/// Whether `ticket` falls into `stake`; moves it on to the next validator's share if not.
fn take(ticket: &mut u64, stake: u64) -> bool {
    if *ticket < stake {
        return true;
    }
    *ticket -= stake;
    false
}

impl Leaders for StakeSchedule {
    fn leader(&self, round: Round, offset: u32) -> ValidatorIndex {
        let index = if self.equal { self.shuffled(round, offset) } else { self.drawn(round, offset) };
        ValidatorIndex(u16::try_from(index).unwrap_or(u16::MAX))
    }
}

/// SplitMix64: 64 bits of state, every output a bijection of the counter.
pub(crate) struct SplitMix64(u64);

impl SplitMix64 {
    const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

    /// Mixes both numbers in turn, so that neighbouring rounds and epochs share nothing.
    pub(crate) fn seeded(epoch: Epoch, number: u64) -> Self {
        let mut outer = Self(epoch);
        let inner = outer.next() ^ number;
        Self(Self(inner).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(Self::GAMMA);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound` by multiplication; the bias is at most bound / 2^64, and every validator has the same.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kaldrix_testkit::dag::committee;
    use std::collections::BTreeSet;

    #[test]
    fn with_equal_stakes_every_validator_leads_once_in_each_window() {
        let schedule = StakeSchedule::new(&committee(&[7; 10]));
        for window in 0..20u64 {
            let leaders: BTreeSet<_> = (1..=10).map(|turn| schedule.leader(window * 10 + turn, 0)).collect();
            assert_eq!(leaders.len(), 10);
        }
        let orders: BTreeSet<Vec<_>> = (0..20u64).map(|w| (1..=10).map(|t| schedule.leader(w * 10 + t, 0)).collect()).collect();
        assert!(orders.len() > 15, "windows are shuffled differently");
    }

    #[test]
    fn with_unequal_stakes_leading_is_proportional_to_stake() {
        let schedule = StakeSchedule::new(&committee(&[50, 30, 15, 5]));
        let mut led = [0u32; 4];
        for round in 1..=20_000 {
            led[schedule.leader(round, 0).as_usize()] += 1;
        }
        for (led, share) in led.iter().zip([0.50, 0.30, 0.15, 0.05]) {
            let found = f64::from(*led) / 20_000.0;
            assert!((found - share).abs() < 0.012, "{found} for {share}");
        }
    }

    #[test]
    fn the_leaders_of_one_round_are_distinct() {
        for stakes in [[1, 1, 1, 1, 1], [5, 4, 3, 2, 1]] {
            let schedule = StakeSchedule::new(&committee(&stakes));
            for round in 1..200 {
                let leaders: BTreeSet<_> = (0..5).map(|offset| schedule.leader(round, offset)).collect();
                assert_eq!(leaders.len(), 5);
            }
        }
    }
}
