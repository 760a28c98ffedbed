//! What a validator does by itself: fetches what is missing, writes, proposes, and repeats itself when nothing happens.

use crate::packet::{Message, Packet, Request};
use crate::process::Asked;
use crate::queue::Micros;
use crate::store::Item;
use crate::validator::Validator;
use crate::world::{Timer, World};
use kaldrix_dag::Proposal;
use kaldrix_types::{Block, BlockRef, Epoch, VerifiedBlock, encode};
use std::sync::Arc;

/// Expired and gapped transactions are looked for once per so many periods.
const SWEEP_PERIODS: u32 = 4;
/// How long others' blocks wait for company before they are written.
const LINGER: Micros = 100_000;
/// Requests are given up after this long, as `libs/p2p` does.
const REQUEST_MAX: Micros = 10_000_000;

impl Validator {
    pub(crate) fn on_fetch_period(&mut self, w: &mut World<'_>) {
        let now = self.clock(w);
        let at = w.now();
        let Some(process) = &mut self.process else { return };
        process.fetch_periods = process.fetch_periods.wrapping_add(1);
        if process.fetch_periods.is_multiple_of(SWEEP_PERIODS) {
            process.node.sweep(now);
            process.forget_asked(at.saturating_sub(REQUEST_MAX));
        }
        process.wants_fetch = true;
    }

    pub(crate) fn fetch(&mut self, w: &mut World<'_>) {
        const RANGE_BYTES: usize = 4 << 20;
        let now = self.clock(w);
        let at = w.now();
        let Some(process) = &mut self.process else { return };
        let seats = Arc::clone(&process.seats);
        // A process that ended closes its connections; one that is cut off does not.
        let connected: Vec<_> = seats.participants().iter().filter(|p| **p != self.id && w.up[**p]).map(|p| seats.seat(*p)).collect();
        let work = process.node.fetch(&connected, now);
        for request in work.blocks {
            if let Some(peer) = seats.participant(request.peer) {
                let id = process.asks(peer, Asked::Blocks(request.id), at);
                w.send(self.id, peer, Message::Request(id, Box::new(Request::Blocks(request.refs.into()))));
            }
        }
        if let Some(range) = work.range
            && let Some(peer) = seats.participant(range.peer)
        {
            let id = process.asks(peer, Asked::Range, at);
            let request = Request::BlocksAbove { floors: range.above.into(), limit_bytes: RANGE_BYTES };
            w.send(self.id, peer, Message::Request(id, Box::new(request)));
        }
    }

    pub(crate) fn rebroadcast(&mut self, w: &mut World<'_>) {
        let Some(process) = &mut self.process else { return };
        let Some(last) = process.last_sent.clone() else { return };
        let before = process.quiet.replace(last.reference());
        if before == Some(last.reference()) {
            self.disseminate(w, &last);
        }
    }

    /// The disk has taken what it was given.
    pub(crate) fn on_written(&mut self, w: &mut World<'_>) {
        let Some(process) = &mut self.process else { return };
        for item in std::mem::take(&mut process.writes.writing) {
            self.store.write(&item);
            match item {
                Item::Proposal(proposal) => {
                    let sign_us = w.config.sign_us;
                    self.plan(w, sign_us, Timer::Signed(proposal));
                }
                Item::Certified(certified) => self.on_durable_certificate(w, &certified),
                Item::Install(_) => self.on_installed(w),
                _ => {}
            }
        }
        self.write(w, false);
    }

    /// Begins a write when one is due.
    pub(crate) fn write(&mut self, w: &mut World<'_>, lingered: bool) {
        let Some(process) = &mut self.process else { return };
        if process.writes.begin(lingered) {
            let took = w.config.disk_us + self.disk_rng.below(w.config.disk_us / 2 + 1) + self.disk_extra;
            self.plan(w, took, Timer::Written);
        } else if process.writes.is_waiting() && process.writes.writing.is_empty() && !process.writes.lingers {
            process.writes.lingers = true;
            self.plan(w, LINGER, Timer::Linger);
        }
    }

    /// Whether the guard lets this be signed; it is durable before the signature leaves.
    fn may_sign(&mut self, epoch: Epoch, reference: BlockRef) -> bool {
        let BlockRef { round, digest, .. } = reference;
        let allowed = self.guard.is_none_or(|(e, r, d)| (epoch, round) > (e, r) || (epoch, round, digest) == (e, r, d));
        if allowed {
            self.guard = Some((epoch, round, digest));
        }
        allowed
    }

    /// A durable proposal comes to the key.
    pub(crate) fn on_signed(&mut self, w: &mut World<'_>, proposal: Proposal) {
        let now = self.clock(w);
        let reference = proposal.header.reference();
        if self.with(|p| p.seats.committee.epoch()) != Some(proposal.header.epoch) {
            // Its epoch is over; what it held waits in the mempool already.
            return;
        }
        if !self.may_sign(proposal.header.epoch, reference) {
            self.with(|p| p.node.proposal_refused(reference.round, proposal.transactions));
            return;
        }
        w.note_signed(self.id, proposal.header.epoch, reference);
        let Some(process) = &mut self.process else { return };
        w.work[self.id].signatures += 1;
        let committee = Arc::clone(&process.seats.committee);
        let key = committee.get(proposal.header.author).and_then(|seat| self.keys.iter().find(|pair| pair.public == seat.key));
        let Some(key) = key else {
            w.fail(Some(self.id), format!("no session key for {reference}"));
            return;
        };
        let signature = key.sign_block(w.chain, reference.digest);
        let block = Block { header: proposal.header, signature, body: proposal.body };
        let verified = match block.verify_own(proposal.transactions, &committee, &w.book) {
            Ok(verified) => Arc::new(verified),
            Err(error) => {
                if w.honest[self.id] {
                    w.fail(Some(self.id), format!("own block {reference} breaks a rule: {error}"));
                }
                self.with(|p| p.node.proposal_refused(reference.round, Vec::new()));
                return;
            }
        };
        self.sample_encoding(w, &verified);
        let (packet, _) = w.known(&verified);
        self.disseminate(w, &packet);
        self.with(|p| {
            p.last_sent = Some(packet);
            // Too late for its epoch, or known already from before a crash: both are harmless.
            let _ = p.node.own_block(verified, now);
        });
    }

    /// One in eight blocks goes through its bytes, as all do in production.
    fn sample_encoding(&self, w: &mut World<'_>, block: &Arc<VerifiedBlock>) {
        if !block.reference().digest.as_bytes()[0].is_multiple_of(8) {
            return;
        }
        let Some(process) = &self.process else { return };
        let bytes = encode(block.block());
        let read = Block::decode(&bytes).and_then(|b| b.verify(&process.seats.committee, &w.book, u64::MAX));
        if read.as_ref() != Ok(block.as_ref()) {
            w.fail(Some(self.id), format!("block {} does not survive its own encoding", block.reference()));
        }
    }

    /// Sends an own block to all others, or to whom and as a Byzantine script has it.
    fn disseminate(&mut self, w: &mut World<'_>, packet: &Packet) {
        let Some(process) = &self.process else { return };
        let seats = Arc::clone(&process.seats);
        if self.mischief.is_none() {
            for peer in seats.participants().iter().filter(|p| **p != self.id) {
                w.send(self.id, *peer, Message::Block(packet.clone()));
            }
            return;
        }
        let dag_round = process.node.dag().highest_round();
        let Some(keys) = seats.committee.get(seats.seat(self.id)).and_then(|seat| self.keys.iter().find(|pair| pair.public == seat.key))
        else {
            return;
        };
        let sendings = self.mischief.sendings(w, &seats, self.id, keys, packet, dag_round);
        for (to, packet, after) in sendings {
            if after == 0 {
                w.send(self.id, to, Message::Block(packet));
            } else {
                self.plan(w, after, Timer::Send(to, packet));
            }
        }
        for (to, request) in self.mischief.requests(&seats, self.id) {
            w.send(self.id, to, Message::Request(u64::MAX, Box::new(request)));
        }
    }
}
