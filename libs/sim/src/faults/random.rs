//! Scripts within what the protocol promises to survive.

use super::{Behaviour, Fault, FaultKind, Faults, Lost, Origin, Who};
use crate::rng::Rng;

/// A random script for `validators` of equal stake and a run of `seconds`.
///
/// At any time, validators that are Byzantine (from the start to the end), crashed, standing still, or not yet caught up after that hold less
/// than a third of the stake, in any combination. Faults of the network and of clocks may hit everybody; all of them end well before the run
/// does. A validator that loses its guard as well counts as faulty for the rest of the run, though nothing bad is expected of it.
#[must_use]
pub fn random_faults(seed: u64, validators: usize, seconds: u64) -> Faults {
    let mut rng = Rng::new(seed, 0xFA);
    let end_ms = seconds * 1_000;
    let heal_ms = end_ms * 3 / 4;
    let mut order: Vec<u16> = (0..u16::try_from(validators).unwrap_or(u16::MAX)).collect();
    rng.shuffle(&mut order);
    let faulty_max = validators.saturating_sub(1) / 3;
    let faulty = &order[..rng.below(faulty_max as u64 + 1) as usize];
    let byzantine = rng.below(faulty.len() as u64 + 1) as usize;
    let mut list = Vec::new();
    for who in &faulty[..byzantine] {
        for _ in 0..rng.between(1, 2) {
            let behaviour = behaviour(&mut rng, &order, *who);
            list.push(fault(0, None, FaultKind::Byzantine { who: Who::These(vec![*who]), behaviour }));
        }
    }
    for who in &faulty[byzantine..] {
        let who = Who::These(vec![*who]);
        let from = rng.between(100, heal_ms.max(200) / 2);
        let until = Some(rng.between(from + 100, heal_ms.max(from + 200)));
        let what = match rng.below(6) {
            0 => FaultKind::Pause { who },
            1 => FaultKind::Crash { who, lost: Lost::Disk },
            2 => FaultKind::Crash { who, lost: Lost::DiskAndKeys },
            _ => FaultKind::Crash { who, lost: Lost::Memory },
        };
        // Now and then one stays away.
        let until = if rng.chance(150) { None } else { until };
        list.push(fault(from, until, what));
    }
    for _ in 0..rng.below(4) {
        let from = rng.between(0, heal_ms / 2);
        let until = rng.between(from + 50, heal_ms.max(from + 100));
        list.push(fault(from, Some(until), environment(&mut rng, &mut order)));
    }
    Faults { list, origin: Origin::Random(seed) }
}

const fn fault(from_ms: u64, until_ms: Option<u64>, what: FaultKind) -> Fault {
    Fault { from_ms, until_ms, what, line: 0 }
}

fn some_of(rng: &mut Rng, order: &[u16]) -> Who {
    let count = rng.between(1, (order.len() as u64).max(2) / 2) as usize;
    let mut list: Vec<u16> = order.iter().copied().filter(|_| rng.chance(600)).take(count).collect();
    if list.is_empty() {
        list.extend(order.first());
    }
    list.sort_unstable();
    Who::These(list)
}

fn behaviour(rng: &mut Rng, order: &[u16], own: u16) -> Behaviour {
    let others: Vec<u16> = order.iter().copied().filter(|o| *o != own).collect();
    match rng.below(12) {
        0 => Behaviour::Silent,
        1 => Behaviour::EquivocateHalves,
        2 => Behaviour::EquivocateEach,
        3 => Behaviour::Withhold(some_of(rng, &others)),
        4 => Behaviour::WithholdBody(some_of(rng, &others)),
        5 => Behaviour::InvalidParents,
        6 => Behaviour::InvalidSignatures,
        7 => Behaviour::InvalidTimestamps,
        8 => Behaviour::Late(rng.between(50, 1_500)),
        9 => Behaviour::LieInSync,
        10 => Behaviour::Flood,
        _ => Behaviour::BadTransactions,
    }
}

fn environment(rng: &mut Rng, order: &mut [u16]) -> FaultKind {
    rng.shuffle(order);
    match rng.below(11) {
        0 => {
            let split = rng.between(1, order.len().max(2) as u64 - 1) as usize;
            let group = |part: &[u16]| {
                let mut list = part.to_vec();
                list.sort_unstable();
                Who::These(list)
            };
            let (left, right) = order.split_at(split.min(order.len()));
            FaultKind::Partition { groups: vec![group(left), group(right)] }
        }
        1 => FaultKind::Cut { from: some_of(rng, order), to: some_of(rng, order) },
        2 => FaultKind::Loss { per_mille: rng.between(5, 300) as u32, between: (Who::All, Who::All), as_delay: rng.chance(500) },
        3 => FaultKind::Duplicate { per_mille: rng.between(10, 500) as u32 },
        4 => FaultKind::Reorder { per_mille: rng.between(50, 900) as u32, by_ms: rng.between(5, 800) },
        5 => FaultKind::Delay { ms: rng.between(5, 400), on: some_of(rng, order) },
        6 => FaultKind::Jitter { ms: rng.between(5, 400), on: Who::All },
        7 => FaultKind::Bandwidth { who: some_of(rng, order), kbit: rng.between(500, 20_000) },
        8 => FaultKind::Slow { who: some_of(rng, order), ms: rng.between(1, 200) },
        9 => FaultKind::SlowDisk { who: some_of(rng, order), ms: rng.between(1, 300) },
        // Beyond the tolerated drift a validator's blocks are refused until its clock is right again: that one heals as well.
        _ => FaultKind::Clock { who: some_of(rng, order), ms: rng.between(0, 6_000) as i64 - 3_000 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_scripts_read_back_and_stay_within_a_third() {
        for seed in 0..2_000 {
            let faults = random_faults(seed, 7, 10);
            let mut faulty = std::collections::BTreeSet::new();
            for fault in &faults.list {
                match &fault.what {
                    FaultKind::Crash { who: Who::These(who), .. }
                    | FaultKind::Pause { who: Who::These(who) }
                    | FaultKind::Byzantine { who: Who::These(who), .. } => faulty.extend(who.clone()),
                    _ => assert!(fault.until_ms.is_some_and(|until| until <= 7_600), "{fault} does not heal"),
                }
            }
            assert!(faulty.len() <= 2, "seed {seed}: {faulty:?}");
            let read = Faults::parse(&faults.to_string()).unwrap();
            assert_eq!(read.to_string(), faults.to_string());
            assert_eq!(random_faults(seed, 7, 10), faults);
        }
    }
}
