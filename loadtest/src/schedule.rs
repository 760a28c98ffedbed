//! When each transaction is due, and whose it is. Pure arithmetic.

use std::time::Duration;

/// `count` transactions at `rate` per second, sent by `accounts` in turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// Per second.
    pub(crate) rate: u64,
    /// All of them.
    pub(crate) count: u64,
    /// Senders.
    pub(crate) accounts: u64,
}

impl Schedule {
    /// When transaction `i` is due, from the start.
    pub(crate) fn due(&self, i: u64) -> Duration {
        let nanos = u128::from(i) * 1_000_000_000 / u128::from(self.rate);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many are due after `elapsed`: the transactions 0 to this, exclusive.
    pub(crate) fn due_count(&self, elapsed: Duration) -> u64 {
        let due = elapsed.as_nanos() * u128::from(self.rate) / 1_000_000_000 + 1;
        u64::try_from(due).unwrap_or(u64::MAX).min(self.count)
    }

    /// Who sends transaction `i`, and which of its own transactions that is.
    pub(crate) const fn sender(&self, i: u64) -> (usize, u64) {
        ((i % self.accounts) as usize, i / self.accounts)
    }

    /// Who receives transaction `i`: another account each round, never the sender.
    pub(crate) const fn recipient(&self, i: u64) -> usize {
        let (sender, round) = self.sender(i);
        ((sender as u64 + 1 + round % (self.accounts - 1)) % self.accounts) as usize
    }

    /// How many transactions each account sends at most.
    pub(crate) const fn per_account(&self) -> u64 {
        self.count.div_ceil(self.accounts)
    }

    /// From the first due time to the end of the last one's slot.
    pub(crate) fn length(&self) -> Duration {
        self.due(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule = Schedule { rate: 3, count: 10, accounts: 4 };

    #[test]
    fn what_is_due_follows_the_clock_and_nothing_else() {
        assert_eq!(SCHEDULE.due(0), Duration::ZERO);
        assert_eq!(SCHEDULE.due(3), Duration::from_secs(1));
        assert_eq!(SCHEDULE.due_count(Duration::ZERO), 1);
        assert_eq!(SCHEDULE.due_count(Duration::from_millis(334)), 2);
        assert_eq!(SCHEDULE.due_count(Duration::from_secs(3600)), 10);
        for i in 0..10 {
            assert!(SCHEDULE.due_count(SCHEDULE.due(i) + Duration::from_nanos(1)) > i, "{i} is due at its own time");
        }
    }

    #[test]
    fn every_account_sends_its_own_numbers_in_order_and_never_to_itself() {
        let mut next = [0; 4];
        for i in 0..SCHEDULE.count {
            let (sender, number) = SCHEDULE.sender(i);
            assert_eq!(number, next[sender]);
            next[sender] += 1;
            assert_ne!(SCHEDULE.recipient(i), sender);
            assert!(number < SCHEDULE.per_account());
        }
    }

    #[test]
    fn a_day_at_the_highest_rate_does_not_overflow() {
        let schedule = Schedule { rate: 100_000, count: u64::MAX, accounts: 2 };
        assert_eq!(schedule.due(100_000 * 86_400), Duration::from_secs(86_400));
    }
}
