//! How a Byzantine validator differs from a correct one: it runs the same cores, and this stands between them and the others.
//!
//! It has its own key and nobody else's. What it makes of its own blocks goes to others only; its own cores keep the correct one, which is
//! the most dangerous thing to do: it keeps up, is built upon, and can strike at any time.

use crate::faults::Behaviour;
use crate::keys::KeyPair;
use crate::packet::{Packet, Request};
use crate::queue::Micros;
use crate::rng::Rng;
use crate::world::{Seats, World};
use bytes::Bytes;
use kaldrix_checkpoint::CatchUpAnswer;
use kaldrix_dag::Proposal;
use kaldrix_types::{
    Block, BlockRef, DecodedTransaction, Digest, Header, Round, ValidatorIndex, VerifiedBlock, encode, encode_body, limits, merkle_root,
};
use std::collections::VecDeque;
use std::sync::Arc;

/// Others' transactions that are kept to be misused.
const REMEMBERED_MAX: usize = 32;

/// A set of participants, resolved.
type Members = Vec<bool>;

/// The behaviours that are on, and what they need to remember.
pub(crate) struct Mischief {
    active: Vec<(usize, Behaviour, Members)>,
    rng: Rng,
    transactions: VecDeque<DecodedTransaction>,
    /// Own blocks, to be sent again.
    old: VecDeque<Packet>,
}

impl Mischief {
    pub(crate) fn new(seed: u64, participant: usize) -> Self {
        Self { active: Vec::new(), rng: Rng::new(seed, 0x2000 + participant as u64), transactions: VecDeque::new(), old: VecDeque::new() }
    }

    /// Turns a behaviour on; `members` are those that it names.
    pub(crate) fn begin(&mut self, fault: usize, behaviour: Behaviour, members: Members) {
        self.active.push((fault, behaviour, members));
    }

    pub(crate) fn end(&mut self, fault: usize) {
        self.active.retain(|(id, ..)| *id != fault);
    }

    pub(crate) const fn is_none(&self) -> bool {
        self.active.is_empty()
    }

    pub(crate) fn has(&self, behaviour: &Behaviour) -> bool {
        self.active.iter().any(|(_, b, _)| b == behaviour)
    }

    fn late(&self) -> Micros {
        self.active.iter().map(|(_, b, _)| if let Behaviour::Late(ms) = b { ms * 1_000 } else { 0 }).max().unwrap_or(0)
    }

    fn withholds_from(&self, participant: usize) -> bool {
        self.active.iter().any(|(_, b, who)| matches!(b, Behaviour::Withhold(_)) && who[participant])
    }

    fn withholds_body_from(&self, participant: usize) -> bool {
        self.active.iter().any(|(_, b, who)| matches!(b, Behaviour::WithholdBody(_)) && who[participant])
    }

    /// Keeps transactions that were executed.
    pub(crate) fn remember(&mut self, blocks: &[Arc<VerifiedBlock>]) {
        if !self.has(&Behaviour::BadTransactions) {
            return;
        }
        for tx in blocks.iter().flat_map(|b| b.transactions()) {
            self.transactions.push_back(tx.clone());
            if self.transactions.len() > REMEMBERED_MAX {
                self.transactions.pop_front();
            }
        }
    }

    /// What goes into its own block.
    pub(crate) fn proposal(&mut self, mut proposal: Box<Proposal>) -> Box<Proposal> {
        if !self.has(&Behaviour::BadTransactions) {
            return proposal;
        }
        // It votes for checkpoints that nobody computed, too.
        proposal.header.checkpoint_votes.iter_mut().for_each(|vote| vote.digest.0[0] ^= 1);
        if self.transactions.is_empty() {
            return proposal;
        }
        for tx in self.transactions.iter().take(6) {
            let forged = if self.rng.chance(500) { Some(tx.clone()) } else { forge(tx, &mut self.rng) };
            proposal.transactions.extend(forged);
        }
        rebuild(&mut proposal.header, &mut proposal.body, &proposal.transactions);
        proposal
    }

    /// What of its last block, or in place of it, goes to whom and when.
    pub(crate) fn sendings(
        &mut self,
        w: &World<'_>,
        seats: &Seats,
        own: usize,
        keys: &KeyPair,
        packet: &Packet,
        highest: Round,
    ) -> Vec<(usize, Packet, Micros)> {
        let Ok(block) = packet.open(&seats.committee, &w.book, u64::MAX) else { return Vec::new() };
        let workshop = Workshop { w, seats, keys, block: block.block() };
        let mut sendings = Vec::new();
        let others: Vec<usize> = seats.participants().iter().copied().filter(|p| *p != own).collect();
        let halves = self.has(&Behaviour::EquivocateHalves).then(|| workshop.variant(1));
        for (position, to) in others.iter().copied().enumerate() {
            if self.withholds_from(to) {
                continue;
            }
            let mut sent = packet.clone();
            if let Some(variant) = &halves
                && (position + highest as usize).is_multiple_of(2)
            {
                sent = variant.clone();
            }
            if self.has(&Behaviour::EquivocateEach) {
                sent = workshop.variant(position as u64 + 1);
            }
            sent = self.spoil(&workshop, sent);
            if self.withholds_body_from(to) {
                sent = workshop.without_body();
            }
            sendings.push((to, sent, self.late()));
        }
        if self.has(&Behaviour::Flood) {
            self.flood(&workshop, &others, highest, &mut sendings);
        }
        self.old.push_back(packet.clone());
        if self.old.len() > REMEMBERED_MAX {
            self.old.pop_front();
        }
        sendings
    }

    /// In half of the cases something invalid in place of the block.
    fn spoil(&mut self, workshop: &Workshop<'_>, sent: Packet) -> Packet {
        let spoils = |b: &&Behaviour| matches!(b, Behaviour::InvalidParents | Behaviour::InvalidSignatures | Behaviour::InvalidTimestamps);
        let Some(behaviour) = self.active.iter().map(|(_, b, _)| b).find(spoils).cloned() else { return sent };
        if self.rng.chance(500) {
            return sent;
        }
        match behaviour {
            Behaviour::InvalidParents => workshop.with_bad_parents(&mut self.rng),
            Behaviour::InvalidTimestamps => workshop.with_bad_time(&mut self.rng),
            _ => workshop.badly_signed(&mut self.rng),
        }
    }

    fn flood(&mut self, workshop: &Workshop<'_>, others: &[usize], highest: Round, sendings: &mut Vec<(usize, Packet, Micros)>) {
        for number in 0..12 {
            let Some(to) = self.rng.pick(others).copied() else { return };
            let junk = match number % 5 {
                0 => workshop.variant(self.rng.between(2, 1 << 40)),
                1 => workshop.far_ahead(highest + self.rng.between(2, 2_000), &mut self.rng),
                2 => workshop.with_bad_parents(&mut self.rng),
                3 => workshop.of_later_epoch(),
                _ => match self.old.get(self.rng.below(self.old.len() as u64) as usize) {
                    Some(old) => old.clone(),
                    None => continue,
                },
            };
            sendings.push((to, junk, self.rng.below(20_000)));
        }
    }

    /// Requests that nobody needs the answers to.
    pub(crate) fn requests(&mut self, seats: &Seats, own: usize) -> Vec<(usize, Request)> {
        if !self.has(&Behaviour::Flood) {
            return Vec::new();
        }
        let others: Vec<usize> = seats.participants().iter().copied().filter(|p| *p != own).collect();
        let mut requests = Vec::new();
        for number in 0..3 {
            let Some(to) = self.rng.pick(&others).copied() else { break };
            requests.push((
                to,
                match number {
                    0 => Request::BlocksAbove { floors: vec![0; others.len() + 1].into(), limit_bytes: usize::MAX },
                    1 => Request::Blocks((0..200).map(|_| invented(&mut self.rng, seats, 1_000)).collect()),
                    _ => Request::LastOwnBlock(ValidatorIndex(self.rng.below(1 << 16) as u16)),
                },
            ));
        }
        requests
    }

    /// What it answers to one that was away.
    pub(crate) fn catch_up_answer(&mut self, answer: CatchUpAnswer) -> CatchUpAnswer {
        if !self.has(&Behaviour::LieInSync) {
            return answer;
        }
        let rng = &mut self.rng;
        match (rng.below(4), answer) {
            (0, _) => CatchUpAnswer::Refused,
            (1, answer) => answer,
            (2, CatchUpAnswer::Checkpoints(_)) => CatchUpAnswer::Checkpoints(Vec::new()),
            (2, CatchUpAnswer::Executed(items)) => CatchUpAnswer::Executed(items.into_iter().skip(1).collect()),
            (2, CatchUpAnswer::StatePage { at, records, .. }) => CatchUpAnswer::StatePage { at, records, is_last: true },
            (_, CatchUpAnswer::Checkpoints(items)) => CatchUpAnswer::Checkpoints(items.iter().map(|b| flip(rng, b)).collect()),
            (_, CatchUpAnswer::Executed(items)) => CatchUpAnswer::Executed(items.iter().map(|b| flip(rng, b)).collect()),
            (_, CatchUpAnswer::StatePage { at, records, is_last }) => {
                CatchUpAnswer::StatePage { at: at + rng.below(3), records: flip(rng, &records), is_last }
            }
            (_, answer) => answer,
        }
    }

    /// What it answers.
    pub(crate) fn answer(
        &mut self,
        w: &World<'_>,
        seats: &Seats,
        own: usize,
        from: usize,
        request: &Request,
        blocks: Vec<Packet>,
    ) -> Option<Vec<Packet>> {
        if self.is_none() {
            return Some(blocks);
        }
        let seat = seats.seat(own);
        let mut blocks = blocks;
        if self.withholds_from(from) {
            blocks.retain(|b| b.reference().author != seat);
        }
        if self.withholds_body_from(from) {
            let strip = |b: Packet| if b.reference().author == seat { without_body(&b, w, seats) } else { b };
            blocks = blocks.into_iter().map(strip).collect();
        }
        if !self.has(&Behaviour::LieInSync) {
            return Some(blocks);
        }
        match self.rng.below(6) {
            0 => None,
            1 => Some(Vec::new()),
            // Other blocks than those that were asked for.
            2 => Some(self.old.iter().cloned().collect()),
            // Far too many.
            3 => Some(self.old.iter().cycle().take(if self.old.is_empty() { 0 } else { 2_000 }).cloned().collect()),
            4 => Some(blocks.iter().map(|b| without_body(b, w, seats)).collect()),
            _ => {
                // The truth, but for the first block, and nothing about anybody's last own block.
                let is_boot = matches!(request, Request::LastOwnBlock(_));
                Some(blocks.into_iter().skip(if is_boot { usize::MAX } else { 1 }).collect())
            }
        }
    }
}

/// The same with one bit changed.
fn flip(rng: &mut Rng, bytes: &Bytes) -> Bytes {
    let mut changed = bytes.to_vec();
    let position = rng.below(changed.len() as u64) as usize;
    if let Some(byte) = changed.get_mut(position) {
        *byte ^= 1 << rng.below(8);
    }
    changed.into()
}

/// A reference to a block that was never made.
fn invented(rng: &mut Rng, seats: &Seats, rounds: Round) -> BlockRef {
    let author = ValidatorIndex(rng.below(seats.participants().len() as u64) as u16);
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&rng.next().to_le_bytes());
    BlockRef { round: rng.between(1, rounds.max(1)), author, digest: Digest(digest) }
}

/// The same with another sequence number or amount, and so without a signature that holds.
fn forge(tx: &DecodedTransaction, rng: &mut Rng) -> Option<DecodedTransaction> {
    let mut signed: kaldrix_types::SignedTransaction = kaldrix_types::decode(tx.bytes(), limits::TRANSACTION_BYTES_MAX).ok()?;
    signed.body.sequence += rng.between(1, 3);
    DecodedTransaction::decode(encode(&signed).into(), signed.body.chain_id).ok()
}

fn rebuild(header: &mut Header, body: &mut Bytes, transactions: &[DecodedTransaction]) {
    *body = encode_body(transactions.iter().map(DecodedTransaction::bytes));
    let leaves: Vec<Digest> = transactions.iter().map(DecodedTransaction::leaf).collect();
    header.transactions_root = merkle_root(&leaves);
    header.transaction_count = transactions.len() as u32;
    header.body_bytes = body.len() as u32;
}

fn without_body(packet: &Packet, w: &World<'_>, seats: &Seats) -> Packet {
    let Ok(block) = packet.open(&seats.committee, &w.book, u64::MAX) else { return packet.clone() };
    Packet::unchecked(Block { body: encode_body([].iter()), ..block.block().clone() })
}

/// Makes other blocks out of one.
struct Workshop<'a> {
    w: &'a World<'a>,
    seats: &'a Seats,
    keys: &'a KeyPair,
    block: &'a Block,
}

impl Workshop<'_> {
    fn signed(&self, header: Header, body: Bytes) -> Packet {
        let signature = self.keys.sign_block(self.w.chain, header.digest());
        Packet::unchecked(Block { header, signature, body })
    }

    /// A valid block of the same round with another digest: every other one without transactions.
    fn variant(&self, number: u64) -> Packet {
        let (mut header, mut body) = (self.block.header.clone(), self.block.body.clone());
        header.timestamp_ms += number % 97;
        // Votes for commits that nobody made set any number of variants apart.
        header.commit_votes.push(kaldrix_types::CommitVote { index: u64::MAX - number, digest: Digest::ZERO });
        if number.is_multiple_of(2) {
            rebuild(&mut header, &mut body, &[]);
        }
        self.signed(header, body)
    }

    fn without_body(&self) -> Packet {
        Packet::unchecked(Block { body: encode_body([].iter()), ..self.block.clone() })
    }

    fn with_bad_parents(&self, rng: &mut Rng) -> Packet {
        let mut header = self.block.header.clone();
        match rng.below(6) {
            0 => header.parents.truncate(1),
            1 => header.parents.extend(self.block.header.parents.first().copied()),
            2 => header.parents.reverse(),
            3 => header.parents.iter_mut().skip(1).for_each(|p| p.round = self.block.header.round),
            4 => {
                // They exist nowhere: whoever believes it asks for them for ever.
                for parent in header.parents.iter_mut().skip(1) {
                    parent.digest = invented(rng, self.seats, 1).digest;
                }
            }
            _ => header.parents.clear(),
        }
        self.signed(header, self.block.body.clone())
    }

    fn with_bad_time(&self, rng: &mut Rng) -> Packet {
        let mut header = self.block.header.clone();
        header.timestamp_ms = match rng.below(4) {
            0 => 1,
            1 => header.timestamp_ms.saturating_sub(rng.between(1, 60_000)),
            2 => header.timestamp_ms + limits::CLOCK_DRIFT_MS_MAX + rng.between(1, 600_000),
            _ => u64::MAX,
        };
        self.signed(header, self.block.body.clone())
    }

    fn badly_signed(&self, rng: &mut Rng) -> Packet {
        let mut block = self.block.clone();
        match rng.below(3) {
            0 => {
                let mut signature = block.signature.to_vec();
                signature[0] ^= 1;
                block.signature = signature.into();
            }
            1 => block.signature = Bytes::new(),
            _ => {
                // In another's name: signed, but with its own key.
                let other = (block.header.author.0 + 1) % self.seats.participants().len() as u16;
                block.header.author = ValidatorIndex(other);
                block.signature = self.keys.sign_block(self.w.chain, block.header.digest());
            }
        }
        Packet::unchecked(block)
    }

    fn of_later_epoch(&self) -> Packet {
        let mut header = self.block.header.clone();
        header.epoch += 1;
        self.signed(header, self.block.body.clone())
    }

    fn far_ahead(&self, round: Round, rng: &mut Rng) -> Packet {
        let mut header = self.block.header.clone();
        header.round = round;
        for parent in header.parents.iter_mut().skip(1) {
            parent.round = round - 1;
            parent.digest = invented(rng, self.seats, 1).digest;
        }
        self.signed(header, self.block.body.clone())
    }
}
