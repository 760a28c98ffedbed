//! Blocks that wait for their parents, and the parents they wait for.
//!
//! Everything is charged to the author whose block causes it, so one author's flood never costs another author's blocks their place.

use crate::manager::{Limits, Refused};
use kaldrix_types::{BlockRef, Committee, Digest, Round, ValidatorIndex, VerifiedBlock};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The least reference of a round: where a range over references begins.
pub(crate) const fn first_of(round: Round) -> BlockRef {
    BlockRef { round, author: ValidatorIndex(0), digest: Digest::ZERO }
}

#[derive(Debug)]
struct Waiting {
    block: Arc<VerifiedBlock>,
    /// Distinct parents that are neither accepted nor collected.
    unresolved: usize,
}

#[derive(Debug)]
struct Want {
    /// Suspended blocks that name this one as a parent; never empty.
    children: BTreeSet<BlockRef>,
    /// The author of a child, whose quota this uses.
    charged_to: ValidatorIndex,
}

#[derive(Debug, Default)]
struct Usage {
    blocks: BTreeSet<BlockRef>,
    bytes: usize,
    wants: usize,
}

/// Invariant: a want exists exactly for each parent that some suspended block counts as unresolved.
#[derive(Debug)]
pub(crate) struct Suspension {
    blocks: BTreeMap<BlockRef, Waiting>,
    wants: BTreeMap<BlockRef, Want>,
    authors: Vec<Usage>,
}

/// Roughly the encoded size; exact enough for a bound on memory.
fn weight(block: &VerifiedBlock) -> usize {
    let header = block.header();
    let votes = header.commit_votes.len() + header.checkpoint_votes.len();
    block.block().body.len() + block.block().signature.len() + 48 * header.parents.len() + 40 * votes + 256
}

impl Suspension {
    pub(crate) fn new(committee: &Committee) -> Self {
        let authors = committee.indices().map(|_| Usage::default()).collect();
        Self { blocks: BTreeMap::new(), wants: BTreeMap::new(), authors }
    }

    pub(crate) fn contains(&self, reference: &BlockRef) -> bool {
        self.blocks.contains_key(reference)
    }

    pub(crate) fn is_wanted(&self, reference: &BlockRef) -> bool {
        self.wants.contains_key(reference)
    }

    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.authors.iter().map(|u| u.bytes).sum()
    }

    /// Suspended blocks by one author in one round.
    pub(crate) fn count_at(&self, round: Round, author: ValidatorIndex) -> usize {
        let from = BlockRef { round, author, digest: Digest::ZERO };
        self.authors[author.as_usize()].blocks.range(from..first_of(round + 1)).count()
    }

    /// Wanted blocks that are not here at all, lowest round first.
    pub(crate) fn missing(&self) -> impl Iterator<Item = BlockRef> + '_ {
        self.wants.keys().filter(|r| !self.blocks.contains_key(r)).copied()
    }

    pub(crate) fn wanted_by(&self, reference: &BlockRef) -> impl Iterator<Item = BlockRef> + '_ {
        self.wants.get(reference).into_iter().flat_map(|w| w.children.iter().copied())
    }

    pub(crate) fn newest_round(&self) -> Option<Round> {
        // A want is always older than the block that has it.
        self.blocks.last_key_value().map(|(r, _)| r.round)
    }

    /// Suspends `block` until its `unresolved` parents are there; returns the references that are missing from now on.
    ///
    /// When the author's quota is used up, its blocks of higher rounds give way: the lowest rounds are the ones that can be accepted first.
    pub(crate) fn suspend(
        &mut self,
        block: Arc<VerifiedBlock>,
        unresolved: &[BlockRef],
        limits: &Limits,
    ) -> Result<Vec<BlockRef>, Refused> {
        let reference = block.reference();
        let bytes = weight(&block);
        let mut missing = self.make_room(reference, bytes, unresolved, limits)?;
        let usage = &mut self.authors[reference.author.as_usize()];
        usage.blocks.insert(reference);
        usage.bytes += bytes;
        for parent in unresolved {
            if let Some(want) = self.wants.get_mut(parent) {
                want.children.insert(reference);
                continue;
            }
            self.wants.insert(*parent, Want { children: BTreeSet::from([reference]), charged_to: reference.author });
            self.authors[reference.author.as_usize()].wants += 1;
            if !self.blocks.contains_key(parent) {
                missing.push(*parent);
            }
        }
        self.blocks.insert(reference, Waiting { block, unresolved: unresolved.len() });
        Ok(missing)
    }

    fn make_room(&mut self, reference: BlockRef, bytes: usize, unresolved: &[BlockRef], limits: &Limits) -> Result<Vec<BlockRef>, Refused> {
        if limits.suspended_max == 0 || bytes > limits.suspended_bytes_max || unresolved.len() > limits.missing_max {
            return Err(Refused::TooManySuspended);
        }
        let mut missing_again = Vec::new();
        loop {
            let usage = &self.authors[reference.author.as_usize()];
            let new_wants = unresolved.iter().filter(|p| !self.wants.contains_key(p)).count();
            let fits = usage.blocks.len() < limits.suspended_max
                && usage.bytes + bytes <= limits.suspended_bytes_max
                && usage.wants + new_wants <= limits.missing_max;
            if fits {
                return Ok(missing_again);
            }
            match usage.blocks.last().copied() {
                Some(highest) if highest.round > reference.round => {
                    self.remove(&highest);
                    if self.wants.contains_key(&highest) {
                        missing_again.push(highest);
                    }
                }
                _ => return Err(Refused::TooManySuspended),
            }
        }
    }

    /// `parent` is accepted or collected: returns the blocks that wait for nothing any more; they are no longer suspended.
    pub(crate) fn resolve(&mut self, parent: &BlockRef) -> Vec<Arc<VerifiedBlock>> {
        let Some(want) = self.wants.remove(parent) else { return Vec::new() };
        self.authors[want.charged_to.as_usize()].wants -= 1;
        let mut free = Vec::new();
        for child in want.children {
            let waiting = self.blocks.get_mut(&child).expect("a want's children are suspended");
            waiting.unresolved -= 1;
            if waiting.unresolved == 0 {
                free.extend(self.release(&child));
            }
        }
        free
    }

    /// `parent` turned out to be invalid: forgets everything that is built on it and returns what that was.
    pub(crate) fn drop_dependents(&mut self, parent: &BlockRef) -> Vec<BlockRef> {
        let mut dropped = Vec::new();
        let mut stack = vec![*parent];
        while let Some(invalid) = stack.pop() {
            let children: Vec<BlockRef> = self.wanted_by(&invalid).collect();
            for child in children {
                self.remove(&child);
                dropped.push(child);
                stack.push(child);
            }
        }
        dropped
    }

    /// Forgets what is at or below `gc_round` and returns the blocks that thereby wait for nothing any more.
    pub(crate) fn collect(&mut self, gc_round: Round) -> Vec<Arc<VerifiedBlock>> {
        while let Some((reference, _)) = self.blocks.first_key_value()
            && reference.round <= gc_round
        {
            let reference = *reference;
            self.remove(&reference);
        }
        let mut free = Vec::new();
        while let Some((reference, _)) = self.wants.first_key_value()
            && reference.round <= gc_round
        {
            let reference = *reference;
            free.extend(self.resolve(&reference));
        }
        free
    }

    /// Takes a block out of the books but leaves wants alone.
    fn release(&mut self, reference: &BlockRef) -> Option<Arc<VerifiedBlock>> {
        let waiting = self.blocks.remove(reference)?;
        let usage = &mut self.authors[reference.author.as_usize()];
        usage.blocks.remove(reference);
        usage.bytes -= weight(&waiting.block);
        Some(waiting.block)
    }

    /// Forgets a block and what only it wanted.
    fn remove(&mut self, reference: &BlockRef) {
        let Some(block) = self.release(reference) else { return };
        for parent in &block.header().parents {
            let Some(want) = self.wants.get_mut(parent) else { continue };
            if !want.children.remove(reference) {
                continue;
            }
            let heir = want.children.first().map(|child| child.author);
            if heir.is_none() || want.charged_to == reference.author {
                self.authors[want.charged_to.as_usize()].wants -= 1;
                match heir {
                    Some(author) => {
                        want.charged_to = author;
                        self.authors[author.as_usize()].wants += 1;
                    }
                    None => drop(self.wants.remove(parent)),
                }
            }
        }
    }
}
