//! Counting stake per author.

use kaldrix_types::{Committee, ValidatorIndex};

/// A sum of stake in which every author counts once, however many blocks it made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StakeTally {
    seen: Vec<u64>,
    stake: u64,
}

impl StakeTally {
    /// Nobody counted yet.
    pub const EMPTY: Self = Self { seen: Vec::new(), stake: 0 };

    /// Counts `author` unless it was counted before; returns whether it was new. Authors outside the committee have no stake.
    pub fn add(&mut self, committee: &Committee, author: ValidatorIndex) -> bool {
        let stake = committee.stake(author);
        if stake == 0 {
            return false;
        }
        let (word, bit) = (author.as_usize() / 64, 1u64 << (author.as_usize() % 64));
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit != 0 {
            return false;
        }
        self.seen[word] |= bit;
        self.stake += stake;
        true
    }

    /// The sum.
    #[must_use]
    pub const fn stake(&self) -> u64 {
        self.stake
    }

    /// Whether the sum is a quorum of `committee`.
    #[must_use]
    pub const fn is_quorum(&self, committee: &Committee) -> bool {
        self.stake >= committee.quorum()
    }
}
