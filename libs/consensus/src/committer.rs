//! The commit rule: which leader slots are committed and which are skipped (PROTOCOL, "Commit rule").
//!
//! ```text
//!   for each slot, newest to oldest:
//!     q of stake at r+1 support no block of the slot ──────────────▶ direct skip
//!     q of stake at r+2 are certificates for block L ──────────────▶ direct commit L
//!     first slot at ≥ r+3 that is not skipped: undecided ──────────▶ undecided
//!                                              committed, an anchor:
//!                 its strong ancestry holds a certificate for L ───▶ indirect commit L
//!                 it holds none ───────────────────────────────────▶ indirect skip
//! ```

use crate::dag::HeaderDag;
use crate::schedule::Leaders;
use crate::slot_votes::SlotVotes;
use crate::wave::{Slot, Wave};
use kaldrix_types::{BlockRef, Round, ValidatorIndex};
use std::collections::{BTreeMap, BTreeSet};

/// How a slot was decided. Validators may decide the same slot in different ways, direct or by an anchor, but never to a different end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decision {
    /// A quorum of certificates.
    DirectCommit,
    /// A certificate in the anchor's strong ancestry.
    IndirectCommit,
    /// A quorum that supports no block of the slot.
    DirectSkip,
    /// No certificate in the anchor's strong ancestry.
    IndirectSkip,
}

impl Decision {
    /// Whether the slot's leader is committed.
    #[must_use]
    pub const fn is_commit(self) -> bool {
        matches!(self, Self::DirectCommit | Self::IndirectCommit)
    }

    /// Short name, for metrics and pictures.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DirectCommit => "direct-commit",
            Self::IndirectCommit => "indirect-commit",
            Self::DirectSkip => "direct-skip",
            Self::IndirectSkip => "indirect-skip",
        }
    }
}

/// What became of one leader slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderDecision {
    /// The slot's round.
    pub round: Round,
    /// Which of the round's slots.
    pub offset: u32,
    /// Its leader.
    pub author: ValidatorIndex,
    /// How it was decided.
    pub decision: Decision,
    /// The leader's block if it is committed.
    pub block: Option<BlockRef>,
}

impl LeaderDecision {
    /// The slot.
    #[must_use]
    pub const fn slot(&self) -> Slot {
        Slot { round: self.round, offset: self.offset }
    }
}

#[derive(Clone, Debug)]
struct SlotState {
    votes: SlotVotes,
    /// The last indirect verdict and its anchor: an anchor's ancestry never changes, so neither does the verdict.
    indirect: Option<(BlockRef, LeaderDecision)>,
}

/// Decides leader slots. Its answers are a function of the DAG, the schedule and the cursor; what it keeps between calls only saves time.
#[derive(Debug)]
pub struct Committer<L> {
    wave: Wave,
    leaders: L,
    slots: BTreeMap<Slot, SlotState>,
}

impl<L: Leaders> Committer<L> {
    /// A committer for waves of this shape.
    #[must_use]
    pub const fn new(wave: Wave, leaders: L) -> Self {
        Self { wave, leaders, slots: BTreeMap::new() }
    }

    /// The shape of the waves.
    #[must_use]
    pub const fn wave(&self) -> Wave {
        self.wave
    }

    /// The schedule.
    #[must_use]
    pub const fn leaders(&self) -> &L {
        &self.leaders
    }

    /// Goes on with another schedule, which holds for every slot that is not decided yet: nothing of what was counted for them stays.
    pub fn set_leaders(&mut self, leaders: L) {
        self.leaders = leaders;
        self.slots.clear();
    }

    /// The slot that `author` leads in `round`, if it leads one.
    #[must_use]
    pub fn slot_of(&self, round: Round, author: ValidatorIndex) -> Option<Slot> {
        self.wave.offsets().find(|offset| self.leaders.leader(round, *offset) == author).map(|offset| Slot { round, offset })
    }

    /// The longest run of decided slots after `last_decided` (from the epoch's first one for `None`), oldest first. Idempotent: the same DAG and cursor give the same slots, to the
    /// same end, and a bigger DAG gives the same ones and perhaps more.
    pub fn try_decide(&mut self, dag: &HeaderDag, last_decided: Option<Slot>) -> Vec<LeaderDecision> {
        let before = self.wave.last_slot(dag.committee().start_round());
        let first = self.wave.next(last_decided.unwrap_or(before));
        self.slots = self.slots.split_off(&first);
        let newest = Wave::newest_leader_round(dag.highest_round());
        let open: Vec<Slot> = self.wave.slots(first, newest).collect();
        let mut later: Vec<(Slot, Option<LeaderDecision>)> = Vec::with_capacity(open.len());
        let mut ancestry = None;
        for slot in open.into_iter().rev() {
            let decided = self.direct(dag, slot).or_else(|| self.indirect(dag, slot, &later, &mut ancestry));
            later.push((slot, decided));
        }
        later.into_iter().rev().map_while(|(_, decided)| decided).collect()
    }

    fn state(&mut self, slot: Slot) -> &mut SlotState {
        let leaders = &self.leaders;
        self.slots
            .entry(slot)
            .or_insert_with(|| SlotState { votes: SlotVotes::new(slot, leaders.leader(slot.round, slot.offset)), indirect: None })
    }

    fn direct(&mut self, dag: &HeaderDag, slot: Slot) -> Option<LeaderDecision> {
        let votes = &mut self.state(slot).votes;
        votes.catch_up(dag);
        if votes.is_skipped(dag) {
            return Some(decided(slot, votes.leader, Decision::DirectSkip, None));
        }
        let block = votes.committed(dag)?;
        Some(decided(slot, votes.leader, Decision::DirectCommit, Some(block)))
    }

    /// `later` are the slots after `slot`, newest first.
    fn indirect(
        &mut self,
        dag: &HeaderDag,
        slot: Slot,
        later: &[(Slot, Option<LeaderDecision>)],
        ancestry: &mut Option<Ancestry>,
    ) -> Option<LeaderDecision> {
        let mut candidates = later.iter().rev().skip_while(|(s, _)| s.round < Wave::anchor_round(slot.round)).map(|(_, decided)| *decided);
        // Passing over skipped slots: the first other one is the anchor if it is committed, and ends the search if it is undecided.
        let anchor = candidates.find(|d| d.is_none_or(|d| d.decision.is_commit()))??.block?;
        let state = self.state(slot);
        if let Some((known, decision)) = &state.indirect
            && *known == anchor
        {
            return Some(*decision);
        }
        let ancestry = match ancestry {
            Some(known) if known.anchor == anchor => known,
            other => other.insert(Ancestry::new(anchor)),
        };
        let certificates = state.votes.certificates();
        let certified = ancestry.at(dag, Wave::certify_round(slot.round)).iter().find_map(|block| certificates.get(block)).copied();
        let decision = if certified.is_some() { Decision::IndirectCommit } else { Decision::IndirectSkip };
        let found = decided(slot, state.votes.leader, decision, certified);
        state.indirect = Some((anchor, found));
        Some(found)
    }
}

const fn decided(slot: Slot, author: ValidatorIndex, decision: Decision, block: Option<BlockRef>) -> LeaderDecision {
    LeaderDecision { round: slot.round, offset: slot.offset, author, decision, block }
}

/// The strong ancestry of an anchor, walked down round by round as far as somebody asked: slots with the same anchor share the walk.
struct Ancestry {
    anchor: BlockRef,
    /// Ancestors at the anchor's round, the one below, and so on.
    levels: Vec<BTreeSet<BlockRef>>,
}

impl Ancestry {
    fn new(anchor: BlockRef) -> Self {
        Self { anchor, levels: vec![BTreeSet::from([anchor])] }
    }

    /// The ancestors at `round`, which is at most the anchor's.
    fn at(&mut self, dag: &HeaderDag, round: Round) -> &BTreeSet<BlockRef> {
        let depth = usize::try_from(self.anchor.round.saturating_sub(round)).unwrap_or(usize::MAX);
        while self.levels.len() <= depth {
            let above = self.levels.last().expect("the anchor's own level is there from the start");
            let below = above.iter().filter_map(|b| dag.get(b)).flat_map(|header| header.strong_parents().copied()).collect();
            self.levels.push(below);
        }
        &self.levels[depth]
    }
}
