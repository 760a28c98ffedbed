//! Who took part in an epoch, and what its end does.
//!
//! ```text
//!   every commit:   its blocks' authors ──▶ Participation + 1
//!   the last one:   1 long absence ──▶ Jailed (never slashed)
//!                   2 fee pool + block reward ──▶ operators, by weight x participation
//!                   3 unbonding that is due ──▶ operators
//!                   4 election ──▶ members of the next epoch
//!                   5 who leaves and is not needed: all stake unbonds; paid out before: deleted
//!                   6 next session keys ──▶ session keys
//! ```
//!
//! **The network never has fewer than `min_validators`.** A seat needs the status Active and the minimum stake. Where fewer than
//! `min_validators` have both, the sitting members that lack one keep their seats, as many as are needed: first those with too little
//! stake, then those that are leaving (which leave at a later end instead), then those in jail (which stay in jail, unpaid); within each
//! kind by stake, then by address. And absence jails only as long as enough are left: those with the least participation first.
//! Since a sitting member's record is deleted at the earliest when it is not elected, there are always as many as there were.

use crate::StateView;
use crate::amount::share;
use crate::overlay::Overlay;
use crate::validators::{begin_unbonding, is_eligible};
use kaldrix_types::{
    Address, AssetId, Commit, Epoch, EpochRecord, Member, Parameters, StateKey, ValidatorIndex, ValidatorRecord, ValidatorStatus,
    WEIGHT_UNIT, limits,
};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Absence says nothing in an epoch of fewer commits.
const COMMITS_MIN: u64 = 50;
/// As much weight as each of [`limits::VALIDATORS_MAX`] members can have in a committee, whose stakes sum to less than 2^62.
const WEIGHT_MAX: u64 = (1 << 62) / limits::VALIDATORS_MAX as u64 - 1;

/// All registered validators by operator.
type Validators = BTreeMap<Address, Box<ValidatorRecord>>;

/// Counts the authors of a commit's blocks, each once.
pub(crate) fn count_participation<S: StateView>(state: &mut Overlay<'_, S>, commit: &Commit) {
    let mut authors: Vec<ValidatorIndex> = commit.blocks.iter().map(|block| block.author).collect();
    authors.sort_unstable();
    authors.dedup();
    let mut counts = state.participation();
    for author in authors {
        // Blocks are verified against the epoch's committee, which these counts are parallel to.
        if let Some(count) = counts.get_mut(author.as_usize()) {
            *count += 1;
        }
    }
    state.set_participation(counts);
}

/// Ends the running epoch with `commit` and begins the next.
pub(crate) fn end<S: StateView>(state: &mut Overlay<'_, S>, commit: &Commit, parameters: &Parameters) {
    let ending = state.epoch();
    let mut validators: Validators = ending.candidates.iter().map(|operator| (*operator, state.candidate(*operator))).collect();
    let counts = state.participation();
    let commits = (commit.index + 1).saturating_sub(ending.first_commit);
    if commits >= COMMITS_MIN {
        jail_absent(&mut validators, &ending, &counts, commits, parameters);
    }
    pay_rewards(state, &validators, &ending.members, &counts, parameters);
    pay_unbonded(state, &mut validators, ending.epoch);
    let members = elect(&validators, &ending.members, parameters);
    let gone = depart(&mut validators, &members, ending.epoch);
    for record in validators.values_mut() {
        record.previous_key = record.next_key.take().map(|next| std::mem::replace(&mut record.key, next));
    }

    state.set_participation(vec![0; members.len()]);
    state.set_epoch(EpochRecord {
        epoch: ending.epoch + 1,
        start_round: commit.leader.round,
        start_ms: commit.timestamp_ms,
        first_commit: commit.index + 1,
        members,
        previous_members: ending.members,
        candidates: validators.keys().copied().collect(),
    });
    for operator in gone {
        state.remove_validator(operator);
    }
    for (operator, record) in validators {
        state.set_validator(operator, record);
    }
}

/// Jails who had blocks in less than `absence_basis_points` of the epoch's commits, the most absent first, while enough others are left.
fn jail_absent(validators: &mut Validators, ending: &EpochRecord, counts: &[u64], commits: u64, parameters: &Parameters) {
    let least = u128::from(commits) * u128::from(parameters.absence_basis_points);
    let mut absent: Vec<(u64, Address)> = ending
        .members
        .iter()
        .zip(counts)
        .filter(|(_, count)| u128::from(**count) * 10_000 < least)
        .map(|(member, count)| (*count, member.operator))
        .collect();
    absent.sort_unstable();
    let mut eligible = validators.values().filter(|record| is_eligible(record, parameters)).count();
    for (_, operator) in absent {
        let Some(record) = validators.get_mut(&operator) else { continue };
        if !is_eligible(record, parameters) {
            continue;
        }
        if eligible <= parameters.min_validators as usize {
            break;
        }
        eligible -= 1;
        record.status = ValidatorStatus::Jailed { until_epoch: ending.epoch.saturating_add(parameters.jail_epochs) };
    }
}

/// Pays the fee pool and the block reward to the members that are not jailed. What integer division leaves stays in the pool.
fn pay_rewards<S: StateView>(
    state: &mut Overlay<'_, S>,
    validators: &Validators,
    members: &[Member],
    counts: &[u64],
    parameters: &Parameters,
) {
    mint_reward(state, parameters.block_reward);
    // Weights sum to less than 2^62 and counts are 64 bits: no product or sum passes 126 bits.
    let earned: Vec<(Address, u128)> = members
        .iter()
        .zip(counts)
        .filter(|(member, _)| validators.get(&member.operator).is_some_and(|r| !matches!(r.status, ValidatorStatus::Jailed { .. })))
        .map(|(member, count)| (member.operator, u128::from(member.weight) * u128::from(*count)))
        .collect();
    let total: u128 = earned.iter().map(|(_, part)| part).sum();
    let pool = state.balance(&crate::FEE_POOL_KEY);
    let mut rest = pool;
    for (operator, part) in earned {
        let amount = share(pool, part, total);
        rest -= amount;
        state.credit_native(operator, amount);
    }
    state.set_balance(crate::FEE_POOL_KEY, rest);
}

/// Creates the reward in the fee pool. A supply that cannot hold it gets none: a chain is not to stop over that.
fn mint_reward<S: StateView>(state: &mut Overlay<'_, S>, reward: u128) {
    let key = StateKey::Supply(AssetId::NATIVE);
    if reward > 0
        && let Some(supply) = state.supply(&key).checked_add(reward)
    {
        state.set_supply(key, supply);
        state.credit_native(Address::FEE_POOL, reward);
    }
}

/// Pays out what was unbonded in the epoch before `ending`.
fn pay_unbonded<S: StateView>(state: &mut Overlay<'_, S>, validators: &mut Validators, ending: Epoch) {
    for (operator, record) in validators {
        let due = |entry: &kaldrix_types::Unbonding| entry.release_epoch <= ending;
        let amount: u128 = record.unbonding.iter().filter(|entry| due(entry)).map(|entry| entry.amount).sum();
        if amount > 0 {
            record.unbonding.retain(|entry| !due(entry));
            state.debit_stake_pool(amount);
            state.credit_native(*operator, amount);
        }
    }
}

/// The members of the next epoch: see the module's rule.
fn elect(validators: &Validators, sitting: &[Member], parameters: &Parameters) -> Vec<Member> {
    let kind = |operator: &Address, record: &ValidatorRecord| match record.status {
        _ if is_eligible(record, parameters) => Some(0),
        _ if !sitting.iter().any(|member| member.operator == *operator) => None,
        ValidatorStatus::Active => Some(1),
        ValidatorStatus::Leaving => Some(2),
        ValidatorStatus::Jailed { .. } => Some(3),
    };
    let mut ranked: Vec<_> =
        validators.iter().filter_map(|(operator, record)| Some((kind(operator, record)?, Reverse(record.stake), *operator))).collect();
    ranked.sort_unstable();
    let eligible = ranked.iter().filter(|(kind, ..)| *kind == 0).count();
    ranked.truncate(eligible.max(parameters.min_validators as usize).min(limits::VALIDATORS_MAX));
    ranked.into_iter().map(|(_, Reverse(stake), operator)| Member { operator, weight: weight(stake) }).collect()
}

/// Voting weight of a stake; at least 1, since a committee knows no members without.
fn weight(stake: u128) -> u64 {
    u64::try_from(stake / WEIGHT_UNIT).unwrap_or(WEIGHT_MAX).clamp(1, WEIGHT_MAX)
}

/// Unbonds all stake of those that leave and have no seat, and takes out those to whom nothing is owed any more. Returns these.
fn depart(validators: &mut Validators, members: &[Member], ending: Epoch) -> Vec<Address> {
    let mut gone = Vec::new();
    validators.retain(|operator, record| {
        if record.status != ValidatorStatus::Leaving || members.iter().any(|member| member.operator == *operator) {
            return true;
        }
        let stake = std::mem::take(&mut record.stake);
        if stake > 0 {
            begin_unbonding(record, stake, ending).expect("at most two entries wait, and one validator's stake is part of the supply");
        }
        if record.unbonding.is_empty() {
            gone.push(*operator);
        }
        !record.unbonding.is_empty()
    });
    gone
}
