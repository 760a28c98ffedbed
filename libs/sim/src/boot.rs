//! Before the first proposal of a validator that remembers no own block: how far it may have signed, as dag-service finds it out.
//!
//! The guard knows if it survived. Otherwise all peers are asked for this validator's newest block and then for their own newest one, and
//! `Node::rejoin` says when their answers are enough. Until then the validator follows and proposes nothing.

use crate::packet::{Message, Packet, Request};
use crate::process::Asked;
use crate::queue::Micros;
use crate::validator::{ANSWER_BLOCKS_MAX, Validator};
use crate::world::{Timer, World};
use kaldrix_dag::RejoinAnswer;
use kaldrix_types::{BlockRef, Round, ValidatorIndex};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How often the answers are looked at: blocks that back them come in meanwhile.
const PERIOD: Micros = 50_000;
/// Who has not answered is asked again after this long.
const RETRY: Micros = 250_000;
/// Everybody is asked again after this long: an answer may name a block that never gets here.
const ASK_AGAIN: Micros = 1_000_000;

/// What has been asked and answered.
#[derive(Debug, Default)]
pub(crate) struct Boot {
    answers: BTreeMap<usize, RejoinAnswer>,
    asked: BTreeMap<usize, Micros>,
    all_asked: Micros,
}

impl Validator {
    /// The store has no own block of this epoch.
    pub(crate) fn begin_boot(&mut self, w: &mut World<'_>) {
        let Some(process) = &mut self.process else { return };
        let epoch = process.seats.committee.epoch();
        match self.guard {
            // It remembers everything: in an epoch after the last one it signed in, it has signed nothing.
            Some((signed, round, _)) if signed <= epoch => process.node.own_round(if signed == epoch { round } else { 0 }),
            // Of a later epoch than this one: nothing more can be proposed here, and following leads there.
            Some(_) => {}
            // The guard was lost: nobody here knows what was signed.
            None if process.seat() != ValidatorIndex::OBSERVER => {
                process.boot = Some(Boot { all_asked: w.now(), ..Boot::default() });
                return self.on_boot(w);
            }
            None => {}
        }
        self.begin_session(w);
    }

    /// Asks whoever is to be asked now, and looks whether the answers are enough.
    pub(crate) fn on_boot(&mut self, w: &mut World<'_>) {
        let now = w.now();
        let Some(process) = &mut self.process else { return };
        let (seats, own) = (Arc::clone(&process.seats), process.seat());
        let Some(boot) = &mut process.boot else { return };
        let again = now >= boot.all_asked + ASK_AGAIN;
        if again {
            boot.all_asked = now;
        }
        let is_due = |peer: &usize| {
            let asked = boot.asked.get(peer).copied();
            *peer != self.id && w.up[*peer] && (again || (!boot.answers.contains_key(peer) && asked.is_none_or(|at| now >= at + RETRY)))
        };
        let ask: Vec<usize> = seats.participants().iter().copied().filter(is_due).collect();
        boot.asked.extend(ask.iter().map(|peer| (*peer, now)));
        for peer in ask {
            let id = process.asks(peer, Asked::OwnLast, now);
            w.send(self.id, peer, Message::Request(id, Box::new(Request::LastOwnBlock(own))));
        }
        self.plan(w, PERIOD, Timer::Boot);
        self.look_whether_known(w);
    }

    /// A peer's answer to what this validator signed last; it is asked for its own newest block next.
    pub(crate) fn boot_own(&mut self, w: &mut World<'_>, from: usize, blocks: Option<Vec<Packet>>) {
        let Some(blocks) = blocks else { return };
        let own = self.with(|p| p.seat()).unwrap_or(ValidatorIndex::OBSERVER);
        let Some(newest) = self.take_by(w, from, own, blocks) else { return };
        let own_round = newest.map_or(0, |newest| newest.round);
        let now = w.now();
        let Some(process) = &mut self.process else { return };
        let seat = process.seats.seat(from);
        let id = process.asks(from, Asked::PeerLast(own_round), now);
        w.send(self.id, from, Message::Request(id, Box::new(Request::LastOwnBlock(seat))));
    }

    pub(crate) fn boot_newest(&mut self, w: &mut World<'_>, from: usize, own_round: Round, blocks: Option<Vec<Packet>>) {
        let Some(blocks) = blocks else { return };
        let Some(seat) = self.with(|p| p.seats.seat(from)) else { return };
        let Some(newest) = self.take_by(w, from, seat, blocks) else { return };
        self.with(|p| {
            if let Some(boot) = &mut p.boot {
                boot.answers.insert(from, RejoinAnswer { peer: seat, own_round, newest });
            }
        });
        self.look_whether_known(w);
    }

    /// Takes in blocks of an answer. The newest of them that `author` signed counts even if it is too far ahead to be taken in yet.
    /// `None` when one is not by `author` in this epoch: a peer that is in another epoch says nothing about this one.
    fn take_by(&mut self, w: &mut World<'_>, from: usize, author: ValidatorIndex, blocks: Vec<Packet>) -> Option<Option<BlockRef>> {
        let wall_ms = self.clock(w).wall_ms;
        let (mut newest, mut is_answer) = (None, true);
        for packet in blocks.into_iter().take(ANSWER_BLOCKS_MAX) {
            let process = self.process.as_ref()?;
            if packet.reference().author == author && packet.open(&process.seats.committee, &w.book, wall_ms).is_ok() {
                newest = newest.max(Some(packet.reference()));
            } else {
                is_answer = false;
            }
            self.take(w, from, &packet);
        }
        is_answer.then_some(newest)
    }

    fn look_whether_known(&mut self, w: &mut World<'_>) {
        let Some(process) = &mut self.process else { return };
        let Some(boot) = &process.boot else { return };
        let answers: Vec<RejoinAnswer> = boot.answers.values().copied().collect();
        if process.node.rejoin(&answers) {
            process.boot = None;
            self.begin_session(w);
        }
    }
}
