//! How a validator that remembers no own block finds out above which round it may propose.
//!
//! It may have signed blocks that it does not remember, and that reached nobody who answers. But it signed round r + 1 only on top of a
//! quorum of blocks at round r. Peers that make a quorum together with it share a correct validator with that quorum (one that lost its
//! memory is itself among the tolerated faults), and that peer's own newest block is of round r at least.
//!
//! A claim counts only when the peer's block is accepted here, with all its ancestors: then no lie keeps this validator out.

use crate::manager::BlockManager;
use kaldrix_types::{BlockRef, Round, ValidatorIndex};
use std::collections::BTreeSet;

/// What one peer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejoinAnswer {
    /// Who says it.
    pub peer: ValidatorIndex,
    /// Round of the newest block by the asker that it showed; 0 for none. Its signature holds.
    pub own_round: Round,
    /// Its own newest block; `None` when it has made none in this epoch. One that shows a block of another epoch has not answered.
    pub newest: Option<BlockRef>,
}

/// The round above which `own` may propose; `None` while too few answers are backed by accepted blocks.
///
/// In the first round of an epoch nobody needs a quorum below, so that peers' blocks of that round say nothing. In epoch 0 it is left to
/// them who has signed in it, otherwise the first of a new network to propose would keep all others from it; in later epochs it is left
/// out, since only those that lost their memory come here.
///
/// A peer without a block says nothing either once the epoch is past its first round: it may be in the next one already.
pub(super) fn floor(dag: &BlockManager, own: ValidatorIndex, answers: &[RejoinAnswer]) -> Option<Round> {
    let committee = dag.committee();
    let first_round = committee.start_round() + 1;
    let mut floor = if committee.epoch() > 0 { first_round } else { 0 };
    let (mut peers, mut without, mut is_begun) = (BTreeSet::new(), BTreeSet::new(), false);
    for answer in answers.iter().filter(|a| a.peer != own) {
        // Only this validator can have signed these, whoever shows them.
        floor = floor.max(answer.own_round);
        let Some(newest) = answer.newest else {
            without.insert(answer.peer);
            continue;
        };
        let is_backed = newest.author == answer.peer && (newest.round <= dag.gc_round() || dag.contains(&newest));
        if is_backed {
            peers.insert(answer.peer);
            if newest.round > first_round {
                is_begun = true;
                floor = floor.max(newest.round + 1);
            }
        }
    }
    if !is_begun {
        peers.append(&mut without);
    }
    let stake: u64 = peers.iter().map(|peer| committee.stake(*peer)).sum();
    (stake >= committee.quorum().saturating_sub(committee.stake(own))).then_some(floor)
}
