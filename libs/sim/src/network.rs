//! How long a message takes, and whether it comes at all.

use crate::config::{Regions, SimConfig};
use crate::faults::FaultKind;
use crate::queue::Micros;
use crate::rng::Rng;
use serde::Deserialize;
use std::collections::BTreeMap;

/// One way within a region, or in a data centre: half of half a millisecond.
const LAN_US: Micros = 250;
/// What a retransmission costs: TCP's least time-out (RFC 6298 as Linux has it).
const RETRANSMISSION_US: Micros = 200_000;

#[derive(Deserialize)]
struct LatencyFile {
    regions: Vec<String>,
    round_trip_ms: BTreeMap<String, BTreeMap<String, f64>>,
}

fn aws() -> LatencyFile {
    toml::from_str(include_str!("../data/aws-latency.toml")).expect("the data file is part of this crate and a test reads it")
}

/// The regions' names, in the order in which validators are placed.
pub(crate) fn region_names(regions: Regions) -> Vec<String> {
    match regions {
        Regions::Lan => vec!["lan".to_owned()],
        Regions::Aws => aws().regions,
    }
}

/// One-way times in microseconds between the regions of [`region_names`].
fn one_way(regions: Regions) -> Vec<Vec<Micros>> {
    match regions {
        Regions::Lan => vec![vec![LAN_US]],
        Regions::Aws => {
            let file = aws();
            let between = |from: &String, to: &String| (file.round_trip_ms[from][to] * 500.0).round() as Micros;
            file.regions.iter().map(|from| file.regions.iter().map(|to| between(from, to)).collect()).collect()
        }
    }
}

/// A fault of the network with its sets resolved to one flag per participant.
#[derive(Clone, Debug)]
pub(crate) enum Disturbance {
    /// Group per participant; none for nobody's.
    Partition(Vec<Option<usize>>),
    Cut(Vec<bool>, Vec<bool>),
    Loss {
        per_mille: u32,
        between: (Vec<bool>, Vec<bool>),
        as_delay: bool,
    },
    Duplicate(u32),
    Reorder {
        per_mille: u32,
        by: Micros,
    },
    Delay {
        by: Micros,
        on: Vec<bool>,
    },
    Jitter {
        by: Micros,
        on: Vec<bool>,
    },
    Bandwidth {
        kbit: u64,
        on: Vec<bool>,
    },
    Slow {
        by: Micros,
        on: Vec<bool>,
    },
}

/// The model.
pub(crate) struct Network {
    one_way: Vec<Vec<Micros>>,
    region_of: Vec<usize>,
    /// When what a participant has sent so far has left it.
    sent_until: Vec<Micros>,
    kbit: u64,
    rng: Rng,
    disturbances: Vec<(usize, Disturbance)>,
}

impl Network {
    pub(crate) fn new(config: &SimConfig) -> Self {
        let one_way = one_way(config.regions);
        let regions = one_way.len();
        Self {
            one_way,
            region_of: (0..config.participants()).map(|i| i % regions).collect(),
            sent_until: vec![0; config.participants()],
            kbit: config.bandwidth_kbit.max(1),
            rng: Rng::new(config.seed, 1),
            disturbances: Vec::new(),
        }
    }

    pub(crate) fn region_of(&self, participant: usize) -> usize {
        self.region_of[participant]
    }

    pub(crate) fn begin(&mut self, fault: usize, disturbance: Disturbance) {
        self.disturbances.push((fault, disturbance));
    }

    pub(crate) fn end(&mut self, fault: usize) {
        self.disturbances.retain(|(id, _)| *id != fault);
    }

    /// Whether anything from one gets to the other at all.
    pub(crate) fn passes(&self, from: usize, to: usize) -> bool {
        self.disturbances.iter().all(|(_, disturbance)| match disturbance {
            Disturbance::Partition(group) => group[from].is_some() && group[from] == group[to],
            Disturbance::Cut(these, those) => !(these[from] && those[to]),
            _ => true,
        })
    }

    /// When a message of so many bytes arrives: no time when it is lost, two when it comes twice.
    pub(crate) fn send(&mut self, now: Micros, from: usize, to: usize, bytes: usize) -> [Option<Micros>; 2] {
        let base = self.one_way[self.region_of[from]][self.region_of[to]];
        let mut kbit = self.kbit;
        let mut extra = self.rng.below(base / 20 + 100);
        let (mut lost, mut twice) = (false, false);
        for (_, disturbance) in &self.disturbances {
            match disturbance {
                Disturbance::Partition(group) => lost |= group[from].is_none() || group[from] != group[to],
                Disturbance::Cut(these, those) => lost |= these[from] && those[to],
                Disturbance::Loss { per_mille, between: (a, b), as_delay } => {
                    if (a[from] && b[to]) || (b[from] && a[to]) {
                        while !lost && self.rng.chance(*per_mille) {
                            if *as_delay && extra < 10 * RETRANSMISSION_US {
                                extra += RETRANSMISSION_US;
                            } else {
                                lost = true;
                            }
                        }
                    }
                }
                Disturbance::Duplicate(per_mille) => twice |= self.rng.chance(*per_mille),
                Disturbance::Reorder { per_mille, by } => {
                    if self.rng.chance(*per_mille) {
                        extra += self.rng.below(*by);
                    }
                }
                Disturbance::Delay { by, on } => extra += if on[from] || on[to] { *by } else { 0 },
                Disturbance::Jitter { by, on } => {
                    if on[from] || on[to] {
                        extra += self.rng.below(*by);
                    }
                }
                Disturbance::Bandwidth { kbit: bound, on } => kbit = if on[from] { kbit.min(*bound) } else { kbit },
                Disturbance::Slow { by, on } => extra += if on[to] { *by } else { 0 },
            }
        }
        // 8,000 bits per byte and thousandth of a second, so in microseconds:
        let sending = bytes as u64 * 8_000 / kbit.max(1);
        let left = self.sent_until[from].max(now) + sending;
        self.sent_until[from] = left;
        if lost {
            return [None, None];
        }
        let arrival = left + base + extra;
        [Some(arrival), twice.then(|| arrival + self.rng.below(base + 1_000))]
    }

    /// When a participant came back, what it had not sent is gone.
    pub(crate) fn restart(&mut self, participant: usize, now: Micros) {
        self.sent_until[participant] = now;
    }
}

/// The network's part of a fault, if it has one.
pub(crate) fn disturbance(what: &FaultKind, members: &dyn Fn(&crate::faults::Who) -> Vec<bool>) -> Option<Disturbance> {
    const MS: Micros = 1_000;
    Some(match what {
        FaultKind::Partition { groups } => {
            let groups: Vec<Vec<bool>> = groups.iter().map(members).collect();
            let count = groups.first().map_or(0, Vec::len);
            Disturbance::Partition((0..count).map(|i| groups.iter().position(|group| group[i])).collect())
        }
        FaultKind::Cut { from, to } => Disturbance::Cut(members(from), members(to)),
        FaultKind::Loss { per_mille, between, as_delay } => {
            Disturbance::Loss { per_mille: *per_mille, between: (members(&between.0), members(&between.1)), as_delay: *as_delay }
        }
        FaultKind::Duplicate { per_mille } => Disturbance::Duplicate(*per_mille),
        FaultKind::Reorder { per_mille, by_ms } => Disturbance::Reorder { per_mille: *per_mille, by: by_ms * MS },
        FaultKind::Delay { ms, on } => Disturbance::Delay { by: ms * MS, on: members(on) },
        FaultKind::Jitter { ms, on } => Disturbance::Jitter { by: ms * MS, on: members(on) },
        FaultKind::Bandwidth { who, kbit } => Disturbance::Bandwidth { kbit: *kbit, on: members(who) },
        FaultKind::Slow { who, ms } => Disturbance::Slow { by: ms * MS, on: members(who) },
        FaultKind::Crash { .. }
        | FaultKind::Pause { .. }
        | FaultKind::SlowDisk { .. }
        | FaultKind::Clock { .. }
        | FaultKind::Byzantine { .. }
        | FaultKind::Miscommit { .. }
        | FaultKind::Corrupt { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_file_has_every_pair_of_its_regions() {
        let times = one_way(Regions::Aws);
        assert_eq!(times.len(), region_names(Regions::Aws).len());
        assert!(times.iter().all(|row| row.len() == times.len() && row.iter().all(|us| (1_000..200_000).contains(us))));
    }

    #[test]
    fn large_messages_wait_for_those_before_them() {
        let mut config = SimConfig::new(4, Regions::Lan, 1, 0, 1);
        config.bandwidth_kbit = 8_000;
        let mut network = Network::new(&config);
        // A megabyte per second: 1,000 bytes take one millisecond.
        let first = network.send(0, 0, 1, 1_000)[0].unwrap();
        let second = network.send(0, 0, 2, 1_000)[0].unwrap();
        assert!((1_250..1_400).contains(&first), "{first}");
        assert!((2_250..2_400).contains(&second), "{second}");
    }

    #[test]
    fn a_cut_has_one_direction_and_heals() {
        let mut network = Network::new(&SimConfig::new(4, Regions::Lan, 1, 0, 1));
        network.begin(7, Disturbance::Cut(vec![true, false, false, false], vec![false, true, false, false]));
        assert!(network.send(0, 0, 1, 10)[0].is_none());
        assert!(network.send(0, 1, 0, 10)[0].is_some());
        assert!(!network.passes(0, 1) && network.passes(1, 0) && network.passes(0, 2));
        network.end(7);
        assert!(network.send(0, 0, 1, 10)[0].is_some());
    }
}
