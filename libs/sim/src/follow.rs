//! Notices that the others are ahead, in a later epoch or by many commits, as dag-service does: what a peer says about that is certified
//! through the committees of all epochs between, or it is not believed.

use crate::packet::{Message, Request};
use crate::process::Asked;
use crate::queue::Micros;
use crate::validator::Validator;
use crate::world::{Timer, World};
use kaldrix_checkpoint::{CatchUpAnswer, CatchUpRequest};
use kaldrix_types::{CertifiedCheckpoint, Committee, ValidatorIndex, decode};
use std::sync::Arc;

const PERIOD: Micros = 1_000_000;
/// Before the start, and after a hint.
const SOON: Micros = 20_000;
/// A peer that does not answer is left alone after this long.
const PATIENCE: Micros = 500_000;
/// Without a commit for so many periods something is wrong here or everywhere.
const STALLED_PERIODS: u32 = 3;
/// More commits than this are taken over as a snapshot. Production has 400; runs here are short.
const FAR_COMMITS: u64 = 40;
const FAR_COMMITS_STALLED: u64 = 20;
const CHECKPOINT_BYTES_MAX: usize = 8 << 20;
const EPOCH_ENDS_MAX: u32 = 64;

/// What this remembers.
#[derive(Debug, Default)]
pub(crate) struct Follow {
    /// With an empty store nothing is done before a peer has said where the others are.
    pub(crate) is_before_start: bool,
    hinted: bool,
    seen: u64,
    quiet: u32,
    stalled: bool,
    turn: usize,
    asked_at: Option<Micros>,
    next_look: Micros,
}

impl Validator {
    /// Somebody is in a later epoch.
    pub(crate) fn hint(&mut self, w: &mut World<'_>) {
        let Some(process) = &mut self.process else { return };
        if !std::mem::replace(&mut process.follow.hinted, true) {
            self.plan(w, SOON, Timer::Hint);
        }
    }

    pub(crate) fn on_follow_period(&mut self, w: &mut World<'_>) {
        let Some(process) = &mut self.process else { return };
        let last = process.executed();
        let has_seat = process.seat() != ValidatorIndex::OBSERVER;
        let follow = &mut process.follow;
        let period = if follow.is_before_start { 50_000 } else { PERIOD };
        if !follow.is_before_start {
            follow.quiet = if last == follow.seen { follow.quiet + 1 } else { 0 };
            follow.seen = last;
            follow.stalled = follow.quiet >= STALLED_PERIODS;
        }
        let looks = follow.is_before_start || follow.stalled || !has_seat;
        self.plan(w, period, Timer::Follow);
        if looks {
            self.look(w);
        }
    }

    pub(crate) fn on_hint(&mut self, w: &mut World<'_>) {
        let Some(process) = &mut self.process else { return };
        process.follow.hinted = false;
        self.look(w);
    }

    /// Asks the next peer for its newest certificate.
    fn look(&mut self, w: &mut World<'_>) {
        let now = w.now();
        let peers: Vec<usize> = (0..w.up.len()).filter(|p| *p != self.id && w.up[*p]).collect();
        let Some(process) = &mut self.process else { return };
        let follow = &mut process.follow;
        let is_waiting = follow.asked_at.is_some_and(|at| now < at + PATIENCE);
        if peers.is_empty() || process.recovery.is_some() || is_waiting || now < follow.next_look {
            return;
        }
        follow.turn = follow.turn.wrapping_add(1);
        (follow.asked_at, follow.next_look) = (Some(now), now + SOON);
        let peer = peers[(follow.turn + self.id) % peers.len()];
        let request = CatchUpRequest::Checkpoints { from_index: 0, epoch_ends_only: false, limit: 1 };
        self.ask_catch_up(w, peer, Asked::Newest, request);
    }

    pub(crate) fn ask_catch_up(&mut self, w: &mut World<'_>, peer: usize, what: Asked, request: CatchUpRequest) {
        let now = w.now();
        let Some(process) = &mut self.process else { return };
        let id = process.asks(peer, what, now);
        w.send(self.id, peer, Message::Request(id, Box::new(Request::CatchUp(request))));
    }

    pub(crate) fn on_newest(&mut self, w: &mut World<'_>, from: usize, answer: &CatchUpAnswer) {
        let Some(process) = &mut self.process else { return };
        process.follow.asked_at = None;
        let Some(mut found) = checkpoints(answer) else { return };
        let epoch = process.seats.committee.epoch();
        match found.pop().filter(|newest| newest.checkpoint.epoch >= epoch) {
            None => self.started(w),
            Some(newest) if newest.checkpoint.epoch == epoch => self.proven(w, &newest, &[]),
            Some(newest) => {
                let from_index = self.store.last_certified().map_or(0, |c| c.checkpoint.index) + 1;
                let request = CatchUpRequest::Checkpoints { from_index, epoch_ends_only: true, limit: EPOCH_ENDS_MAX };
                self.ask_catch_up(w, from, Asked::EpochEnds(Box::new(newest)), request);
            }
        }
    }

    pub(crate) fn on_epoch_ends(&mut self, w: &mut World<'_>, newest: &CertifiedCheckpoint, answer: &CatchUpAnswer) {
        if let Some(links) = checkpoints(answer) {
            self.proven(w, newest, &links);
        }
    }

    /// Checks what a peer has shown, from this validator's epoch on, and acts on it.
    fn proven(&mut self, w: &mut World<'_>, newest: &CertifiedCheckpoint, links: &[CertifiedCheckpoint]) {
        let Some(process) = &self.process else { return };
        let own = Arc::clone(&process.seats.committee);
        let (mut committee, mut end) = (Arc::clone(&own), None);
        for link in links.iter().filter(|link| link.checkpoint.epoch >= own.epoch()) {
            let Some(next) = verified_next(w, &committee, link) else { return };
            committee = next;
            end.get_or_insert_with(|| link.clone());
            if committee.epoch() == newest.checkpoint.epoch {
                break;
            }
        }
        if newest.verify(&committee, &w.book).is_err() {
            return;
        }
        let leads_to = verified_next(w, &committee, newest).unwrap_or_else(|| Arc::clone(&committee));
        if newest.checkpoint.next_epoch.is_some() && newest.checkpoint.epoch == own.epoch() {
            end = Some(newest.clone());
        }
        let name = crate::world::name_of(self.id);
        let ahead = newest.checkpoint.last_commit.saturating_sub(process.executed());
        let limit = if process.follow.stalled { FAR_COMMITS_STALLED } else { FAR_COMMITS };
        // Nobody sends blocks of an epoch that is over.
        let is_stuck = (process.follow.stalled || process.executed() == 0) && ahead > 0 && end.is_some();
        if ahead > limit || is_stuck || (leads_to.index_of(&name).is_some() && own.index_of(&name).is_none()) {
            self.begin_recovery(w);
            return;
        }
        if let Some(end) = end {
            self.on_certified(w, Arc::new(end));
        }
        self.started(w);
    }

    /// A peer has answered: the process may begin.
    pub(crate) fn started(&mut self, w: &mut World<'_>) {
        let Some(process) = &mut self.process else { return };
        if std::mem::take(&mut process.follow.is_before_start) {
            self.begin_boot(w);
        }
    }
}

fn checkpoints(answer: &CatchUpAnswer) -> Option<Vec<CertifiedCheckpoint>> {
    let CatchUpAnswer::Checkpoints(items) = answer else { return None };
    items.iter().take(EPOCH_ENDS_MAX as usize).map(|bytes| decode(bytes, CHECKPOINT_BYTES_MAX).ok()).collect()
}

fn verified_next(w: &World<'_>, committee: &Committee, end: &CertifiedCheckpoint) -> Option<Arc<Committee>> {
    end.verify(committee, &w.book).ok()?;
    end.checkpoint.next_committee()?.ok().map(Arc::new)
}
