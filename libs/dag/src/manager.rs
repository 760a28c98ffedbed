//! The block DAG of one epoch: accepts blocks in causal order, holds back those whose parents are missing.

use crate::suspension::Suspension;
use kaldrix_types::{BlockRef, Committee, Round, ValidatorIndex, VerifiedBlock};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bounds of a [`BlockManager`]. Those per author hold for each author by itself, so that one cannot crowd out another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rounds that a block may be above the highest accepted one. Default 500.
    pub rounds_ahead_max: u64,
    /// Suspended blocks per author. Default 512.
    pub suspended_max: usize,
    /// Bytes of suspended blocks per author, roughly as encoded. Default 32 MiB.
    pub suspended_bytes_max: usize,
    /// Parents, per author, that its suspended blocks were the first to wait for. Default 8,192.
    pub missing_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rounds_ahead_max: 500, suspended_max: 512, suspended_bytes_max: 32 * 1024 * 1024, missing_max: 8_192 }
    }
}

/// Different blocks by one author in one round that are kept unasked: two are proof enough. More are taken only when another block names
/// them as a parent, because other validators may have built on another pair than we know.
const VARIANTS_MAX: usize = 2;

/// Why a block was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Already accepted or suspended.
    #[error("the block is known already: nothing to do")]
    Duplicate,
    /// At or below the garbage-collection round: it can be part of no commit any more.
    #[error("round {round} is at or below the garbage-collection round {gc_round}: drop the block")]
    BelowGc {
        /// The block's round.
        round: Round,
        /// Where garbage collection stands.
        gc_round: Round,
    },
    /// Too far above what is accepted here.
    #[error("round {round} is more than the limit above round {highest}, the highest accepted: synchronise a range first")]
    TooFarAhead {
        /// The block's round.
        round: Round,
        /// The highest accepted round.
        highest: Round,
    },
    /// Verified against another committee than this manager's.
    #[error("the block is of another epoch or its author is unknown: hand it to that epoch's manager")]
    OtherEpoch,
    /// A parent at the epoch's start round that is not one of its genesis blocks.
    #[error("a parent claims to be a genesis block and is none: refuse the block's author")]
    WrongGenesis,
    /// The timestamp is before a parent's. Suspended blocks built on this one are forgotten with it.
    #[error("the timestamp is before a parent's: refuse the block's author")]
    TimestampBeforeParent,
    /// The author's quota of suspended blocks, bytes or missing parents is used up by blocks of lower rounds.
    #[error("too many blocks by this author wait for parents: fetch those first, then ask for this block again")]
    TooManySuspended,
    /// A third or later block by one author in one round that no other block names.
    #[error("the author has made more blocks in this round than are kept: two prove the equivocation")]
    TooManyVariants,
}

impl Refused {
    /// Whether no correct validator would have made this block. The others happen when we or the network lag.
    #[must_use]
    pub const fn is_peer_fault(&self) -> bool {
        match self {
            Self::WrongGenesis | Self::TimestampBeforeParent | Self::TooManyVariants => true,
            Self::Duplicate | Self::BelowGc { .. } | Self::TooFarAhead { .. } | Self::OtherEpoch | Self::TooManySuspended => false,
        }
    }
}

/// What taking in a block led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Blocks that are part of the DAG from now on, parents before children: the new one and those that waited for it.
    pub accepted: Vec<Arc<VerifiedBlock>>,
    /// Ancestors that are missing from now on and should be fetched.
    pub missing: Vec<BlockRef>,
    /// Two different blocks by one author in one round, the first accepted one first; reported once per author and round.
    pub equivocations: Vec<(BlockRef, BlockRef)>,
    /// Suspended blocks that turned out to be invalid (timestamp before a parent's), with everything built on them: forgotten.
    pub refused: Vec<BlockRef>,
}

/// What moving the garbage-collection round led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Accepted blocks that left the DAG, by round and author. Own blocks among them that no commit holds were cut: requeue their transactions.
    pub dropped: Vec<Arc<VerifiedBlock>>,
    /// Suspended blocks that were accepted because what they waited for is collected.
    pub outcome: Accepted,
}

/// The blocks of one epoch above the garbage-collection round.
///
/// Invariant: every parent of an accepted block is accepted, collected (at or below the garbage-collection round), or genesis.
#[derive(Debug)]
pub struct BlockManager {
    committee: Arc<Committee>,
    limits: Limits,
    genesis: Vec<BlockRef>,
    gc_round: Round,
    /// Accepted blocks; more than one in a slot is an equivocation, in order of acceptance.
    slots: BTreeMap<(Round, ValidatorIndex), Vec<Arc<VerifiedBlock>>>,
    accepted_count: usize,
    highest: Vec<Round>,
    suspension: Suspension,
}

impl BlockManager {
    /// A DAG that holds the genesis blocks of `committee` only.
    #[must_use]
    pub fn new(committee: Arc<Committee>, limits: Limits) -> Self {
        let genesis = committee.genesis_blocks();
        let highest = vec![0; committee.size()];
        let suspension = Suspension::new(&committee);
        let gc_round = committee.start_round();
        Self { committee, limits, genesis, gc_round, slots: BTreeMap::new(), accepted_count: 0, highest, suspension }
    }

    /// Takes back a block from the validator's own store, unchecked: blocks come in the order in which they were accepted, after
    /// [`Self::collect`] was told where garbage collection stands and before the first [`Self::add`].
    pub fn recover(&mut self, block: Arc<VerifiedBlock>) {
        let reference = block.reference();
        if reference.round > self.gc_round && reference.author.as_usize() < self.highest.len() && !self.contains(&reference) {
            self.insert(block, &mut Accepted::default());
        }
    }

    /// Takes in a verified block: accepts it with everything that waited for it, or suspends it until its parents are there.
    ///
    /// # Errors
    /// [`Refused`]; the DAG is unchanged, except that suspended blocks may give way (see [`Refused::TimestampBeforeParent`] and
    /// [`Limits::suspended_max`]).
    pub fn add(&mut self, block: Arc<VerifiedBlock>) -> Result<Accepted, Refused> {
        self.check(&block)?;
        let mut outcome = Accepted::default();
        let unresolved: Vec<BlockRef> = block.header().parents.iter().filter(|p| !self.is_resolved(p)).copied().collect();
        if !unresolved.is_empty() {
            outcome.missing = self.suspension.suspend(block, &unresolved, &self.limits)?;
            return Ok(outcome);
        }
        if !self.timestamp_holds(&block) {
            self.suspension.drop_dependents(&block.reference());
            return Err(Refused::TimestampBeforeParent);
        }
        self.accept_all(vec![block], &mut outcome);
        Ok(outcome)
    }

    fn check(&self, block: &VerifiedBlock) -> Result<(), Refused> {
        let reference = block.reference();
        let BlockRef { round, author, .. } = reference;
        if block.header().epoch != self.committee.epoch() || self.committee.get(author).is_none() {
            return Err(Refused::OtherEpoch);
        }
        if round <= self.gc_round {
            return Err(Refused::BelowGc { round, gc_round: self.gc_round });
        }
        if self.contains(&reference) || self.suspension.contains(&reference) {
            return Err(Refused::Duplicate);
        }
        let highest = self.highest_round();
        if round > highest.saturating_add(self.limits.rounds_ahead_max) {
            return Err(Refused::TooFarAhead { round, highest });
        }
        let start_round = self.committee.start_round();
        if block.header().parents.iter().any(|p| p.round == start_round && self.genesis.get(p.author.as_usize()) != Some(p)) {
            return Err(Refused::WrongGenesis);
        }
        let variants = self.slots.get(&(round, author)).map_or(0, Vec::len) + self.suspension.count_at(round, author);
        if variants >= VARIANTS_MAX && !self.suspension.is_wanted(&reference) {
            return Err(Refused::TooManyVariants);
        }
        Ok(())
    }

    fn is_resolved(&self, parent: &BlockRef) -> bool {
        parent.round <= self.gc_round || self.contains(parent)
    }

    /// Parents that are collected have no timestamp here any more; they were checked by those who had them.
    fn timestamp_holds(&self, block: &VerifiedBlock) -> bool {
        let header = block.header();
        header.parents.iter().filter_map(|p| self.get(p)).all(|p| p.header().timestamp_ms <= header.timestamp_ms)
    }

    /// Accepts blocks whose parents are all resolved, and whatever waited for them; lowest rounds first, hence in causal order.
    fn accept_all(&mut self, blocks: Vec<Arc<VerifiedBlock>>, outcome: &mut Accepted) {
        let mut ready: BTreeMap<BlockRef, Arc<VerifiedBlock>> = blocks.into_iter().map(|b| (b.reference(), b)).collect();
        while let Some((reference, block)) = ready.pop_first() {
            if !self.timestamp_holds(&block) {
                outcome.refused.push(reference);
                outcome.refused.extend(self.suspension.drop_dependents(&reference));
                continue;
            }
            self.insert(block, outcome);
            ready.extend(self.suspension.resolve(&reference).into_iter().map(|b| (b.reference(), b)));
        }
    }

    fn insert(&mut self, block: Arc<VerifiedBlock>, outcome: &mut Accepted) {
        let reference = block.reference();
        let slot = self.slots.entry((reference.round, reference.author)).or_default();
        slot.push(block.clone());
        if slot.len() == 2 {
            outcome.equivocations.push((slot[0].reference(), reference));
        }
        self.accepted_count += 1;
        let highest = &mut self.highest[reference.author.as_usize()];
        *highest = reference.round.max(*highest);
        outcome.accepted.push(block);
    }

    /// Moves the garbage-collection round up to `gc_round`; a lower one than before changes nothing. Drops the blocks at or below it and
    /// accepts those that waited only for such.
    pub fn collect(&mut self, gc_round: Round) -> Collected {
        let mut collected = Collected::default();
        if gc_round <= self.gc_round {
            return collected;
        }
        self.gc_round = gc_round;
        let kept = self.slots.split_off(&(gc_round + 1, ValidatorIndex(0)));
        collected.dropped = std::mem::replace(&mut self.slots, kept).into_values().flatten().collect();
        self.accepted_count -= collected.dropped.len();
        let free = self.suspension.collect(gc_round);
        self.accept_all(free, &mut collected.outcome);
        collected
    }

    /// Ancestors of suspended blocks that are still missing, lowest round first.
    pub fn missing(&self) -> impl Iterator<Item = BlockRef> + '_ {
        self.suspension.missing()
    }

    /// The suspended blocks that name `reference` as a parent; their authors, and whoever sent them, should have it.
    pub fn wanted_by(&self, reference: &BlockRef) -> impl Iterator<Item = BlockRef> + '_ {
        self.suspension.wanted_by(reference)
    }

    /// Whether the block is accepted, or genesis. Collected blocks are not contained.
    #[must_use]
    pub fn contains(&self, reference: &BlockRef) -> bool {
        if reference.round == self.committee.start_round() {
            self.genesis.get(reference.author.as_usize()) == Some(reference)
        } else {
            self.get(reference).is_some()
        }
    }

    /// Whether the block is here but waits for its parents.
    #[must_use]
    pub fn is_suspended(&self, reference: &BlockRef) -> bool {
        self.suspension.contains(reference)
    }

    /// The accepted block of this name. Genesis blocks have no content and are not found.
    #[must_use]
    pub fn get(&self, reference: &BlockRef) -> Option<&Arc<VerifiedBlock>> {
        let slot = self.slots.get(&(reference.round, reference.author))?;
        slot.iter().find(|b| b.reference() == *reference)
    }

    /// The accepted blocks of a round, by author, equivocations in order of acceptance.
    pub fn blocks_at(&self, round: Round) -> impl Iterator<Item = &Arc<VerifiedBlock>> + '_ {
        self.slots.range((round, ValidatorIndex(0))..=(round, ValidatorIndex(u16::MAX))).flat_map(|(_, slot)| slot)
    }

    /// All accepted blocks of rounds above `round`, by round and author: what a peer that knows the DAG up to there lacks.
    pub fn blocks_above(&self, round: Round) -> impl Iterator<Item = &Arc<VerifiedBlock>> + '_ {
        self.slots.range((round.saturating_add(1), ValidatorIndex(0))..).flat_map(|(_, slot)| slot)
    }

    /// The block by `author` in `round` that was accepted first: the one of two equivocating blocks to build on.
    #[must_use]
    pub fn first_at(&self, round: Round, author: ValidatorIndex) -> Option<&Arc<VerifiedBlock>> {
        self.slots.get(&(round, author))?.first()
    }

    /// The newest accepted block by `author` of a round below `round`, the first accepted one of its slot.
    #[must_use]
    pub fn newest_below(&self, author: ValidatorIndex, round: Round) -> Option<&Arc<VerifiedBlock>> {
        let highest = *self.highest.get(author.as_usize())?;
        let top = highest.min(round.checked_sub(1)?);
        // The first look succeeds unless the author left out rounds.
        (self.gc_round + 1..=top).rev().find_map(|r| self.first_at(r, author))
    }

    /// Stake of the authors that have an accepted block in `round` (all of it for the epoch's start round).
    #[must_use]
    pub fn stake_at(&self, round: Round) -> u64 {
        if round == self.committee.start_round() {
            return self.committee.total_stake();
        }
        let slots = self.slots.range((round, ValidatorIndex(0))..=(round, ValidatorIndex(u16::MAX)));
        slots.map(|((_, author), _)| self.committee.stake(*author)).sum()
    }

    /// Per author, the round of its newest block that was ever accepted; 0 for none.
    #[must_use]
    pub fn highest_accepted_rounds(&self) -> Vec<Round> {
        self.highest.clone()
    }

    /// The highest round of any accepted block, at least the garbage-collection round.
    #[must_use]
    pub fn highest_round(&self) -> Round {
        self.highest.iter().copied().max().unwrap_or(0).max(self.gc_round)
    }

    /// The highest round of any suspended block: how far ahead of us the others seem to be.
    #[must_use]
    pub fn highest_suspended_round(&self) -> Option<Round> {
        self.suspension.newest_round()
    }

    /// Where garbage collection stands; the epoch's start round in the beginning.
    #[must_use]
    pub const fn gc_round(&self) -> Round {
        self.gc_round
    }

    /// The committee of this epoch.
    #[must_use]
    pub const fn committee(&self) -> &Arc<Committee> {
        &self.committee
    }

    /// Number of accepted blocks held.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.accepted_count
    }

    /// Whether nothing but genesis is accepted.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.accepted_count == 0
    }

    /// Number of suspended blocks.
    #[must_use]
    pub fn suspended_len(&self) -> usize {
        self.suspension.len()
    }

    /// Bytes of suspended blocks, roughly as encoded.
    #[must_use]
    pub fn suspended_bytes(&self) -> usize {
        self.suspension.bytes()
    }
}
