//! Reputation: who leads less, because its votes came late or not at all (HammerHead, Tsimos et al. 2023).
//!
//! ```text
//!   commit ──▶ one point per block for each committed leader it votes for ──▶ scores
//!                                       every `schedule_commits` commits:     scores ──▶ effective ──▶ SwapTable ──▶ SwappedLeaders
//! ```
//! All of it is a function of the commits, and its whole state is in each of them ([`Reputation`]): whoever has the last commit goes on
//! with the same schedule as everybody else. That is why votes only count for leaders of the last few rounds, which the commit names; and a
//! vote that comes later was no help in committing its leader anyway.

use crate::dag::HeaderDag;
use crate::schedule::{Leaders, SplitMix64};
use kaldrix_types::{BlockRef, Committee, Reputation, Round, ValidatorIndex};
use std::cmp::Reverse;

/// Votes count for leaders at most this many rounds below the newest committed one. Votes for the leader of round r are of round r + 1;
/// the next commits, with leaders of r + 1, r + 2 and r + 3, bring them if they came in time.
pub const VOTE_ROUNDS: Round = 2;

/// Share of all stake that is swapped out at most: a fifth, and less than the third that may be faulty (as in HammerHead's evaluation).
const SWAPPED_SHARE: u64 = 5;

/// Differences of scores up to this share of the best ones are taken as chance.
const NOISE_SHARE: u32 = 20;

/// Makes the good substitutes of a round independent of the draw that chose the leader they stand in for.
const SUBSTITUTE_SEED: u64 = 0x6861_6d6d_6572;

/// Counts the votes in `blocks`, those of the commit of `leader`; a period ends after `period` commits. With a period of 0 nothing is counted.
pub(crate) fn count_commit(reputation: &mut Reputation, period: u32, dag: &HeaderDag, leader: BlockRef, blocks: &[BlockRef]) {
    if period == 0 {
        return;
    }
    reputation.scores.resize(dag.committee().size(), 0);
    for block in blocks {
        let Some(header) = dag.get(block) else { continue };
        let leaders_before = reputation.leaders.iter().filter(|l| l.round + 1 == block.round);
        let votes = leaders_before.filter(|l| header.parents.contains(l)).count();
        if let Some(score) = reputation.scores.get_mut(block.author.as_usize()) {
            *score = score.saturating_add(u32::try_from(votes).unwrap_or(u32::MAX));
        }
    }
    reputation.leaders.push(leader);
    reputation.leaders.retain(|l| l.round + VOTE_ROUNDS >= leader.round);
    reputation.commits += 1;
    if reputation.commits >= period {
        reputation.effective = std::mem::take(&mut reputation.scores);
        reputation.commits = 0;
    }
}

/// Whether the commit that holds this ended a period: the schedule changes after it, from the round after its leader's.
pub(crate) const fn changes_schedule(reputation: &Reputation) -> bool {
    reputation.commits == 0 && !reputation.effective.is_empty()
}

/// Which validators do not lead for a period, and which stand in for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwapTable {
    out: Vec<ValidatorIndex>,
    best: Vec<ValidatorIndex>,
    others: Vec<ValidatorIndex>,
}

impl SwapTable {
    /// The table for these scores, one per validator; without scores nobody is swapped.
    ///
    /// - Best: the highest scores, as long as they hold at most a fifth of the stake together; at least one.
    /// - Out: the lowest ones within the same limit, if they are below all of the best by more than a twentieth: chance alone moves nobody. In a
    ///   small committee every validator has more than a fifth: the lowest one then goes alone, unless nothing can be decided without it anyway
    ///   (its stake is above S − q).
    /// - Equal scores: the lower index is the better one.
    #[must_use]
    pub fn new(committee: &Committee, scores: &[u32]) -> Self {
        if scores.len() != committee.size() {
            return Self::default();
        }
        let score = |v: &ValidatorIndex| scores[v.as_usize()];
        let mut ranked: Vec<ValidatorIndex> = committee.indices().collect();
        ranked.sort_by_key(|v| (Reverse(score(v)), *v));
        let limit = committee.total_stake() / SWAPPED_SHARE;
        let alone = committee.total_stake() - committee.quorum();
        let best = take_up_to(committee, ranked.iter(), limit, u64::MAX);
        let lowest_of_best = best.iter().map(score).min().unwrap_or(0);
        let floor = lowest_of_best - lowest_of_best / NOISE_SHARE;
        let out = take_up_to(committee, ranked.iter().rev().filter(|v| score(v) < floor), limit, alone);
        let others = ranked.into_iter().filter(|v| !best.contains(v) && !out.contains(v)).collect();
        Self { out, best, others }
    }

    /// Who does not lead, lowest score first.
    #[must_use]
    pub fn swapped_out(&self) -> &[ValidatorIndex] {
        &self.out
    }

    /// Who stands in for them, highest score first.
    #[must_use]
    pub fn best(&self) -> &[ValidatorIndex] {
        &self.best
    }
}

/// The first ones that have at most `limit` stake together; the very first may have up to `alone`.
fn take_up_to<'a>(committee: &Committee, ranked: impl Iterator<Item = &'a ValidatorIndex>, limit: u64, alone: u64) -> Vec<ValidatorIndex> {
    let mut stake = 0u64;
    let fits = |(position, validator): &(usize, &ValidatorIndex)| {
        stake = stake.saturating_add(committee.stake(**validator));
        stake <= limit || (*position == 0 && stake <= alone)
    };
    ranked.enumerate().take_while(fits).map(|(_, validator)| *validator).collect()
}

/// Another schedule with the slots of those that are swapped out given to good validators.
///
/// A swapped-out leader's slot goes to one of the best, drawn by epoch and round; to the next of them that does not lead in the round yet;
/// to any other if all do. Only if there is none either (a round with as many leaders as validators) the slot stays where it was. So the
/// leaders of one round stay distinct.
#[derive(Clone, Debug)]
pub struct SwappedLeaders<L> {
    inner: L,
    epoch: u64,
    leaders_per_round: u32,
    table: SwapTable,
}

impl<L: Leaders> SwappedLeaders<L> {
    /// `inner`, a schedule of `committee` with this many leaders in each round (at most its size), by the scores of the last period.
    #[must_use]
    pub fn new(inner: L, committee: &Committee, leaders_per_round: u32, scores: &[u32]) -> Self {
        Self { inner, epoch: committee.epoch(), leaders_per_round, table: SwapTable::new(committee, scores) }
    }

    /// Who is swapped.
    #[must_use]
    pub const fn table(&self) -> &SwapTable {
        &self.table
    }

    fn is_out(&self, validator: ValidatorIndex) -> bool {
        self.table.out.contains(&validator)
    }

    fn substitute(&self, round: Round, offset: u32) -> Option<ValidatorIndex> {
        let slots: Vec<ValidatorIndex> = (0..self.leaders_per_round).map(|o| self.inner.leader(round, o)).collect();
        let mut leading: Vec<ValidatorIndex> = slots.iter().copied().filter(|v| !self.is_out(*v)).collect();
        let best = &self.table.best;
        let first = SplitMix64::seeded(self.epoch ^ SUBSTITUTE_SEED, round).below(best.len() as u64) as usize;
        let mut found = None;
        // The slots before this one choose before it.
        for _ in slots.iter().take(offset as usize + 1).filter(|v| self.is_out(**v)) {
            let candidates = best.iter().cycle().skip(first).take(best.len()).chain(&self.table.others);
            found = candidates.copied().find(|v| !leading.contains(v));
            leading.extend(found);
        }
        found
    }
}

impl<L: Leaders> Leaders for SwappedLeaders<L> {
    fn leader(&self, round: Round, offset: u32) -> ValidatorIndex {
        let leader = self.inner.leader(round, offset);
        if offset >= self.leaders_per_round || !self.is_out(leader) {
            return leader;
        }
        self.substitute(round, offset).unwrap_or(leader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{RoundRobin, StakeSchedule};
    use kaldrix_testkit::dag::committee;
    use std::collections::BTreeSet;

    fn indices(validators: &[ValidatorIndex]) -> Vec<u16> {
        validators.iter().map(|v| v.0).collect()
    }

    fn table(stakes: &[u64], scores: &[u32]) -> (Vec<u16>, Vec<u16>) {
        let table = SwapTable::new(&committee(stakes), scores);
        (indices(table.swapped_out()), indices(table.best()))
    }

    #[test]
    fn the_lowest_fifth_of_the_stake_is_swapped_for_the_highest() {
        assert_eq!(table(&[1; 10], &[9, 0, 8, 7, 1, 9, 5, 5, 5, 5]), (vec![1, 4], vec![0, 5]));
        // Only one fits: 1 + 2 of 14 is more than a fifth.
        assert_eq!(table(&[1, 2, 3, 4, 4], &[0, 1, 5, 6, 7]), (vec![0], vec![4]));
    }

    #[test]
    fn of_four_validators_the_lowest_one_goes() {
        assert_eq!(table(&[1; 4], &[30, 30, 0, 29]), (vec![2], vec![0]));
        // Without a stake of half of all nothing can be decided: it stays.
        assert_eq!(table(&[5, 2, 2, 1], &[0, 9, 9, 9]), (vec![], vec![1]));
    }

    #[test]
    fn among_equals_nobody_is_swapped_and_ties_go_by_index() {
        assert_eq!(table(&[1; 7], &[4; 7]), (vec![], vec![0]));
        assert_eq!(table(&[1; 7], &[]), (vec![], vec![]), "no period is over yet");
        assert_eq!(table(&[1; 7], &[4, 4, 4, 3, 3, 4, 4]), (vec![4], vec![0]));
    }

    #[test]
    fn a_difference_of_a_few_votes_swaps_nobody() {
        assert_eq!(table(&[1; 4], &[300, 300, 299, 285]), (vec![], vec![0]));
        assert_eq!(table(&[1; 4], &[300, 300, 299, 284]), (vec![3], vec![0]));
    }

    #[test]
    fn slots_of_the_swapped_out_go_to_the_best_and_the_leaders_of_a_round_stay_distinct() {
        let committee = committee(&[1; 10]);
        let scores = [9, 0, 8, 7, 0, 9, 5, 5, 5, 5];
        for leaders_per_round in 1..=10u32 {
            let swapped = SwappedLeaders::new(StakeSchedule::new(&committee), &committee, leaders_per_round, &scores);
            let mut stand_ins = BTreeSet::new();
            for round in 1..400 {
                let leaders: BTreeSet<_> = (0..leaders_per_round).map(|o| swapped.leader(round, o)).collect();
                assert_eq!(leaders.len(), leaders_per_round as usize);
                let out = leaders.iter().filter(|v| swapped.is_out(**v)).count();
                assert!(leaders_per_round > 8 || out == 0, "{leaders_per_round} leaders in round {round}: {leaders:?}");
                let inner: Vec<_> = (0..leaders_per_round).map(|o| swapped.inner.leader(round, o)).collect();
                let kept = inner.iter().zip(0..).filter(|(v, _)| !swapped.is_out(**v)).all(|(v, o)| swapped.leader(round, o) == *v);
                assert!(kept, "nobody else's slot changes");
                stand_ins.extend(leaders.into_iter().filter(|v| !inner.contains(v)));
            }
            let expected: &[u16] = if leaders_per_round == 1 { &[0, 5] } else { &[] };
            assert!(expected.is_empty() || indices(&stand_ins.into_iter().collect::<Vec<_>>()) == expected, "both of the best stand in");
        }
    }

    #[test]
    fn where_everybody_leads_in_each_round_the_swapped_out_do_too() {
        let committee = committee(&[1; 4]);
        let swapped = SwappedLeaders::new(RoundRobin::new(4), &committee, 4, &[3, 3, 3, 0]);
        let leaders: BTreeSet<_> = (0..4).map(|o| swapped.leader(7, o)).collect();
        assert_eq!(leaders.len(), 4);
    }
}
