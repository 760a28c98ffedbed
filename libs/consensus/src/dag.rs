//! The DAG as consensus sees it: headers above the garbage-collection round, by round.

use crate::stake::StakeTally;
use kaldrix_types::{BlockRef, Committee, Digest, Epoch, Header, Round, ValidatorIndex};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many rounds above the highest known one a header may be. Headers come parents first, so more means a mistake.
pub const ROUNDS_AHEAD_MAX: Round = 1_000;

/// Why a header is not taken. The caller verified the block and delivers causally, so none of these is a peer's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// More than [`ROUNDS_AHEAD_MAX`] rounds above everything known.
    #[error("round {round} is too far above {highest}, the highest known: fetch the rounds between first")]
    TooFarAhead {
        /// The header's.
        round: Round,
        /// The highest known.
        highest: Round,
    },
    /// A parent above the garbage-collection round was not delivered before.
    #[error("parent {0} was not delivered: deliver headers parents first, from the garbage-collection round on")]
    MissingParent(BlockRef),
    /// Of another epoch than the committee.
    #[error("the header is of epoch {0}: headers of the committee's epoch only")]
    OtherEpoch(Epoch),
    /// Nobody of this committee.
    #[error("author {0} is not in the committee: headers of one epoch only")]
    UnknownAuthor(ValidatorIndex),
}

#[derive(Clone, Debug)]
struct Entry {
    header: Arc<Header>,
    committed: bool,
}

#[derive(Clone, Debug, Default)]
struct RoundBlocks {
    blocks: BTreeMap<(ValidatorIndex, Digest), Entry>,
    /// The same in order of arrival: who has seen the first k of them only has to look at the rest.
    arrivals: Vec<BlockRef>,
    tally: StakeTally,
}

/// Headers by round. Two different blocks by one author in one round are both kept; stake is counted per author.
///
/// What grows it: the caller, one verified header at a time. What shrinks it: [`HeaderDag::collect`].
#[derive(Clone, Debug)]
pub struct HeaderDag {
    committee: Arc<Committee>,
    rounds: BTreeMap<Round, RoundBlocks>,
    gc_round: Round,
    headers: usize,
    uncommitted: usize,
    uncommitted_with_transactions: usize,
}

impl HeaderDag {
    /// An empty DAG whose blocks at or below `gc_round` are taken as known and gone. That is at least the epoch's start round: the blocks
    /// there have no content.
    #[must_use]
    pub fn new(committee: Arc<Committee>, gc_round: Round) -> Self {
        let gc_round = gc_round.max(committee.start_round());
        Self { committee, rounds: BTreeMap::new(), gc_round, headers: 0, uncommitted: 0, uncommitted_with_transactions: 0 }
    }

    /// Adds a header; `false` when it is known already or at or below the garbage-collection round (both harmless).
    ///
    /// # Errors
    /// [`Refusal`]; the DAG is then as before.
    pub fn insert(&mut self, reference: BlockRef, header: Arc<Header>, committed: bool) -> Result<bool, Refusal> {
        if reference.round <= self.gc_round || self.contains(&reference) {
            return Ok(false);
        }
        if header.epoch != self.committee.epoch() {
            return Err(Refusal::OtherEpoch(header.epoch));
        }
        if self.committee.get(reference.author).is_none() {
            return Err(Refusal::UnknownAuthor(reference.author));
        }
        let highest = self.highest_round();
        if reference.round > highest + ROUNDS_AHEAD_MAX {
            return Err(Refusal::TooFarAhead { round: reference.round, highest });
        }
        if let Some(parent) = header.parents.iter().find(|p| p.round > self.gc_round && !self.contains(p)) {
            return Err(Refusal::MissingParent(*parent));
        }
        self.headers += 1;
        if !committed {
            self.uncommitted += 1;
            self.uncommitted_with_transactions += usize::from(header.transaction_count > 0);
        }
        let round = self.rounds.entry(reference.round).or_default();
        round.tally.add(&self.committee, reference.author);
        round.arrivals.push(reference);
        round.blocks.insert((reference.author, reference.digest), Entry { header, committed });
        Ok(true)
    }

    /// The committee whose stake is counted.
    #[must_use]
    pub const fn committee(&self) -> &Arc<Committee> {
        &self.committee
    }

    fn entry(&self, reference: &BlockRef) -> Option<&Entry> {
        self.rounds.get(&reference.round)?.blocks.get(&(reference.author, reference.digest))
    }

    /// Whether the header is here.
    #[must_use]
    pub fn contains(&self, reference: &BlockRef) -> bool {
        self.entry(reference).is_some()
    }

    /// The header, if it is here.
    #[must_use]
    pub fn get(&self, reference: &BlockRef) -> Option<&Arc<Header>> {
        self.entry(reference).map(|e| &e.header)
    }

    /// Whether the block is part of a commit. `false` for blocks that are not here.
    #[must_use]
    pub fn is_committed(&self, reference: &BlockRef) -> bool {
        self.entry(reference).is_some_and(|e| e.committed)
    }

    /// Marks a block as part of a commit; returns whether it is here and was not before.
    pub fn mark_committed(&mut self, reference: &BlockRef) -> bool {
        let entry = self.rounds.get_mut(&reference.round).and_then(|r| r.blocks.get_mut(&(reference.author, reference.digest)));
        let Some(entry) = entry.filter(|e| !e.committed) else {
            return false;
        };
        entry.committed = true;
        self.uncommitted -= 1;
        self.uncommitted_with_transactions -= usize::from(entry.header.transaction_count > 0);
        true
    }

    /// Blocks of a round in the order they came.
    #[must_use]
    pub fn arrivals(&self, round: Round) -> &[BlockRef] {
        self.rounds.get(&round).map_or(&[], |r| &r.arrivals)
    }

    /// All blocks of one author in one round, by digest: more than one is an equivocation.
    pub fn blocks_by(&self, round: Round, author: ValidatorIndex) -> impl Iterator<Item = BlockRef> {
        let range = (author, Digest([0; 32]))..=(author, Digest([0xff; 32]));
        let found = self.rounds.get(&round).map(|r| r.blocks.range(range));
        found.into_iter().flatten().map(move |((author, digest), _)| BlockRef { round, author: *author, digest: *digest })
    }

    /// Stake of the authors that have a block in `round`.
    #[must_use]
    pub fn stake_at(&self, round: Round) -> u64 {
        self.rounds.get(&round).map_or(0, |r| r.tally.stake())
    }

    /// The highest round with a block; the garbage-collection round when there is none.
    #[must_use]
    pub fn highest_round(&self) -> Round {
        self.rounds.last_key_value().map_or(self.gc_round, |(round, _)| *round)
    }

    /// Blocks at or below this round are gone.
    #[must_use]
    pub const fn gc_round(&self) -> Round {
        self.gc_round
    }

    /// Forgets everything at or below `gc_round`; never goes back.
    pub fn collect(&mut self, gc_round: Round) {
        if gc_round <= self.gc_round {
            return;
        }
        self.gc_round = gc_round;
        let kept = self.rounds.split_off(&(gc_round + 1));
        for entry in std::mem::replace(&mut self.rounds, kept).values().flat_map(|r| r.blocks.values()) {
            self.headers -= 1;
            if !entry.committed {
                self.uncommitted -= 1;
                self.uncommitted_with_transactions -= usize::from(entry.header.transaction_count > 0);
            }
        }
    }

    /// How many headers are here.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.headers
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.headers == 0
    }

    /// How many of them are in no commit yet.
    #[must_use]
    pub const fn uncommitted(&self) -> usize {
        self.uncommitted
    }

    /// How many of those have transactions: something to order.
    #[must_use]
    pub const fn uncommitted_with_transactions(&self) -> usize {
        self.uncommitted_with_transactions
    }
}
