//! Recovery from peers: `CatchUp` asks, this carries its questions and puts the result in place of what the store had.

use crate::process::Asked;
use crate::queue::Micros;
use crate::store::Item;
use crate::validator::Validator;
use crate::world::{Timer, World};
use kaldrix_checkpoint::{CatchUp, CatchUpAnswer, CatchUpConfig, CatchUpOutcome, EpochChain, Installed};
use std::sync::Arc;

const PERIOD: Micros = 50_000;

/// A recovery under way.
#[derive(Debug)]
pub(crate) enum Recovery {
    Asking(Box<CatchUp<usize>>),
    /// The result is on its way to the disk.
    Writing,
}

impl Validator {
    /// Too far behind to catch up block by block. Nothing is proposed or decided until this is over.
    pub(crate) fn begin_recovery(&mut self, w: &mut World<'_>) {
        let now_ms = w.now_ms();
        let Some(process) = &mut self.process else { return };
        if process.recovery.is_some() {
            return;
        }
        let epoch = process.seats.committee.epoch();
        let end = epoch.checked_sub(1).and_then(|before| self.store.epoch_end(before));
        let chain = match end {
            Some(end) => EpochChain::after(end.checkpoint.clone()),
            None => EpochChain::from_genesis(&w.definition),
        };
        let config = CatchUpConfig {
            gc_depth: w.config.parameters.gc_depth,
            leaders_per_round: w.config.parameters.leaders_per_round,
            page_records: 64,
            answer_ms_max: 1_000,
            survey_ms: 300,
            poll_ms: 200,
            target_ms_max: 5_000,
            source_ms_max: 20_000,
            ..CatchUpConfig::default()
        };
        let peers: Vec<usize> = (0..w.up.len()).filter(|p| *p != self.id && w.up[*p]).collect();
        let chain = chain.expect("what begins an epoch in the store was verified");
        let catch_up = CatchUp::new(config, chain, process.executed(), peers, now_ms);
        process.recovery = Some(Recovery::Asking(Box::new(catch_up)));
        process.core = None;
        process.tick_at = None;
        w.recoveries += 1;
        self.on_catch_up_period(w);
    }

    pub(crate) fn on_catch_up_period(&mut self, w: &mut World<'_>) {
        self.poll_recovery(w);
        if self.with(|p| matches!(p.recovery, Some(Recovery::Asking(_)))).unwrap_or(false) {
            self.plan(w, PERIOD, Timer::CatchUp);
        }
    }

    fn poll_recovery(&mut self, w: &mut World<'_>) {
        let now_ms = w.now_ms();
        let Some(process) = &mut self.process else { return };
        let Some(Recovery::Asking(catch_up)) = &mut process.recovery else { return };
        let asks = catch_up.poll(now_ms);
        let given_up = catch_up.given_up();
        let outcome = catch_up.outcome();
        for (peer, fault) in given_up {
            // A peer may be gone, behind, or without what was asked for; a correct one is never caught lying.
            let lies = !matches!(
                fault,
                kaldrix_checkpoint::PeerFault::Silent | kaldrix_checkpoint::PeerFault::Missing(_) | kaldrix_checkpoint::PeerFault::TooSlow
            );
            if w.honest[self.id] && w.honest[peer] && lies {
                w.fail(Some(self.id), format!("correct validator {peer} is taken for a liar in recovery: {fault}"));
            }
        }
        for ask in asks {
            self.ask_catch_up(w, ask.peer, Asked::CatchUp(ask.id), ask.request);
        }
        match outcome {
            None => {}
            Some(CatchUpOutcome::Installed(installed)) => self.install(w, *installed),
            Some(CatchUpOutcome::NothingNewer | CatchUpOutcome::Failed) => self.recovery_ended(w),
        }
    }

    pub(crate) fn on_catch_up_answer(&mut self, w: &mut World<'_>, id: u64, answer: CatchUpAnswer) {
        let now_ms = w.now_ms();
        if let Some(process) = &mut self.process
            && let Some(Recovery::Asking(catch_up)) = &mut process.recovery
        {
            catch_up.answer(id, answer, now_ms, &w.book);
            self.poll_recovery(w);
        }
    }

    fn install(&mut self, w: &mut World<'_>, installed: Installed) {
        let Some(process) = &mut self.process else { return };
        process.recovery = Some(Recovery::Writing);
        if w.honest[self.id]
            && let Err(what) = w.judge.installed(&installed)
        {
            w.fail(Some(self.id), what);
        }
        process.writes.push(Item::Install(Arc::new(installed)));
    }

    /// The store has taken over a snapshot.
    pub(crate) fn on_installed(&mut self, w: &mut World<'_>) {
        let seats = w.seats_of(&self.store);
        let Some(process) = &mut self.process else { return };
        process.recovery = None;
        process.enter(seats, &self.store, true, w);
        w.snapshots += 1;
        w.note_commit(self.id, false);
        let is_start = self.with(|p| std::mem::take(&mut p.follow.is_before_start)).unwrap_or(false);
        if is_start {
            self.begin_boot(w);
            self.take_early(w);
        } else {
            self.entered(w);
        }
    }

    /// Nothing came of it: on as before.
    fn recovery_ended(&mut self, w: &mut World<'_>) {
        self.with(|p| p.recovery = None);
        self.begin_session(w);
    }
}
