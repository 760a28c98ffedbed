//! What is looked at now and then: memory, supply, and whether the run is over.

use crate::process::Process;
use crate::report::Peaks;
use crate::run::{AUDIT_PERIOD, Run};
use crate::world::Event;
use kaldrix_consensus::{GC_DEPTH_MIN, ROUNDS_AHEAD_MAX};
use kaldrix_dag::{Limits, MempoolConfig};

/// Supply is counted once per so many audits.
const SUPPLY_PERIODS: u64 = 10;
/// Blocks below the lowest validator's by so many rounds are not kept for sharing.
const SHARED_ROUNDS: u64 = 64;

impl Run<'_> {
    pub(crate) fn audit(&mut self) {
        self.audits += 1;
        self.world.queue.after(AUDIT_PERIOD, Event::Audit);
        self.check_memory();
        if self.audits.is_multiple_of(SUPPLY_PERIODS) {
            self.check_supply((self.audits / SUPPLY_PERIODS) as usize % self.validators.len());
            let lowest = self.validators.iter().filter_map(|v| v.process.as_ref()).map(Process::gc_round).min();
            self.world.forget_below(lowest.unwrap_or(0).saturating_sub(SHARED_ROUNDS));
        }
        if self.world.now() >= self.end() {
            self.look_whether_over();
        }
    }

    /// Every collection that others can grow stays below its bound.
    fn check_memory(&mut self) {
        let count = self.validators.len();
        let limits = Limits::default();
        let gc_depth = self.world.config.parameters.gc_depth.max(GC_DEPTH_MIN);
        // Two variants per author and round unasked, and those that somebody built on.
        let blocks_max = 4 * count * (gc_depth + limits.rounds_ahead_max + ROUNDS_AHEAD_MAX) as usize;
        let bounds = Peaks {
            blocks: blocks_max,
            suspended: limits.suspended_max * count,
            wanted: limits.missing_max * count,
            mempool: MempoolConfig::default().capacity_transactions,
            headers: blocks_max,
        };
        for id in 0..count {
            let Some(process) = self.validators[id].process.as_ref().filter(|_| self.world.honest[id]) else { continue };
            let status = process.node.status();
            let found = Peaks {
                blocks: status.blocks,
                suspended: status.suspended,
                wanted: status.wanted,
                mempool: status.mempool_transactions,
                headers: process.headers(),
            };
            let pairs = |peaks: &Peaks| [peaks.blocks, peaks.suspended, peaks.wanted, peaks.mempool, peaks.headers];
            if pairs(&found).iter().zip(pairs(&bounds)).any(|(found, bound)| *found > bound) {
                self.world.fail(Some(id), format!("memory beyond its bound: {found:?}, at most {bounds:?}"));
            }
            let peaks = &mut self.world.peaks;
            peaks.blocks = peaks.blocks.max(found.blocks);
            peaks.suspended = peaks.suspended.max(found.suspended);
            peaks.wanted = peaks.wanted.max(found.wanted);
            peaks.mempool = peaks.mempool.max(found.mempool);
            peaks.headers = peaks.headers.max(found.headers);
        }
    }

    fn check_supply(&mut self, id: usize) {
        if !self.world.honest[id] {
            return;
        }
        if let Some(process) = &self.validators[id].process
            && let Err(error) = process.state.audit()
        {
            self.world.fail(Some(id), format!("supply or stake is not conserved: {error}"));
        }
        self.check_slashed(id);
    }

    /// Who is slashed has equivocated.
    fn check_slashed(&mut self, id: usize) {
        let Some(process) = &self.validators[id].process else { return };
        let is_slashed = |p: &usize| process.state.validator(self.world.operators[*p]).is_some_and(|r| r.slashed_epoch.is_some());
        let slashed: Vec<usize> = (0..self.validators.len()).filter(is_slashed).collect();
        self.world.slashed = self.world.slashed.max(slashed.len() as u64);
        if let Some(innocent) = slashed.into_iter().find(|p| self.world.honest[*p]) {
            self.world.fail(Some(innocent), "a correct validator was slashed");
        }
    }

    /// Over when every client has its outcome and every correct validator that can has come as far as the ledger was then.
    fn look_whether_over(&mut self) {
        if self.world.clients.is_settled() {
            let commits = self.world.judge.commits();
            let target = *self.target.get_or_insert(commits);
            let closed = *self.certified_target.get_or_insert(self.world.judge.closed_checkpoints());
            self.is_over = self.behind(target).is_none() && self.world.checkpoints >= closed;
        }
        if self.is_over {
            self.compare_states();
        } else if self.world.now() >= self.end() + self.world.config.settle_seconds * 1_000_000 {
            self.is_over = true;
        }
    }

    /// A correct validator that runs, reaches a quorum and has not executed this commit.
    pub(crate) fn behind(&self, target: u64) -> Option<(usize, u64)> {
        let executed = |id: usize| self.validators[id].process.as_ref().map_or(0, Process::executed);
        (0..self.validators.len())
            .filter(|id| self.world.honest[*id] && self.can_commit(*id))
            .map(|id| (id, executed(id)))
            .find(|(_, executed)| *executed < target)
    }

    /// At the end, states at equal commits are equal, and every supply is conserved.
    fn compare_states(&mut self) {
        for id in 0..self.validators.len() {
            if !self.world.honest[id] {
                continue;
            }
            self.check_supply(id);
            if let Some(process) = &self.validators[id].process
                && process.state.tree().root() != process.builder.tree().root()
            {
                self.world.fail(Some(id), "the state tree is not that of the state");
            }
            if let Some(process) = &self.validators[id].process
                && let Err(what) = self.world.judge.compare_state(process.executed(), &process.state)
            {
                self.world.fail(Some(id), what);
            }
        }
    }
}
