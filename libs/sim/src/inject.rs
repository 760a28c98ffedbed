//! Faults begin and end.

use crate::faults::{Behaviour, FaultKind, Who};
use crate::network::disturbance;
use crate::run::{Run, is_among};

impl Run<'_> {
    fn members(&self, who: &Who) -> Vec<bool> {
        let region = |p| &self.regions[self.world.network.region_of(p)];
        (0..self.validators.len()).map(|p| is_among(who, p, region(p))).collect()
    }

    fn each(&self, who: &Who) -> Vec<usize> {
        self.members(who).iter().enumerate().filter(|(_, is)| **is).map(|(p, _)| p).collect()
    }

    pub(crate) fn begin_fault(&mut self, number: usize) {
        let what = self.world.config.faults.list[number].what.clone();
        if let Some(disturbance) = disturbance(&what, &|who| self.members(who)) {
            self.world.network.begin(number, disturbance);
        }
        match &what {
            FaultKind::Crash { who, lost } => {
                for id in self.each(who) {
                    if self.validators[id].process.is_some() {
                        self.crashes += 1;
                    }
                    self.validators[id].crash(&mut self.world, *lost);
                }
            }
            FaultKind::Pause { who } => {
                for id in self.each(who) {
                    self.validators[id].backlog.get_or_insert_default();
                }
            }
            FaultKind::Clock { who, ms } => self.each(who).into_iter().for_each(|id| self.validators[id].clock_ms += ms),
            FaultKind::SlowDisk { who, ms } => self.each(who).into_iter().for_each(|id| self.validators[id].disk_extra += ms * 1_000),
            FaultKind::Byzantine { who, behaviour } => {
                let members = match behaviour {
                    Behaviour::Withhold(from) | Behaviour::WithholdBody(from) => self.members(from),
                    _ => Vec::new(),
                };
                for id in self.each(who) {
                    self.validators[id].mischief.begin(number, behaviour.clone(), members.clone());
                }
            }
            FaultKind::Miscommit { who } => {
                for id in self.each(who) {
                    self.validators[id].with(|process| process.miscommits = true);
                }
            }
            FaultKind::Corrupt { who } => {
                for id in self.each(who) {
                    if let Some(process) = &mut self.validators[id].process {
                        process.state.corrupt();
                    }
                }
            }
            _ => {}
        }
        self.look_who_waits();
    }

    pub(crate) fn end_fault(&mut self, number: usize) {
        let what = self.world.config.faults.list[number].what.clone();
        self.world.network.end(number);
        match &what {
            FaultKind::Crash { who, .. } => {
                for id in self.each(who) {
                    if self.validators[id].process.is_none() && !self.is_kept_down(id, number) {
                        self.restarts += 1;
                        let now = self.world.now();
                        self.world.network.restart(id, now);
                        self.validators[id].start(&mut self.world);
                    }
                }
            }
            FaultKind::Pause { who } => {
                for id in self.each(who) {
                    for event in self.validators[id].backlog.take().unwrap_or_default() {
                        self.handle(event);
                    }
                }
            }
            FaultKind::Clock { who, ms } => self.each(who).into_iter().for_each(|id| self.validators[id].clock_ms -= ms),
            FaultKind::SlowDisk { who, ms } => self.each(who).into_iter().for_each(|id| self.validators[id].disk_extra -= ms * 1_000),
            FaultKind::Byzantine { who, .. } => self.each(who).into_iter().for_each(|id| self.validators[id].mischief.end(number)),
            _ => {}
        }
        self.look_who_waits();
    }

    /// Whether another crash that still lasts has this validator.
    fn is_kept_down(&self, id: usize, ended: usize) -> bool {
        let now_ms = self.world.now_ms();
        let lasts = |(number, fault): (usize, &crate::faults::Fault)| {
            number != ended
                && fault.from_ms <= now_ms
                && fault.until_ms.is_none_or(|until| until > now_ms)
                && matches!(&fault.what, FaultKind::Crash { who, .. } if self.members(who)[id])
        };
        self.world.config.faults.list.iter().enumerate().any(lasts)
    }

    /// Whether a validator runs and reaches a quorum of validators that run.
    pub(crate) fn can_commit(&self, id: usize) -> bool {
        let runs = |p: usize| self.world.up[p] && self.validators[p].backlog.is_none();
        if !runs(id) {
            return false;
        }
        let (seats, network) = (self.world.newest(), &self.world.network);
        let committee = &seats.committee;
        if committee.get(seats.seat(id)).is_none() {
            return false;
        }
        let reached = |p: &&usize| **p == id || (runs(**p) && network.passes(id, **p) && network.passes(**p, id));
        let stake: u64 = seats.participants().iter().filter(reached).map(|p| committee.stake(seats.seat(*p))).sum();
        stake >= committee.quorum()
    }

    /// A validator that cannot get a commit does not wait for one.
    fn look_who_waits(&mut self) {
        let now = self.world.now();
        for id in 0..self.validators.len() {
            let can = self.world.honest[id] && self.can_commit(id);
            let waits = &mut self.world.waits_since[id];
            match (can, *waits) {
                (true, None) => *waits = Some(now),
                (false, Some(since)) => {
                    self.world.gap_max = self.world.gap_max.max(if self.world.honest[id] { now - since } else { 0 });
                    *waits = None;
                }
                _ => {}
            }
        }
    }
}
