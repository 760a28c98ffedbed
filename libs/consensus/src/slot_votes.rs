//! What the blocks of a wave say about one leader slot, counted as they come.

use crate::dag::HeaderDag;
use crate::stake::StakeTally;
use crate::wave::{Slot, Wave};
use kaldrix_types::{BlockRef, ValidatorIndex};
use std::collections::BTreeMap;

/// The votes on one slot. Everything in here only grows with the DAG and depends on nothing but the DAG, so that it is a cache that
/// nobody can observe: each header of the two voting rounds is looked at once, in O(parents).
#[derive(Clone, Debug)]
pub(crate) struct SlotVotes {
    slot: Slot,
    pub(crate) leader: ValidatorIndex,
    /// How many arrivals of the support and of the certify round are counted.
    counted: [usize; 2],
    /// Which block of the slot a block at the support round has as parent.
    supports: BTreeMap<BlockRef, BlockRef>,
    /// Authors with a block at the support round that supports no block of the slot.
    against: StakeTally,
    /// Certificates, and the block each is for.
    certificates: BTreeMap<BlockRef, BlockRef>,
    /// Authors of certificates, by the block they are for.
    certified: BTreeMap<BlockRef, StakeTally>,
}

impl SlotVotes {
    pub(crate) const fn new(slot: Slot, leader: ValidatorIndex) -> Self {
        Self {
            slot,
            leader,
            counted: [0; 2],
            supports: BTreeMap::new(),
            against: StakeTally::EMPTY,
            certificates: BTreeMap::new(),
            certified: BTreeMap::new(),
        }
    }

    /// Counts what came since the last time. Supports go first: a certificate's parents came before it.
    pub(crate) fn catch_up(&mut self, dag: &HeaderDag) {
        let supporters = dag.arrivals(Wave::support_round(self.slot.round));
        for block in supporters.iter().skip(self.counted[0]) {
            self.count_support(dag, *block);
        }
        let certifiers = dag.arrivals(Wave::certify_round(self.slot.round));
        for block in certifiers.iter().skip(self.counted[1]) {
            self.count_certificate(dag, *block);
        }
        self.counted = [supporters.len(), certifiers.len()];
    }

    fn count_support(&mut self, dag: &HeaderDag, block: BlockRef) {
        let Some(header) = dag.get(&block) else { return };
        match header.parents.iter().find(|p| p.round == self.slot.round && p.author == self.leader) {
            Some(leader) => {
                self.supports.insert(block, *leader);
            }
            None => {
                self.against.add(dag.committee(), block.author);
            }
        }
    }

    fn count_certificate(&mut self, dag: &HeaderDag, block: BlockRef) {
        let Some(header) = dag.get(&block) else { return };
        // A block has at most one parent per author, but the blocks of an equivocating leader share out the supports.
        let mut supports: BTreeMap<BlockRef, StakeTally> = BTreeMap::new();
        for parent in header.strong_parents() {
            if let Some(leader) = self.supports.get(parent) {
                supports.entry(*leader).or_default().add(dag.committee(), parent.author);
            }
        }
        if let Some((leader, _)) = supports.iter().find(|(_, tally)| tally.is_quorum(dag.committee())) {
            self.certificates.insert(block, *leader);
            self.certified.entry(*leader).or_default().add(dag.committee(), block.author);
        }
    }

    /// Whether a quorum at the support round supports no block of the slot.
    pub(crate) fn is_skipped(&self, dag: &HeaderDag) -> bool {
        self.against.is_quorum(dag.committee())
    }

    /// The block of which a quorum at the certify round are certificates.
    pub(crate) fn committed(&self, dag: &HeaderDag) -> Option<BlockRef> {
        self.certified.iter().find(|(_, tally)| tally.is_quorum(dag.committee())).map(|(leader, _)| *leader)
    }

    /// Certificates and the leader block each is for, by reference.
    pub(crate) const fn certificates(&self) -> &BTreeMap<BlockRef, BlockRef> {
        &self.certificates
    }
}
