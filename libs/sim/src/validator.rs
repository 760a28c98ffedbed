//! One validator: the real cores, and between them the order of things that the services keep.
//!
//! ```text
//!   Message::Block ─▶ verify ─▶ Node ─Accepted─▶ Writes (disk) and ConsensusCore ─Propose─▶ Node ─Propose─▶ durable ─▶ sign ─▶ send
//!                                 ▲                                │
//!                                 └────── executed ◀── execute ◀───┴─Commit
//! ```

use crate::byzantine::Mischief;
use crate::faults::{Behaviour, Lost};
use crate::keys::KeyPair;
use crate::packet::{Message, Packet, Request};
use crate::process::{Asked, Process};
use crate::queue::Micros;
use crate::rng::Rng;
use crate::store::{Store, StoredBlock};
use crate::world::{Event, Timer, World};
use kaldrix_dag::Now;
use kaldrix_types::{BlockError, BlockRef, DecodedTransaction, Digest, Epoch, Round, ValidatorIndex};
use std::sync::Arc;

/// How often missing blocks are looked for, besides being woken.
const FETCH_PERIOD: Micros = 50_000;
/// The last own block is sent again after this long without a newer one.
const QUIET: Micros = 1_000_000;
/// Blocks and bytes of one answer.
pub(crate) const ANSWER_BLOCKS_MAX: usize = 128;
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// What became of received bytes.
pub(crate) enum Taken {
    In(BlockRef),
    /// Not taken; `true` when no correct validator would have sent it.
    Refused(bool),
}

/// See the module's text. What is in `process` dies with it; the rest is the machine.
pub(crate) struct Validator {
    pub(crate) id: usize,
    pub(crate) life: u32,
    pub(crate) process: Option<Process>,
    pub(crate) store: Store,
    /// Session keys: the first one and the one to rotate to.
    pub(crate) keys: Vec<KeyPair>,
    /// Double-sign protection: the last block that was signed.
    pub(crate) guard: Option<(Epoch, Round, Digest)>,
    /// What its wall clock is off by.
    pub(crate) clock_ms: i64,
    pub(crate) disk_extra: Micros,
    pub(crate) mischief: Mischief,
    pub(crate) disk_rng: Rng,
    /// What came while it stood still; `None` while it runs.
    pub(crate) backlog: Option<Vec<Event>>,
}

impl Validator {
    pub(crate) fn new(id: usize, keys: Vec<KeyPair>, store: Store, seed: u64) -> Self {
        Self {
            id,
            life: 0,
            process: None,
            store,
            keys,
            // Made with the key: it has signed nothing, and that is known.
            guard: Some((0, 0, Digest::ZERO)),
            clock_ms: 0,
            disk_extra: 0,
            mischief: Mischief::new(seed, id),
            disk_rng: Rng::new(seed, 0x1000 + id as u64),
            backlog: None,
        }
    }

    pub(crate) fn clock(&self, w: &World<'_>) -> Now {
        let wall_ms = (crate::world::GENESIS_MS + w.now_ms()).saturating_add_signed(self.clock_ms);
        Now { monotonic_ms: w.now_ms(), wall_ms }
    }

    pub(crate) fn plan(&self, w: &mut World<'_>, after: Micros, timer: Timer) {
        w.queue.after(after, Event::Timer { who: self.id, life: self.life, timer });
    }

    /// The process starts, with what the disk holds.
    pub(crate) fn start(&mut self, w: &mut World<'_>) {
        self.process = Some(Process::recover(self.id, &self.store, w));
        w.up[self.id] = true;
        let phase = self.disk_rng.below(FETCH_PERIOD);
        self.plan(w, phase, Timer::Fetch);
        self.plan(w, phase, Timer::Follow);
        self.plan(w, QUIET, Timer::Rebroadcast);
        let epoch = self.with(|p| p.seats.committee.epoch()).unwrap_or_default();
        match self.store.own_last(epoch).map(|(_, stored)| stored.clone()) {
            None if self.store.last_commit().is_none() => {
                self.with(|p| p.follow.is_before_start = true);
            }
            // The store is there, and what is signed is durable before: nothing was signed in this epoch.
            None => self.begin_session(w),
            Some(stored) => {
                match stored {
                    StoredBlock::Signed(packet) => {
                        self.with(|p| p.last_sent = Some(packet));
                    }
                    // The crash came between durable and signed: the same bytes are signed again.
                    StoredBlock::Unsigned(proposal) => self.plan(w, w.config.sign_us, Timer::Signed(proposal)),
                }
                self.begin_session(w);
            }
        }
        self.settle(w);
    }

    /// The process ends. Of the write under way nobody knows whether it came to its end.
    pub(crate) fn crash(&mut self, w: &mut World<'_>, lost: Lost) {
        let Some(process) = self.process.take() else { return };
        self.life += 1;
        self.backlog = None;
        w.up[self.id] = false;
        if self.disk_rng.chance(500) {
            process.writes.writing.iter().for_each(|item| self.store.write(item));
        }
        if lost != Lost::Memory {
            self.store = Store::new(w.genesis.clone(), w.genesis_tree.clone());
        }
        if lost == Lost::DiskAndKeys {
            self.guard = None;
        }
    }

    pub(crate) fn with<T>(&mut self, f: impl FnOnce(&mut Process) -> T) -> Option<T> {
        self.process.as_mut().map(f)
    }

    pub(crate) fn on_message(&mut self, w: &mut World<'_>, from: usize, message: Message) {
        if self.process.is_none() {
            return;
        }
        match message {
            Message::Block(packet) => {
                // Pushes of those without a seat are not looked at.
                let is_member = |p: &mut Process| p.seats.seat(from) != ValidatorIndex::OBSERVER;
                if self.with(is_member).unwrap_or(false) {
                    self.take(w, from, &packet);
                }
            }
            Message::Request(id, request) if matches!(*request, Request::CatchUp(_)) => {
                if let Request::CatchUp(request) = *request {
                    let answer = self.mischief.catch_up_answer(self.store.serve(&request, self.process.as_ref().map(|p| &p.builder)));
                    w.send(self.id, from, Message::CatchUpAnswer(id, answer));
                }
            }
            Message::CatchUpAnswer(id, answer) => match self.with(|p| p.answered(id, from)).flatten() {
                Some(Asked::Newest) => self.on_newest(w, from, &answer),
                Some(Asked::EpochEnds(newest)) => self.on_epoch_ends(w, &newest, &answer),
                Some(Asked::CatchUp(id)) => self.on_catch_up_answer(w, id, answer),
                _ => {}
            },
            Message::Request(id, request) => {
                let blocks = self.answer(w, from, &request);
                w.send(self.id, from, Message::Answer(id, blocks));
            }
            Message::Answer(id, blocks) => self.on_answer(w, from, id, blocks),
        }
        self.settle(w);
    }

    pub(crate) fn on_timer(&mut self, w: &mut World<'_>, timer: Timer) {
        match timer {
            Timer::Start => self.start(w),
            Timer::Tick => self.on_tick(w),
            Timer::Fetch => {
                self.plan(w, FETCH_PERIOD, Timer::Fetch);
                self.on_fetch_period(w);
            }
            Timer::Rebroadcast => {
                self.plan(w, QUIET, Timer::Rebroadcast);
                self.rebroadcast(w);
            }
            Timer::Linger => {
                self.with(|p| p.writes.lingers = false);
                self.write(w, true);
            }
            Timer::Written => self.on_written(w),
            Timer::Signed(proposal) => self.on_signed(w, *proposal),
            Timer::Session => self.begin_session(w),
            Timer::Boot => self.on_boot(w),
            Timer::Follow => self.on_follow_period(w),
            Timer::Hint => self.on_hint(w),
            Timer::CatchUp => self.on_catch_up_period(w),
            Timer::Send(to, packet) => w.send(self.id, to, Message::Block(packet)),
        }
        self.settle(w);
    }

    /// Verifies a block and hands it to the node.
    pub(crate) fn take(&mut self, w: &mut World<'_>, from: usize, packet: &Packet) -> Taken {
        let now = self.clock(w);
        let Some(process) = &mut self.process else { return Taken::Refused(false) };
        let (epoch, running) = (packet.header().epoch, process.seats.committee.epoch());
        if epoch != running {
            if epoch > running {
                process.keep_early(from, packet);
                self.hint(w);
            }
            return Taken::Refused(false);
        }
        w.work[self.id].block_checks += 1;
        let verdict = packet.open(&process.seats.committee, &w.book, now.wall_ms);
        let refused = match verdict {
            Ok(block) => {
                let sender = process.seats.seat(from);
                match process.node.add_block(sender, block, now) {
                    Ok(()) => return Taken::In(packet.reference()),
                    Err(refused) if !refused.is_peer_fault() => return Taken::In(packet.reference()),
                    Err(_) => Taken::Refused(true),
                }
            }
            Err(BlockError::FromTheFuture { .. }) => Taken::Refused(false),
            Err(_) => Taken::Refused(true),
        };
        if matches!(refused, Taken::Refused(true)) {
            w.refused_blocks += 1;
            if w.honest[from] && w.honest[packet_author(process, packet).unwrap_or(from)] {
                let what = format!("validator {} refuses block {} that correct validators made and sent", self.id, packet.reference());
                w.fail(Some(from), what);
            }
        }
        refused
    }

    fn answer(&mut self, w: &mut World<'_>, from: usize, request: &Request) -> Option<Vec<Packet>> {
        let process = self.process.as_ref()?;
        let blocks = match request {
            Request::Blocks(refs) => {
                let mut bytes = 0;
                let find = |reference: &BlockRef| match process.node.dag().get(reference) {
                    Some(block) => Some(w.known(block).0),
                    None => self.store.get(reference).cloned(),
                };
                let found = refs.iter().take(ANSWER_BLOCKS_MAX).filter_map(find);
                let fits = |packet: &Packet| {
                    bytes += packet.bytes();
                    bytes <= ANSWER_BYTES_MAX || bytes == packet.bytes()
                };
                found.take_while(fits).collect()
            }
            Request::BlocksAbove { floors, limit_bytes } => self.store.blocks_above(floors, (*limit_bytes).min(ANSWER_BYTES_MAX)),
            Request::CatchUp(_) => return None,
            Request::LastOwnBlock(author) => process.node.last_block(*author).map(|block| w.known(block).0).into_iter().collect(),
        };
        let (seats, id) = (Arc::clone(&process.seats), self.id);
        self.mischief.answer(w, &seats, id, from, request, blocks)
    }

    fn on_answer(&mut self, w: &mut World<'_>, from: usize, id: u64, blocks: Option<Vec<Packet>>) {
        let now = self.clock(w);
        let Some(process) = &mut self.process else { return };
        // Answers that nobody asked this peer for are not looked at.
        let Some(asked) = process.answered(id, from) else { return };
        match asked {
            Asked::OwnLast => self.boot_own(w, from, blocks),
            Asked::PeerLast(own_round) => self.boot_newest(w, from, own_round, blocks),
            Asked::Blocks(request) => {
                let delivered = blocks.map(|blocks| self.take_all(w, from, &blocks));
                self.with(|p| p.node.fetched(request, delivered.as_deref(), now));
            }
            Asked::Range => {
                let progress = blocks.is_some_and(|blocks| !self.take_all(w, from, &blocks).is_empty());
                self.with(|p| {
                    let seat = p.seats.seat(from);
                    p.node.range_fetched(seat, progress, now);
                    p.wants_fetch = true;
                });
            }
            Asked::Newest | Asked::EpochEnds(_) | Asked::CatchUp(_) => {}
        }
    }

    fn take_all(&mut self, w: &mut World<'_>, from: usize, blocks: &[Packet]) -> Vec<BlockRef> {
        let mut taken = Vec::with_capacity(blocks.len());
        for packet in blocks {
            match self.take(w, from, packet) {
                Taken::In(reference) => taken.push(reference),
                // The rest of a liar's answer is not worth the work.
                Taken::Refused(true) => break,
                Taken::Refused(false) => {}
            }
        }
        taken
    }

    /// A client hands in a transaction; returns whether it was accepted.
    pub(crate) fn submit(&mut self, w: &mut World<'_>, tx: Arc<DecodedTransaction>) -> bool {
        let now = self.clock(w);
        let Some(process) = &mut self.process else { return false };
        w.work[self.id].transaction_checks += 1;
        let body = tx.body();
        let next = process.state.next_sequence(body.sender, body.lane);
        let accepted = body.sequence >= next && process.node.add_transaction(tx, next, now).is_ok();
        self.settle(w);
        accepted
    }

    /// Does everything that the cores asked for, until they ask for nothing more.
    pub(crate) fn settle(&mut self, w: &mut World<'_>) {
        loop {
            self.look_at_findings(w);
            let effects = self.with(|p| p.node.effects()).unwrap_or_default();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                self.carry_out(w, effect);
            }
        }
        if self.with(|p| std::mem::take(&mut p.wants_fetch)).unwrap_or(false) {
            self.fetch(w);
        }
        self.write(w, false);
        self.plan_tick(w);
    }

    /// The key that the running epoch knows this validator by.
    pub(crate) fn session_key(&self, process: &Process) -> Option<&KeyPair> {
        let seat = process.seats.committee.get(process.seat())?;
        self.keys.iter().find(|pair| pair.public == seat.key)
    }

    /// Whether it proposes at all.
    pub(crate) fn is_silent(&self) -> bool {
        self.mischief.has(&Behaviour::Silent)
    }
}

fn packet_author(process: &Process, packet: &Packet) -> Option<usize> {
    process.seats.participant(packet.reference().author)
}
